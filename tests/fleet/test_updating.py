"""Which node changes its version, and when: plain values in, steps out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.updating import OFFER_S, GiveUp, NodeView, Offer, Pause, Promote, RolloutView, plan

NOW = 10_000.0
ROLLOUT = RolloutView(1, "2.0", "canary", soak_s=600.0)


def node(number: int, **said: Any) -> NodeView:
    """A node of the old version that could have the new one."""
    fields = {"version": "1.0", "lifecycle": "ready", "contact": "online", "updatable": True}
    return NodeView(number, f"tiny{number}", **{**fields, **said})


def offered(number: int, at: float = NOW, **said: Any) -> NodeView:
    return node(number, state="offered", ring="canary", since=at, offered_at=at, **said)


def updated(number: int, at: float, **said: Any) -> NodeView:
    return node(number, version="2.0", state="updated", ring="canary", since=at, **said)


def failed(number: int, at: float = NOW) -> NodeView:
    return node(number, state="failed", ring="canary", since=at, error="it did not report within 60 s")


def test_the_first_that_can_goes_first_and_alone() -> None:
    assert plan(ROLLOUT, [node(1), node(2), node(3)], NOW) == (Offer(1, "canary"),)
    assert plan(ROLLOUT, [offered(1), node(2), node(3)], NOW) == ()


def test_an_idle_node_goes_before_one_that_works() -> None:
    assert plan(ROLLOUT, [node(1, attempts=2), node(2)], NOW) == (Offer(2, "canary"),)


def test_where_none_is_idle_one_is_asked_to_become_so() -> None:
    assert plan(ROLLOUT, [node(1, attempts=2), node(2, attempts=1)], NOW) == (Offer(1, "canary"),)


@pytest.mark.parametrize(
    "said",
    [
        {"contact": "late"},
        {"contact": "lost"},
        {"lifecycle": "enrolled"},
        {"updatable": False},
        {"contested": True},
        {"version": "2.0"},
    ],
)
def test_a_node_that_cannot_or_need_not_is_not_asked(said: dict[str, Any]) -> None:
    assert plan(replace(ROLLOUT, state="rest"), [node(1, **said)], NOW) == ()


@pytest.mark.parametrize("lifecycle", ["ready", "draining", "drained"])
def test_a_drained_node_is_asked_too(lifecycle: str) -> None:
    assert plan(ROLLOUT, [node(1, lifecycle=lifecycle)], NOW) == (Offer(1, "canary"),)


def test_the_named_canaries_go_first() -> None:
    named = replace(ROLLOUT, canary=frozenset({"tiny2", "tiny3"}), at_once=2)
    assert plan(named, [node(1), node(2), node(3)], NOW) == (Offer(2, "canary"), Offer(3, "canary"))


def test_two_canaries_are_the_same_two_from_one_look_to_the_next() -> None:
    two = replace(ROLLOUT, canaries=2)
    assert plan(two, [updated(3, NOW - 10), node(1), node(2)], NOW) == (Offer(1, "canary"),)
    assert plan(two, [updated(3, NOW - 10), updated(1, NOW), node(2)], NOW) == ()


def test_the_others_follow_when_the_canaries_have_run_it_for_long_enough() -> None:
    assert plan(ROLLOUT, [updated(1, NOW - 599), node(2)], NOW) == ()
    assert plan(ROLLOUT, [updated(1, NOW - 600), node(2)], NOW) == (Promote(),)


def test_a_canary_that_has_the_version_already_counts() -> None:
    named = replace(ROLLOUT, canary=frozenset({"tiny1"}))
    assert plan(named, [node(1, version="2.0"), node(2)], NOW) == (Promote(),)


def test_a_canary_that_is_away_is_waited_for() -> None:
    named = replace(ROLLOUT, canary=frozenset({"tiny1", "tiny2"}))
    assert plan(named, [updated(1, 0.0), node(2, contact="lost"), node(3)], NOW) == ()


def test_a_fleet_without_a_node_that_can_promotes_nothing() -> None:
    assert plan(ROLLOUT, [node(1, updatable=False)], NOW) == ()
    assert plan(ROLLOUT, [], NOW) == ()


def test_the_rest_goes_a_few_at_once() -> None:
    rest = replace(ROLLOUT, state="rest", at_once=2)
    nodes = [updated(1, 0.0), offered(2), node(3), node(4), node(5)]
    assert plan(rest, nodes, NOW) == (Offer(3, "rest"),)


def test_a_failure_pauses_all_and_says_whose() -> None:
    rest = replace(ROLLOUT, state="rest", at_once=5)
    (step,) = plan(rest, [updated(1, 0.0), failed(2), node(3)], NOW)
    assert step == Pause("tiny2 went back: it did not report within 60 s")


def test_when_an_operator_has_looked_the_others_go_on_without_it() -> None:
    looked = replace(ROLLOUT, state="rest", looked_at=NOW + 1)
    assert plan(looked, [failed(2), node(3)], NOW + 2) == (Offer(3, "rest"),)
    assert plan(looked, [failed(2), failed(3, NOW + 2)], NOW + 3) == (
        Pause("tiny3 went back: it did not report within 60 s"),
    )


def test_paused_nobody_is_asked_and_nothing_promoted() -> None:
    paused = replace(ROLLOUT, paused=True)
    assert plan(paused, [node(1)], NOW) == ()
    assert plan(paused, [updated(1, 0.0), node(2)], NOW) == ()


def test_a_node_that_takes_too_long_is_given_up() -> None:
    late = offered(1, NOW - OFFER_S - 1)
    assert plan(ROLLOUT, [late], NOW) == (GiveUp(1, "it still runs 1.0 after 15 minutes"),)
    (step,) = plan(replace(ROLLOUT, paused=True), [replace(late, contact="lost")], NOW)
    assert step == GiveUp(1, "it still runs 1.0 after 15 minutes, and is lost")


def test_a_node_that_still_works_may_take_its_time() -> None:
    assert plan(ROLLOUT, [offered(1, NOW - OFFER_S - 1, attempts=1)], NOW) == ()


def test_a_node_that_went_back_is_not_asked_again() -> None:
    assert plan(replace(ROLLOUT, looked_at=NOW + 1), [failed(1)], NOW + 2) == ()
