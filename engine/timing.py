"""How often to run a candidate before its time is believed, when to stop early, and what was disturbed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from engine.outcome import Outcome


@dataclass(frozen=True)
class Runs:
    """Seconds of single runs in the order taken; `calm_s` are those that had a core throughout (engine.measuring)."""

    times_s: tuple[float, ...]
    calm_s: tuple[float, ...]

    @property
    def believed_s(self) -> tuple[float, ...]:
        """The calm ones, if there are any."""
        return self.calm_s or self.times_s

    def __add__(self, more: Runs) -> Runs:
        return Runs(self.times_s + more.times_s, self.calm_s + more.calm_s)


# (runs, budget in seconds, stop once a run takes longer than this) → the runs.
Runner = Callable[[int, float, float], Runs]

SLOW_FACTOR = 3.0  # a candidate this much slower than the bound is stopped
REPEAT_FACTOR = 2.0  # one this much slower is not run again
CLOSE_FACTOR = 1.15  # one this much slower will not win: three more runs are enough
FEW_RUNS, FEW_BUDGET_S = 3, 0.03
# A candidate that may win is run again, so often, until it has had so many calm runs.
CALM_RUNS, AGAIN_AT_MOST = 3, 4
RUNS_PER_TURN = 500


@dataclass(frozen=True)
class Timing:
    """Times of single runs in seconds, in the order taken. `disturbed` runs are left out of them."""

    outcome: Outcome
    times_s: tuple[float, ...]
    disturbed: int = 0

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

    Up to three runs in the first 10 ms (the first is cold). Slower than 3× the bound: SLOW. Slower than 2×: no more.
    Otherwise three more, and unless those were slower than 1.15×, for `budget_s` or `runs` runs. Runs that lost
    their core to somebody else do not count where there are others, and are made up for.
    """
    stop_above = SLOW_FACTOR * bound_s if bound_s else float("inf")
    taken = run(3, 0.01, float("inf"))
    if not taken.calm_s and _over(taken, SLOW_FACTOR, bound_s):
        taken += run(FEW_RUNS, 0.01, float("inf"))
    if _over(taken, SLOW_FACTOR, bound_s):
        return _timing(Outcome.SLOW, taken)
    if not _over(taken, REPEAT_FACTOR, bound_s):
        taken += run(FEW_RUNS, FEW_BUDGET_S, stop_above)
        if not _over(taken, CLOSE_FACTOR, bound_s):
            taken += run(runs, budget_s, stop_above)
            for _ in range(AGAIN_AT_MOST):
                if len(taken.calm_s) >= CALM_RUNS:
                    break
                taken += run(FEW_RUNS, FEW_BUDGET_S, stop_above)
    return _timing(Outcome.OK, taken)


def _over(taken: Runs, factor: float, bound_s: float | None) -> bool:
    return bool(bound_s) and min(taken.believed_s) > factor * (bound_s or 0.0)


def _timing(outcome: Outcome, taken: Runs) -> Timing:
    return Timing(outcome, taken.believed_s, len(taken.times_s) - len(taken.calm_s))


def interleave(
    runners: Sequence[Runner], budget_s: float, *, slice_s: float = 0.02, least: int = 3, most: int = 100
) -> list[list[float]]:
    """Time several programs in turns of about `slice_s` seconds, so that all meet the same disturbances.

    Each has at least `least` turns, but for one that takes more than a second, and goes on until it has run for
    `budget_s`, calmly, or had `most`; its times in order, without the disturbed ones.
    """
    taken = [Runs((), ()) for _ in runners]
    spent = [0.0] * len(runners)
    long = max(budget_s, 1.0)
    for turn in range(most):
        waiting = [
            i for i, seconds in enumerate(spent) if seconds < budget_s or (turn < least and seconds < long)
        ]
        if not waiting:
            break
        for i in waiting:
            found = runners[i](RUNS_PER_TURN, slice_s, float("inf"))
            taken[i] += found
            spent[i] += sum(found.calm_s) or sum(found.times_s) / 2  # a disturbed turn counts half
    return [list(one.believed_s) for one in taken]
