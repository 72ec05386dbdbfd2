"""How one access of a kernel walks over memory while the kernel's loops go on, and the cache lines it touches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, prod

from engine.ranges import Axis, Leaf
from engine.schedule import SHARED

LINE = 64
Steps = list[tuple[int | None, int]]  # (elements apart, how many) of each direction


@dataclass(frozen=True, eq=False)
class Walk:
    """An access of a kernel whose `loops` go on one inside the other, to `size` bytes of memory.

    `steps` says how it moves along leaves. It stands inside the loops whose ids are `under`: others do not repeat it.
    Loops outside of `begin` make the memory anew (that of a stage); loops from `end` on do not touch it (what is
    staged). `start` is the element it begins with, where that is known. `own`: each thread has memory of its own.
    """

    loops: tuple[Leaf, ...]
    leaves: tuple[Leaf, ...]
    under: frozenset[int]
    itemsize: int
    size: int
    steps: Callable[[Iterable[Leaf]], Steps]
    begin: int
    end: int
    start: int | None = None
    own: bool = False

    def touched(self, depth: int) -> float:
        """Bytes of the cache lines that it touches inside the loops from `depth` on."""
        outside = {leaf.id for leaf in self.loops[:depth]}
        steps = self.steps(leaf for leaf in self.leaves if leaf.id not in outside)
        return min(lines_touched(steps, self.itemsize), lines_of(self.size))

    def held(self, depth: int, threads: int) -> float:
        """Bytes that all threads touch of it inside the loops from `depth` on."""
        if depth > self.end:
            return 0.0
        apart = self.own or (depth > 0 and self._is_threaded)
        return self.touched(max(depth, self.begin)) * (threads if apart else 1)

    def moved(self, depth: int) -> tuple[float, float]:
        """(bytes moved, bytes of it that come back because its loops return to them), cut at `depth`.

        The innermost loop outside that walks brings in what is new: neighbouring iterations share lines, which are
        still there. The loops outside of that one bring in all of it again.
        """
        walks = depth > self.end  # between two fillings of its stage more passes than the cache holds
        depth = min(depth, self.end)
        touched, times, again = self.touched(depth), 1, 1
        for place in reversed(range(depth)):
            loop = self.loops[place]
            if loop.id not in self.under:
                continue
            moves = self._moves(loop)
            if walks or place < self.begin:
                times *= loop.extent
                again *= 1 if moves else loop.extent
            elif moves:
                touched, walks = self.touched(place), True
        return touched * times, touched * times * (1 - 1 / max(1, again))

    def stays(self, depth: int) -> bool:
        """Is it in the cache all the time between two makings, when the loops are cut at `depth`?"""
        return not any(self._moves(loop) for loop in self.loops[self.begin : depth])

    def outside(self, depth: int) -> tuple[tuple[int, Steps], ...]:
        """How the loops outside of `depth` move it: walks that are moved alike may meet the same lines inside."""
        loops = [loop for loop in self.loops[: min(depth, self.end)] if loop.id in self.under]
        return tuple((loop.id, self.steps([loop])) for loop in loops)

    @property
    def _is_threaded(self) -> bool:
        return bool(self.loops) and self.loops[0].type in SHARED and self._moves(self.loops[0])

    def _moves(self, leaf: Leaf) -> bool:
        return bool(self.steps([leaf]))


def together(walks: Iterable[Walk], depth: int) -> list[list[Walk]]:
    """Walks over one memory in groups of those that meet the same lines, when the loops are cut at `depth`.

    They are moved alike by the loops outside, and begin less than what they touch apart.
    """
    groups: list[list[Walk]] = []
    for walk in sorted(walks, key=lambda walk: -1 if walk.start is None else walk.start):
        for group in groups:
            if walk.outside(depth) == group[0].outside(depth) and _meet(walk, group[0], depth):
                group.append(walk)
                break
        else:
            groups.append([walk])
    return groups


def _meet(walk: Walk, other: Walk, depth: int) -> bool:
    if walk.start is None or other.start is None:
        return walk.start is other.start
    return abs(walk.start - other.start) * walk.itemsize < max(walk.touched(depth), other.touched(depth))


def by_axis(strides: Mapping[Axis, int | None], leaves: Iterable[Leaf]) -> Steps:
    """The steps of an access: each axis as far as the leaves cover it."""
    covered: dict[Axis, int] = {}
    for leaf in leaves:
        covered[leaf.axis] = min(covered.get(leaf.axis, 1) * leaf.extent, leaf.axis.extent)
    return [(strides[axis], n) for axis, n in covered.items() if n > 1 and strides[axis] != 0]


def by_leaf(strides: Mapping[int, int], leaves: Iterable[Leaf]) -> Steps:
    """The steps in a stage, which is laid out leaf by leaf (`strides` by their ids)."""
    return [(strides[leaf.id], leaf.extent) for leaf in leaves if leaf.id in strides and leaf.extent > 1]


def lines_touched(steps: Steps, itemsize: int) -> float:
    """Bytes of the lines of a block, given the elements between its steps in each direction (None: anywhere), and how
    many there are: steps into what shorter ones have filled grow a run of elements, or of rows; others repeat it."""
    known = sorted((abs(stride), n) for stride, n in steps if stride is not None)
    run, unit, rows, apart = 1, 1, 1, 1
    for stride, extent in known:
        if stride <= run or stride * itemsize < LINE:
            run += stride * (extent - 1)
        elif stride % unit == 0 and stride // unit <= rows and unit > 1:
            rows += stride // unit * (extent - 1)
        else:
            apart *= rows
            unit, rows = stride, extent
    scattered = prod(n for stride, n in steps if stride is None)
    return lines_of(run * itemsize) * rows * apart * scattered


def lines_of(size: int) -> float:
    """The bytes of the lines that `size` bytes take."""
    return float(ceil(size / LINE) * LINE)
