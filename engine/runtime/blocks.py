"""Memory of large arrays, kept when they are gone for the next ones of about their size.

The system gives new memory page by page while a kernel writes it, and clears each page first: for a copy that takes
longer than copying. What is kept is bounded; the size used longest ago goes first. Small arrays are malloc's business.
"""

from __future__ import annotations

import ctypes
import os
from threading import Lock
from typing import Any
from weakref import ref

import numpy as np

SMALLEST = 32 << 20  # bytes: smaller ones glibc's malloc keeps itself
# At most that nobody uses: a GiB, or an eighth of the machine's memory.
KEPT = min(1 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8)
Memory = np.ndarray[Any, np.dtype[np.uint8]]


class _Use(ref[Any]):
    """Watches a block in use, and has its memory."""

    __slots__ = ("memory",)
    memory: Memory


class Blocks:
    """Hands out memory, and takes it back when the last array that looks at it is gone; for several threads."""

    def __init__(self, most: int = KEPT, smallest: int = SMALLEST) -> None:
        self.kept = 0
        self._most = most
        self._smallest = smallest
        self._free: dict[int, list[Memory]] = {}  # by size, the one used last standing last
        self._used: dict[int, _Use] = {}  # by their ids
        self._lock = Lock()

    def take(self, nbytes: int) -> Any:
        """A buffer of at least so many bytes, in which anything may stand: an array made of it keeps it."""
        if nbytes < self._smallest:
            return np.empty(nbytes, np.uint8).data
        size = rounded(nbytes)
        with self._lock:
            memory = self._reused(size)
        if memory is None:
            memory = np.empty(size, np.uint8)  # NumPy asks for huge pages
        block = (ctypes.c_char * size).from_buffer(memory.data)
        use = _Use(block, self._back)
        use.memory = memory
        self._used[id(use)] = use
        return block

    def unlock(self) -> None:
        """Another thread may have had the lock when this process was forked."""
        self._lock = Lock()

    def _reused(self, size: int) -> Memory | None:
        found = self._free.pop(size, None)
        if found is None:
            return None
        memory = found.pop()
        self.kept -= size
        if found:
            self._free[size] = found
        return memory

    def _back(self, gone: _Use) -> None:
        """The block is used no more. Called wherever a collector runs: it waits for nobody."""
        memory = self._used.pop(id(gone)).memory
        size = memory.size
        if size > self._most or not self._lock.acquire(blocking=False):
            return
        try:
            self._free.setdefault(size, []).append(memory)
            self._free[size] = self._free.pop(size)
            self.kept += size
            while self.kept > self._most:
                self._reused(next(iter(self._free)))
        finally:
            self._lock.release()


def rounded(nbytes: int) -> int:
    """Up to the next eighth of a power of two: sizes that are alike share blocks, and what is too much is not touched."""
    step = 1 << max(0, nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


BLOCKS = Blocks()
os.register_at_fork(after_in_child=BLOCKS.unlock)
