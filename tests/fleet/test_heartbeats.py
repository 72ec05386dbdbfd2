"""The sync of a node at rest: one look and one write, and whatever is asked of the node is not overlooked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from fleet import heartbeats, jobs, nodes, reconcile, sync, trust
from fleet.agents.protocol import AttemptReport, CachedData, Desired, NoopSpec, Observed, Outcome
from fleet.blobs import Blobs
from fleet.errors import StaleWrite
from fleet.identities import KEY_AGE_S
from fleet.models import Device, GpuLadder, Node, NodeAccess, NodeUpdate, Rollout
from fleet.principals import Principal
from fleet.settings import Timings
from tests.fleet.acting import inventory

NOTHING = Observed(boot_id="boot-1", sequence=2, generation=1)
Arrange = Callable[[Session, Node, float], None]


def logins(session: Session, node: Node, now: float) -> None:
    session.add(NodeAccess(node_id=node.id, reported_at=now, address="tiny", port=22, host_keys=[]))


def reset(session: Session, node: Node, now: float) -> None:
    device = Device(node_id=node.id, name="gpu0", kind="gpu", model="x", arch="x", target={}, slots=1)
    device.memory_bytes, device.problem = 1, ""
    session.add(device)
    session.flush()
    session.add(GpuLadder(id=device.id, node_id=node.id, state="resetting", state_at=now))


def offered(session: Session, node: Node, now: float) -> None:
    rollout = Rollout(version="9", state="canary", state_at=now, soak_s=1.0, created_by="ada", created_at=now)
    session.add(rollout)
    session.flush()
    part = NodeUpdate(rollout_id=rollout.id, node_id=node.id, ring="canary", state="offered")
    part.state_at = part.offered_at = now
    session.add(part)


def older(session: Session, node: Node, now: float) -> None:
    nodes.get(session, node.id).protocol -= 1


def unsettled(session: Session, node: Node, now: float) -> None:
    nodes.get(session, node.id).settled = [7]


def draining(session: Session, node: Node, now: float) -> None:
    nodes.get(session, node.id).state = "draining"


def test_a_node_at_rest_is_recorded_and_told_in_two_statements(
    session: Session, node: Node, now: float
) -> None:
    asked = list[str]()
    session.flush()
    event.listen(session.get_bind(), "before_cursor_execute", lambda *about: asked.append(about[2][:6]))
    resting = heartbeats.take(session, node.id, NOTHING, now + 7)
    assert asked == ["BEGIN ", "SELECT", "UPDATE"]
    assert resting is not None
    found = nodes.get(session, node.id)
    assert (found.sequence, found.applied_generation, found.last_seen) == (2, 1, now + 7)
    told = resting.desired(now + 7, Timings())
    assert told == Desired(generation=node.desired_generation, attempts=[], lease_s=60.0, poll_s=5.0)
    assert sync.desired(session, node.id, now + 7) == told


@pytest.mark.parametrize("arrange", [logins, reset, offered, older, unsettled, draining])
def test_a_node_of_which_something_is_asked_is_not_at_rest(
    session: Session, node: Node, now: float, arrange: Arrange
) -> None:
    assert heartbeats.at_rest(session, node.id) is not None
    arrange(session, node, now)
    session.flush()
    assert heartbeats.at_rest(session, node.id) is None
    assert heartbeats.take(session, node.id, NOTHING, now + 7) is None
    session.expire_all()
    assert nodes.get(session, node.id).sequence == 1


def test_a_node_that_has_been_given_a_job_is_not_at_rest(
    sessions: sessionmaker[Session], blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        jobs.submit(session, NoopSpec(), principal=admin, now=now)
    reconcile.tick(sessions, blobs, now)
    with sessions.begin() as session:
        assert heartbeats.take(session, node.id, NOTHING, now + 1) is None
        assert len(sync.desired(session, node.id, now + 1).attempts) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"inventory": inventory()},
        {"attempts": [AttemptReport(attempt_id=1, fence=1, state="exited", outcome=Outcome.SUCCEEDED)]},
        {"data": list[CachedData]()},
        {"boot_id": "boot-2"},
        {"sequence": 1},
    ],
)
def test_a_report_of_something_or_of_another_time_is_left_to_the_whole_exchange(
    session: Session, node: Node, now: float, said: dict[str, object]
) -> None:
    assert heartbeats.take(session, node.id, NOTHING.model_copy(update=said), now + 7) is None
    assert nodes.get(session, node.id).sequence == 1


def test_a_heartbeat_that_comes_twice_is_refused(session: Session, node: Node, now: float) -> None:
    assert heartbeats.take(session, node.id, NOTHING, now)
    assert heartbeats.take(session, node.id, NOTHING, now) is None
    with pytest.raises(StaleWrite):
        sync.record(session, node.id, NOTHING, now)


def test_a_node_at_rest_is_asked_for_a_new_key_in_time(session: Session, node: Node, now: float) -> None:
    assert not sync.desired(session, node.id, now + KEY_AGE_S - 60).rotate_key
    assert sync.desired(session, node.id, now + KEY_AGE_S + 60).rotate_key
    trust.standing(session, node.id).rotate = True
    session.flush()
    assert sync.desired(session, node.id, now).rotate_key
