"""The measuring side: the child that runs candidates.

Forked by engine.starter for one socket. It does what it is told and judges nothing: it maps memory between guard
pages, loads programs, runs and times them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import DeviceError
from engine.object_code import load_object
from engine.packets import Message, serve
from engine.runtime.pool import Pool
from engine.runtime.scratch import pointers_of
from engine.runtime.workers import PythonThreads

PAGE = mmap.PAGESIZE
# Unmapped on both sides of every region: whatever strides past its canaries dies here.
GUARD = 1 << 20
HUGE_PAGE = 2 << 20
PROT_NONE = 0
MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
# A child ends itself this long after the deadline at which the parent should have ended it.
OWN_DEADLINE_MARGIN_S = 1.0
MAX_RUNS = 2000
# A run is disturbed that had no core for more than this share of its time, and what the two clocks differ by.
DISTURBED, CLOCKS_APART_S = 0.02, 20e-6
FUNCTIONS_KEPT = 4
# So many programs stay loaded; those prepared longest ago go first.
PROGRAMS_KEPT = 256
# What a kernel takes: its buffers, the first tile, the one behind the last.
ARGUMENTS = (ctypes.c_void_p, ctypes.c_long, ctypes.c_long)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

Run = Callable[[], object]

# The named programs as NumPy runs them, into an output that exists already: (output, *inputs).
NUMPY: dict[str, Callable[..., object]] = {
    "gemm": lambda out, a, b: np.matmul(a, b, out=out),
    "reduce": lambda out, a: np.sum(a, axis=1, out=out),
    "copy": lambda out, a: np.copyto(out, a),
    "elementwise": lambda out, a, b: np.maximum(np.add(np.multiply(a, b, out=out), a, out=out), 0, out=out),
}


class Child:
    """Runs what it is told to, one command at a time: map, prepare, run."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.programs: dict[str, _Program | _TwoPhases | _NumPy] = {}
        self._loaded: dict[tuple[str, str], tuple[Any, Any]] = {}

    def serve(self) -> None:
        """Answer commands until the other side closes."""
        commands: dict[str, Callable[..., Message]] = {
            "map": self._map,
            "prepare": self._prepare,
            "prepare_numpy": self._prepare_numpy,
            "run": self._run,
        }
        serve(self.sock, commands)

    def _map(self, fds: list[int], regions: list[tuple[int, int]], private: bool) -> Message:
        """Map (offset, length) regions of the file handed over; private ones are copies in huge pages."""
        place = _map_private if private else _map_shared
        return {"addresses": [place(fds[0], at, length) for at, length in regions]}

    def _prepare(
        self, _: list[int], key: str, path: str, entry: str, buffers: list[int], tiles: int, **others: Any
    ) -> Message:
        """Load a compiled program and bind it to its buffers (addresses; the output's first).

        Its tiles are shared by so many `threads`: those of `pool` (the worker pool's library), else Python's; `scratch`
        is how many bytes of scratch memory each needs. `combine` is its second phase:
        (entry, tiles, bytes between both).
        """
        self.programs.pop(key, None)
        if len(self.programs) >= PROGRAMS_KEPT:
            del self.programs[next(iter(self.programs))]
        second = others.pop("combine", None)
        program = _Program(*self._load(path, entry), buffers, tiles, **others)
        if second is None:
            self.programs[key] = program
        else:
            entry, tiles, nbytes = second
            function, owner = self._load(path, entry)
            after = replace(program, function=function, owner=owner, tiles=tiles, scratch=0)
            self.programs[key] = _TwoPhases(program, after, nbytes)
        return {}

    def _load(self, path: str, entry: str) -> tuple[Any, Any]:
        """As `_function`; the last few are kept: a candidate is bound to one set of buffers after the other."""
        if (path, entry) not in self._loaded:
            found = _function(path, entry)
            if len(self._loaded) >= FUNCTIONS_KEPT:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[path, entry] = found
        return self._loaded[path, entry]

    def _prepare_numpy(
        self, _: list[int], key: str, program: str, arrays: list[tuple[int, str, list[int]]], threads: int
    ) -> Message:
        """Bind NumPy's version of a named program to arrays given as (address, dtype, shape)."""
        self.programs[key] = _NumPy(program, [_array_at(*array) for array in arrays], threads)
        return {}

    def _run(
        self, _: list[int], key: str, runs: int, budget_s: float, stop_above_s: float, deadline_s: float
    ) -> Message:
        """Up to `runs` timed runs, for `budget_s`, no more once one takes over `stop_above_s`; in seconds.

        The answer says which of them were disturbed: ran for longer than they had a core.
        """
        program = self.programs[key].ready(poison=runs == 1)
        signal.setitimer(signal.ITIMER_REAL, deadline_s + OWN_DEADLINE_MARGIN_S)
        lost = _lost_alone if self.programs[key].threads == 1 else _lost_together
        times: list[float] = []
        disturbed: list[int] = []
        began = time.monotonic()
        while len(times) < min(runs, MAX_RUNS):
            before = lost()
            start = time.perf_counter()
            program()
            stop = time.perf_counter()
            if lost() - before > DISTURBED * (stop - start) + CLOCKS_APART_S:
                disturbed.append(len(times))
            times.append(stop - start)
            if stop - start > stop_above_s or time.monotonic() - began >= budget_s:
                break
        signal.setitimer(signal.ITIMER_REAL, 0)
        return {"times": times, "disturbed": disturbed}


