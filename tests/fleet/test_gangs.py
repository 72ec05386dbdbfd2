"""Jobs with GPUs and over several nodes, in a real control plane with agents played by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, jobs, reconcile
from fleet.agents.protocol import NoopSpec, Outcome
from fleet.blobs import Blobs
from fleet.models import Attempt, Job, LeaseGpu, Use
from fleet.principals import Principal
from fleet.wishes import Requirements
from tests.fleet.acting import Agent
from tests.fleet.floors import boxed
from tests.fleet.stepping import Fleet

Ask = Callable[..., int]


@pytest.fixture
def ask(sessions: sessionmaker[Session], admin: Principal, now: float) -> Ask:
    """Submit a noop with requirements; returns its id."""

    def submit(**wanted: Any) -> int:
        limits = {
            key: wanted.pop(key)
            for key in ("priority", "preemptible", "retry_on", "max_retries", "at")
            if key in wanted
        }
        at = limits.pop("at", now)
        found = Requirements.model_validate(wanted)
        with sessions.begin() as session:
            return jobs.submit(session, NoopSpec(), principal=admin, now=at, requirements=found, **limits).id

    return submit


@pytest.fixture
def two(sessions: sessionmaker[Session], blobs: Blobs, enroll: Callable[..., int], now: float) -> Fleet:
    """Two nodes of four GPUs."""
    agents = [Agent(sessions, blobs, enroll(name, boxed(4))) for name in ("box1", "box2")]
    return Fleet(sessions, blobs, now, *agents)


def look(fleet: Fleet, job_id: int) -> Job:
    with db.reading(fleet.sessions) as reader:
        return jobs.get(reader, job_id)


def tick(fleet: Fleet, after: float = 0.1) -> None:
    fleet.now += after
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)


def begin(fleet: Fleet) -> None:
    """Place what can be placed, and have the agents begin it."""
    tick(fleet)
    for agent in fleet.agents:
        agent.sync(fleet.now)
        agent.sync(fleet.now)


def held_gpus(fleet: Fleet) -> list[int]:
    with db.reading(fleet.sessions) as reader:
        return list(reader.scalars(select(LeaseGpu.device_id).where(LeaseGpu.released_at.is_(None))))


def test_an_attempt_is_told_which_gpus_are_its_own(two: Fleet, ask: Ask) -> None:
    first, second = ask(gpus=2), ask(gpus=2)
    begin(two)
    told = [spec for agent in two.agents for spec in agent.running.values()]
    assert {spec.job_id: spec.gpus for spec in told} == {first: ["gpu0", "gpu1"], second: ["gpu2", "gpu3"]}
    assert len(set(held_gpus(two))) == 4


def test_gpus_that_are_taken_are_waited_for_and_then_had(two: Fleet, ask: Ask) -> None:
    for _ in range(2):
        ask(gpus=4)
    waits = ask(gpus=1)
    begin(two)
    assert look(two, waits).reason == (
        "waits for a device: box1 has no free GPUs for it, not 1; box2 has no free GPUs for it, not 1"
    )
    for agent in two.agents:
        agent.work(two.now)
        agent.sync(two.now)
    assert held_gpus(two) == []
    begin(two)
    assert look(two, waits).state == "running"


def test_the_database_refuses_a_gpu_that_is_held(two: Fleet, ask: Ask) -> None:
    ask(gpus=4)
    tick(two)
    with two.sessions() as session:
        taken = session.scalars(select(LeaseGpu)).first()
        assert taken is not None
        session.add(LeaseGpu(lease_id=taken.lease_id, device_id=taken.device_id))
        with pytest.raises(IntegrityError):
            session.flush()


def test_a_gang_is_told_who_it_is_and_where_to_meet(two: Fleet, ask: Ask) -> None:
    job = ask(ranks=2, gpus=4)
    begin(two)
    gangs = [spec.gang for agent in two.agents for spec in agent.running.values()]
    assert [gang.rank for gang in gangs if gang] == [0, 1]
    assert {gang.rendezvous for gang in gangs if gang} == {f"tiny.local:{29500 + job}"}
    assert [peer.node for peer in gangs[1].peers] == ["box1", "box2"] if gangs[1] else False
    assert look(two, job).state == "running"


def test_a_gang_succeeds_when_each_rank_has(two: Fleet, ask: Ask) -> None:
    job = ask(ranks=2)
    begin(two)
    second = two.agents[1]
    second.work(two.now)
    second.sync(two.now)
    assert look(two, job).state == "running"
    two.agents[0].work(two.now)
    two.agents[0].sync(two.now)
    done = look(two, job)
    assert (done.state, done.result) == ("succeeded", {"slept_s": 0.0})


def test_a_rank_that_fails_ends_the_others(two: Fleet, ask: Ask) -> None:
    job = ask(ranks=2, gpus=1)
    begin(two)
    first, second = two.agents
    (attempt,) = second.running
    second.exit(attempt, Outcome.FAILED, error="no luck")
    second.sync(two.now)
    assert look(two, job).state == "stopping"
    first.sync(two.now)  # it is told to stop
    first.sync(two.now)  # it has
    done = look(two, job)
    assert (done.state, done.outcome, done.error) == ("failed", "failed", "rank 1: no luck")
    assert held_gpus(two) == []


def test_a_gang_of_which_a_node_is_lost_is_tried_again_whole(two: Fleet, ask: Ask) -> None:
    job = ask(ranks=2)
    begin(two)
    first, second = two.agents
    (attempt,) = second.running
    second.exit(attempt, Outcome.INFRA_FAILED, error="disk full")
    second.sync(two.now)
    first.sync(two.now)
    first.sync(two.now)
    assert (look(two, job).state, look(two, job).retries) == ("queued", 1)
    begin(two)
    assert look(two, job).state == "running"
    with db.reading(two.sessions) as reader:
        found = reader.execute(select(Attempt.number, Attempt.rank).order_by(Attempt.id)).all()
    assert [tuple(each) for each in found] == [(1, 0), (1, 1), (2, 0), (2, 1)]


def test_a_gang_that_is_cancelled_ends_when_all_have_stopped(two: Fleet, ask: Ask, admin: Principal) -> None:
    job = ask(ranks=2)
    begin(two)
    with two.sessions.begin() as session:
        jobs.cancel(session, job, admin, two.now)
    first, second = two.agents
    first.sync(two.now)
    first.sync(two.now)
    assert look(two, job).state == "cancelling"
    second.sync(two.now)
    second.sync(two.now)
    assert look(two, job).state == "cancelled"


def test_two_gangs_that_both_want_both_nodes_run_one_after_the_other(two: Fleet, ask: Ask) -> None:
    gangs = [ask(ranks=2, gpus=3), ask(ranks=2, gpus=3)]
    for _ in range(4):
        two.step()
    assert [look(two, job).state for job in gangs] == ["succeeded", "succeeded"]


def test_a_gang_that_is_too_large_says_so(two: Fleet, ask: Ask) -> None:
    job = ask(ranks=3)
    tick(two)
    assert look(two, job).reason == "a gang of 3 nodes, and only 2 could ever be one of them"


def test_a_preemptible_job_makes_way_and_is_queued_again(two: Fleet, ask: Ask) -> None:
    cheap = [ask(gpus=4, preemptible=True) for _ in range(2)]
    begin(two)
    urgent = ask(gpus=4, priority=50)
    tick(two, 3.0)
    (way,) = [job for job in cheap if look(two, job).state == "preempting"]
    for agent in two.agents:
        agent.sync(two.now)
        agent.sync(two.now)
    assert look(two, way).state == "queued"
    begin(two)
    assert look(two, urgent).state == "running"
    assert (look(two, way).state, look(two, way).preempted, look(two, way).retries) == ("queued", 1, 0)


def test_a_job_that_wedged_a_gpu_is_tried_on_another(two: Fleet, ask: Ask) -> None:
    job = ask(gpus=1)
    begin(two)
    (agent,) = [each for each in two.agents if each.running]
    (attempt,) = agent.running.values()
    assert attempt.gpus == ["gpu0"]
    agent.exit(attempt.attempt_id, Outcome.DEVICE_WEDGED)
    agent.sync(two.now)
    begin(two)
    assert [spec.gpus for spec in agent.running.values()] == [["gpu1"]]
    assert look(two, job).state == "running"


def test_what_takes_devices_down_three_times_is_not_tried_again(two: Fleet, ask: Ask) -> None:
    job = ask(gpus=1, max_retries=10)
    for _ in range(3):
        two.now += 700.0
        for agent in two.agents:
            agent.sync(two.now)
        begin(two)
        (agent,) = [each for each in two.agents if each.running]
        (attempt,) = agent.running
        agent.exit(attempt, Outcome.DEVICE_WEDGED, error="XID 79")
        agent.sync(two.now)
    done = look(two, job)
    assert done.state == "failed"
    assert done.error == ("it is not tried again: 3 attempts at it took their node or device down; XID 79")


def test_only_the_outcomes_asked_for_are_tried_again_and_later_each_time(two: Fleet, ask: Ask) -> None:
    job = ask(retry_on=["failed"], max_retries=2)
    waits = []
    for _ in range(2):
        begin(two)
        (agent,) = [each for each in two.agents if each.running]
        (attempt,) = agent.running
        agent.exit(attempt, Outcome.FAILED, error="flaky")
        agent.sync(two.now)
        waits.append(look(two, job).not_before - two.now)
        tick(two)
        assert look(two, job).state == "queued"
        two.now += waits[-1]
        for each in two.agents:
            each.sync(two.now)
    assert waits == pytest.approx([10.0, 20.0])


def test_who_waits_longer_than_the_queue_timeout_fails(
    two: Fleet, sessions: sessionmaker[Session], admin: Principal
) -> None:
    with sessions.begin() as session:
        wanted = Requirements(gpus=8)
        job = jobs.submit(
            session, NoopSpec(), principal=admin, now=two.now, requirements=wanted, queue_timeout_s=60.0
        ).id
    tick(two, 59.0)
    assert look(two, job).state == "queued"
    tick(two, 2.0)
    assert look(two, job).state == "failed"
    assert look(two, job).error.startswith(
        "it waited for longer than its queue timeout of 60 s: no node fits"
    )


def test_what_was_held_is_counted_for_its_tenant(two: Fleet, ask: Ask) -> None:
    ask(gpus=2)
    begin(two)
    two.now += 100.0
    for agent in two.agents:
        agent.work(two.now)
        agent.sync(two.now)
    with db.reading(two.sessions) as reader:
        (use,) = reader.scalars(select(Use))
    assert use.gpu_s == pytest.approx(200.0, rel=0.01)
    assert use.slot_s == pytest.approx(100.0, rel=0.01)
