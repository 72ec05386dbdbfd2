"""Bytes that a scheduled kernel moves to and from DRAM, from its loops and what the last-level cache holds.

Nothing of the kernel's data is in the cache when it begins. The loops are cut where what lies inside touches no more
than the cache holds; what they walk over outside of that comes anew (see `_Walk.moved`). Where all of it fits, every
element moves once: the compulsory traffic. Whole cache lines move; a line that is stored is not counted as read
(machines differ in whether they read it first), but partial results that wait in the output are read back. A staged
input is read where its stage is filled; the stage itself moves only where it is too large for the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, prod

from engine.indexing import Access, accesses, body
from engine.ir import toposort
from engine.ops import Op
from engine.opts import RangeType
from engine.ranges import Axis, Leaf
from engine.schedule import Scheduled
from engine.shapes import shape_of
from engine.stages import Stage
from engine.walks import loops_of

LINE = 64
OUTPUT = -1  # the slot of the store's Access
Steps = list[tuple[int | None, int]]  # (elements apart, how many) of each direction


@dataclass(frozen=True)
class Traffic:
    """Bytes read and written."""

    read: float
    written: float

    @property
    def bytes(self) -> float:
        """Both."""
        return self.read + self.written


def traffic(scheduled: Scheduled, cache_bytes: float, threads: int = 1) -> Traffic:
    """The DRAM traffic of one run on `threads` threads that share a last level of `cache_bytes`."""
    return _Nest(scheduled, threads).traffic(cache_bytes)


@dataclass(frozen=True)
class _Walk:
    """How one access walks over `size` bytes of memory while the kernel's `loops` go on.

    `steps` says how it moves along leaves. Loops outside of `begin` make the memory anew (that of a stage); loops from
    `end` on do not touch it (what is staged). `own`: each thread has its own.
    """

    loops: tuple[Leaf, ...]
    leaves: tuple[Leaf, ...]
    itemsize: int
    size: int
    steps: Callable[[Iterable[Leaf]], Steps]
    begin: int
    end: int
    own: bool = False

    def touched(self, depth: int) -> float:
        """Bytes of the cache lines that it touches inside the loops from `depth` on."""
        outside = {leaf.id for leaf in self.loops[:depth]}
        steps = self.steps(leaf for leaf in self.leaves if leaf.id not in outside)
        return min(lines_touched(steps, self.itemsize), max(LINE, self.size))

    def held(self, depth: int, threads: int) -> float:
        """Bytes that all threads touch of it inside the loops from `depth` on."""
        if depth > self.end:
            return 0.0
        apart = self.own or (depth > 0 and self._is_threaded)
        return self.touched(max(depth, self.begin)) * (threads if apart else 1)

    @property
    def _is_threaded(self) -> bool:
        return bool(self.loops) and self.loops[0].type is RangeType.THREAD and self._moves(self.loops[0])

    def _moves(self, leaf: Leaf) -> bool:
        return bool(self.steps([leaf]))

    def moved(self, depth: int) -> tuple[float, float]:
        """(bytes moved, bytes of it that come back because its loops return to them), cut at `depth`.

        The innermost loop outside that walks brings in what is new: neighbouring iterations share lines, which are
        still there. The loops outside of that one bring in all of it again.
        """
        walks = depth > self.end  # between two fillings of its stage more passes than the cache holds
        depth = min(depth, self.end)
        touched, times, again = self.touched(depth), 1, 1
        for place in reversed(range(depth)):
            moves, extent = self._moves(self.loops[place]), self.loops[place].extent
            if walks or place < self.begin:
                times *= extent
                again *= 1 if moves else extent
            elif moves:
                touched, walks = self.touched(place), True
        return touched * times, touched * times * (1 - 1 / again)

    def stays(self, depth: int) -> bool:
        """Is it in the cache all the time between two makings, when the loops are cut at `depth`?"""
        return not any(self._moves(loop) for loop in self.loops[self.begin : depth])


class _Nest:
    """The loops of a schedule and what walks inside of them."""

    def __init__(self, scheduled: Scheduled, threads: int) -> None:
        kernel = scheduled.kernel
        self._scheduled = scheduled
        self._threads = threads
        self._loops = loops_of(scheduled)
        self._sizes: dict[int, int] = {
            node.arg[0]: prod(node.arg[1]) * node.dtype.itemsize for node in kernel.params
        }
        self._sizes[OUTPUT] = prod(shape_of(kernel.output)) * kernel.dtype.itemsize
        self._store, self._loads = self._accesses()
        self._stages = [self._stage(stage) for stage in scheduled.stages]

    def traffic(self, cache_bytes: float) -> Traffic:
        depth = next((d for d in range(len(self._loops)) if self._held(d) <= cache_bytes), len(self._loops))
        written, read = self._store.moved(depth)
        for stage in self._stages:
            if not stage.stays(depth):
                moved, _ = stage.moved(depth)
                visits = prod(loop.extent for loop in self._loops[: stage.begin])
                read, written = read + moved, written + stage.size * visits
        for slot, size in self._sizes.items():
            if slot != OUTPUT:
                read += self._read(slot, size, depth)
        return Traffic(read, written)

    def _read(self, slot: int, size: int, depth: int) -> float:
        """Bytes read of an input. Where all stays in the cache, a walk meets what another has brought."""
        if slot not in self._loads:
            return size  # what a FOLD's steps or a SCATTER's updates walk over: once
        moved = sum(walk.moved(depth)[0] for walk in self._loads[slot])
        return min(moved, float(size)) if depth == 0 else moved

    def _held(self, depth: int) -> float:
        """Bytes that the loops from `depth` on touch, on all threads at once."""
        inputs = sum(
            min(sum(walk.held(depth, self._threads) for walk in walks), self._sizes[slot])
            for slot, walks in self._loads.items()
        )
        output = min(self._store.held(depth, self._threads), self._sizes[OUTPUT])
        return inputs + output + sum(stage.held(depth, self._threads) for stage in self._stages)

    def _accesses(self) -> tuple[_Walk, dict[int, list[_Walk]]]:
        """The store, and the loads by slot."""
        found = body(self._scheduled.kernel)
        store, *loads = accesses(self._scheduled.kernel)
        nodes = [node for node in toposort(found.value) if node.op is Op.LOAD]
        staged = {
            below: self._place(stage)
            for stage in self._scheduled.stages
            for below in toposort(stage.value.node)
        }
        by_slot: dict[int, list[_Walk]] = {}
        for access, node in zip(loads, nodes, strict=True):
            end = staged.get(node, len(self._loops))
            by_slot.setdefault(access.slot, []).append(self._walk(access, end))
        return self._walk(store, len(self._loops)), by_slot

    def _walk(self, access: Access, end: int) -> _Walk:
        size = self._sizes[access.slot]
        steps = partial(_by_axis, access.strides)
        return _Walk(self._loops, self._scheduled.leaves, access.itemsize, size, steps, 0, end)

    def _stage(self, stage: Stage) -> _Walk:
        strides = {leaf.id: stride for leaf, stride in stage.strides.items()}
        itemsize, place = stage.value.itemsize, self._place(stage)
        size, leaves = stage.elements * itemsize, self._scheduled.leaves
        steps = partial(_by_leaf, strides)
        return _Walk(self._loops, leaves, itemsize, size, steps, place, len(self._loops), own=True)

    def _place(self, stage: Stage) -> int:
        """How many of the loops lie outside of it."""
        return len(self._scheduled.of_type(RangeType.THREAD)) + stage.depth


def _by_axis(strides: Mapping[Axis, int | None], leaves: Iterable[Leaf]) -> Steps:
    """The steps of an access: each axis as far as the leaves cover it."""
    covered: dict[Axis, int] = {}
    for leaf in leaves:
        covered[leaf.axis] = min(covered.get(leaf.axis, 1) * leaf.extent, leaf.axis.extent)
    return [(strides[axis], n) for axis, n in covered.items() if n > 1 and strides[axis] != 0]


def _by_leaf(strides: Mapping[int, int], leaves: Iterable[Leaf]) -> Steps:
    """The steps in a stage, which is laid out leaf by leaf."""
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
    return float(ceil(run * itemsize / LINE) * LINE * rows * apart * scattered)
