"""Verdicts on numbers against the median and the spread of the good ones before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.baselines import Better, Verdict, Watch, judge

STEADY = [10.0, 10.1, 9.9, 10.0, 10.0]
SLOW = Watch("time_s", Better.LOWER, tolerance=0.05)
RATE = Watch("gflops", Better.HIGHER, tolerance=0.05)


@pytest.mark.parametrize(
    ("watch", "value", "verdict"),
    [
        (SLOW, 10.4, Verdict.OK),
        (SLOW, 10.6, Verdict.REGRESSED),
        (SLOW, 9.4, Verdict.BETTER),
        (RATE, 9.6, Verdict.OK),
        (RATE, 9.4, Verdict.REGRESSED),
        (RATE, 10.6, Verdict.BETTER),
    ],
)
def test_worse_than_the_tolerance_is_a_regression_in_its_direction(
    watch: Watch, value: float, verdict: Verdict
) -> None:
    assert judge(value, STEADY, watch).verdict is verdict


def test_a_noisy_series_needs_more_than_the_tolerance() -> None:
    noisy = [8.0, 12.0, 9.0, 11.0, 10.0]
    assert judge(11.5, noisy, SLOW).verdict is Verdict.OK  # 15 % slower, within three deviations of 1.48
    assert judge(15.0, noisy, SLOW).verdict is Verdict.REGRESSED


def test_one_outlier_before_does_not_hide_a_regression() -> None:
    assert judge(11.0, [*STEADY, 500.0], SLOW).verdict is Verdict.REGRESSED


def test_nothing_is_said_before_there_are_enough_good_runs() -> None:
    assert judge(1e9, [10.0, 10.0], SLOW).verdict is Verdict.NEW
    assert judge(1e9, [10.0] * 3, SLOW).verdict is Verdict.REGRESSED


def test_only_the_last_of_the_window_count() -> None:
    watch = Watch("time_s", window=3)
    assert judge(10.0, [20.0] * 9 + [10.0] * 3, watch).baseline == 10.0


def test_a_baseline_of_zero_and_no_spread_still_judges() -> None:
    assert judge(0.0, [0.0] * 5, SLOW).verdict is Verdict.OK
    assert judge(0.001, [0.0] * 5, SLOW).verdict is Verdict.REGRESSED


def test_negative_numbers_have_their_directions_too() -> None:
    assert judge(-9.0, [-10.0] * 5, SLOW).verdict is Verdict.REGRESSED
    assert judge(-9.0, [-10.0] * 5, RATE).verdict is Verdict.BETTER


values = st.floats(-1e6, 1e6)


@given(values, st.lists(values, min_size=3, max_size=20), st.sampled_from(list(Better)))
def test_a_verdict_says_what_it_rests_on(value: float, before: list[float], better: Better) -> None:
    found = judge(value, before, Watch("x", better))
    assert found.baseline is not None
    assert found.limit is not None
    past = value > found.limit if better is Better.LOWER else value < found.limit
    near = abs(value - found.limit) <= 1e-9 * max(1.0, abs(value), abs(found.baseline))
    assert (found.verdict is Verdict.REGRESSED) == past or near
