"""When a candidate is run again, and when it is stopped: decided on given times, no clock involved."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.outcome import Outcome
from engine.timing import RUNS_PER_TURN, Runner, Runs, Timing, interleave, time_alone


def calm(times_s: Sequence[float]) -> Runs:
    """Runs that nothing disturbed."""
    return Runs(tuple(times_s), tuple(times_s))


def taking(
    seconds: Callable[[int], float], log: list[int], disturbed: Callable[[int], bool] = lambda n: False
) -> Runner:
    """A program whose n-th run takes seconds(n); it obeys the limits as the measuring child does."""

    def run(runs: int, budget_s: float, stop_above_s: float) -> Runs:
        times: list[float] = []
        undisturbed: list[float] = []
        while len(times) < runs:
            log.append(1)
            times.append(seconds(len(log)))
            undisturbed += [times[-1]] * (not disturbed(len(log)))
            if times[-1] > stop_above_s or sum(times) >= budget_s:
                break
        return Runs(tuple(times), tuple(undisturbed))

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
        def run(runs: int, budget_s: float, stop_above_s: float) -> Runs:
            order.append(name)
            return calm([seconds] * max(1, min(runs, int(budget_s / seconds))))

        return run

    slow, fast = interleave([named("slow", 0.2), named("fast", 1e-3)], 0.1)
    assert len(slow) == 3
    assert sum(fast) >= 0.1
    assert order[:6] == ["slow", "fast"] * 3
    assert set(order[6:]) == {"fast"}
    assert interleave([], 1.0) == []


def test_very_short_programs_have_turns_enough_before_their_time_is_up() -> None:
    (found,) = interleave([lambda runs, budget_s, stop_above_s: calm([1e-9] * runs)], 1.0, most=10)
    assert len(found) == 10 * RUNS_PER_TURN


def test_one_that_takes_seconds_has_one_turn() -> None:
    def run(runs: int, budget_s: float, stop_above_s: float) -> Runs:
        return calm([7.0])

    assert interleave([run], 0.5) == [[7.0]]


def test_one_that_is_not_close_is_run_a_few_times_only() -> None:
    log: list[int] = []
    found = time_alone(taking(lambda _: 1.3e-3, log), bound_s=1e-3)
    assert found.outcome is Outcome.OK
    assert len(log) == 6


def test_runs_that_lost_their_core_do_not_count_and_are_made_up_for() -> None:
    log: list[int] = []
    first = 3 + 3 + 6
    seconds = taking(lambda n: 0.9e-3 if n <= first else 1e-3, log, disturbed=lambda n: n <= first)
    found = time_alone(seconds, bound_s=1e-3, runs=6)
    assert found.times_s == (1e-3,) * 3
    assert found.disturbed == first


def test_where_every_run_is_disturbed_they_all_count() -> None:
    log: list[int] = []
    found = time_alone(taking(lambda _: 1e-3, log, disturbed=lambda _: True), bound_s=1e-3)
    assert found.disturbed == len(found.times_s) == len(log)


def test_one_that_only_seemed_slow_because_it_was_disturbed_gets_another_chance() -> None:
    log: list[int] = []
    found = time_alone(
        taking(lambda n: 0.5 if n == 1 else 1e-3, log, disturbed=lambda n: n == 1), bound_s=1e-3
    )
    assert found.outcome is Outcome.OK
    assert found.best_s == 1e-3


def test_disturbed_turns_do_not_use_up_the_time() -> None:
    turns = iter([*[Runs((0.1,), ())] * 2, *[Runs((0.05,), (0.05,))] * 9])
    (found,) = interleave([lambda runs, budget_s, stop_above_s: next(turns)], 0.2)
    assert found == [0.05, 0.05]
