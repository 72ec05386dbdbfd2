"""Enrolment, inventory, and an operator's wishes about nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, nodes, reconcile, sync, tenants, trust
from fleet.agents.keys import Key
from fleet.agents.protocol import EnrollRequest, Observed, WallReport
from fleet.blobs import Blobs
from fleet.errors import (
    AlreadyExists,
    InvalidSpec,
    InvalidTransition,
    NotFound,
    NotPermitted,
    StaleWrite,
)
from fleet.lifecycle import NodeEvent
from fleet.models import Node, NodeKey
from fleet.nodes import Contact, contact
from fleet.principals import Principal
from fleet.settings import Timings
from fleet.standing_rows import Trust
from tests.fleet.acting import inventory
from tests.signing import joining


def request(secret: str, name: str) -> EnrollRequest:
    """A node asks to join."""
    return joining(secret, name, Key.made())


def test_enrolment_gives_a_node_its_own_identity(session: Session, admin: Principal, now: float) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    answer = nodes.enroll(session, secret, request(secret, "tiny1"), now)
    assert [key.node_id for key in session.query(NodeKey)] == [answer.node_id]
    assert nodes.get(session, answer.node_id).state == "enrolled"
    assert [device.name for device in nodes.devices(session, answer.node_id)] == ["cpu"]


def walls(**states: str) -> list[WallReport]:
    return [WallReport.model_validate({"name": name, "state": state}) for name, state in states.items()]


def test_a_node_that_joins_without_a_wall_is_not_sealed(
    session: Session, admin: Principal, now: float
) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    asked = request(secret, "tiny1")
    asked.inventory.walls = walls(landlock="up", memory="partial", uid="missing")
    node_id = nodes.enroll(session, secret, asked, now).node_id
    found = trust.standing(session, node_id)
    assert (found.trust, found.trust_reason) == ("shared", "walls missing or with gaps: memory, uid")


def test_a_wall_that_an_operator_knows_to_be_missing_may_stay_so_and_another_may_not(
    session: Session, admin: Principal, now: float
) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    node_id = nodes.enroll(session, secret, request(secret, "tiny1"), now).node_id

    def reported(sequence: int, **states: str) -> str:
        seen = inventory().model_copy(update={"walls": walls(**states)})
        sync.record(session, node_id, Observed(boot_id="1", sequence=sequence, inventory=seen), now)
        return trust.standing(session, node_id).trust

    assert reported(1, landlock="up", uid="up") == "sealed"
    assert reported(2, landlock="up", uid="missing") == "shared"
    trust.decide(session, node_id, Trust.SEALED, "nobody else is there", admin, now)
    assert reported(3, landlock="up", uid="missing") == "sealed"
    assert reported(4, landlock="off", uid="missing") == "shared"


def test_a_join_token_is_used_once(session: Session, admin: Principal, now: float) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    nodes.enroll(session, secret, request(secret, "tiny1"), now)
    with pytest.raises(NotPermitted, match="used already"):
        nodes.enroll(session, secret, request(secret, "tiny2"), now)
    assert len(nodes.page(session)) == 1


def test_a_join_token_expires(session: Session, admin: Principal, now: float) -> None:
    secret = tenants.mint_join(session, now=now, ttl_s=60.0, by=admin)
    with pytest.raises(NotPermitted):
        nodes.enroll(session, secret, request(secret, "tiny1"), now + 61.0)


def test_of_sixteen_racers_with_one_join_token_exactly_one_joins(
    sessions: sessionmaker[Session], admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        secret = tenants.mint_join(session, now=now, by=admin)
    gate, joined, refused = threading.Barrier(16), [], []

    def race(number: int) -> None:
        gate.wait()
        try:
            with sessions.begin() as session:
                joined.append(nodes.enroll(session, secret, request(secret, f"tiny{number}"), now))
        except NotPermitted:
            refused.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert (len(joined), len(refused)) == (1, 15)
    with db.reading(sessions) as reader:
        assert len(nodes.page(reader)) == 1


def test_a_taken_name_does_not_spend_the_join_token(
    sessions: sessionmaker[Session], admin: Principal, node: Node, now: float
) -> None:
    with sessions.begin() as session:
        secret = tenants.mint_join(session, now=now, by=admin)
    with pytest.raises(AlreadyExists, match="choose another name"), sessions.begin() as session:
        nodes.enroll(session, secret, request(secret, node.name), now)
    with sessions.begin() as session:
        nodes.enroll(session, secret, request(secret, "tiny2"), now)


def test_an_agent_of_another_protocol_is_refused(session: Session, admin: Principal, now: float) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    future = request(secret, "tiny1").model_copy(
        update={"inventory": inventory().model_copy(update={"protocol": 99})}
    )
    with pytest.raises(InvalidSpec, match="version 99"):
        nodes.enroll(session, secret, future, now)


def test_contact_follows_the_silence(node: Node, now: float) -> None:
    after = {seconds: contact(node, now + seconds) for seconds in (0, 15, 16, 31, 90, 91)}
    assert after == {
        0: Contact.ONLINE,
        15: Contact.ONLINE,
        16: Contact.LATE,
        31: Contact.UNREACHABLE,
        90: Contact.UNREACHABLE,
        91: Contact.LOST,
    }
    assert contact(node, now + 3, Timings(late_s=1.0)) is Contact.LATE


def test_contact_does_not_count_what_passed_before_the_control_plane_started(node: Node, now: float) -> None:
    started = now + 1000.0
    after = {seconds: contact(node, started + seconds, up_since=started) for seconds in (0, 16, 31, 91)}
    assert after == {0: Contact.ONLINE, 16: Contact.LATE, 31: Contact.UNREACHABLE, 91: Contact.LOST}


def test_a_node_that_was_silent_before_the_control_plane_stopped_is_not_online_again_by_its_start(
    node: Node, now: float
) -> None:
    started = now + 1000.0
    node.contact = "unreachable"
    after = {seconds: contact(node, started + seconds, up_since=started) for seconds in (0, 31, 91)}
    assert after == {0: Contact.UNREACHABLE, 31: Contact.UNREACHABLE, 91: Contact.LOST}
    node.last_seen = started + 1.0
    assert contact(node, started + 2.0, up_since=started) is Contact.ONLINE


def test_a_stale_writer_loses(sessions: sessionmaker[Session], node: Node, now: float) -> None:
    with db.reading(sessions) as reader:
        old = nodes.get(reader, node.id)
    with sessions.begin() as faster:
        nodes.fire(faster, nodes.get(faster, node.id), NodeEvent.DRAIN, now)
    with pytest.raises(StaleWrite), sessions.begin() as slower:
        nodes.fire(slower, old, NodeEvent.DRAIN, now)
    with db.reading(sessions) as reader:
        drained = [event for event in events.page(reader) if event.kind == "node.draining"]
        assert len(drained) == 1


def test_cordoning_is_an_axis_of_its_own(session: Session, node: Node, admin: Principal, now: float) -> None:
    cordoned = nodes.cordon(session, node.id, admin, now)
    assert (cordoned.state, cordoned.cordoned) == ("ready", True)
    back = nodes.uncordon(session, node.id, admin, now)
    assert (back.state, back.cordoned) == ("ready", False)
    actions = [row.action for row in events.audit_page(session)]
    assert actions[-2:] == ["node.cordon", "node.uncordon"]


def test_an_idle_node_drains_at_the_next_tick_and_may_come_back(
    sessions: sessionmaker[Session], blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        assert nodes.drain(session, node.id, admin, now).state == "draining"
    reconcile.tick(sessions, blobs, now)
    with sessions.begin() as session:
        assert nodes.get(session, node.id).state == "drained"
        back = nodes.uncordon(session, node.id, admin, now)
        assert (back.state, back.cordoned) == ("ready", False)


def test_a_retired_node_loses_its_key_and_frees_its_name(
    sessions: sessionmaker[Session],
    blobs: Blobs,
    admin: Principal,
    enroll: Callable[..., int],
    now: float,
) -> None:
    node_id = enroll("tiny1")
    with sessions.begin() as session:
        with pytest.raises(InvalidTransition, match="it accepts drain"):
            nodes.retire(session, node_id, admin, now)
        nodes.drain(session, node_id, admin, now)
    reconcile.tick(sessions, blobs, now)
    with sessions.begin() as session:
        nodes.retire(session, node_id, admin, now)
        assert [key.expires_at for key in session.query(NodeKey)] == [now]
        assert nodes.page(session) == []
        assert [node.id for node in nodes.page(session, state="retired")] == [node_id]
    assert enroll("tiny1") != node_id


def test_only_who_has_the_permission_changes_nodes(session: Session, node: Node, now: float) -> None:
    user = Principal("user", 9, "ada", "default", "user")
    for wish in (nodes.cordon, nodes.uncordon, nodes.drain, nodes.retire):
        with pytest.raises(NotPermitted, match="this takes the permission"):
            wish(session, node.id, user, now)


def test_a_node_is_found_by_its_name_or_the_refusal_lists_those_there_are(
    session: Session, node: Node
) -> None:
    assert nodes.named(session, "tiny1") == node.id
    with pytest.raises(InvalidSpec, match=rf"there is no node 'tiny2'; there is tiny1 \(id {node.id}\)"):
        nodes.named(session, "tiny2")


def test_a_refusal_lists_ten_nodes_and_counts_the_others(
    session: Session, enroll: Callable[..., int]
) -> None:
    for number in range(12):
        enroll(f"n{number:02}")
    with pytest.raises(InvalidSpec, match=r"n09 \(id 10\), and 2 more"):
        nodes.named(session, "n12")


def test_a_target_under_another_targets_id_is_refused(
    session: Session, admin: Principal, node: Node, now: float
) -> None:
    liar = inventory(target={"arch": "another"})
    secret = tenants.mint_join(session, now=now, by=admin)
    with pytest.raises(InvalidSpec, match="is not its target's hash") as caught:
        nodes.enroll(session, secret, joining(secret, "liar", Key.made(), liar), now)
    assert caught.value.field == "inventory.devices.cpu.target_id"
    report = Observed(boot_id="boot-1", sequence=2, inventory=liar)
    with pytest.raises(InvalidSpec, match="is not its target's hash"):
        sync.record(session, node.id, report, now)


def test_a_device_that_changes_makes_an_event_and_one_that_does_not_makes_none(
    session: Session, node: Node, now: float
) -> None:
    row = nodes.get(session, node.id)
    nodes.observe(session, row, inventory(), now)
    nodes.observe(session, row, inventory(problem="no compiler", slots=4), now)
    found = [event.data for event in events.page(session) if event.kind == "node.device_changed"]
    assert found == [{"device": "cpu", "changed": ["problem", "slots"]}]


def test_a_node_that_is_not_there_is_not_found(session: Session) -> None:
    with pytest.raises(NotFound, match="there is no node 99"):
        nodes.get(session, 99)


def test_a_device_that_vanishes_stays_as_not_present(session: Session, node: Node, now: float) -> None:
    other = inventory(name="gpu0", kind="gpu")
    nodes.observe(session, nodes.get(session, node.id), other, now)
    assert {device.name: device.present for device in nodes.devices(session, node.id)} == {
        "cpu": False,
        "gpu0": True,
    }


def test_pages_follow_the_cursor(session: Session, enroll: Callable[..., int]) -> None:
    ids = [enroll(f"tiny{number}") for number in range(3)]
    assert [node.id for node in nodes.page(session, limit=2)] == ids[:2]
    assert [node.id for node in nodes.page(session, after=ids[1])] == ids[2:]
