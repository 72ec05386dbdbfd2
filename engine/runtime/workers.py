"""Who computes the tiles of a kernel, and lists of kernels: the C worker pool, or Python where there is no compiler."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib import resources
from itertools import count
from pathlib import Path
from threading import Lock
from time import perf_counter_ns
from typing import Any

from engine import compiler
from engine.errors import CompileError
from engine.options import Pinning
from engine.runtime.pool import Calls, Events, Pool
from engine.runtime.scratch import pointers_of
from engine.seal import intact
from engine.target import Target, detect

Log = Callable[[str], None]


def silent(line: str) -> None:
    """A Log that says nothing."""


class Threading(StrEnum):
    """What shares the tiles of a kernel among threads and goes through lists of kernels."""

    POOL = "pool"  # the C worker pool (pool.c), which a C compiler has made
    PYTHON = (
        "python"  # Python and its threads, each in a kernel without the interpreter's lock: slower to wake
    )


@dataclass(frozen=True, slots=True)
class Report:
    """The worker threads there are now; `pinned` of them have a core of their own, as the option PIN asks for."""

    threading: Threading
    started: int
    pinned: int


class Workers:
    """Runs kernels on several threads, and lists of kernels.

    The C pool is compiled into `directory` (by the compiler of `target`) when first needed; without a directory, or
    without a compiler, Python does its work, and `log` is told so.
    """

    def __init__(
        self,
        directory: Path | None,
        pinning: Pinning = Pinning.NONE,
        log: Log = silent,
        target: Callable[[], Target] = detect,
    ) -> None:
        self._directory = directory
        self._target = target
        self._pinned = pinning is Pinning.CORES
        self._log = log

    @cached_property
    def _threads(self) -> Pool | PythonThreads:
        if self._directory is None:
            return PythonThreads(self._pinned)
        try:
            return Pool(build_pool(self._target(), self._directory), self._pinned)
        except CompileError as error:
            self._log(f"kernels share Python's threads and lists of kernels are run by Python: {error}")
            return PythonThreads(self._pinned)

    @property
    def threading(self) -> Threading:
        """Which of both it is; looks for a C compiler when first asked."""
        return Threading.POOL if isinstance(self._threads, Pool) else Threading.PYTHON

    def start(self) -> None:
        """Compile and load what it takes, now and not with the first kernel; threads start when first needed."""
        _ = self._threads

    def report(self) -> Report:
        """What there is of threads now: they are started when first needed."""
        return Report(self.threading, *self._threads.count())

    def run(self, function: Any, buffers: Sequence[int], nbytes: int, tiles: int, threads: int) -> None:
        """Compute tiles [0, tiles) of a kernel on at most `threads` threads, the caller's among them.

        `buffers` are addresses; each thread gives it `nbytes` of scratch memory of its own.
        """
        self._threads.run(function, buffers, nbytes, tiles, threads)

    def replay(self, calls: Calls, addresses: Any, threads: int, events: Events) -> None:
        """Run a list of kernels on memory at `addresses` (void *[], by slot), one after the other.

        `events` is told of each.
        """
        self._threads.replay(calls, addresses, threads, events)


def build_pool(target: Target, directory: Path) -> Path:
    """The worker pool compiled into `directory`, if it is not there: a library."""
    source = resources.files("engine.runtime").joinpath("pool.c").read_text(encoding="utf-8")
    path = directory / f"pool-{hashlib.sha3_256(source.encode()).hexdigest()[:16]}.so"
    if not intact(path):
        made = compiler.compile(source, target, directory)
        link = path.with_suffix(f".{os.getpid()}")
        link.unlink(missing_ok=True)
        os.link(made, link)
        os.replace(link, path)
    return path


# ---------------------------------------------------------------------------------------- Python's threads


class PythonThreads:
    """What `Pool` does, by Python's threads."""

    def __init__(self, pinned: bool = False) -> None:
        self._pinned = pinned

    def run(
        self, function: Any, buffers: Sequence[int | None], nbytes: int, tiles: int, threads: int
    ) -> None:
        """See `Workers`."""
        if threads == 1 or tiles == 1:
            function(pointers_of(buffers, nbytes), 0, tiles)
            return
        tickets = count()

        def work() -> None:
            pointers = pointers_of(buffers, nbytes)
            while (tile := next(tickets)) < tiles:
                function(pointers, tile, tile + 1)

        pool = _executor(self._pinned)
        others = [pool.submit(work) for _ in range(min(threads, tiles) - 1)]
        work()
        for other in others:
            other.result()

    def replay(self, calls: Calls, addresses: Any, threads: int, events: Events) -> None:
        """See `Workers`."""
        for call in calls.calls:
            buffers, start = [addresses[slot] for slot in call.slots], perf_counter_ns()
            function, tiles = call.now(addresses)
            self.run(function, buffers, call.scratch, tiles, threads)
            events.add(call.subject, start, perf_counter_ns())

    def count(self) -> tuple[int, int]:
        """How many threads have been started, and how many of them have a core of their own."""
        return len(_started[self._pinned]), sum(_started[self._pinned])


_executors: dict[bool, ThreadPoolExecutor] = {}
_started: dict[bool, list[bool]] = {False: [], True: []}  # for each thread: has it a core of its own?
_lock = Lock()


def _executor(pinned: bool) -> ThreadPoolExecutor:
    with _lock:
        if pinned not in _executors:
            _executors[pinned] = ThreadPoolExecutor(
                os.cpu_count(), "kernel", initializer=_begin, initargs=(pinned,)
            )
        return _executors[pinned]


def _begin(pinned: bool) -> None:
    """A thread inherits its creator's rounding and flush-to-zero bits: results must not."""
    ctypes.CDLL(None).fesetenv(ctypes.c_void_p(-1))
    with _lock:
        _started[pinned].append(pinned and _pin(len(_started[pinned])))


def _pin(number: int) -> bool:
    """The calling thread to a core of this process; the first one is left to whoever submits."""
    cores = sorted(os.sched_getaffinity(0))[1:]
    if number >= len(cores):
        return False
    try:
        os.sched_setaffinity(0, {cores[number]})
    except OSError:
        return False
    return True


def _forget_threads() -> None:
    """Threads do not survive a fork: the child starts its own."""
    global _lock
    _lock = Lock()
    _executors.clear()
    for started in _started.values():
        started.clear()


os.register_at_fork(after_in_child=_forget_threads)
