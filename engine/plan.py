"""What engine.jit recorded of a function, and doing it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from engine.build import reshape
from engine.cell import Cell
from engine.device import get
from engine.device.protocol import Absent, Array, Launch, Replayed, Replays
from engine.dtype import DType
from engine.ir import UOp
from engine.needed import Need
from engine.nested import rebuilt
from engine.realize import adopt, is_realized, memory, realize, run_kernel
from engine.runtime.cpu import empty
from engine.shapes import Shape, shape_of
from engine.tensor import Tensor


def settled(cells: Sequence[Cell]) -> list[UOp]:
    """For each cell a realized node of what it holds; those of one device are computed together."""
    lazy = {id(cell): cell for cell in cells if not is_realized(cell._value, cell.device)}.values()
    for name in dict.fromkeys(cell.device for cell in lazy):
        here = [cell for cell in lazy if cell.device == name]
        for cell, node in zip(here, realize([cell._value for cell in here], get(name)), strict=True):
            cell._computed(node)
    return [cell._value for cell in cells]


def kind_of(cell: Cell, node: UOp) -> tuple[Shape, DType, str]:
    return shape_of(node), node.dtype, cell.device


@dataclass(frozen=True, slots=True)
class GradientOf:
    """The gradient that the tensor at a place has when a call begins."""

    place: Cell | int | GradientOf


Place = Cell | int | GradientOf


def _at(place: Place, arguments: Sequence[Cell]) -> Cell | None:
    if isinstance(place, GradientOf):
        owner = _at(place.place, arguments)
        return None if owner is None else owner._gradient
    return arguments[place] if isinstance(place, int) else place


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor that is read: where it is, its slot, and what it must be like for the plan to fit.

    With `count` (a slot) its first axis may be shorter than in `shape`: as long as the call's count says.
    """

    place: Place
    slot: int
    shape: Shape
    dtype: DType
    device: str
    count: int | None = None

    def fits(self, arguments: Sequence[Cell]) -> bool:
        cell = _at(self.place, arguments)
        if cell is None:
            return False
        shape, *rest = kind_of(cell, cell._held)
        shape = shape if self.count is None else (*self.shape[:1], *shape[1:])
        return (shape, *rest) == (self.shape, self.dtype, self.device)


@dataclass(frozen=True, slots=True)
class Leading:
    """The slot of a leading size's int64, what it is at the most, and the slot of an input whose first axis has it."""

    slot: int
    most: int
    rows: int


