"""What engine.jit recorded of a function, and doing it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from engine.build import reshape
from engine.cell import Cell
from engine.device import get
from engine.device.protocol import Array, Launch, Replayed, Replays
from engine.dtype import DType
from engine.ir import UOp
from engine.nested import rebuilt
from engine.realize import adopt, is_realized, memory, realize, run_kernel
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
    """A tensor that is read: where it is, its slot, and what it must be like for the plan to fit."""

    place: Place
    slot: int
    shape: Shape
    dtype: DType
    device: str

    def fits(self, arguments: Sequence[Cell]) -> bool:
        cell = _at(self.place, arguments)
        return cell is not None and kind_of(cell, cell._held) == (self.shape, self.dtype, self.device)


@dataclass(frozen=True, slots=True)
class Result:
    """A slot that a tensor is to have: the one at `place`, or a new one."""

    place: Place | None
    slot: int
    shape: Shape
    dtype: DType
    device: str


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

    def fits(self, arguments: Sequence[Cell]) -> bool:
        """Are the tensors from outside still like those that were recorded?"""
        if not all(each.fits(arguments) for each in self.inputs):
            return False
        cells = ((_at(place, arguments), had) for place, had in self.with_gradient)
        return all(cell is not None and (cell._gradient is not None) == had for cell, had in cells)

    def replay(self, arguments: Sequence[Cell]) -> Any:
        """Run the kernels on other arguments of the same case. When the device fails, no tensor has changed."""
        memories = self._gather(arguments)
        self._run(memories)
        return self._spread(memories, arguments)

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

    def _spread(self, memories: list[Any], arguments: Sequence[Cell]) -> Any:
        nodes: dict[int, UOp] = {}

        def node(result: Result) -> UOp:
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
        for owner, result in zip(owners, self.gradients, strict=True):
            owner._gradient = Tensor._of(node(result), result.device)
        for place in self.without_gradient:
            _present(place, arguments)._gradient = None
        return rebuilt(self.template, lambda cell: found[cell.number])  # type: ignore[attr-defined]


def _present(place: Place, arguments: Sequence[Cell]) -> Cell:
    found = _at(place, arguments)
    assert found is not None, "fits() was true"
    return found
