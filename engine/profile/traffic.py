"""Bytes that a scheduled kernel moves to and from DRAM, from its loops and what the last-level cache holds.

Nothing of the kernel's data is in the cache when it begins. The loops are cut where what lies inside touches no more
than the cache holds; what they walk over outside of that comes anew (see `Walk.moved`). Where all of it fits, every
element moves once: the compulsory traffic. Whole cache lines move; a line that is stored is not counted as read
(machines differ in whether they read it first), but partial results that wait in the output are read back. A staged
input is read where its stage is filled; the stage itself moves only where it is too large for the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import inf, prod

from engine.indexing import Access, Body, accesses, body
from engine.ir import UOp, substitute, toposort
from engine.offsets import number
from engine.ops import Op
from engine.opts import TARGET_OUT, RangeType
from engine.profile.walk import Walk, by_axis, by_leaf, lines_of, together
from engine.ranges import Axis
from engine.schedule import SHARED, Scheduled
from engine.shapes import shape_of
from engine.simplify import simplify
from engine.stages import Stage
from engine.walks import loops_of

OUTPUT = -1  # the slot of the store's Access


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


class _Nest:
    """The loops of a schedule and what walks inside of them."""

    def __init__(self, scheduled: Scheduled, threads: int) -> None:
        kernel = scheduled.kernel
        self._scheduled = scheduled
        self._threads = threads
        self._loops = loops_of(scheduled)
        as_long = {loop.id: loop for loop in self._loops}
        self._leaves = tuple(as_long.get(leaf.id, leaf) for leaf in scheduled.leaves)
        self._sizes: dict[int, int] = {
            node.arg[0]: prod(node.arg[1]) * node.dtype.itemsize for node in kernel.params
        }
        self._sizes[OUTPUT] = prod(shape_of(kernel.output)) * kernel.dtype.itemsize
        self._store, self._loads = self._accesses(body(kernel))
        self._stages = [self._stage(stage) for stage in scheduled.stages]

    def traffic(self, cache_bytes: float) -> Traffic:
        depth = next((d for d in range(len(self._loops)) if self._held(d) <= cache_bytes), len(self._loops))
        written, read = self._store.moved(depth)
        for stage in self._stages:
            if not stage.stays(depth):
                moved, _ = stage.moved(depth)
                visits = prod(loop.extent for loop in self._loops[: stage.begin])
                read, written = read + moved, written + stage.touched(stage.begin) * visits
        for slot, size in self._sizes.items():
            if slot != OUTPUT:
                read += self._read(slot, size, depth)
        return Traffic(read, written)

    def _read(self, slot: int, size: int, depth: int) -> float:
        """Bytes read of an input. A walk meets what another has brought, if both have it while it is in the cache."""
        if slot not in self._loads:
            return size  # what a FOLD's steps or a SCATTER's updates walk over: once
        groups = together(self._loads[slot], depth)
        moved = sum(max(walk.moved(depth)[0] for walk in group) for group in groups)
        return min(moved, lines_of(size)) if depth == 0 else moved

    def _held(self, depth: int) -> float:
        """Bytes that the loops from `depth` on touch, on all threads at once."""
        return sum(
            min(
                sum(
                    max(walk.held(depth, self._threads) for walk in group) for group in together(walks, depth)
                ),
                lines_of(self._sizes[slot]) if slot is not None else inf,
            )
            for slot, walks in self._walks()
        )

    def _walks(self) -> Iterator[tuple[int | None, list[Walk]]]:
        """All walks by the memory they go over; a stage has no slot."""
        yield OUTPUT, [self._store]
        yield from self._loads.items()
        yield from ((None, [stage]) for stage in self._stages)

    def _accesses(self, found: Body) -> tuple[Walk, dict[int, list[Walk]]]:
        """The store, and the loads by slot."""
        store, *loads = accesses(self._scheduled.kernel)
        nodes = [node for node in toposort(found.value) if node.op is Op.LOAD]
        staged = {
            below: self._place(stage)
            for stage in self._scheduled.stages
            for below in toposort(stage.value.node)
        }
        around = _axes_around(found)
        output = found.axes_of(TARGET_OUT)
        by_slot: dict[int, list[Walk]] = {}
        for access, node in zip(loads, nodes, strict=True):
            end = staged.get(node, len(self._loops))
            walk = self._walk(access, around.get(node, output), end, _start(found, node))
            by_slot.setdefault(access.slot, []).append(walk)
        return self._walk(store, output, len(self._loops), 0), by_slot

    def _walk(self, access: Access, axes: frozenset[Axis], end: int, start: int | None) -> Walk:
        size, steps = self._sizes[access.slot], partial(by_axis, access.strides)
        under = self._under(axes)
        return Walk(self._loops, self._leaves, under, access.itemsize, size, steps, 0, end, start)

    def _under(self, axes: frozenset[Axis]) -> frozenset[int]:
        """The loops round what depends on `axes`: those that move it, and the plain loops outside of such a one.

        Partial results of a reduce are stored inside its LOOP leaves.
        """
        plain = [loop for loop in self._loops if loop.type is not RangeType.REDUCE]
        moving = [place for place, loop in enumerate(plain) if loop.axis in axes or loop.axis.reduce]
        found = plain[: 1 + max(moving, default=-1)]
        found += [loop for loop in self._loops if loop.type is RangeType.REDUCE and loop.axis in axes]
        return frozenset(loop.id for loop in found)

    def _stage(self, stage: Stage) -> Walk:
        strides = {leaf.id: stride for leaf, stride in stage.strides.items()}
        itemsize, place = stage.value.itemsize, self._place(stage)
        size, leaves = stage.elements * itemsize, self._leaves
        every, steps = frozenset(loop.id for loop in self._loops), partial(by_leaf, strides)
        return Walk(self._loops, leaves, every, itemsize, size, steps, place, len(self._loops), own=True)

    def _place(self, stage: Stage) -> int:
        """How many of the loops lie outside of it."""
        return len(self._scheduled.of_type(*SHARED)) + stage.depth


def _axes_around(found: Body) -> dict[UOp, frozenset[Axis]]:
    """For each load inside a reduce's loops the axes of those."""
    around: dict[UOp, frozenset[Axis]] = {}
    for reduce in found.reduces:
        for node in toposort(reduce.src[0], enter=lambda node: node not in found.reduces):
            if node.op is Op.LOAD:
                around[node] = around.get(node, frozenset()) | found.axes_inside(reduce)
    return around


def _start(found: Body, load: UOp) -> int | None:
    """The element that a load begins with; None where data decides."""
    offset = simplify(substitute(load.src[0].src[1], dict.fromkeys(found.ranges.values(), number(0))))
    return int(offset.arg) if offset.op is Op.CONST else None
