"""How often to run a candidate before its time is believed, and when to stop early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from engine.outcome import Outcome

# (runs, budget in seconds, stop once a run takes longer than this) → seconds of each run.
Runner = Callable[[int, float, float], list[float]]

SLOW_FACTOR = 3.0  # a candidate this much slower than the bound is stopped
REPEAT_FACTOR = 2.0  # one this much slower is not run again
RUNS_PER_TURN = 500


@dataclass(frozen=True)
class Timing:
    """Times of single runs in seconds, in the order taken."""

    outcome: Outcome
    times_s: tuple[float, ...]

    @property
    def best_s(self) -> float:
        """The least: the run that was disturbed least."""
        return min(self.times_s)

    @property
    def median_s(self) -> float:
        """The middle one."""
        return median(self.times_s)


def time_alone(run: Runner, bound_s: float | None, *, budget_s: float = 0.08, runs: int = 24) -> Timing:
    """Time one candidate against the best time so far.

    Up to three runs in the first 10 ms (the first is cold). Slower than 3× the bound: SLOW. Slower than 2×:
    no more. Otherwise it is repeated for `budget_s` or `runs` runs.
    """
    stop_above = SLOW_FACTOR * bound_s if bound_s else float("inf")
    times = run(3, 0.01, float("inf"))
    best = min(times)
    if best > stop_above:
        return Timing(Outcome.SLOW, tuple(times))
    if not bound_s or best <= REPEAT_FACTOR * bound_s:
        times += run(runs, budget_s, stop_above)
    return Timing(Outcome.OK, tuple(times))


def interleave(
    runners: Sequence[Runner], budget_s: float, *, slice_s: float = 0.02, least: int = 3, most: int = 100
) -> list[list[float]]:
    """Time several programs in turns of about `slice_s` seconds, so that all meet the same disturbances.

    Each has at least `least` turns, and goes on until it has run for `budget_s` or had `most`; its times in order.
    """
    times: list[list[float]] = [[] for _ in runners]
    spent = [0.0] * len(runners)
    turn = 0
    while turn < most:
        waiting = [i for i, seconds in enumerate(spent) if turn < least or seconds < budget_s]
        for i in waiting:
            taken = runners[i](RUNS_PER_TURN, slice_s, float("inf"))
            times[i] += taken
            spent[i] += sum(taken)
        turn += 1
    return times
