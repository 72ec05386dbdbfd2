"""Recording what a function does to tensors: the inside of engine.jit.

While it is recorded, every tensor from outside that the function touches appears to hold a BUFFER of the recording's
own. So no graph that is built meanwhile is one that existed before, nothing computed earlier is taken for granted, and
what the tensors really hold changes only when all went well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.build import leading, viewed
from engine.cell import Cell, Moded, born_in, made, watched
from engine.device.protocol import Array, Device, Launch
from engine.errors import CaptureError
from engine.ir import UOp
from engine.needed import Needed, Ran, needed
from engine.nested import cells_of, rebuilt, values_of
from engine.order import Step
from engine.plan import (
    GradientOf,
    Input,
    Leading,
    Place,
    Plan,
    Result,
    at_most,
    cut,
    kind_of,
    settled,
)
from engine.realize import adopt, alias, base_of, memory
from engine.shapes import Shape, shape_of
from engine.sizes import Count, Size, Var, is_open, open_size, plain


def settle_results(results: Sequence[Cell], assigned: Sequence[Cell]) -> None:
    """Realize what a call gives and what it assigned. Results are values: no gradient goes back through them."""
    for cell, node in zip(results, settled([*results, *assigned]), strict=False):
        cell._value = viewed(base_of(node), shape_of(node))


class Observer:
    """A Watch that only notes which tensors from outside are written to."""

    def __init__(self) -> None:
        self.mark = object()
        self._written: dict[int, Cell] = {}
        self.modes: list[Moded] = []  # who was asked whether it trains

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

    def asked(self, owner: Moded) -> None:
        """Note it."""
        self.modes.append(owner)


@dataclass(slots=True)
class _Seen:
    """A tensor from outside: the recording's BUFFER for what it held, and its gradient before.

    `first` is what it appeared to hold: that BUFFER, of which more or less means something if its size is a leading
    one (`var`). `node` is what it is to hold now.
    """

    cell: Cell
    buffer: UOp
    first: UOp
    node: UOp
    gradient: Cell | None
    var: Var | None


class Capture:
    """A Watch that records one call of a function of `arguments` (the tensors in them).

    The first axes of those in `leading` (by id) have open sizes while it is recorded.
    """

    def __init__(self, arguments: Sequence[Cell], leading: Mapping[int, Var] | None = None) -> None:
        self.mark = object()
        self._arguments = arguments
        self._leading = dict(leading or {})
        self._counts: dict[Var, UOp] = {}
        self._seen: dict[int, _Seen] = {}
        self._ran: list[tuple[Step, Device]] = []
        self.modes: list[Moded] = []  # who was asked whether it trains

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

    def asked(self, owner: Moded) -> None:
        """Note it."""
        self.modes.append(owner)

    def _open(self, cell: Cell) -> _Seen:
        seen = self._seen.get(id(cell))
        if seen is None:
            with watched(None):
                (node,) = settled([cell])
            var = self._leading.get(id(cell))
            buffer = alias(node) if var is None else adopt(at_most(memory(node), var.max), node.dtype)
            first = buffer if var is None else self._led(buffer, var, shape_of(node)[0])
            seen = self._seen[id(cell)] = _Seen(cell, buffer, first, first, cell._gradient, var)
            if var is not None and cell._gradient is not None:
                self._leading[id(cell._gradient)] = var
        return seen

    def _led(self, buffer: UOp, var: Var, size: int) -> UOp:
        """The BUFFER with as many leading elements as this call's size says."""
        if var not in self._counts:
            self._counts[var] = adopt(np.array(size, np.int64), dt.int64)
        return leading(buffer, (open_size(Count(var, self._counts[var])), *shape_of(buffer)[1:]))

    def run(self, function: Callable[[], Any]) -> Any:
        """Call it, and realize what it gives and what it assigned. If it fails, gradients are as they were."""
        try:
            with watched(self):
                result = function()
                _refuse_open(result)
                assigned = [seen.cell for seen in self._changed()]
                settle_results(list(cells_of(result)), [*assigned, *self._gradients().values()])
        except BaseException:
            for seen in self._seen.values():
                if seen.cell._gradient is not seen.gradient:
                    seen.cell._gradient = seen.gradient
            raise
        return result

    def _changed(self) -> list[_Seen]:
        return [seen for seen in self._seen.values() if seen.node is not seen.first]

    def _gradients(self) -> dict[int, Cell]:
        """The gradients that tensors have been given, by the tensors' ids."""
        found = ((key, seen.gradient, seen.cell._gradient) for key, seen in self._seen.items())
        return {key: now for key, before, now in found if now is not None and now is not before}

    def finish(self, result: Any) -> tuple[Plan, Any]:
        """The plan, and the result of this call; tensors that were assigned now hold what they were assigned."""
        outputs = list({id(cell): cell for cell in cells_of(result)}.values())
        changed, gradients = self._changed(), self._gradients()
        given = [self._final(cell) for cell in (*outputs, *gradients.values())]
        table = _Table(self._ran, [base_of(node) for node in (*given, *(seen.node for seen in changed))])
        places = self._places()

        counts = {node: table.slot(node) for node in self._counts.values()}

        def result_of(cell: Cell, place: Place | None) -> Result:
            node = self._final(cell)
            shape = shape_of(node)
            return Result(
                place, table.slot(base_of(node)), plain(shape), node.dtype, cell.device, cut_of(shape, counts)
            )

        def input_of(seen: _Seen, place: Place) -> Input:
            count = None if seen.var is None else counts[self._counts[seen.var]]
            return Input(place, table.slot(seen.buffer), *kind_of(seen.cell, seen.buffer), count)

        results = (
            *(result_of(cell, places.get(id(cell))) for cell in outputs),
            *(result_of(seen.cell, places[id(seen.cell)]) for seen in changed),
            *(result_of(cell, places[key]) for key, cell in gradients.items()),
        )
        plan = Plan(
            inputs=tuple(input_of(seen, places[key]) for key, seen in self._seen.items()),
            with_gradient=tuple((places[key], seen.gradient is not None) for key, seen in self._seen.items()),
            constants=table.constants({*counts, *(seen.buffer for seen in self._seen.values())}),
            launches=table.launches(self._counts, results),
            outputs=results[: len(outputs)],
            changed=results[len(outputs) : len(outputs) + len(changed)],
            gradients=results[len(outputs) + len(changed) :],
            without_gradient=tuple(
                places[key]
                for key, seen in self._seen.items()
                if seen.gradient is not None and seen.cell._gradient is None
            ),
            template=_template(result, outputs),
            slots=table.size,
            counts=tuple(self._leading_of(var, table) for var in self._counts),
        )
        for seen in changed:
            seen.cell._held = self._cut(seen.node)
        for cell in (*outputs, *gradients.values()):
            if born_in(cell, self):
                cell._held = self._cut(cell._held)
        return plan, result

    def _leading_of(self, var: Var, table: _Table) -> Leading:
        seen = next(seen for seen in self._seen.values() if seen.var == var)
        return Leading(table.slot(self._counts[var]), var.max, table.slot(seen.buffer))

    def _cut(self, node: UOp) -> UOp:
        """A realized node as long as its open sizes are in this call."""
        shape = shape_of(node)
        need = cut_of(shape, {node: number for number, node in enumerate(self._counts.values())})
        if not need:
            return node
        sizes = {number: int(memory(count)) for number, count in enumerate(self._counts.values())}
        return adopt(np.array(cut(memory(node), plain(shape), need, sizes)), node.dtype)

    def _final(self, cell: Cell) -> UOp:
        return cell._held if born_in(cell, self) else self._open(cell).node

    def _places(self) -> dict[int, Place]:
        """Where a replay finds each tensor from outside: an argument, another one's gradient, or the very tensor."""
        found: dict[int, Place] = {}
        for number, cell in enumerate(self._arguments):
            found.setdefault(id(cell), number)
        for seen in self._seen.values():
            if seen.gradient is not None and id(seen.gradient) not in found:
                found[id(seen.gradient)] = GradientOf(found.get(id(seen.cell), seen.cell))
        return {key: found.get(key, seen.cell) for key, seen in self._seen.items()}


