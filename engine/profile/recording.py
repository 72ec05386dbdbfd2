"""Watching what runs for a while: `with record() as events:`."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from threading import Lock
from time import perf_counter_ns

import numpy as np

from engine.runtime.ring import RING, Ring, Subject, living


@dataclass(frozen=True, slots=True)
class Event:
    """One run of a kernel; times are those of time.perf_counter_ns.

    `idle_ns`: for how long no kernel had run when it began; 0 for the first of a recording.
    """

    subject: Subject
    start_ns: int
    end_ns: int
    idle_ns: int

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True)
class Runs:
    """All events of one structure (kernel, schedule and threads), in the order they were recorded.

    `subject` is the first of them: a kernel that was forgotten and prepared anew has another.
    """

    subject: Subject
    events: tuple[Event, ...]

    @property
    def total_s(self) -> float:
        """Seconds of all runs."""
        return sum(event.end_ns - event.start_ns for event in self.events) / 1e9

    @property
    def median_s(self) -> float:
        """Seconds of the middle run."""
        return float(median(event.seconds for event in self.events))

    @property
    def median_idle_s(self) -> float:
        """Seconds without a kernel before the middle one, by that."""
        return float(median(event.idle_ns for event in self.events)) / 1e9


class Recording:
    """The events since it was begun, however many: it reads the ring before it is overwritten."""

    def __init__(self, ring: Ring = RING) -> None:
        self._ring = ring
        self._lock = Lock()
        self._subjects: dict[int, Subject] = {}
        self._taken = array("q")  # (number, start, end) of each event
        self._next = ring.last + 1
        self._first = self._next
        self.begun_ns = perf_counter_ns()
        self.ended_ns: int | None = None
        ring.follow(self)
        self._subjects |= {subject.number: subject for subject in living()}

    def end(self) -> None:
        """Record no more. What has been recorded stays."""
        if self.ended_ns is None:
            self.ended_ns = perf_counter_ns()
            self._ring.unfollow(self)
            with self._lock:
                self._take(to_the_end=True)

    def met(self, subject: Subject) -> None:
        """See `ring.Follower`."""
        self._subjects[subject.number] = subject

    def drain(self) -> None:
        """See `ring.Follower`."""
        if self._lock.acquire(blocking=False):  # whoever has it is reading already
            try:
                self._take(to_the_end=False)
            finally:
                self._lock.release()

    def _take(self, to_the_end: bool) -> None:
        """Take what is new; up to the first event that is still being written, unless `to_the_end`."""
        end = self._ring.last + 1
        first = max(self._next, end - self._ring.rows)
        found = self._ring.read(first, end)
        if len(found) < end - first and not to_the_end:
            in_place = found[:, 0] == np.arange(first, first + len(found))
            found = found[: int(in_place.argmin()) if not in_place.all() else len(found)]
            end = first + len(found)
        self._taken.frombytes(found[:, 1:].tobytes())
        self._next = end

    def __len__(self) -> int:
        return len(self._taken) // 3

    def __iter__(self) -> Iterator[Event]:
        """The events whose kernels are known, oldest first; those of a recording that goes on: so far."""
        if self.ended_ns is None:
            self.drain()
        taken, until = self._taken, None
        for place in range(0, len(taken), 3):
            number, start, end = taken[place : place + 3]
            idle = 0 if until is None else max(0, start - until)
            until = end if until is None else max(until, end)
            subject = self._subjects.get(number)
            if subject is not None:
                yield Event(subject, start, end, idle)

    @property
    def lost(self) -> int:
        """How many events were overwritten before they were read."""
        return self._next - self._first - len(self)

    @property
    def wall_s(self) -> float:
        """Seconds from its begin to its end, or until now."""
        return ((self.ended_ns or perf_counter_ns()) - self.begun_ns) / 1e9

    @property
    def busy_s(self) -> float:
        """Seconds during which at least one kernel ran."""
        busy, until = 0, 0
        for event in sorted(self, key=lambda event: event.start_ns):
            busy += max(0, event.end_ns - max(event.start_ns, until))
            until = max(until, event.end_ns)
        return busy / 1e9

    def kernels(self) -> list[Runs]:
        """The events by their structure, the one that took longest first."""
        found: dict[Hashable, list[Event]] = {}
        for event in self:
            found.setdefault(event.subject.structure, []).append(event)
        runs = [Runs(events[0].subject, tuple(events)) for events in found.values()]
        return sorted(runs, key=lambda each: -each.total_s)


@contextmanager
def record() -> Iterator[Recording]:
    """Every kernel that runs inside, in any thread: a Recording that ends with the block."""
    recording = Recording()
    try:
        yield recording
    finally:
        recording.end()
