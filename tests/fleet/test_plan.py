"""What should happen next: plain values in, actions out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fleet.advance import Hold, SearchView, Start, StepJob
from fleet.agents.protocol import JobKind, Outcome
from fleet.order import Waiting
from fleet.plan import AttemptView, Empty, Limits, Plan, Snapshot, plan
from fleet.requirements import DeviceView, Needs, NodeView
from tests.fleet.acting import GEMM

CPU = DeviceView(id=10, name="cpu", kind="cpu", arch="acme", target_id="t1", slots=2)
TINY1 = NodeView(1, "tiny1", "ready", False, "online", 4, (CPU,))
RUNNING = AttemptView(5, 3, 1, "tiny1", "running", 0.0, 1000.0, timeout_s=100.0, started_at=950.0)
EMPTY = Snapshot((TINY1,), (), (), (), Limits(lease_s=60.0, grace_s=30.0))


def ended(attempt: AttemptView, now: float, up_since: float = 0.0) -> list[tuple[Outcome, str]]:
    """How the plan ends this attempt."""
    found = plan(replace(EMPTY, attempts=(attempt,), up_since=up_since), now)
    assert all((end.attempt_id, end.generation) == (5, 3) for end in found.ends)
    return [(end.outcome, end.error) for end in found.ends]


def test_an_idle_fleet_calls_for_nothing() -> None:
    assert plan(EMPTY, 1000.0) == Plan()


def test_an_attempt_in_time_goes_on() -> None:
    assert ended(RUNNING, 1000.0) == []


def test_a_node_silent_beyond_lease_and_grace_loses_its_attempts() -> None:
    assert ended(RUNNING, 1090.0) == []
    assert ended(RUNNING, 1091.0) == [(Outcome.NODE_LOST, "node tiny1 was silent for 91 s")]


def test_a_lease_counts_from_its_grant_when_the_node_was_silent_before() -> None:
    fresh = replace(RUNNING, state="leased", started_at=None, granted_at=2000.0)
    assert ended(fresh, 2080.0) == []


def test_an_attempt_that_is_never_started_ends_as_an_infrastructure_failure() -> None:
    leased = replace(RUNNING, state="leased", started_at=None, granted_at=900.0)
    assert ended(leased, 990.0) == []
    assert ended(leased, 991.0) == [(Outcome.INFRA_FAILED, "node tiny1 did not start it")]


def test_an_attempt_beyond_its_timeout_and_a_lease_is_timed_out() -> None:
    running = replace(RUNNING, renewed_at=1110.0)
    assert ended(running, 1110.0) == []
    assert ended(running, 1111.0) == [(Outcome.TIMED_OUT, "it ran for longer than its timeout of 100 s")]


def test_a_cancelled_attempt_that_nobody_stops_ends_all_the_same() -> None:
    cancelling = replace(RUNNING, cancelling_at=1000.0, renewed_at=1090.0)
    assert ended(cancelling, 1090.0) == []
    assert ended(cancelling, 1091.0) == [(Outcome.CANCELLED, "node tiny1 did not confirm the stop")]


def test_no_silence_counts_from_before_the_control_plane_started() -> None:
    assert ended(RUNNING, 5000.0, up_since=4910.0) == []
    assert ended(RUNNING, 5001.0, up_since=4910.0) == [(Outcome.NODE_LOST, "node tiny1 was silent for 91 s")]


def test_no_bound_of_a_state_passes_before_the_node_could_be_heard() -> None:
    leased = replace(RUNNING, state="leased", started_at=None, granted_at=900.0)
    cancelling = replace(RUNNING, cancelling_at=1000.0)
    for attempt in (leased, cancelling, RUNNING):  # the last one's timeout has passed too
        heard = replace(attempt, renewed_at=5001.0)
        assert ended(heard, 5000.0, up_since=4910.0) == []
        assert len(ended(heard, 5001.0, up_since=4910.0)) == 1


def test_a_node_that_went_with_the_control_plane_is_lost_before_its_attempt_is_timed_out() -> None:
    found = [ended(RUNNING, now, up_since=4910.0) for now in (4971.0, 5000.0, 5001.0)]
    assert [[outcome for outcome, _ in each] for each in found] == [[], [], [Outcome.NODE_LOST]]


def test_a_draining_node_is_empty_when_its_last_attempt_has_ended() -> None:
    draining = replace(EMPTY, nodes=(replace(TINY1, state="draining"),))
    assert plan(draining, 1000.0).emptied == (Empty(1),)
    assert plan(replace(draining, attempts=(RUNNING,)), 1000.0).emptied == ()


def test_a_delay_is_written_only_when_its_reason_is_new() -> None:
    waiting = Waiting(1, 1, Needs(JobKind.NOOP, arch="none"))
    (delay,) = plan(replace(EMPTY, waiting=(waiting,)), 0.0).delays
    told = replace(waiting, reason=delay.reason)
    assert plan(replace(EMPTY, waiting=(told,)), 0.0).delays == ()


def search(number: int, **given: Any) -> SearchView:
    """A queued search."""
    fields: dict[str, Any] = {
        "arch": None,
        "target_id": "t1",
        "threads": 1,
        "width": 4,
        "budget_s": 30.0,
        "per_round": 16,
        "max_rounds": 32,
        "seed": 0,
    }
    return SearchView(number, 1, given.pop("state", "queued"), GEMM, **(fields | given))


def test_only_as_many_searches_start_as_their_target_has_nodes() -> None:
    found = plan(replace(EMPTY, searches=(search(1), search(2))), 0.0)
    assert [(type(step) is Start, step.search_id) for step in found.steps] == [(True, 1), (False, 2)]


def test_a_search_under_way_makes_the_next_wait() -> None:
    under_way = search(2, state="running", jobs=(StepJob(1, "running"),))
    found = plan(replace(EMPTY, searches=(under_way, search(3))), 0.0)
    (step,) = found.steps
    assert step == Hold(3, 1, "waits for 1 other searches on the nodes of its target")
