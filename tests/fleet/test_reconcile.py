"""One tick: what it writes besides ends, steps and placements, and that one bad row stops nobody."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, jobs, nodes, reconcile, searches
from fleet.agents.protocol import NoopSpec
from fleet.blobs import Blobs
from fleet.models import Node
from fleet.principals import Principal
from tests.fleet.acting import Agent
from tests.fleet.stepping import Fleet, Submit


def contacts(sessions: sessionmaker[Session]) -> list[str]:
    """What the events say of the node's contact."""
    with db.reading(sessions) as reader:
        kinds = [event.kind for event in events.page(reader, limit=500)]
    return [kind for kind in kinds if kind in ("node.online", "node.late", "node.unreachable", "node.lost")]


def test_a_node_that_falls_silent_and_returns_makes_an_event_for_each_step(
    sessions: sessionmaker[Session], blobs: Blobs, node: Node, agent: Agent, now: float
) -> None:
    for seconds in (0.0, 10.0, 16.0, 20.0, 31.0, 91.0, 200.0):
        reconcile.tick(sessions, blobs, now + seconds)
    assert contacts(sessions) == ["node.late", "node.unreachable", "node.lost"]
    agent.sync(now + 201.0)
    reconcile.tick(sessions, blobs, now + 201.0)
    assert contacts(sessions)[-1] == "node.online"
    with db.reading(sessions) as reader:
        assert nodes.get(reader, node.id).contact == "online"


def test_work_that_was_finished_during_an_outage_of_the_control_plane_counts(
    sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        job_id = jobs.submit(session, NoopSpec(seconds=8.0), principal=admin, now=now, timeout_s=30.0).id
    reconcile.tick(sessions, blobs, now)
    for _ in ("begun", "told"):
        agent.sync(now)
    agent.work(now + 8.0)
    restarted = now + 100.0  # longer than the time after which a silent node is lost
    reconcile.tick(sessions, blobs, restarted, up_since=restarted)
    agent.sync(restarted + 1.0)
    reconcile.tick(sessions, blobs, restarted + 1.0, up_since=restarted)
    with db.reading(sessions) as reader:
        assert jobs.get(reader, job_id).state == "succeeded"
        assert jobs.get(reader, job_id).retries == 0
    assert contacts(sessions) == []


def test_an_action_that_fails_does_not_stop_the_others(
    fleet: Fleet, submit: Submit, agent: Agent, admin: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    search = submit(max_rounds=1)
    fleet.run_until("confirm")
    with fleet.sessions.begin() as session:
        row = searches.get(session, search.id)
        row.kernel_hash = row.flops = None  # a row as no version writes it: its winner cannot be filed
        job = jobs.submit(session, NoopSpec(), principal=admin, now=fleet.now)
    agent.work(fleet.now)
    agent.sync(fleet.now)
    with caplog.at_level(logging.ERROR):
        reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    assert "the others go on" in caplog.text
    with db.reading(fleet.sessions) as reader:
        assert jobs.get(reader, job.id).state == "leased"
    fleet.now += 1000.0
    assert fleet.finish(search).state == "failed"  # the bound of its state ends it too
