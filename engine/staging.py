"""What a STAGE becomes: loops that copy a value into scratch memory, and loads from there in the value's place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from engine import dtype as dt
from engine import indexing, offsets
from engine.indexing import Body
from engine.ir import UOp, substitute, toposort
from engine.nest import Nest, after, all_of, close, less, trips_of
from engine.offsets import number
from engine.ops import Op
from engine.opts import RangeType
from engine.ranges import Axis, Leaf
from engine.schedule import SHARED
from engine.stages import Stage

_UNROLLED = (RangeType.UNROLL, RangeType.UPCAST)


@dataclass(frozen=True)
class Staging:
    """One stage of a scheduled kernel's `body`."""

    stage: Stage
    id: int
    body: Body
    nest: Nest

    @cached_property
    def place(self) -> UOp:
        """Stands for the element's offset in the stage until the register leaves have values."""
        return UOp(
            Op.RANGE, dt.int64, (), (-1_000_000 - self.id, max(1, self.stage.elements), RangeType.LOOP)
        )

    @cached_property
    def load(self) -> UOp:
        """The value read from the stage, at `place`, once it is there."""
        memory = after(self._memory, self._copied)
        return UOp(Op.LOAD, memory.dtype, (UOp(Op.INDEX, memory.dtype, (memory, self.place)),))

    def offset(self, registers: dict[Leaf, int]) -> UOp:
        """Where the element of these register leaves lies, in the iteration that its loops are in."""
        parts = []
        for leaf, stride in self.stage.strides.items():
            fixed = leaf.type in _UNROLLED
            place = number(registers.get(leaf, 0)) if fixed else self.nest.ranges[leaf]
            parts.append(offsets.multiply(place, stride))
        return offsets.total(parts)

    @cached_property
    def _memory(self) -> UOp:
        node = self.stage.value.node
        return UOp(Op.STAGE, node.dtype, (), (self.id, self.stage.elements, self.stage.at))

    @cached_property
    def outside(self) -> tuple[Leaf, ...]:
        """The loops round the stage."""
        scheduled = self.nest.scheduled
        return (*scheduled.of_type(*SHARED), *scheduled.of_type(RangeType.LOOP)[: self.stage.depth])

    @cached_property
    def _copied(self) -> UOp:
        """The loops that fill the stage: those that will read it, with register leaves as loops too."""
        ranges = self._ranges()
        opened = tuple(r for r in ranges.values() if r.op is Op.RANGE and not offsets.is_lanes(r))
        memory = after(self._memory, *self.nest.opened(self.outside))
        steps = self.stage.strides.items()
        offset = offsets.total(offsets.multiply(ranges[leaf], stride) for leaf, stride in steps)
        place = UOp(Op.INDEX, memory.dtype, (memory, offset))
        return close(UOp(Op.STORE, dt.void, (place, self._value(ranges))), opened)

    def _ranges(self) -> dict[Leaf, UOp]:
        """A RANGE of the copy's own for each leaf of the stage."""
        known = {leaf: self.nest.ranges[leaf] for leaf in self.outside}
        found: dict[Leaf, UOp] = {}
        for leaf in self.stage.leaves:
            if leaf.extent == 1 or leaf.type is RangeType.VEC:
                found[leaf] = self.nest.ranges[leaf]
                continue
            outer = {o: r for o, r in (known | found).items() if o.axis == leaf.axis}
            found[leaf] = UOp(
                Op.RANGE, dt.int64, trips_of(leaf, outer), (next(self.nest.ids), leaf.extent, RangeType.LOOP)
            )
        return found

    def _value(self, ranges: dict[Leaf, UOp]) -> UOp:
        """The value where the copy's loops are; what a register tile has beyond an axis's end is not read."""
        where = {leaf: self.nest.ranges[leaf] for leaf in self.outside} | ranges
        places: dict[UOp, UOp] = {}
        for axis in self.stage.value.axes:
            parts = (offsets.multiply(r, leaf.stride) for leaf, r in where.items() if leaf.axis == axis)
            places[self.body.ranges[axis]] = offsets.total(parts)
        ragged = [axis for axis in self.stage.value.axes if self.nest.is_ragged(axis)]
        return substitute(self._guarded(ragged), places)

    def _guarded(self, ragged: list[Axis]) -> UOp:
        """The value over axis ranges with its loads inside the ragged axes; beyond, they give 0."""
        value = indexing.plain(self.stage.value.node)
        if not ragged:
            return value
        inside = [less(self.body.ranges[axis], number(axis.extent)) for axis in _in_order(ragged)]
        loads: dict[UOp, UOp] = {}
        for node in toposort(value):
            if node.op is Op.LOAD:
                memory, offset, *own = (substitute(source, loads) for source in node.src[0].src)
                place = UOp(Op.INDEX, node.dtype, (memory, offset, all_of([*inside, *own])))
                zero = False if node.dtype is dt.bool_ else 0.0 if node.dtype.is_float else 0
                loads[node] = UOp(Op.LOAD, node.dtype, (place, UOp(Op.CONST, node.dtype, (), zero)))
        return substitute(value, loads)


def _in_order(axes: list[Axis]) -> list[Axis]:
    return sorted(axes, key=lambda axis: (axis.target, axis.index))
