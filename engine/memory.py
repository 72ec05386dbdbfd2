"""Where the intermediate arrays of a plan lie in one slab: those that are never needed together may share memory.

Best fit in order of time: each array takes the smallest gap that holds it, or grows the slab. In the kernels' given
order a solver finds layouts hardly smaller (the sum of what is needed at once is a bound from below).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

# Arrays the engine makes start at such addresses: a cache line, and the widest vector.
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Life:
    """`nbytes` that are needed from step `first`, which writes them, to step `last`, which reads them; both included."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each Life lies in a slab of `nbytes`: offsets in bytes, multiples of ALIGNMENT."""

    offsets: tuple[int, ...]
    nbytes: int


def layout(lives: Sequence[Life]) -> Layout:
    """Offsets such that lives with a step in common share no byte."""
    slab = _Slab()
    ending: list[tuple[int, int, int]] = []  # (last step, offset, size), the one that ends first in front
    offsets = [0] * len(lives)
    for number in sorted(range(len(lives)), key=lambda number: lives[number].first):
        life = lives[number]
        while ending and ending[0][0] < life.first:
            _, offset, size = heappop(ending)
            slab.free(offset, size)
        size = -(-life.nbytes // ALIGNMENT) * ALIGNMENT
        if size:
            offsets[number] = slab.take(size)
            heappush(ending, (life.last, offsets[number], size))
    return Layout(tuple(offsets), slab.nbytes)


class _Slab:
    """What is free of a slab that grows."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._gaps: list[tuple[int, int]] = []  # (offset, size) by offset; no two touch

    def take(self, size: int) -> int:
        fitting = [gap for gap in self._gaps if gap[1] >= size]
        if not fitting:
            return self._grow(size)
        offset, room = min(fitting, key=lambda gap: gap[1])
        at = bisect_left(self._gaps, (offset, room))
        self._gaps[at : at + 1] = [(offset + size, room - size)] if room > size else []
        return offset

    def _grow(self, size: int) -> int:
        """Take what lies free at the end, and as much more as is missing."""
        offset = self.nbytes
        if self._gaps and sum(self._gaps[-1]) == self.nbytes:
            offset, _ = self._gaps.pop()
        self.nbytes = offset + size
        return offset

    def free(self, offset: int, size: int) -> None:
        at = bisect_left(self._gaps, (offset, size))
        if at < len(self._gaps) and offset + size == self._gaps[at][0]:
            size += self._gaps.pop(at)[1]
        if at and sum(self._gaps[at - 1]) == offset:
            before, room = self._gaps.pop(at - 1)
            offset, size, at = before, size + room, at - 1
        self._gaps.insert(at, (offset, size))