@dataclass(frozen=True, slots=True)
class Result:
    """A slot that a tensor is to have: the one at `place`, or a new one.

    Along the axes in `cut` (axis → count's slot, unit) the tensor is only as long as the call's counts say.
    """

    place: Place | None
    slot: int
    shape: Shape
    dtype: DType
    device: str
    cut: Need = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Plan:
    """The kernels of one case of a function, and where their inputs come from and their results go."""

    inputs: tuple[Input, ...]
    with_gradient: tuple[tuple[Place, bool], ...]  # had it a gradient when the call began?
    constants: tuple[tuple[int, Array], ...]
    launches: tuple[Launch, ...]
    outputs: tuple[Result, ...]
    changed: tuple[Result, ...]
    gradients: tuple[Result, ...]  # for the tensor at each place a new one
    without_gradient: tuple[Place, ...]  # whose gradient is taken away
    template: Any
    slots: int
    counts: tuple[Leading, ...] = ()

    def fits(self, arguments: Sequence[Cell]) -> bool:
        """Are the tensors from outside still like those that were recorded?"""
        if not all(each.fits(arguments) for each in self.inputs):
            return False
        cells = ((_at(place, arguments), had) for place, had in self.with_gradient)
        return all(cell is not None and (cell._gradient is not None) == had for cell, had in cells)

    def replay(self, arguments: Sequence[Cell]) -> Any:
        """Run the kernels on other arguments of the same case. When the device fails, no tensor has changed."""
        memories = self._gather(arguments)
        sizes = {each.slot: len(memories[each.rows]) for each in self.counts}
        given = [(each, memories[each.slot]) for each in self.inputs if each.count is not None]
        laid = self._lay_out(memories, sizes)
        self._run(memories)
        for each, array in given:
            memories[each.slot] = array  # a result may be an argument itself
        self._laid_out.append(laid)
        return self._spread(memories, sizes, arguments)

    @cached_property
    def _run(self) -> Replayed:
        """By the device, if there is one and it can; else kernel by kernel."""
        launches = [each for each in self.launches if each.output not in self._empty]
        devices = list({id(each.device): each.device for each in launches}.values())
        if len(devices) != 1 or not isinstance(devices[0], Replays):
            return self._run_each
        results = frozenset(each.slot for each in (*self.outputs, *self.changed, *self.gradients))
        return devices[0].replayed(launches, dict(self.constants) | self._empty, results, self.slots)

    @cached_property
    def _empty(self) -> dict[int, Array]:
        """What has no elements, by slot: the same in every call."""
        shapes = {each.output: (shape_of(each.kernel.output), each.kernel.dtype) for each in self.launches}
        return {slot: np.empty(shape, dtype.numpy) for slot, (shape, dtype) in shapes.items() if 0 in shape}

    def _run_each(self, memories: list[Any]) -> None:
        for launch in self.launches:
            inputs = [memories[slot] for slot in launch.inputs]
            memories[launch.output] = run_kernel(launch.kernel, inputs, launch.device)
            del inputs
            for slot in launch.free:
                memories[slot] = None

    def _gather(self, arguments: Sequence[Cell]) -> list[Any]:
        cells = [_present(each.place, arguments) for each in self.inputs]
        memories: list[Any] = [None] * self.slots
        for each, node in zip(self.inputs, settled(cells), strict=True):
            memories[each.slot] = memory(node)
        for slot, array in (*self.constants, *self._empty.items()):
            memories[slot] = array
        return memories

    @cached_property
    def _laid_out(self) -> list[dict[int, Array]]:
        """Memory for arguments at their largest, by slot, that no call uses now: kept from call to call."""
        return []

    def _lay_out(self, memories: list[Any], sizes: Mapping[int, int]) -> dict[int, Array]:
        """The counts among the memories, and arguments of leading sizes in what the largest takes: the rows there are."""
        try:
            laid = self._laid_out.pop()
        except IndexError:  # another call has it
            laid = {}
        for slot, size in sizes.items():
            memories[slot] = np.array(size, np.int64)
        for each in self.inputs:
            if each.count is not None and sizes[each.count] < each.shape[0]:
                laid[each.slot] = at_most(memories[each.slot], each.shape[0], laid.get(each.slot))
                memories[each.slot] = laid[each.slot]
        return laid

    def _spread(self, memories: list[Any], sizes: Mapping[int, int], arguments: Sequence[Cell]) -> Any:
        nodes: dict[Any, UOp] = {}

        def node(result: Result) -> UOp:
            if result.cut:
                key = result.slot, result.shape
                if key not in nodes:
                    nodes[key] = adopt(
                        cut(memories[result.slot], result.shape, result.cut, sizes), result.dtype
                    )
                return nodes[key]
            if result.slot not in nodes:
                nodes[result.slot] = adopt(memories[result.slot], result.dtype)
            return reshape(nodes[result.slot], result.shape)

        def tensor(result: Result) -> Cell:
            if result.place is None:
                return Tensor._of(node(result), result.device)
            return _present(result.place, arguments)

        found = [tensor(result) for result in self.outputs]
        changed = [(tensor(result), node(result)) for result in self.changed]
        owners = [_present(result.place, arguments) for result in self.gradients if result.place is not None]
        for cell, held in changed:
            cell._held = held
        for cell, _ in changed:
            cell._replaced()
        for owner, result in zip(owners, self.gradients, strict=True):
            owner._gradient = Tensor._of(node(result), result.device)
        for place in self.without_gradient:
            _present(place, arguments)._gradient = None
        return rebuilt(self.template, lambda cell: found[cell.number])  # type: ignore[attr-defined]


def at_most(rows: Array, size: int, memory: Array | None = None) -> Array:
    """`rows` in front of an array of so many: in `memory`, which is one, or in a new one, with zeros behind."""
    if isinstance(rows, Absent):
        return Absent((size, *rows.shape[1:]), rows.dtype)
    if memory is None:
        memory = empty((size, *rows.shape[1:]), rows.dtype)
        memory.view(np.uint8).fill(0)
    np.copyto(memory[: len(rows)], rows)
    return memory


def cut(array: Array, shape: Shape, need: Need, sizes: Mapping[int, int]) -> Array:
    """An array that is of `shape` at the most, as far as the sizes (by slot) go; it may be cut already.

    A copy, unless more than half of it is left: results must not keep the memory of what they are not.
    """
    sizes_now = tuple(sizes[need[a][0]] * need[a][1] if a in need else n for a, n in enumerate(shape))
    if isinstance(array, Absent):
        return Absent(sizes_now, array.dtype)
    if array.size == prod(sizes_now):
        return array.reshape(sizes_now)
    part = array.reshape(shape)[tuple(map(slice, sizes_now))]
    return part if part.flags.c_contiguous and 2 * part.size > array.size else np.array(part)


def _present(place: Place, arguments: Sequence[Cell]) -> Cell:
    found = _at(place, arguments)
    assert found is not None, "fits() was true"
    return found
