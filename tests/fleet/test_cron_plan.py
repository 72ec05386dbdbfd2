"""What becomes of due times and of runs, with plain values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.cron_plan import (
    MOST_WAITING,
    Beginning,
    CatchUp,
    CronView,
    Decision,
    How,
    Overlap,
    RunView,
    decide,
    is_stalled,
)

NOW = 1_000_000.0
RUNNING = RunView(7, NOW - 3600, "running", "running", begun=True)
WAITING = RunView(8, NOW - 1800, "waiting")


def view(
    *due: float,
    overlap: Overlap = Overlap.SKIP,
    catch_up: CatchUp = CatchUp.NONE,
    live: tuple[RunView, ...] = (),
    most: int = 3,
) -> CronView:
    return CronView(overlap, catch_up, most, due, live)


def hows(decision: Decision) -> list[tuple[float, How]]:
    """Beginnings, as how long ago they were due and how they begin."""
    return [(NOW - each.scheduled_at, each.how) for each in decision.beginnings]


def test_what_is_due_starts_when_nothing_else_is_under_way() -> None:
    for overlap in Overlap:
        assert decide(view(NOW - 5, overlap=overlap), NOW).beginnings == (Beginning(NOW - 5, How.START),)


def test_skip_leaves_it_out_and_says_why() -> None:
    [begun] = decide(view(NOW - 5, live=(RUNNING,)), NOW).beginnings
    assert (begun.how, begun.reason) == (How.SKIP, "another run is still under way")


def test_queue_lets_it_wait_for_its_turn_up_to_a_bound() -> None:
    waits = decide(view(NOW - 5, overlap=Overlap.QUEUE, live=(RUNNING,)), NOW)
    assert hows(waits) == [(5, How.WAIT)]
    full = tuple(replace(WAITING, id=each) for each in range(MOST_WAITING))
    assert hows(decide(view(NOW - 5, overlap=Overlap.QUEUE, live=(RUNNING, *full)), NOW)) == [(5, How.SKIP)]


def test_replace_stops_what_runs_and_takes_the_place_of_what_waits() -> None:
    found = decide(view(NOW - 5, overlap=Overlap.REPLACE, live=(RUNNING, WAITING)), NOW)
    assert (found.stopped, found.superseded, found.promoted) == ((7,), (8,), None)
    assert hows(found) == [(5, How.WAIT)]  # until the other one has stopped
    stopping = replace(RUNNING, job_state="cancelling")
    assert decide(view(NOW - 5, overlap=Overlap.REPLACE, live=(stopping,)), NOW).stopped == ()


def test_the_oldest_that_waits_has_its_turn_when_the_one_before_is_over() -> None:
    later = replace(WAITING, id=9, scheduled_at=NOW - 60)
    assert decide(view(live=(RUNNING, WAITING, later)), NOW) == Decision()
    over = replace(RUNNING, job_state="failed")
    assert decide(view(live=(over, WAITING, later)), NOW) == Decision(ended=(7,), promoted=8)
    gone = replace(RUNNING, job_state=None)
    assert decide(view(live=(gone, WAITING)), NOW) == Decision(ended=(7,), promoted=8)


def test_a_run_that_ends_in_the_same_look_makes_room() -> None:
    over = replace(RUNNING, job_state="succeeded")
    assert hows(decide(view(NOW - 5, live=(over,)), NOW)) == [(5, How.START)]


MISSED = (NOW - 7200, NOW - 3600)


@pytest.mark.parametrize(
    ("catch_up", "on_time", "expected"),
    [
        (CatchUp.NONE, False, [(7200, How.MISS), (3600, How.MISS)]),
        (CatchUp.NONE, True, [(7200, How.MISS), (3600, How.MISS), (5, How.START)]),
        (CatchUp.LAST, False, [(7200, How.MISS), (3600, How.START)]),
        (CatchUp.LAST, True, [(7200, How.MISS), (3600, How.MISS), (5, How.START)]),
        (CatchUp.ALL, False, [(7200, How.START), (3600, How.WAIT)]),
        (CatchUp.ALL, True, [(7200, How.START), (3600, How.WAIT), (5, How.WAIT)]),
    ],
)
def test_what_was_missed_is_caught_up_by_the_policy(
    catch_up: CatchUp, on_time: bool, expected: list[tuple[float, How]]
) -> None:
    due = (*MISSED, NOW - 5) if on_time else MISSED
    assert hows(decide(view(*due, catch_up=catch_up), NOW)) == expected


def test_all_catches_up_the_newest_up_to_its_bound() -> None:
    due = tuple(NOW - 3600 * each for each in (5, 4, 3, 2, 1))
    found = hows(decide(view(*due, catch_up=CatchUp.ALL, most=2), NOW))
    assert [how for _, how in found] == [How.MISS] * 3 + [How.START, How.WAIT]


def test_a_catch_up_goes_by_the_overlap_policy_when_it_is_one_run() -> None:
    assert hows(decide(view(*MISSED, catch_up=CatchUp.LAST, live=(RUNNING,)), NOW)) == [
        (7200, How.MISS),
        (3600, How.SKIP),
    ]


runs = st.builds(
    RunView,
    st.integers(1, 50),
    st.floats(NOW - 9000, NOW),
    st.sampled_from(["running", "waiting"]),
    st.sampled_from([None, "queued", "running", "cancelling", "succeeded", "failed"]),
)


@given(
    st.lists(st.floats(NOW - 9000, NOW), max_size=6, unique=True).map(sorted),
    st.sampled_from(list(Overlap)),
    st.sampled_from(list(CatchUp)),
    st.lists(runs, max_size=4, unique_by=lambda run: run.id).filter(
        lambda live: sum(run.state == "running" and not run.over for run in live) <= 1
    ),
)
def test_never_two_at_once_and_no_time_is_forgotten(
    due: list[float], overlap: Overlap, catch_up: CatchUp, live: list[RunView]
) -> None:
    found = decide(view(*due, overlap=overlap, catch_up=catch_up, live=tuple(live)), NOW)
    assert [each.scheduled_at for each in found.beginnings] == due
    running = sum(run.state == "running" and not run.over for run in live)
    starts = sum(each.how is How.START for each in found.beginnings) + (found.promoted is not None)
    assert running + starts <= 1
    waits = [run for run in live if run.state == "waiting" and run.id not in found.superseded]
    assert running + starts == 1 or not waits  # nobody waits for nobody


def test_a_cron_is_stalled_when_a_whole_period_has_begun_nothing() -> None:
    assert not is_stalled(None, None, NOW)
    assert not is_stalled(NOW - 3599, NOW + 1, NOW)
    assert is_stalled(NOW - 3600, NOW, NOW)
    assert not is_stalled(NOW - 3600, None, NOW)  # due once and never again
