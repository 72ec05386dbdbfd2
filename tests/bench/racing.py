"""Programs timed against each other in one run, in turns, so that all meet the same disturbances.

A ratio compares what was measured in the same race: of medians, and of bests. Single runs during which a thread was
made to leave its core (the machine has other work) do not count where there are others.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import geometric_mean, median

from rich.console import Console
from rich.table import Table

# One turn of a racer; a race is as many turns as its seconds hold.
TURN_S = 0.04
LEAST_TURNS = 3
# BLAS and OpenMP threads look for more work for so long before they sleep: the next racer waits for that.
SETTLE_S = 0.03
WIDTH = 132

Run = Callable[[], object]


@dataclass(frozen=True)
class Racer:
    """Somebody who runs for some seconds when it is its turn, and says how long each single run took, in seconds."""

    name: str
    turn: Callable[[float], list[float]]


@dataclass(frozen=True)
class Times:
    """Seconds of single runs."""

    times_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle one."""
        return median(self.times_s)

    @property
    def best_s(self) -> float:
        """The least."""
        return min(self.times_s)


@dataclass(frozen=True)
class Ratio:
    """How many times as fast somebody is as somebody else, in the same race: above 1 is faster."""

    medians: float
    bests: float

    @classmethod
    def of(cls, ours: Times, theirs: Times) -> Ratio:
        """How many times as fast `ours` are as `theirs`."""
        return cls(theirs.median_s / ours.median_s, theirs.best_s / ours.best_s)

    def __str__(self) -> str:
        """The ratio of medians, and of bests."""
        return f"{self.medians:.2f} / {self.bests:.2f}"


def mean(ratios: Sequence[Ratio]) -> Ratio:
    """The geometric means."""
    return Ratio(geometric_mean([r.medians for r in ratios]), geometric_mean([r.bests for r in ratios]))


def in_process(name: str, run: Run, threads: int = 1) -> Racer:
    """A racer of this process: a call, on so many threads."""
    return Racer(name, lambda seconds: timed(run, seconds, threads))


def timed(run: Run, seconds: float, threads: int = 1) -> list[float]:
    """One turn: single runs for about so long, at least one; the calm ones, or all if none was.

    A first run is not timed: it finds the caches full of somebody else's data.
    """
    if threads > 1:
        time.sleep(SETTLE_S)
    begun = time.perf_counter()
    run()
    first = time.perf_counter() - begun
    taken: list[float] = []
    calm: list[float] = []
    if first > seconds:  # so long that it filled the caches itself
        taken.append(first)
    until = time.perf_counter() + seconds
    while not taken or time.perf_counter() < until:
        before = _switches()
        begun = time.perf_counter()
        run()
        took = time.perf_counter() - begun
        taken.append(took)
        if _switches() == before:
            calm.append(took)
        if first > seconds:
            break
    return calm or taken


def _switches() -> int:
    """How often threads of this process were made to leave their cores."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def race(racers: Sequence[Racer], seconds: float) -> dict[str, Times]:
    """All racers in turns, for about `seconds` each; their times by name."""
    found: dict[str, list[float]] = {racer.name: [] for racer in racers}
    for number in range(max(LEAST_TURNS, round(seconds / TURN_S))):
        at = number % len(racers)
        begun = time.perf_counter()
        for racer in (*racers[at:], *racers[:at]):
            found[racer.name] += racer.turn(TURN_S)
        if number + 1 >= LEAST_TURNS and _spent(found) > seconds * len(racers) + (
            time.perf_counter() - begun
        ):
            break
    return {name: Times(tuple(times)) for name, times in found.items()}


def _spent(found: dict[str, list[float]]) -> float:
    return sum(map(sum, found.values()))


@contextmanager
def shown(table: Table, *facts: str) -> Iterator[None]:
    """Print the table when the block is left, with what it has so far, its caption ending in `facts`.

    It is wide enough for one line a row also where there is no terminal.
    """
    try:
        yield
    finally:
        table.caption = " · ".join((load(), *facts))
        Console(width=max(WIDTH, Console().width)).print(table)


def load() -> str:
    """What else the machine does: processes that ran or wanted to, on average over the last minute."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    busy = "; others want them too: threads that wait for each other say little" if load > cores + 1 else ""
    return f"load {load:.1f} on {cores} cores{busy}"


def verdict(found: Ratio, reach: float, binds: str) -> str:
    """Whether a ratio reaches what it should, by medians and by bests: other work of the machine may disturb either.

    `binds` is what keeps it from more, said only where it falls short.
    """
    by_medians, by_bests = found.medians >= reach, found.bests >= reach
    if by_medians and by_bests:
        return f"≥ {reach:g} ✓"
    found_in = "in medians only" if by_medians else "in bests only" if by_bests else "missed"
    return f"≥ {reach:g} {found_in}: {binds}"
