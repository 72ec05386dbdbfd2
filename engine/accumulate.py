"""Accumulators: what a REDUCE becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from engine import dtype as dt
from engine import indexing, offsets
from engine.ir import UOp
from engine.nest import Nest, after, group
from engine.offsets import number
from engine.ops import Op
from engine.ranges import Leaf

Registers = dict[Leaf, int]  # a value for each register leaf


# Accumulators at least: with fewer, each update would wait for the one before it.
ENOUGH = 8


@dataclass(frozen=True)
class Accumulator:
    """The ACC of one REDUCE.

    It has an element (of `lanes` lanes if the reduce depends on the VEC leaf) for each value of its UPCAST leaves;
    while those are fewer than ENOUGH, `copies` of it, which the unrolled steps take turns in.
    """

    reduce: UOp
    id: int
    upcasts: tuple[Leaf, ...]
    vec: Leaf | None
    unrolled: int  # steps of the UNROLL leaves
    nest: Nest
    around: tuple[UOp, ...]  # the ranges it is started anew in

    @property
    def lanes(self) -> int:
        """Lanes of one element."""
        return self.vec.extent if self.vec else 1

    @cached_property
    def elements(self) -> tuple[Registers, ...]:
        """The values of the UPCAST leaves that each element (of every copy) stands for."""
        values = product(*(range(leaf.extent) for leaf in self.upcasts))
        return tuple(dict(zip(self.upcasts, value, strict=True)) for value in values)

    @cached_property
    def copies(self) -> int:
        """How many accumulators there are for one element."""
        return min(self.unrolled, max(1, ENOUGH // len(self.elements)))

    @property
    def slots(self) -> range:
        """Numbers of all accumulators: element · copies + copy."""
        return range(len(self.elements) * self.copies)

    def slot(self, element: int, step: int) -> int:
        """The accumulator that an unrolled step of an element updates."""
        return element * self.copies + step % self.copies

    def offset(self, slot: int) -> UOp:
        """Where an accumulator's lanes are in the ACC."""
        lane = self.nest.ranges[self.vec] if self.vec else number(0)
        return offsets.add(number(slot * self.lanes), lane)

    @cached_property
    def memory(self) -> UOp:
        """The ACC, tied to the ranges it belongs to."""
        size = len(self.slots) * self.lanes
        return after(UOp(Op.ACC, self.reduce.dtype, (), (self.id, size)), *self.around)

    def inside(self, ranges: tuple[UOp, ...]) -> UOp:
        """The memory inside the reduce's loops, initialised outside them."""
        start = indexing.identity(self.reduce.arg[0], self.reduce.dtype)
        places = [UOp(Op.INDEX, start.dtype, (self.memory, self.offset(slot))) for slot in self.slots]
        stores = [UOp(Op.STORE, dt.void, (place, start)) for place in places]
        return after(self.memory, group(stores), *ranges)

    def result(self, end: UOp) -> Callable[[Registers], UOp]:
        """From register values to the total, once `end` is done: copies combined, then lanes of a reduced VEC."""
        memory = after(self.memory, end)
        if self._adds_lanes and self.copies > 1:
            stores = [self._combined(memory, element) for element in range(len(self.elements))]
            memory = after(memory, group(stores))
        numbers = {tuple(values.values()): number_ for number_, values in enumerate(self.elements)}

        def total(registers: Registers) -> UOp:
            return self._total(memory, numbers[tuple(registers[leaf] for leaf in self.upcasts)])

        return total

    @property
    def _adds_lanes(self) -> bool:
        return self.vec is not None and self.vec.axis.reduce

    def _slots_of(self, element: int) -> list[int]:
        return [self.slot(element, copy) for copy in range(self.copies)]

    def _combined(self, memory: UOp, element: int) -> UOp:
        """The store of all copies of an element, lane by lane, in the place of the first."""
        places = [
            UOp(Op.INDEX, memory.dtype, (memory, self.offset(slot))) for slot in self._slots_of(element)
        ]
        whole = _pairwise(self.reduce.arg[0], [UOp(Op.LOAD, memory.dtype, (place,)) for place in places])
        return UOp(Op.STORE, dt.void, (places[0], whole))

    def _total(self, memory: UOp, element: int) -> UOp:
        op, slots = self.reduce.arg[0], self._slots_of(element)
        if not self._adds_lanes:
            return _pairwise(op, [_load(memory, self.offset(slot)) for slot in slots])
        first = slots[0] * self.lanes
        return _pairwise(op, [_load(memory, number(first + lane)) for lane in range(self.lanes)])


def _load(memory: UOp, offset: UOp) -> UOp:
    return UOp(Op.LOAD, memory.dtype, (UOp(Op.INDEX, memory.dtype, (memory, offset)),))


def _pairwise(op: Op, values: list[UOp]) -> UOp:
    """`values` combined as a balanced tree, halves first: lane i with lane i + n/2."""
    while len(values) > 1:
        half = len(values) // 2
        pairs = zip(values[:half], values[half:], strict=False)
        values = [UOp(op, a.dtype, (a, b)) for a, b in pairs] + values[2 * half :]
    return values[0]