def _lost_alone() -> float:
    """Seconds this thread has not had a core."""
    return time.perf_counter() - time.thread_time()


def _lost_together() -> float:
    """How often a thread of this process was made to leave its core; as seconds, any is more than is tolerated."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw) * 1e6


def _function(path: str, entry: str) -> tuple[Any, Any]:
    """A kernel of a shared object, or of an object file that LLVM has made, and what keeps it loaded."""
    if not path.endswith(".o"):
        library = ctypes.CDLL(path)
        found = getattr(library, entry)
        found.restype = None
        found.argtypes = ARGUMENTS
        return found, library
    try:
        address, owner = load_object(Path(path), entry)
    except DeviceError as error:
        raise OSError(str(error)) from error  # as a shared object that cannot be loaded
    return ctypes.CFUNCTYPE(None, *ARGUMENTS)(address), owner


@dataclass(frozen=True)
class _Program:
    """A loaded kernel and what it is called with; `owner` keeps its code loaded."""

    function: Any
    owner: Any
    buffers: list[int]
    tiles: int
    scratch: int = 0
    pool: str = ""
    threads: int = 1

    def ready(self, poison: bool) -> Run:
        """One run of it as a call. With `poison` its scratch memory is NaN: what is read before it is written shows.

        Scratch memory is this thread's and may have grown since, so a call is for now.
        """
        pointers = pointers_of(self.buffers, self.scratch)
        if self.scratch and poison:
            ctypes.memset(pointers[len(self.buffers)], 0xFF, self.scratch)
        if self.threads == 1 or self.tiles == 1:
            return lambda: self.function(pointers, 0, self.tiles)
        if not self.pool:
            work = PythonThreads().run
            return lambda: work(self.function, self.buffers, self.scratch, self.tiles, self.threads)
        share = Pool(Path(self.pool)).share
        return lambda: share(self.function, pointers, self.scratch, self.tiles, self.threads)


@dataclass(frozen=True)
class _TwoPhases:
    """A kernel whose `first` phase leaves partial results in `nbytes` for its `second`, and what both are called with."""

    first: _Program
    second: _Program
    nbytes: int

    @property
    def threads(self) -> int:
        """On how many threads it runs."""
        return self.first.threads

    def ready(self, poison: bool) -> Run:
        """As `_Program.ready`; with `poison` the memory between the phases is NaN too."""
        partials = np.empty(self.nbytes, np.uint8)
        partials.fill(0xFF if poison else 0)  # its pages are there before the first run
        output, *inputs = self.first.buffers
        first = replace(self.first, buffers=[partials.ctypes.data, *inputs]).ready(poison)
        second = replace(self.second, buffers=[output, *inputs, partials.ctypes.data]).ready(poison)

        def run() -> None:
            first()
            second()
            _ = partials  # until now it was used

        return run


@dataclass(frozen=True)
class _NumPy:
    """A named program as NumPy runs it, and its arrays."""

    program: str
    arrays: list[np.ndarray]
    threads: int

    def ready(self, poison: bool) -> Run:
        """As `_Program.ready`."""
        run = NUMPY[self.program]
        return lambda: run(*self.arrays)


def _array_at(address: int, dtype: str, shape: list[int]) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_char * count).from_address(address)).cast("B")
    return np.ndarray(shape, dtype, memory)


def _mmap(address: int | None, length: int, protection: int, flags: int, fd: int = -1, at: int = 0) -> int:
    found: int = _libc.mmap(address, length, protection, flags, fd, at)
    if found == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {length} bytes: {os.strerror(number)}")
    return found


def _reserve(length: int, alignment: int) -> int:
    """Address space for a region with nothing round it, the region's start aligned."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    start = _mmap(None, length + 2 * GUARD + alignment, PROT_NONE, private)
    return -(-(start + GUARD) // alignment) * alignment


def _map_shared(fd: int, at: int, length: int) -> int:
    place = _reserve(length, PAGE)
    return _mmap(place, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED, fd, at)


def _map_private(fd: int, at: int, length: int) -> int:
    """A copy in anonymous memory, on huge pages where the system gives them, as large arrays usually are."""
    place = _reserve(length, HUGE_PAGE if length >= HUGE_PAGE else PAGE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
    _mmap(place, length, mmap.PROT_READ | mmap.PROT_WRITE, flags)
    _libc.madvise(place, length, mmap.MADV_HUGEPAGE)
    with mmap.mmap(fd, at + length, mmap.MAP_SHARED, mmap.PROT_READ) as shared:
        ctypes.memmove(place, shared[at : at + length], length)
    return place
