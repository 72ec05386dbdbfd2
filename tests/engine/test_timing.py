"""When a candidate is run again, and when it is stopped: decided on given times, no clock involved."""

from __future__ import annotations

from collections.abc import Callable

from engine.outcome import Outcome
from engine.timing import RUNS_PER_TURN, Runner, Timing, interleave, time_alone


def taking(seconds: Callable[[int], float], log: list[int]) -> Runner:
    """A program whose n-th run takes seconds(n); it obeys the limits as the measuring child does."""

    def run(runs: int, budget_s: float, stop_above_s: float) -> list[float]:
        times: list[float] = []
        while len(times) < runs:
            log.append(1)
            times.append(seconds(len(log)))
            if times[-1] > stop_above_s or sum(times) >= budget_s:
                break
        return times

    return run


def test_a_fast_candidate_is_repeated_and_its_best_time_counts() -> None:
    log: list[int] = []
    found = time_alone(taking(lambda n: 5e-3 if n == 1 else 1e-3, log), bound_s=1e-3)
    assert found.outcome is Outcome.OK
    assert found.best_s == 1e-3
    assert found.median_s == 1e-3
    assert len(found.times_s) == len(log) > 20


def test_one_over_twice_the_bound_is_not_repeated() -> None:
    log: list[int] = []
    found = time_alone(taking(lambda _: 2.5e-2, log), bound_s=1e-2)
    assert found == Timing(Outcome.OK, (2.5e-2,))


def test_one_over_three_times_the_bound_is_slow_after_one_run() -> None:
    log: list[int] = []
    found = time_alone(taking(lambda _: 0.5, log), bound_s=1e-2)
    assert found == Timing(Outcome.SLOW, (0.5,))


def test_a_cold_first_run_is_not_held_against_a_short_kernel() -> None:
    log: list[int] = []
    found = time_alone(taking(lambda n: 1e-3 if n == 1 else 1e-5, log), bound_s=1e-5)
    assert found.outcome is Outcome.OK
    assert found.best_s == 1e-5


def test_the_first_candidate_has_no_bound() -> None:
    log: list[int] = []
    assert time_alone(taking(lambda _: 2.0, log), bound_s=None).outcome is Outcome.OK


def test_programs_take_turns_until_each_has_had_its_time() -> None:
    order: list[str] = []

    def named(name: str, seconds: float) -> Runner:
        def run(runs: int, budget_s: float, stop_above_s: float) -> list[float]:
            order.append(name)
            return [seconds] * max(1, min(runs, int(budget_s / seconds)))

        return run

    slow, fast = interleave([named("slow", 1.0), named("fast", 1e-3)], 0.1)
    assert len(slow) == 3
    assert sum(fast) >= 0.1
    assert order[:6] == ["slow", "fast"] * 3
    assert set(order[6:]) == {"fast"}
    assert interleave([], 1.0) == []


def test_very_short_programs_have_turns_enough_before_their_time_is_up() -> None:
    (found,) = interleave([lambda runs, budget_s, stop_above_s: [1e-9] * runs], 1.0, most=10)
    assert len(found) == 10 * RUNS_PER_TURN
