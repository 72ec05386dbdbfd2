"""What a kernel is called with: its buffers, and scratch memory for its stages.

Each thread has one piece of scratch memory, kept and grown as kernels ask for more.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Sequence
from typing import Any

from engine.errors import DeviceError

# Where the system gives huge pages of this size, memory that starts at a multiple of it gets them.
HUGE_PAGE = 1 << 21
# More than this no kernel may ask for.
MOST = 64 << 20

_own = threading.local()


def scratch(nbytes: int) -> int:
    """The address of at least `nbytes` that only the calling thread uses; 0 for none. DeviceError beyond MOST.

    It starts at a multiple of HUGE_PAGE. What is in it does not last: the thread's next kernel writes over it.
    """
    if nbytes <= 0:
        return 0
    if getattr(_own, "nbytes", 0) < nbytes:
        _grow(nbytes)
    return int(_own.address)


def check(nbytes: int) -> None:
    """DeviceError if a kernel asks for more scratch memory than there may be."""
    if nbytes > MOST:
        raise DeviceError(
            "load", f"a kernel needs {nbytes} bytes of scratch memory; a thread has {MOST} at most"
        )


def _grow(nbytes: int) -> None:
    check(nbytes)
    _own.nbytes, _own.memory = 0, None  # let go before more is asked for
    whole = -(-nbytes // HUGE_PAGE) * HUGE_PAGE
    try:
        memory = mmap.mmap(-1, whole + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise DeviceError("scratch memory", f"{nbytes} bytes: {error.strerror}") from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    _own.memory, _own.nbytes = memory, whole
    _own.address = -(-start // HUGE_PAGE) * HUGE_PAGE


def pointers_of(buffers: Sequence[int | None], nbytes: int) -> Any:
    """The array of pointers that a kernel takes: its buffers' and, if it needs any, this thread's scratch memory."""
    own = [scratch(nbytes)] if nbytes else []
    return (ctypes.c_void_p * (len(buffers) + len(own)))(*buffers, *own)
