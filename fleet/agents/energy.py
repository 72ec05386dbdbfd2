"""Power ten times a second and what follows from it: least, most, mean and deviation of a window, and energy.

Training swings at 0.2 to 3 Hz: a scrape every 15 s cannot see it. Energy comes from the device's counter where that agrees
with its power, else power is integrated; which of both is always said. To ask an H200 for its counter costs 3.2 ms, a
thousand times what power costs: it is read rarely, and power says how it went on since.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from math import sqrt
from typing import Literal, NamedTuple

Method = Literal["counter", "integrated"]
LONGEST_GAP_S = 2.0  # between two samples of power; over a longer one nothing is integrated
_WINDOW_S = 60
_HISTORY = 600
_CHECK_S = 10.0
_DISAGREE = 0.05  # beyond which a counter is not believed
_LEAST_J = 20.0


class Window(NamedTuple):
    """Power over some seconds, in watts."""

    low: float
    high: float
    mean: float
    deviation: float
    samples: int


class Ring:
    """The last minute of one device's power, second by second. `offline` runs on while nobody is told."""

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque(maxlen=_WINDOW_S)  # second, count, low, high, sum, squares
        self._times: deque[float] = deque(maxlen=_HISTORY)
        self._joules: deque[float] = deque(maxlen=_HISTORY)
        self._watts = 0.0
        self._outage: list[float] | None = None
        self.joules = 0.0
        self.gaps = 0  # over which nothing was integrated

    def push(self, at: float, watts: float) -> None:
        """One sample; `at` in seconds, growing."""
        if self._times:
            since = at - self._times[-1]
            if since <= 0:
                return  # a thread that was overtaken
            if since <= LONGEST_GAP_S:
                self.joules += since * (watts + self._watts) / 2
            else:
                self.gaps += 1
        self._watts = watts
        self._times.append(at)
        self._joules.append(self.joules)
        if self._outage is not None:
            _add(self._outage, watts)
        second = int(at)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append(_empty(second))
        _add(self._seconds[-1], watts)

    def begin_outage(self, at: float) -> None:
        """From now on nobody is told: one more window, as long as that lasts."""
        self._outage = _empty(at)

    def outage(self) -> Window | None:
        """The window since `begin_outage`."""
        return None if self._outage is None else _window([self._outage])

    def end_outage(self) -> Window | None:
        """It, and it is over."""
        found, self._outage = self.outage(), None
        return found

    def window(self, now: float, seconds: float) -> Window | None:
        """Over the last so many seconds; None without samples in them."""
        return _window([each for each in tuple(self._seconds) if each[0] > now - seconds - 1])

    def at(self, when: float) -> float | None:
        """Joules integrated until then; None when that is further back than is remembered."""
        times, summed = tuple(self._times), tuple(self._joules)  # another thread pushes
        if not times or when < times[0] - LONGEST_GAP_S:
            return None
        place = bisect_right(times, when)
        if place == 0:
            return summed[0]
        if place == len(times):
            ahead = min(when - times[-1], LONGEST_GAP_S)
            return summed[-1] + max(0.0, ahead) * self._watts
        share = (when - times[place - 1]) / (times[place] - times[place - 1])
        return summed[place - 1] + share * (summed[place] - summed[place - 1])


def _empty(at: float) -> list[float]:
    return [at, 0, float("inf"), float("-inf"), 0.0, 0.0]


def _add(bucket: list[float], watts: float) -> None:
    bucket[1] += 1
    bucket[2] = min(watts, bucket[2])
    bucket[3] = max(watts, bucket[3])
    bucket[4] += watts
    bucket[5] += watts * watts


def _window(seconds: list[list[float]]) -> Window | None:
    if not seconds:
        return None
    _, counts, lows, highs, sums, squares = zip(*seconds, strict=True)
    count = sum(counts)
    if not count:
        return None
    mean = sum(sums) / count
    variance = sum(squares) / count - mean * mean
    return Window(min(lows), max(highs), mean, sqrt(max(0.0, variance)), int(count))


class Reading(NamedTuple):
    """One of a counter; `integrated`: what power had come to by then, None without power; `gaps` it had by then."""

    at: float
    joules: float
    integrated: float | None
    gaps: int


def _between(at: float, known: Sequence[Reading]) -> float | None:
    """Without power (a processor's counter has none beside it): on the line between two readings."""
    before = [each for each in known if each.at <= at]
    after = next((each for each in known if each.at > at), None)
    if before and after is not None:
        (then, joules, *_), (later, more, *_) = before[-1], after
        return joules + (more - joules) * (at - then) / (later - then)
    at_hand = before[-1] if before else after
    return at_hand.joules if at_hand is not None and abs(at_hand.at - at) <= LONGEST_GAP_S else None


