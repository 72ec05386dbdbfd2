"""Run one probe for ever, so that whatever it does it costs only its own series.

Each probe has a thread. A read that does not end in time is left behind with its thread, and a new thread reads the other
parts; the part that hangs is read again once that thread has come back. So there are never more threads than parts, and one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fleet.agents.samples import Readings, Sample, labels

_LOOK_AGAIN_S = 60.0  # for parts that came or went
_LOOK_SOON_S = 5.0
_KEPT_PAUSED_S = 900.0
_SHORT_S = 0.2


class Probe(Protocol):
    """A source of samples, in parts of which each may hang by itself. `disturbs`: not while something is timed here."""

    @property
    def name(self) -> str: ...
    @property
    def interval_s(self) -> float: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def disturbs(self) -> bool: ...

    def parts(self) -> Sequence[str]:
        """What can be read here. Whatever it raises means that there is nothing now."""

    def read(self, part: str) -> list[Sample]:
        """Read it. Whatever it raises costs this part's series, until it can be read again."""


@dataclass
class _Part:
    """What is known of one part. `at` and `begun` in seconds of the collector's clock."""

    samples: list[Sample] = field(default_factory=list)
    at: float = 0.0
    problem: str = ""
    hangs: bool = False


@dataclass
class _Reader:
    """One thread's work. `part` is what it reads since `begun`, if anything."""

    part: str = ""
    begun: float = 0.0
    busy: bool = False
    left_behind: bool = False


class Collector:
    """One probe. `watch` must be called now and then: it is who notices that a read hangs."""

    def __init__(
        self,
        probe: Probe,
        paused: threading.Event | None = None,
        seen: Callable[[str, list[Sample]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.probe = probe
        self.problem = ""  # why there are no parts
        self.timeouts = 0
        self.duration_s = 0.0
        self.last_success: float | None = None  # epoch seconds
        self._paused = paused or threading.Event()
        self._seen = seen
        self._clock = clock
        self._wall = wall
        self._stop = threading.Event()
        self._parts: dict[str, _Part] = {}
        self._order: tuple[str, ...] = ()
        self._looked = -_LOOK_AGAIN_S
        self._ran = False
        self._reader = _Reader()

    @property
    def parts(self) -> tuple[str, ...]:
        """What there was to read when it was last looked for."""
        return self._order

    @property
    def ran(self) -> bool:
        """Whether it has tried once."""
        return self._ran

    def problems(self) -> dict[str, str]:
        """What is wrong, by part; "" for the probe itself."""
        found = {name: "hangs" if part.hangs else part.problem for name, part in self._parts.items()}
        return {name: text for name, text in (("", self.problem), *found.items()) if text}

    def start(self) -> None:
        """Read for ever, in a thread."""
        reader = self._reader = _Reader()
        name = f"probe {self.probe.name}"
        threading.Thread(target=self._run, args=(reader,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Let its threads end when they can; one that hangs ends with the process."""
        self._stop.set()

    def _run(self, reader: _Reader) -> None:
        due = self._clock()
        while not self._stop.is_set() and not reader.left_behind:
            if not (self._paused.is_set() and self.probe.disturbs):
                self.round(reader)
            now = self._clock()
            due = max(due + self.probe.interval_s, now)  # what was missed is not made up for
            self._pause(due - now if self._order else _LOOK_AGAIN_S)

    def _pause(self, seconds: float) -> None:
        """An event's wait takes as long as reading four GPUs' power: not ten times a second."""
        if seconds > _SHORT_S:
            self._stop.wait(seconds)
        else:
            time.sleep(seconds)

    def round(self, reader: _Reader | None = None) -> None:
        """Read every part once, here. For loops that are ticked by hand."""
        reader = reader or self._reader
        begun = self._clock()
        if begun - self._looked >= _LOOK_AGAIN_S or not self._order:
            self._look(reader)
        whole = bool(self._order)
        for name in self._order:
            whole &= self._read(reader, name)
            if reader.left_behind or self._stop.is_set():
                return
        self._ran = True
        self.duration_s = self._clock() - begun
        if whole:
            self.last_success = self._wall()

    def _look(self, reader: _Reader) -> None:
        reader.part, reader.begun, reader.busy = "", self._clock(), True
        try:
            names = tuple(self.probe.parts())
            self.problem = ""
        except Exception as error:  # noqa: BLE001 - round one probe
            names, self.problem = (), f"{error}" or type(error).__name__
        reader.busy = False
        if reader.left_behind:
            return
        self._looked, self._order = self._clock(), names
        for name in names:
            self._parts.setdefault(name, _Part())

    def _read(self, reader: _Reader, name: str) -> bool:
        part = self._parts[name]
        if part.hangs:
            return False
        reader.part, reader.begun, reader.busy = name, self._clock(), True
        try:
            samples, problem = self.probe.read(name), ""
        except Exception as error:  # noqa: BLE001 - round one probe
            samples, problem = [], f"{error}" or type(error).__name__
        reader.busy = False
        if reader.left_behind:
            part.hangs = False  # too late to be believed; from now on it is read again
            return False
        part.problem = problem
        if problem:  # it may be gone, or another now; but looking may cost more than reading
            self._looked = min(self._looked, self._clock() - _LOOK_AGAIN_S + _LOOK_SOON_S)
            return False
        part.samples, part.at = samples, self._clock()
        if self._seen is not None:
            self._seen(name, samples)
        return True

    def watch(self) -> None:
        """Leave a read behind that takes too long, and go on without that part."""
        reader = self._reader
        if not reader.busy or reader.left_behind or self._clock() - reader.begun <= self.probe.timeout_s:
            return
        part = self._parts.get(reader.part)
        if part is None:  # the search for parts hangs: there is nobody who could go on
            if not self.problem:
                self.timeouts += 1
            self.problem = "hangs while looking for what is there"
            return
        part.hangs = True
        reader.left_behind = True
        self.timeouts += 1
        self.start()

    def samples(self) -> list[Sample]:
        """What is known and not too old. The last good value is kept over a miss or two, and while paused."""
        kept = 3 * self.probe.interval_s + self.probe.timeout_s
        if self._paused.is_set() and self.probe.disturbs:
            kept += _KEPT_PAUSED_S
        since = self._clock() - kept
        return [
            sample
            for part in list(self._parts.values())
            if part.at > since and not part.hangs
            for sample in part.samples
        ]

    def about(self) -> list[Sample]:
        """How the collector itself does; nothing when this machine has nothing of the kind."""
        if not self._parts and not self.timeouts:
            return []
        readings, text = Readings(), labels(collector=self.probe.name)
        good = not self.problems() and bool(self._order)
        readings.add("fleet_collector_success", text, int(good))
        readings.add("fleet_collector_duration_seconds", text, self.duration_s if self._ran else None)
        readings.add("fleet_collector_last_success_timestamp_seconds", text, self.last_success)
        readings.add("fleet_collector_timeouts_total", text, self.timeouts)
        return readings.samples
