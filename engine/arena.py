"""A kernel's buffers in memory shared with the measuring child, with canaries round each one.

The parent writes inputs, canaries and the output's poison, the child maps the regions between guard pages and
runs the kernel, and the parent judges what it finds: nothing a broken kernel does to the child can forge that.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType

import numpy as np

from engine.shapes import Shape

PAGE = mmap.PAGESIZE
# Canary bytes on each side: an overrun of some rows lands here and is named; a wilder one hits a guard page.
CANARY = 16 * PAGE
# Poisons are NaNs as float32, absurd as int32, and neither true nor false as bytes.
POISONS = (0x7FC5A5A5, 0x7FD2D2D2)

Array = np.ndarray


@dataclass(frozen=True)
class Region:
    """One buffer in the shared file: pages `at` … `at + length`, the data `offset` bytes into them."""

    at: int
    length: int
    offset: int
    dtype: np.dtype
    shape: Shape

    @property
    def nbytes(self) -> int:
        """The data's size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE


def _region(at: int, dtype: np.dtype, shape: Shape, flush: bool) -> Region:
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if not flush:
        return Region(at, CANARY + _pages(nbytes) + CANARY, CANARY, dtype, shape)
    # The data ends where the guard page begins, save an element where that would align it to a vector.
    gap = dtype.itemsize if nbytes % 64 == 0 else 0
    length = _pages(nbytes + gap) + PAGE
    return Region(at, length, length - nbytes - gap, dtype, shape)


class Arena:
    """The output (region 0) and the inputs of one kernel in shared memory.

    With `flush` the data end at a guard page and are aligned to an element only: what reads or writes past the
    end dies, and what assumes alignment shows. Without, data start on a page, with wide canaries on both sides.
    """

    def __init__(self, output: tuple[np.dtype, Shape], inputs: Sequence[Array], flush: bool = False) -> None:
        self.inputs = list(inputs)
        self.regions: list[Region] = []
        at = 0
        for dtype, shape in [output, *((array.dtype, array.shape) for array in inputs)]:
            self.regions.append(_region(at, dtype, tuple(shape), flush))
            at += self.regions[-1].length
        self.fd = os.memfd_create("tinyfleet-arena", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, at)
        self._map = mmap.mmap(self.fd, at)
        for slot in range(len(self.regions)):
            self._write_canaries(slot)
            if slot:
                self.view(slot)[...] = self.inputs[slot - 1]

    def view(self, slot: int) -> Array:
        """The data of a region as an array in place."""
        region = self.regions[slot]
        return np.ndarray(region.shape, region.dtype, self._map, region.at + region.offset)

    def poison(self, which: int = 0) -> None:
        """Fill the output with one of POISONS, so that what is not written shows."""
        region = self.regions[0]
        self._bytes(region.offset, region.nbytes, 0)[...] = _repeated(POISONS[which], region.nbytes)

    def damage(self) -> str:
        """What was written outside the output since the start, in words; empty when nothing was."""
        for slot in range(len(self.regions)):
            if problem := self._canary_damage(slot):
                return problem
        for slot, array in enumerate(self.inputs, 1):
            if not np.array_equal(_bytes(self.view(slot)), _bytes(array)):
                return f"input {slot - 1} was changed"
        return ""

    def repair(self) -> None:
        """Put inputs and canaries back after damage."""
        for slot in range(len(self.regions)):
            self._write_canaries(slot)
            if slot:
                self.view(slot)[...] = self.inputs[slot - 1]

    def close(self) -> None:
        """Give the memory back (a child that still maps it keeps its view)."""
        os.close(self.fd)
        self._map.close()

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bytes(self, offset: int, count: int, slot: int) -> Array:
        return np.frombuffer(self._map, np.uint8, count, self.regions[slot].at + offset)

    def _canaries(self, slot: int) -> list[tuple[str, Array]]:
        region = self.regions[slot]
        end = region.offset + region.nbytes
        return [
            ("before the start", self._bytes(0, region.offset, slot)),
            ("past the end", self._bytes(end, region.length - end, slot)),
        ]

    def _write_canaries(self, slot: int) -> None:
        for _, canary in self._canaries(slot):
            canary[...] = _canary_bytes(slot, canary.size)

    def _canary_damage(self, slot: int) -> str:
        for where, canary in self._canaries(slot):
            wrong = np.flatnonzero(canary != _canary_bytes(slot, canary.size))
            if wrong.size:
                name = "the output" if slot == 0 else f"input {slot - 1}"
                return f"wrote {wrong.size} bytes {where} of {name}"
        return ""


@lru_cache(maxsize=256)
def _canary_bytes(slot: int, count: int) -> Array:
    """A NaN as float32, another one for each buffer, so that a copied overrun is seen; `count` bytes of it."""
    return _repeated(0xFFC0C000 | ((slot + 1) * 0x9D & 0xFFF), count)


def _repeated(word: int, count: int) -> Array:
    return np.full(-(-count // 4), word, np.uint32).view(np.uint8)[:count]


def _bytes(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)  # an array without axes cannot be viewed as bytes
