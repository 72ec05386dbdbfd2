"""Recording what a function does to tensors, and doing it again: the inside of engine.jit.

While it is recorded, every tensor from outside that the function touches appears to hold a BUFFER of the recording's
own. So no graph that is built meanwhile is one that existed before, nothing computed earlier is taken for granted, and
what the tensors really hold changes only when all went well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.build import reshape
from engine.cell import Cell, born_in, made, watched
from engine.device import get
from engine.device.protocol import Array, Device
from engine.dtype import DType
from engine.errors import CaptureError
from engine.ir import UOp
from engine.kernel import Kernel
from engine.nested import cells_of, rebuilt
from engine.ops import Op
from engine.order import Step
from engine.realize import adopt, alias, is_realized, memory, realize, run_kernel
from engine.shapes import Shape, shape_of
from engine.tensor import Tensor


def settle(cells: Iterable[Cell]) -> None:
    """Realize what the cells hold, those of one device together."""
    lazy = {id(cell): cell for cell in cells if not is_realized(cell._node)}.values()
    for name in dict.fromkeys(cell.device for cell in lazy):
        here = [cell for cell in lazy if cell.device == name]
        for cell, node in zip(here, realize([cell._node for cell in here], get(name)), strict=True):
            cell._node = node


class Observer:
    """A Watch that only notes which tensors from outside are written to."""

    def __init__(self) -> None:
        self.mark = object()
        self._written: dict[int, Cell] = {}

    @property
    def written(self) -> list[Cell]:
        """The tensors that were there before and were written to."""
        return list(self._written.values())

    def read(self, cell: Cell) -> UOp:
        """What the cell holds."""
        return cell._held

    def write(self, cell: Cell, node: UOp) -> None:
        """Put it there, and note so unless the cell was made meanwhile."""
        if not made(cell, node, self):
            cell._held = node
            self._written[id(cell)] = cell

    def ran(self, step: Step, device: Device) -> None:
        """Kernels are not noted."""

    def read_on_host(self, how: str) -> None:
        """Data may be read: this call is not recorded."""


@dataclass(slots=True)
class _Seen:
    """A tensor from outside: the recording's BUFFER for what it held, and what it is to hold now."""

    cell: Cell
    buffer: UOp
    node: UOp


class Capture:
    """A Watch that records one call of a function of `arguments` (the tensors in them)."""

    def __init__(self, arguments: Sequence[Cell]) -> None:
        self.mark = object()
        self._arguments = arguments
        self._seen: dict[int, _Seen] = {}
        self._ran: list[tuple[Step, Device]] = []

    def read(self, cell: Cell) -> UOp:
        """What the cell is taken to hold."""
        return cell._held if born_in(cell, self) else self._open(cell).node

    def write(self, cell: Cell, node: UOp) -> None:
        """Put it there: into a cell from outside only when the recording ends."""
        if not made(cell, node, self):
            self._open(cell).node = node

    def ran(self, step: Step, device: Device) -> None:
        """Record a kernel."""
        self._ran.append((step, device))

    def read_on_host(self, how: str) -> None:
        """CaptureError: a replay would go on with this call's data."""
        raise CaptureError(
            f"{how} inside a function given to jit: a replay could not read it again; return the tensor and read "
            "it outside, or compute with tensors (where, maximum, …)"
        )

    def _open(self, cell: Cell) -> _Seen:
        seen = self._seen.get(id(cell))
        if seen is None:
            with watched(None):
                settle([cell])
            buffer = alias(cell._held)
            seen = self._seen[id(cell)] = _Seen(cell, buffer, buffer)
        return seen

    def run(self, function: Callable[[], Any]) -> Any:
        """Call it, and realize what it gives and what it assigned."""
        with watched(self):
            result = function()
            settle([*cells_of(result), *(seen.cell for seen in self._changed())])
        return result

    def _changed(self) -> list[_Seen]:
        return [seen for seen in self._seen.values() if seen.node is not seen.buffer]

    def finish(self, result: Any) -> tuple[Plan, Any]:
        """The plan, and the result of this call; tensors that were assigned now hold what they were assigned."""
        positions: dict[int, int] = {}
        for number, cell in enumerate(self._arguments):
            positions.setdefault(id(cell), number)
        changed = self._changed()
        outputs = list({id(cell): cell for cell in cells_of(result)}.values())
        nodes = [self._final(cell) for cell in (*outputs, *(seen.cell for seen in changed))]
        table = _Table(self._ran, [_base(node) for node in nodes])
        plan = Plan(
            arguments=tuple(
                (positions[key], table.slot(seen.buffer))
                for key, seen in self._seen.items()
                if key in positions
            ),
            outside=tuple(
                _Outside(seen.cell, table.slot(seen.buffer), *_kind(seen.cell, seen.buffer))
                for key, seen in self._seen.items()
                if key not in positions
            ),
            constants=table.constants({seen.buffer for seen in self._seen.values()}),
            launches=table.launches(),
            outputs=tuple(
                _Output(table.slot(_base(node)), shape_of(node), cell.device, self._place(cell, positions))
                for cell, node in zip(outputs, nodes[: len(outputs)], strict=True)
            ),
            changed=tuple(
                (table.slot(_base(node)), shape_of(node), positions.get(id(seen.cell), seen.cell))
                for seen, node in zip(changed, nodes[len(outputs) :], strict=True)
            ),
            template=_template(result, outputs),
            slots=table.size,
        )
        for seen in changed:
            seen.cell._held = seen.node
        return plan, result

    def _final(self, cell: Cell) -> UOp:
        return cell._held if born_in(cell, self) else self._seen[id(cell)].node

    def _place(self, cell: Cell, positions: dict[int, int]) -> Cell | int | None:
        """Which tensor a result is, if it is one that was there before: an argument's number, or itself."""
        return None if born_in(cell, self) else positions.get(id(cell), cell)