class Mark(NamedTuple):
    """A meter's readings at one moment: integrated, and the counter's where there is one. `held_s`: time throttled."""

    at: float
    integrated: float | None
    counter: float | None
    held_s: float


class Spent(NamedTuple):
    """Between two marks: energy and how it is known, and for how long clocks were held down."""

    joules: float
    method: Method
    throttled_s: float


class Meter:
    """Energy of one device. `push_counter` now and then, beside the ring."""

    def __init__(self) -> None:
        self.ring = Ring()
        self.believed: bool | None = None  # the counter; None until it could be compared
        self.held_s = 0.0
        self._counters: deque[Reading] = deque(maxlen=_HISTORY)
        self._shown = 0.0
        self._checked_from: Reading | None = None
        self._held_at: float | None = None
        self._holds = False

    def push_counter(self, at: float, joules: float) -> None:
        """The counter's reading. One that falls was reset, by a driver that was loaded again."""
        if self._counters and joules < self._counters[-1].joules:
            self._counters.clear()
            self._checked_from, self._shown = None, 0.0
        reading = Reading(at, joules, self.ring.at(at), self.ring.gaps)
        self._counters.append(reading)
        if self.believed is None:
            self._compare(reading)

    @property
    def undecided(self) -> bool:
        """Whether there is a counter that could not be compared with power yet."""
        return self.believed is None and bool(self._counters)

    def _compare(self, now: Reading) -> None:
        if now.integrated is None:
            return
        begun = self._checked_from
        if begun is None or begun.integrated is None or begun.gaps != now.gaps:
            self._checked_from = now
            return
        drawn = now.integrated - begun.integrated
        if now.at - begun.at >= _CHECK_S and drawn >= _LEAST_J:
            self.believed = abs(now.joules - begun.joules - drawn) <= _DISAGREE * drawn

    def throttled(self, at: float, now: bool) -> None:
        """Whether clocks are held down now, once a second."""
        if now and self._held_at is not None and at - self._held_at <= 2 * LONGEST_GAP_S:
            self.held_s += at - self._held_at
        self._held_at, self._holds = at, now

    def total(self) -> tuple[float, Method] | None:
        """For the exposition; None until it is clear which of both is right.

        The counter's last reading and what power came to since. Where that was a little too much, it stands still until the
        counter has caught up: a series that falls would be taken for one that began anew.
        """
        if self.believed and self._counters:
            last = self._counters[-1]
            since = 0.0 if last.integrated is None else self.ring.joules - last.integrated
            self._shown = max(self._shown, last.joules + since)
            return self._shown, "counter"
        if self.believed is False or not self._counters:
            return (self.ring.joules, "integrated") if self.ring.joules else None
        return None

    def mark(self, at: float) -> Mark:
        """The readings at a moment that is not long ago. Between two readings of the counter, power says how it went."""
        integrated = self.ring.at(at)
        return Mark(at, integrated, self._counter_at(at, integrated), self._held_by(at))

    def _held_by(self, at: float) -> float:
        """For how long clocks had been held down by then; as they were when last looked at, for a moment."""
        if not self._holds or self._held_at is None:
            return self.held_s
        since = max(-LONGEST_GAP_S, min(at - self._held_at, LONGEST_GAP_S))
        return max(0.0, self.held_s + since)

    def _counter_at(self, at: float, integrated: float | None) -> float | None:
        known = tuple(self._counters)
        if not known:
            return None
        nearest = min(known, key=lambda each: abs(each.at - at))
        if integrated is None or nearest.integrated is None:
            return _between(at, known)
        return nearest.joules + integrated - nearest.integrated


def spent(begin: Mark, end: Mark, believed: bool | None) -> Spent | None:
    """Between two marks; None when neither the counter nor the integral covers all of it."""
    throttled_s = min(max(0.0, end.held_s - begin.held_s), max(0.0, end.at - begin.at))
    counted = begin.counter is not None and end.counter is not None and end.counter >= begin.counter
    if believed is not False and counted and (believed or begin.integrated is None):
        return Spent((end.counter or 0.0) - (begin.counter or 0.0), "counter", throttled_s)
    if begin.integrated is not None and end.integrated is not None and end.integrated >= begin.integrated:
        return Spent(end.integrated - begin.integrated, "integrated", throttled_s)
    return None
