"""Bytes that a scheduled kernel moves to and from DRAM, from its loops and what the last-level cache holds.

Nothing of the kernel's data is in the cache when it begins. The loops are cut where what lies inside touches no more
than the cache holds; what they walk over outside of that comes anew (see `_moved`). Where all of it fits, every
element moves once: the compulsory traffic. Whole cache lines move; a line that is stored is not counted as read (machines differ in whether they read it first), but partial results that wait in the
output are read back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

from engine.indexing import Access, accesses
from engine.opts import RangeType
from engine.ranges import Axis, Leaf
from engine.schedule import Scheduled
from engine.shapes import shape_of

LINE = 64


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
    return _Walk(scheduled, threads).traffic(cache_bytes)


class _Walk:
    """The loops of a schedule and what its accesses touch inside of them."""

    def __init__(self, scheduled: Scheduled, threads: int) -> None:
        self._scheduled = scheduled
        self._threads = threads
        self._loops = scheduled.of_type(RangeType.THREAD, RangeType.LOOP, RangeType.REDUCE)
        self._store, *self._loads = accesses(scheduled.kernel)
        kernel = scheduled.kernel
        self._sizes: dict[int, int] = {
            node.arg[0]: prod(node.arg[1]) * node.dtype.itemsize for node in kernel.params
        }
        self._sizes[-1] = prod(shape_of(kernel.output)) * kernel.dtype.itemsize

    def traffic(self, cache_bytes: float) -> Traffic:
        depth = next((d for d in range(len(self._loops)) if self._held(d) <= cache_bytes), len(self._loops))
        written, again = self._moved(self._store, depth)
        reads: dict[int, float] = {}
        for access in self._loads:
            moved, _ = self._moved(access, depth)
            reads[access.slot] = reads.get(access.slot, 0.0) + moved
        read = sum(
            # whatever walks over an input that stays in the cache meets what another access has brought
            min(reads.get(slot, size), size) if depth == 0 or slot not in reads else reads[slot]
            for slot, size in self._sizes.items()
            if slot >= 0
        )
        return Traffic(read + again, written)

    def _held(self, depth: int) -> float:
        """Bytes that the loops from `depth` on touch, on all threads at once."""
        held: dict[int, float] = {}
        for access in (self._store, *self._loads):
            threads = self._sharers(access) if depth else 1
            held[access.slot] = held.get(access.slot, 0.0) + threads * self._touched(access, depth)
        return sum(min(touched, self._sizes[slot]) for slot, touched in held.items())

    def _sharers(self, access: Access) -> int:
        """How many threads touch parts of their own."""
        thread = next(iter(self._scheduled.of_type(RangeType.THREAD)), None)
        return self._threads if thread is not None and access.strides[thread.axis] != 0 else 1

    def _moved(self, access: Access, depth: int) -> tuple[float, float]:
        """(bytes moved by an access, bytes of it that come back because its loops return to them).

        The innermost loop outside that walks brings in what is new: neighbouring iterations share lines, which are
        still there. The loops outside of that one bring in all of it again.
        """
        touched, times, again = self._touched(access, depth), 1, 1
        walks = False
        for place in reversed(range(depth)):
            leaf = self._loops[place]
            moves = access.strides[leaf.axis] != 0
            if walks:
                times *= _trips(leaf)
                again *= 1 if moves else _trips(leaf)
            elif moves:
                touched, walks = self._touched(access, place), True
        return touched * times, touched * times * (1 - 1 / again)

    def _touched(self, access: Access, depth: int) -> float:
        """Bytes of the cache lines that an access touches inside the loops from `depth` on."""
        outside = {leaf.id for leaf in self._loops[:depth]}
        covered = self._covered(leaf for leaf in self._scheduled.leaves if leaf.id not in outside)
        return min(lines_touched(access, covered), max(LINE, self._sizes[access.slot]))

    def _covered(self, leaves: Iterable[Leaf]) -> dict[Axis, int]:
        found: dict[Axis, int] = {}
        for leaf in leaves:
            found[leaf.axis] = min(found.get(leaf.axis, 1) * leaf.extent, leaf.axis.extent)
        return found


def _trips(leaf: Leaf) -> int:
    return min(leaf.extent, ceil(leaf.axis.extent / leaf.stride))


def lines_touched(access: Access, covered: dict[Axis, int]) -> float:
    """Bytes of the lines of a strided block: steps that a shorter one has filled grow its run, others repeat it."""
    moving = [(access.strides[axis], n) for axis, n in covered.items() if n > 1 and access.strides[axis] != 0]
    steps = sorted((abs(stride), n) for stride, n in moving if stride is not None)
    run, unit, rows, apart = 1, 1, 1, 1
    for stride, extent in steps:
        if stride <= run or stride * access.itemsize < LINE:
            run += stride * (extent - 1)
        elif stride % unit == 0 and stride // unit <= rows and unit > 1:
            rows += stride // unit * (extent - 1)
        else:
            apart *= rows
            unit, rows = stride, extent
    scattered = prod(n for stride, n in moving if stride is None)
    return ceil(run * access.itemsize / LINE) * LINE * rows * apart * scattered
