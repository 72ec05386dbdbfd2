"""Is a number worse than it used to be? Pure: the number, the good ones before it and what is watched → a verdict.

The baseline is the median of the last good runs. What lies further out on the wrong side than both the tolerance and
three scaled median absolute deviations (1.4826 × MAD, the standard deviation of a normal distribution) is a
regression: one slow run among the old ones moves neither, as a mean and a variance would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

SCALE = 1.4826
DEVIATIONS = 3.0


class Better(StrEnum):
    """Which way a series gets better."""

    LOWER = "lower"
    HIGHER = "higher"


class Verdict(StrEnum):
    """What a number is against its baseline."""

    NEW = "new"  # too few good runs before it to tell
    OK = "ok"
    BETTER = "better"
    REGRESSED = "regressed"


@dataclass(frozen=True)
class Watch:
    """A series that is compared: `tolerance` is relative to the baseline (0.05: five percent), `window` how many good
    runs make it, `least` how many there must be before anything is said."""

    name: str
    better: Better = Better.LOWER
    tolerance: float = 0.05
    window: int = 10
    least: int = 3


@dataclass(frozen=True)
class Judged:
    """A verdict and what it rests on; `limit` is what the number was not to pass. None while there is no baseline."""

    verdict: Verdict
    baseline: float | None = None
    mad: float | None = None
    limit: float | None = None


def judge(value: float, before: Sequence[float], watch: Watch) -> Judged:
    """The verdict on `value`; `before` are the good values before it, the newest last."""
    window = before[-watch.window :]
    if len(window) < max(1, watch.least):
        return Judged(Verdict.NEW)
    centre = median(window)
    mad = median(abs(each - centre) for each in window)
    room = max(watch.tolerance * abs(centre), DEVIATIONS * SCALE * mad)
    sign = 1.0 if watch.better is Better.LOWER else -1.0
    worse = sign * (value - centre)
    verdict = Verdict.REGRESSED if worse > room else Verdict.BETTER if worse < -room else Verdict.OK
    return Judged(verdict, centre, mad, centre + sign * room)
