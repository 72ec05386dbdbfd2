"""Reservations, maintenance and drains with a deadline, in a real control plane with agents played by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet import db, jobs, nodes, tenants, windows
from fleet.agents.protocol import NoopSpec
from fleet.blobs import Blobs
from fleet.errors import InvalidSpec, InvalidTransition, NotPermitted
from fleet.models import Job, NodeWindow
from fleet.principals import Principal
from tests.fleet.acting import Agent
from tests.fleet.floors import boxed
from tests.fleet.stepping import Fleet

Keep = Callable[..., NodeWindow]


@pytest.fixture
def two(fleet: Fleet, enroll: Callable[..., int], blobs: Blobs) -> Fleet:
    """tiny1, and box1 with four GPUs; and the tenant vision."""
    agent = Agent(fleet.sessions, blobs, enroll("box1", boxed(4)))
    with fleet.sessions.begin() as session:
        tenants.mint(session, name="v", role="user", now=fleet.now, tenant="vision")
    return Fleet(fleet.sessions, blobs, fleet.now, *fleet.agents, agent)


@pytest.fixture
def keep(two: Fleet, admin: Principal) -> Keep:
    """Keep box1 from so many seconds from now until so many."""

    def add(start: float, end: float, tenant: str | None = None, **other: Any) -> NodeWindow:
        given: dict[str, Any] = {
            "node_ids": [two.agents[1].node_id],
            "reason": "",
            "principal": admin,
        } | other
        kind = "maintenance" if tenant is None else "reservation"
        with two.sessions.begin() as session:
            return windows.add(
                session,
                kind=kind,
                tenant=tenant,
                starts_at=two.now + start,
                ends_at=two.now + end,
                now=two.now,
                **given,
            )

    return add


def submit(fleet: Fleet, principal: Principal, on: int, timeout_s: float = 600.0) -> int:
    with fleet.sessions.begin() as session:
        return jobs.submit(
            session, NoopSpec(), principal=principal, now=fleet.now, node=on, timeout_s=timeout_s
        ).id


def look(fleet: Fleet, job_id: int) -> Job:
    with db.reading(fleet.sessions) as reader:
        return jobs.get(reader, job_id)


def begin(fleet: Fleet) -> None:
    """One tick, and what the agents are told begins."""
    fleet.now += 0.1
    fleet.tick()
    for agent in fleet.agents:
        agent.sync(fleet.now)
        agent.sync(fleet.now)


def test_only_its_tenant_begins_in_a_reservation_and_nobody_else_runs_into_it(
    two: Fleet, keep: Keep, admin: Principal
) -> None:
    keep(1000.0, 2000.0, "vision")
    box = two.agents[1].node_id
    vision = Principal("user", 99, "v", "vision", "user")
    short, long, theirs = (
        submit(two, admin, box, 600.0),
        submit(two, admin, box, 1200.0),
        submit(two, vision, box, 1200.0),
    )
    begin(two)
    assert [look(two, job).state for job in (short, long, theirs)] == ["running", "queued", "running"]
    assert look(two, long).reason == (
        "waits for a device: box1 is reserved for vision in 1000 s, and the job's timeout is 1200 s"
    )


def test_what_still_runs_when_maintenance_begins_makes_way_and_comes_back(
    two: Fleet, keep: Keep, admin: Principal
) -> None:
    job = submit(two, admin, two.agents[1].node_id, 3600.0)
    begin(two)
    assert look(two, job).state == "running"
    keep(5.0, 60.0)
    two.now += 5.0
    begin(two)
    assert look(two, job).state == "queued"
    assert look(two, job).preempted == 1
    begin(two)
    assert look(two, job).reason == "waits for a device: box1 is in maintenance"
    two.now += 60.0
    begin(two)  # the nodes are heard again
    begin(two)
    assert look(two, job).state == "running"


def test_a_reservation_lets_what_runs_end(two: Fleet, keep: Keep, admin: Principal) -> None:
    job = submit(two, admin, two.agents[1].node_id, 3600.0)
    begin(two)
    keep(5.0, 60.0, "vision")
    two.now += 10.0
    begin(two)
    assert look(two, job).state == "running"


def test_a_node_is_drained_by_its_deadline(two: Fleet, admin: Principal) -> None:
    box = two.agents[1].node_id
    with two.sessions.begin() as session:
        job = jobs.submit(session, NoopSpec(), principal=admin, now=two.now, node=box).id
    begin(two)
    with two.sessions.begin() as session:
        nodes.drain(session, box, admin, two.now, 30.0)
    two.now += 29.0
    begin(two)
    assert look(two, job).state == "running"
    two.now += 1.0
    begin(two)
    begin(two)
    assert look(two, job).state == "queued"
    with db.reading(two.sessions) as reader:
        assert nodes.get(reader, box).state == "drained"


@pytest.mark.parametrize(
    ("window", "field"),
    [
        ((100.0, 50.0, None), "ends_at"),
        ((-100.0, -50.0, None), "ends_at"),
        ((0.0, 4e7, None), "ends_at"),
        ((0.0, 50.0, "nobody"), "tenant"),
    ],
)
def test_a_window_that_cannot_be_is_refused(
    keep: Keep, window: tuple[float, float, str | None], field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        keep(*window)
    assert caught.value.field == field


def test_two_tenants_do_not_have_one_node_at_a_time(keep: Keep) -> None:
    keep(0.0, 100.0, "vision")
    keep(100.0, 200.0, "default")
    keep(50.0, 150.0)  # maintenance goes before both
    with pytest.raises(InvalidSpec, match="box1 is reserved for vision then"):
        keep(50.0, 150.0, "default")


def test_a_window_is_an_operators_and_ends_when_cancelled(two: Fleet, keep: Keep, admin: Principal) -> None:
    with pytest.raises(NotPermitted):
        keep(0.0, 100.0, principal=Principal("user", 2, "u", "default", "user"))
    row = keep(0.0, 100.0)
    with two.sessions.begin() as session:
        windows.cancel(session, row.id, admin, two.now)
        assert windows.page(session, None, 10, two.now) == []
    with two.sessions.begin() as session, pytest.raises(InvalidTransition):
        windows.cancel(session, row.id, admin, two.now + 200.0)
