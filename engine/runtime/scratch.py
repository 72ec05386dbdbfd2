"""What a kernel is called with: its buffers, and scratch memory for its stages.

Each thread has one piece of scratch memory, kept and grown as kernels ask for more.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Sequence
from typing import Any

# Where the system gives huge pages of this size, memory that starts at a multiple of it gets them.
HUGE_PAGE = 1 << 21
# What pool_run takes: function, buffers, their number, bytes of scratch memory, tiles, threads.
POOL_RUN = (
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_long,
    ctypes.c_int,
)

_own = threading.local()


def scratch(size: int) -> int:
    """The address of at least `size` bytes that only the calling thread uses; 0 for none.

    It starts at a multiple of HUGE_PAGE. What is in it does not last: the thread's next kernel writes over it.
    """
    if size <= 0:
        return 0
    if getattr(_own, "size", 0) < size:
        _own.size, _own.memory = 0, None  # let go before more is asked for
        _own.memory, _own.address = _mapped(size)
        _own.size = size
    return int(_own.address)


def _mapped(size: int) -> tuple[mmap.mmap, int]:
    whole = -(-size // HUGE_PAGE) * HUGE_PAGE
    memory = mmap.mmap(-1, whole + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return memory, -(-start // HUGE_PAGE) * HUGE_PAGE


def pointers_of(buffers: Sequence[int], scratch_bytes: int) -> Any:
    """The array of pointers that a kernel takes: its buffers' and, if it needs any, this thread's scratch memory."""
    own = [scratch(scratch_bytes)] if scratch_bytes else []
    return (ctypes.c_void_p * (len(buffers) + len(own)))(*buffers, *own)
