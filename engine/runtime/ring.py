"""The always-on ring of events: which kernel ran, from when to when. Runtimes write it, engine.profile reads it.

A record is four int64 in a row: its ticket (1, 2, …), the number of its Subject, start and end in nanoseconds of
CLOCK_MONOTONIC (which is what time.perf_counter_ns reads on Linux). Record t lies in row t & (rows - 1): the ring is
allocated once and the oldest records are overwritten. Nobody waits for anybody: a ticket is drawn by one step of
CPython's that no other thread can come between, and a reader knows by the ticket whether a row is what it looks for.

A list of kernels replayed in C takes part in either of two ways:

- it fills pairs (start, end) in memory of its own, and `extend` copies them here when the list has run;
- `claim(n)` draws n tickets, and the list writes the rows itself, at `address` + 32 * (t & (rows - 1)): 0 for the
  ticket, the other three, and then the ticket, so that no reader takes half a row for a whole one (pool.c does so).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from threading import Lock
from time import perf_counter_ns
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from engine.kernel import Kernel
from engine.schedule import Scheduled
from engine.target import Features

ROWS = 1 << 14
Records = np.ndarray[Any, np.dtype[np.int64]]
_pack = struct.Struct("=4q").pack_into
_numbers = count(1)
_subjects: WeakValueDictionary[int, Subject] = WeakValueDictionary()


@dataclass(frozen=True, eq=False)
class Subject:
    """What an event is about: a prepared kernel. It is known by its number while whoever prepared it keeps it.

    `scheduled` and `features` say what code was made of it (None: it was interpreted), `threads` on how many
    threads it runs.
    """

    kernel: Kernel
    scheduled: Scheduled | None = None
    features: Features | None = None
    threads: int = 1
    number: int = field(default_factory=lambda: next(_numbers))

    def __post_init__(self) -> None:
        _subjects[self.number] = self
        RING.met(self)

    @property
    def structure(self) -> Hashable:
        """What two subjects share that are the same code: the kernel, its schedule and the threads."""
        return self.kernel, self.scheduled and self.scheduled.opts, self.threads


class Follower(Protocol):
    """Who wants to see every event, however many there are."""

    def met(self, subject: Subject) -> None:
        """There is a new subject."""

    def drain(self) -> None:
        """Half of the ring was written since this was called last: read it."""


def living() -> list[Subject]:
    """The subjects that somebody keeps."""
    return list(_subjects.values())


class Ring:
    """See the module. `rows` is a power of two."""

    __slots__ = (
        "_bytes",
        "_draw",
        "_followers",
        "_half",
        "_lock",
        "_mask",
        "_tickets",
        "address",
        "ended",
        "records",
        "rows",
    )

    def __init__(self, rows: int = ROWS) -> None:
        if rows < 2 or rows & (rows - 1):
            raise ValueError(f"{rows} rows: a power of two is needed")
        self.rows = rows
        self.records: Records = np.zeros((rows, 4), np.int64)
        self.address: int = self.records.ctypes.data  # where row 0 is in memory
        self._bytes = memoryview(self.records.data).cast("B")
        self._mask = rows - 1
        self._tickets = count(1)
        self._draw: Callable[[], int] = self._tickets.__next__
        self._half = rows // 2 - 1  # of the bits of a ticket: all 0 when half of the ring was written
        self._followers: tuple[Follower, ...] = ()
        self._lock = Lock()
        self.ended = self._writer()  # (number, start_ns): that subject ran from then until now

    @property
    def last(self) -> int:
        """The highest ticket that is written; 0 when nothing is."""
        return int(self.records[:, 0].max())

    def add(self, number: int, start_ns: int, end_ns: int) -> None:
        """Record that subject `number` ran."""
        ticket = self._draw()
        _pack(self._bytes, (ticket & self._mask) << 5, ticket, number, start_ns, end_ns)
        if not ticket & self._half:
            self._turn()

    def _writer(self) -> Callable[[int, int], None]:
        """What `ended` is: `add` with the time at hand, in as few steps as can be, for it follows every kernel."""
        draw, memory, mask, half, turn = self._draw, self._bytes, self._mask, self._half, self._turn
        clock, pack = perf_counter_ns, _pack

        def ended(number: int, start_ns: int) -> None:
            end_ns, ticket = clock(), draw()
            pack(memory, (ticket & mask) << 5, ticket, number, start_ns, end_ns)
            if not ticket & half:
                turn()

        return ended

    def claim(self, events: int) -> int:
        """Draw that many tickets (1 or more) in a row: the first of them. Whoever claims them writes the rows."""
        last: int = deque(islice(self._tickets, events), maxlen=1)[0]
        if last & self._half < events:
            self._turn()
        return last - events + 1

    def extend(self, numbers: Sequence[int], times_ns: Any) -> None:
        """Record a list of kernels: the subjects' numbers, and (start, end) of each as an int64 array of (n, 2)."""
        if not numbers:
            return
        first = self.claim(len(numbers))
        tickets = np.arange(first, first + len(numbers))[-self.rows :]
        rows = tickets & self._mask
        self.records[rows, 1] = np.asarray(numbers, np.int64)[-self.rows :]
        self.records[rows, 2:] = np.asarray(times_ns, np.int64).reshape(-1, 2)[-self.rows :]
        self.records[rows, 0] = tickets

    def read(self, first: int, end: int) -> Records:
        """The records of tickets from `first` to before `end` that are there: rows (ticket, number, start, end).

        Missing are those overwritten and those whose claimant has not written them yet.
        """
        wanted = np.arange(max(first, end - self.rows), end)
        rows = wanted & self._mask
        found, again = self.records[rows], self.records[rows]
        there: Records = found[(found[:, 0] == wanted) & (found == again).all(axis=1)]
        return there

    def follow(self, follower: Follower) -> None:
        """Call it from now on as `Follower` says, in the threads that write."""
        with self._lock:
            self._followers = (*self._followers, follower)

    def unfollow(self, follower: Follower) -> None:
        """Do not call it any more."""
        with self._lock:
            self._followers = tuple(each for each in self._followers if each is not follower)

    def met(self, subject: Subject) -> None:
        """A subject was made."""
        for follower in self._followers:
            follower.met(subject)

    def _turn(self) -> None:
        """Half of the ring was written since the last turn."""
        for follower in self._followers:
            follower.drain()


RING = Ring()
