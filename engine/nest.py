"""The loops of a scheduled kernel: a RANGE for every leaf, trip counts, and versions of code under conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from functools import reduce as fold
from itertools import count

from engine import dtype as dt
from engine import offsets
from engine.ir import UOp
from engine.offsets import number
from engine.ops import Op
from engine.opts import RangeType
from engine.ranges import Axis, Leaf
from engine.schedule import SHARED, Scheduled

_LOOPS = (*SHARED, RangeType.LOOP, RangeType.REDUCE)


def close(effect: UOp, ranges: tuple[UOp, ...]) -> UOp:
    return UOp(Op.END, dt.void, (effect, *ranges)) if ranges else effect


def group(effects: list[UOp]) -> UOp:
    return effects[0] if len(effects) == 1 else UOp(Op.SINK, dt.void, tuple(effects))


def after(value: UOp, *what: UOp) -> UOp:
    return UOp(Op.AFTER, value.dtype, (value, *what)) if what else value


def all_of(conditions: list[UOp]) -> UOp:
    return fold(lambda a, b: UOp(Op.AND, dt.bool_, (a, b)), conditions)


def less(a: UOp, b: UOp) -> UOp:
    return UOp(Op.LT, dt.bool_, (a, b))


@dataclass(frozen=True)
class Version:
    """One version of a body: the axes whose register tile is checked, and the condition it stands in."""

    guarded: frozenset[Axis] = frozenset()
    condition: tuple[UOp, ...] = ()

    def within(self, inner: Version) -> Version:
        """This version's body inside another condition: both hold."""
        return Version(self.guarded | inner.guarded, self.condition + inner.condition)


@dataclass(frozen=True)
class Nest:
    """The RANGE of every leaf, and where each axis stands in terms of them."""

    scheduled: Scheduled
    ranges: dict[Leaf, UOp]
    ids: Iterator[int]

    @staticmethod
    def of(scheduled: Scheduled) -> Nest:
        ranges: dict[Leaf, UOp] = {}
        for leaf in scheduled.leaves:
            trips = trips_of(leaf, {o: r for o, r in ranges.items() if o.axis == leaf.axis})
            type_ = RangeType.THREAD if leaf.type in SHARED else leaf.type
            range_ = UOp(Op.RANGE, dt.int64, trips, (leaf.id, leaf.extent, type_))
            ranges[leaf] = range_ if leaf.extent != 1 else number(0)
        first_free = 1 + max([leaf.id for leaf in scheduled.leaves], default=len(scheduled.axes))
        return Nest(scheduled, ranges, count(first_free))

    def opened(self, leaves: Iterable[Leaf]) -> tuple[UOp, ...]:
        """The leaves' RANGEs; a leaf of one step needs none."""
        return tuple(self.ranges[leaf] for leaf in leaves if leaf.extent != 1)

    def loops_of(self, axis: Axis) -> list[Leaf]:
        """The axis's leaves that are loops."""
        return [leaf for leaf in self.scheduled.leaves_of(axis) if leaf.type in _LOOPS]

    def base(self, leaves: list[Leaf]) -> UOp:
        """Σ leaf · stride."""
        return offsets.total(offsets.multiply(self.ranges[leaf], leaf.stride) for leaf in leaves)

    @cached_property
    def starts(self) -> dict[Axis, UOp]:
        """Where the register tile starts on each axis: its loops' sum."""
        return {axis: self.base(self.loops_of(axis)) for axis in self.scheduled.axes}

    def is_ragged(self, axis: Axis) -> bool:
        """Does the axis's last register tile stick out of it?"""
        return axis.extent % self.scheduled.span(axis) != 0

    def versions(self, ragged: list[Axis], build: Callable[[Version], UOp]) -> UOp:
        """`build` for tiles inside the ragged axes and for those on their border, each in its condition.

        Along padded axes all tiles are built like those on the border, without a condition.
        """
        padded = frozenset(axis for axis in ragged if axis in self.scheduled.padded)
        if padded:
            rest = [axis for axis in ragged if axis not in padded]
            return self.versions(rest, lambda version: build(Version(padded).within(version)))
        guarded = frozenset(ragged)
        if not ragged:
            return build(Version())
        if any(axis.extent < self.scheduled.span(axis) for axis in ragged):
            return build(Version(guarded))
        last = {axis: self.scheduled.span(axis) - 1 for axis in ragged}
        inside = all_of(
            [less(offsets.add(self.starts[a], number(last[a])), number(a.extent)) for a in ragged]
        )
        interior, border = self._condition(inside), self._condition(UOp(Op.NOT, dt.bool_, (inside,)))
        return group(
            [
                close(build(Version(frozenset(), (interior,))), (interior,)),
                close(build(Version(guarded, (border,))), (border,)),
            ]
        )

    def _condition(self, holds: UOp) -> UOp:
        trips = UOp(Op.CAST, dt.int64, (holds,))
        return UOp(Op.RANGE, dt.int64, (trips,), (next(self.ids), 1, RangeType.LOOP))


def trips_of(leaf: Leaf, outer: dict[Leaf, UOp]) -> tuple[UOp, ...]:
    """How often a loop runs where its full extent could pass the axis's end: at least once, as outer loops do."""
    reach = sum((o.extent - 1) * o.stride for o in outer) + (leaf.extent - 1) * leaf.stride
    if leaf.type not in _LOOPS or reach < leaf.axis.extent:
        return ()
    base = offsets.total(offsets.multiply(range_, -o.stride) for o, range_ in outer.items())
    room = offsets.add(base, number(leaf.axis.extent + leaf.stride - 1))
    steps = UOp(Op.IDIV, dt.int64, (room, number(leaf.stride))) if leaf.stride != 1 else room
    return (UOp(Op.MIN, dt.int64, (number(leaf.extent), steps)),)