def cut_of(shape: Shape, counts: Mapping[UOp, int]) -> dict[int, tuple[int, int]]:
    """For each axis of an open size (slot of its count, unit)."""
    rows = {axis: n.rows for axis, n in enumerate(shape) if isinstance(n, Size)}
    return {axis: (counts[found[0].node], found[1]) for axis, found in rows.items() if found is not None}


def _refuse_open(result: Any) -> None:
    for value in values_of(result):
        if is_open(value):
            raise CaptureError(
                f"the function returns {value}, which a replay does not know: return Tensor(…) of it, or nothing"
            )


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

    def launches(self, counts: Mapping[Var, UOp], results: Sequence[Result]) -> tuple[Launch, ...]:
        """The kept steps, each with the memories that nobody reads after it, and what is needed of its output."""
        needs = self._needed(counts, results) if counts else [None] * len(self._steps)
        last = {buffer: number for number, (step, _) in enumerate(self._steps) for buffer in step.inputs}
        kept = set(self._wanted)
        found = []
        for number, (step, device) in enumerate(self._steps):
            free = {b for b in step.inputs if last[b] == number and b not in kept}
            slots = tuple(self.slot(buffer) for buffer in step.inputs)
            freed = tuple(sorted(self.slot(buffer) for buffer in free))
            found.append(Launch(step.kernel, device, slots, self.slot(step.output), freed, needs[number]))
        return tuple(found)

    def _needed(self, counts: Mapping[Var, UOp], results: Sequence[Result]) -> list[Needed | None]:
        ran = [
            Ran(step.kernel, tuple(map(self.slot, step.inputs)), self.slot(step.output))
            for step, _ in self._steps
        ]
        wanted = [(result.slot, result.shape, result.cut) for result in results]
        return needed(ran, {self.slot(node): var.max for var, node in counts.items()}, wanted)
