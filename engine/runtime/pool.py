"""The C worker pool (pool.c) from Python. A process has one of free workers and one of pinned ones."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine.errors import DeviceError
from engine.runtime.scratch import pointers_of, scratch

_RUN = (
    ctypes.c_void_p,  # the pool
    ctypes.c_void_p,  # the kernel
    ctypes.c_void_p,  # its buffers
    ctypes.c_long,  # how many
    ctypes.c_long,  # bytes of scratch memory
    ctypes.c_long,  # tiles
    ctypes.c_int,  # threads
)
_REPLAY = (
    ctypes.c_void_p,  # the pool
    ctypes.c_void_p,  # launches
    ctypes.c_long,  # how many
    ctypes.c_void_p,  # addresses by slot
    ctypes.c_void_p,  # the caller's scratch memory
    ctypes.c_int,  # threads
    ctypes.c_void_p,  # the ring of events
    ctypes.c_long,  # its mask
    ctypes.c_long,  # the first ticket
)


class Events(Protocol):
    """Where it is recorded which kernel ran when: engine.runtime.ring."""

    rows: int
    address: int  # where row 0 is in memory

    def claim(self, events: int) -> int:
        """The first of so many tickets, whose rows whoever asks writes."""

    def add(self, number: int, start_ns: int, end_ns: int) -> None:
        """Record one event."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Only the first tiles are run: as many as cover count · unit, each `step` of it; `count` is the int64's slot."""

    count: int
    unit: int
    step: int

    def elements(self, addresses: Any) -> int:
        """count · unit, the memory being at `addresses`."""
        return int(ctypes.c_int64.from_address(addresses[self.count]).value) * self.unit


@dataclass(frozen=True, slots=True)
class Shorter:
    """A function that is called instead for up to `most` elements of a Limit, each of which is a tile of its."""

    function: Any
    most: int


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel of a list: `slots` are the places of its buffers in a table of addresses, the output's first."""

    function: Any  # a ctypes function: void (void *const *buffers, long first, long last)
    slots: tuple[int, ...]
    scratch: int  # bytes of it for each thread
    tiles: int
    subject: int = 0  # what events call it
    limit: Limit | None = None
    shorter: Shorter | None = None

    def now(self, addresses: Any) -> tuple[Any, int]:
        """The function to call on memory at `addresses`, and for how many tiles."""
        if self.limit is None:
            return self.function, self.tiles
        elements = self.limit.elements(addresses)
        if self.shorter is not None and elements <= self.shorter.most:
            return self.shorter.function, elements
        return self.function, min(self.tiles, -(-elements // self.limit.step))


class _Launch(ctypes.Structure):
    """`struct launch` of pool.c."""

    _fields_ = (
        ("function", ctypes.c_void_p),
        ("slots", ctypes.c_void_p),
        ("count", ctypes.c_long),
        ("scratch", ctypes.c_long),
        ("tiles", ctypes.c_long),
        ("subject", ctypes.c_long),
        ("size", ctypes.c_long),
        ("unit", ctypes.c_long),
        ("step", ctypes.c_long),
        ("shorter", ctypes.c_void_p),
        ("most", ctypes.c_long),
    )


class Calls:
    """A list of kernels to run one after the other, as C reads it. It keeps their code loaded."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = tuple(calls)
        self.scratch = max((call.scratch for call in calls), default=0)
        slots = [slot for call in calls for slot in call.slots]
        self._slots = (ctypes.c_int * len(slots))(*slots)
        self.launches = (_Launch * len(calls))()
        place = ctypes.addressof(self._slots)
        for launch, call in zip(self.launches, calls, strict=True):
            address = ctypes.cast(call.function, ctypes.c_void_p).value
            limit = call.limit or Limit(0, 0, 0)
            rest: list[int | None] = [call.subject, limit.count, limit.unit, limit.step]
            if call.shorter is not None:
                rest += [ctypes.cast(call.shorter.function, ctypes.c_void_p).value, call.shorter.most]
            launch.__init__(address, place, len(call.slots), call.scratch, call.tiles, *rest)
            place += len(call.slots) * ctypes.sizeof(ctypes.c_int)

    def __len__(self) -> int:
        return len(self.calls)


_loaded: dict[str, ctypes.CDLL] = {}


class Pool:
    """The pool of the library at `path`; its threads start when first needed. DeviceError if it cannot be loaded.

    Of libraries of one name (which says what is in them) the first is used: there is one pool, however often compiled.
    """

    def __init__(self, path: Path, pinned: bool = False) -> None:
        try:
            library = _loaded.get(path.name) or _loaded.setdefault(path.name, ctypes.CDLL(str(path)))
            opened = _typed(library.pool_open, ctypes.c_void_p, (ctypes.c_int,))
            self._run = _typed(library.pool_run, None, _RUN)
            self._replay = _typed(library.pool_replay, None, _REPLAY)
            self._count = library.pool_count
        except (OSError, AttributeError) as error:
            raise DeviceError(f"load {path.name}", str(error)) from error
        self._pool = ctypes.c_void_p(opened(pinned))

    def run(self, function: Any, buffers: Sequence[int], nbytes: int, tiles: int, threads: int) -> None:
        """Compute tiles [0, tiles) of a kernel on at most `threads` threads, the caller's among them.

        Each gives it `nbytes` of scratch memory of its own.
        """
        self.share(function, pointers_of(buffers, nbytes), nbytes, tiles, threads)

    def share(self, function: Any, pointers: Any, nbytes: int, tiles: int, threads: int) -> None:
        """As `run`, with the kernel's array of pointers at hand: with `nbytes`, the last is the caller's scratch memory."""
        self._run(self._pool, function, pointers, len(pointers), nbytes, tiles, threads)

    def replay(self, calls: Calls, addresses: Any, threads: int, events: Events) -> None:
        """Run a list of kernels on memory at `addresses` (void *[], by slot), one after the other."""
        if calls.calls:
            own, ring = scratch(calls.scratch), (events.address, events.rows - 1, events.claim(len(calls)))
            self._replay(self._pool, calls.launches, len(calls), addresses, own, threads, *ring)

    def count(self) -> tuple[int, int]:
        """How many workers have been started, and how many of them have a core of their own."""
        workers, pinned = ctypes.c_int(), ctypes.c_int()
        self._count(self._pool, ctypes.byref(workers), ctypes.byref(pinned))
        return workers.value, pinned.value


def _typed(function: Any, result: Any, arguments: tuple[Any, ...]) -> Any:
    function.restype, function.argtypes = result, arguments
    return function