def _kind(cell: Cell, node: UOp) -> tuple[Shape, DType, str]:
    return shape_of(node), node.dtype, cell.device


def _base(node: UOp) -> UOp:
    return node.src[0] if node.op is Op.RESHAPE else node


class _Numbered(Cell):
    """What stands for a result in the template of results."""

    __slots__ = ("number",)
    number: int


def _template(result: Any, outputs: list[Cell]) -> Any:
    numbers = {id(cell): number for number, cell in enumerate(outputs)}

    def numbered(cell: Cell) -> _Numbered:
        found = _Numbered()
        found.number = numbers[id(cell)]
        return found

    return rebuilt(result, numbered)


# ------------------------------------------------------------------------------------------------------ plans


@dataclass(frozen=True, slots=True)
class Launch:
    """Run `kernel` on the memory in `inputs` (slots) into slot `output`; then `free` slots are needed no more."""

    kernel: Kernel
    device: Device
    inputs: tuple[int, ...]
    output: int
    free: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Outside:
    """A tensor that is no argument: its slot, and what it must be like for the plan to fit."""

    cell: Cell
    slot: int
    shape: Shape
    dtype: DType
    device: str

    def fits(self) -> bool:
        return _kind(self.cell, self.cell._held) == (self.shape, self.dtype, self.device)


@dataclass(frozen=True, slots=True)
class _Output:
    slot: int
    shape: Shape
    device: str
    place: Cell | int | None


@dataclass(frozen=True)
class Plan:
    """The kernels of one case of a function, and where their inputs come from and their results go."""

    arguments: tuple[tuple[int, int], ...]  # (number of the argument's tensor, slot)
    outside: tuple[_Outside, ...]
    constants: tuple[tuple[int, Array], ...]
    launches: tuple[Launch, ...]
    outputs: tuple[_Output, ...]
    changed: tuple[tuple[int, Shape, Cell | int], ...]
    template: Any
    slots: int

    def fits(self) -> bool:
        """Are the tensors from outside still like those that were recorded?"""
        return all(each.fits() for each in self.outside)

    def replay(self, arguments: Sequence[Cell]) -> Any:
        """Run the kernels on other arguments of the same case. When the device fails, no tensor has changed."""
        memories = self._gather(arguments)
        for launch in self.launches:
            inputs = [memories[slot] for slot in launch.inputs]
            memories[launch.output] = run_kernel(launch.kernel, inputs, launch.device)
            del inputs
            for slot in launch.free:
                memories[slot] = None
        return self._spread(memories, arguments)

    def _gather(self, arguments: Sequence[Cell]) -> list[Any]:
        used = [(arguments[number], slot) for number, slot in self.arguments]
        used += [(each.cell, each.slot) for each in self.outside]
        settle(cell for cell, _ in used)
        memories: list[Any] = [None] * self.slots
        for cell, slot in used:
            memories[slot] = memory(cell._held)
        for slot, array in self.constants:
            memories[slot] = array
        return memories

    def _spread(self, memories: list[Any], arguments: Sequence[Cell]) -> Any:
        nodes: dict[int, UOp] = {}

        def node(slot: int, shape: Shape) -> UOp:
            if slot not in nodes:
                nodes[slot] = adopt(memories[slot])
            return reshape(nodes[slot], shape)

        def tensor(place: Cell | int) -> Cell:
            return arguments[place] if isinstance(place, int) else place

        for slot, shape, place in self.changed:
            tensor(place)._held = node(slot, shape)
        found = [
            Tensor._of(node(each.slot, each.shape), each.device) if each.place is None else tensor(each.place)
            for each in self.outputs
        ]
        return rebuilt(self.template, lambda cell: found[cell.number])  # type: ignore[attr-defined]


class _Table:
    """Numbers the memories of a recording, of which only what `wanted` needs is kept."""

    def __init__(self, ran: list[tuple[Step, Device]], wanted: list[UOp]) -> None:
        self._wanted = wanted
        needed = set(wanted)
        kept = []
        for step, device in reversed(ran):
            if step.output in needed:
                kept.append((step, device))
                needed.update(step.inputs)
        self._steps = kept[::-1]
        self._slots: dict[UOp, int] = {}

    @property
    def size(self) -> int:
        """How many slots there are: ask for it last."""
        return len(self._slots)

    def slot(self, buffer: UOp) -> int:
        """The number of a BUFFER."""
        return self._slots.setdefault(buffer, len(self._slots))

    def constants(self, varying: set[UOp]) -> tuple[tuple[int, Array], ...]:
        """What is read but neither computed nor among `varying`: data made while recording."""
        computed = {step.output for step, _ in self._steps} | varying
        read = dict.fromkeys([*(b for step, _ in self._steps for b in step.inputs), *self._wanted])
        return tuple((self.slot(buffer), memory(buffer)) for buffer in read if buffer not in computed)

    def launches(self) -> tuple[Launch, ...]:
        """The kept steps, each with the memories that nobody reads after it."""
        last = {buffer: number for number, (step, _) in enumerate(self._steps) for buffer in step.inputs}
        kept = set(self._wanted)
        found = []
        for number, (step, device) in enumerate(self._steps):
            free = {b for b in step.inputs if last[b] == number and b not in kept}
            slots = tuple(self.slot(buffer) for buffer in step.inputs)
            freed = tuple(sorted(self.slot(buffer) for buffer in free))
            found.append(Launch(step.kernel, device, slots, self.slot(step.output), freed))
        return tuple(found)
