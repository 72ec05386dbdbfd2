"""Which node keeps which data sets: what it said last, and where a command that reads them goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import datasets, db, jobs, leases, reconcile, references, snapshot
from fleet.agents.protocol import AttemptReport, CachedData, CommandSpec, DataFile, DataList, JobKind
from fleet.blobs import Blobs
from fleet.data_rows import StoredDataSet
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Node
from fleet.order import Waiting
from fleet.placement import place
from fleet.principals import Principal
from fleet.requirements import DeviceView, Needs, NodeView
from fleet.settings import Timings
from tests.fleet.acting import Agent

CPU = DeviceView(id=10, name="cpu", kind="cpu", arch="acme-6", target_id="t1", slots=2)
NODES = [NodeView(n, f"tiny{n}", "ready", False, "online", 4, (replace(CPU, id=10 * n),)) for n in (1, 2, 3)]
KEPT = CachedData(data_set="a" * 64, bytes=100)


def went(near: dict[int, int], *nodes: NodeView, ranks: int = 1) -> list[int]:
    """The nodes of a command that reads what these keep."""
    job = Waiting(1, 1, Needs(JobKind.COMMAND, ranks=ranks), near=tuple(near.items()))
    [placement], _ = place([job], nodes or NODES, 0.0)
    return sorted(seat.node_id for seat in placement.seats)


@pytest.mark.parametrize(
    ("near", "ranks", "nodes"),
    [
        ({}, 1, [1]),
        ({3: 1}, 1, [3]),
        ({2: 5, 3: 9}, 1, [3]),
        ({2: 5, 3: 9}, 2, [2, 3]),
        ({3: 9}, 2, [1, 2]),  # one alone does not make a gang
    ],
)
def test_a_command_goes_where_most_of_what_it_reads_is(
    near: dict[int, int], ranks: int, nodes: list[int]
) -> None:
    assert went(near, ranks=ranks) == nodes


def test_nobody_waits_for_a_node_that_is_near() -> None:
    full = replace(NODES[2], devices=(replace(CPU, id=30, shared_held=2),))
    assert went({3: 9}, *NODES[:2], full) == [1]


def test_what_a_node_says_that_it_keeps_replaces_what_it_said_before(
    session: Session, node: Node, now: float
) -> None:
    known = {"files": 1, "bytes": 100, "parts": [], "created_by": "user:1", "created_at": now}
    session.add(StoredDataSet(tenant="default", address=KEPT.data_set, **known))
    datasets.note(session, node.id, [KEPT], now)
    assert datasets.kept(session, [node.id], "default") == {node.id: {KEPT.data_set: 100}}
    assert datasets.kept(session, [node.id], "another") == {node.id: {}}
    datasets.note(session, node.id, [], now)
    assert datasets.kept(session, [node.id], "default") == {node.id: {}}


def test_only_commands_that_read_something_are_near_to_anything(
    session: Session, blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    datasets.note(session, node.id, [KEPT], now)
    listed = DataList(
        files=[
            DataFile(path="a", size=7, parts=[blobs.put(session, b"content", now, holder="tenant:default")])
        ]
    )
    address = blobs.put(session, listed.text(), now, holder="tenant:default")
    datasets.put(session, address, listed, admin, now)
    datasets.note(session, node.id, [CachedData(data_set=address, bytes=7)], now)
    reading = jobs.submit(session, CommandSpec(argv=["true"], data={"x": address}), principal=admin, now=now)
    other = jobs.submit(session, CommandSpec(argv=["true"]), principal=admin, now=now)
    assert datasets.nearness(session, [reading.id, other.id]) == {reading.id: ((node.id, 7),)}


def test_an_attempt_that_stages_is_given_time_while_it_gets_on(
    sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float
) -> None:
    timings = Timings()
    with sessions.begin() as writer:
        jobs.submit(writer, CommandSpec(argv=["true"]), principal=admin, now=now)
    reconcile.tick(sessions, blobs, now)
    [attempt] = agent.sync(now).attempts

    def report(bytes_here: int, at: float) -> None:
        said = AttemptReport(
            attempt_id=attempt.attempt_id,
            fence=attempt.fence,
            state="starting",
            progress={"phase": "staging", "bytes": bytes_here},
        )
        with sessions.begin() as writer:
            node = writer.get_one(Node, agent.node_id)
            node.last_seen = at
            leases.report(writer, node, [said], at)

    def given_up(at: float) -> bool:
        reconcile.tick(sessions, blobs, at, timings)
        with db.reading(sessions) as reader:
            live = [each.id for each in snapshot.load(reader, blobs, at, timings).attempts]
        return attempt.attempt_id not in live

    report(1, now + timings.lost_s - 1)
    assert not given_up(now + timings.lost_s + 10)
    report(1, now + 2 * timings.lost_s - 2)  # it stands still
    assert given_up(now + 2 * timings.lost_s + 10)


def test_a_data_set_needs_its_parts_and_is_its_tenants(
    session: Session, admin: Principal, now: float
) -> None:
    listed = DataList(files=[DataFile(path="a", size=7, parts=["b" * 64])])
    with pytest.raises(InvalidSpec, match="its part bbbb"):
        datasets.put(session, "a" * 64, listed, admin, now)
    with pytest.raises(InvalidSpec, match=r"spec\.data\.x"):
        jobs.submit(session, CommandSpec(argv=["true"], data={"x": "a" * 64}), principal=admin, now=now)
    with pytest.raises(InvalidSpec, match=r"files\.0\.path"):
        datasets.listed(b'{"files": [{"path": "../x", "size": 0}]}')


def test_the_parts_of_a_data_set_are_referred_to_while_it_is_kept(
    session: Session, blobs: Blobs, admin: Principal, now: float
) -> None:
    part = blobs.put(session, b"content", now, holder="tenant:default")
    listed = DataList(files=[DataFile(path="a", size=7, parts=[part])])
    address = blobs.put(session, listed.text(), now, holder="tenant:default")
    datasets.put(session, address, listed, admin, now)
    assert datasets.put(session, address, listed, admin, now).files == 1
    assert {bytes.fromhex(part), bytes.fromhex(address)} <= references.referenced(session)
    datasets.remove(session, address, admin, now)
    session.flush()
    assert bytes.fromhex(part) not in references.referenced(session)
    with pytest.raises(NotFound):
        datasets.remove(session, address, admin, now)
