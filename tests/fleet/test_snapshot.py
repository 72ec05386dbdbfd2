"""What the planner is shown."""

from __future__ import annotations

from sqlalchemy.orm import Session, sessionmaker

from fleet import batches, db, jobs, nodes, queue, reconcile, rounds, snapshot
from fleet.advance import Start
from fleet.agents.protocol import KernelSpec, NoopSpec
from fleet.artifacts import Kept
from fleet.blobs import Blobs
from fleet.models import Node
from fleet.plan import plan
from fleet.principals import Principal
from fleet.settings import Timings
from fleet.wishes import Requirements
from tests.fleet.acting import GEMM, TARGET_ID, Agent
from tests.fleet.stepping import Fleet, Submit


def test_a_node_is_shown_with_its_axes_apart(
    session: Session, blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    nodes.cordon(session, node.id, admin, now)
    seen = snapshot.load(session, blobs, now + 20, Timings())
    (view,) = seen.nodes
    assert (view.state, view.cordoned, view.contact) == ("ready", True, "late")
    (device,) = view.devices
    assert (device.name, device.target_id, device.exclusive_held, device.shared_held) == (
        "cpu",
        TARGET_ID,
        False,
        0,
    )


def test_a_sparing_look_shows_devices_only_to_those_who_wait_for_one(
    session: Session, blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    whole, spared = (
        snapshot.load(session, blobs, now + 20, Timings(), sparing=each) for each in (False, True)
    )
    assert (len(whole.nodes[0].devices), spared.nodes[0].devices) == (1, ())
    assert snapshot.load(session, blobs, now, Timings(), sparing=True).nodes == ()  # all is well
    assert plan(spared, now + 20) == plan(whole, now + 20)
    assert plan(spared, now + 20).contacts  # it is late: that needs no device
    job = jobs.submit(session, NoopSpec(), principal=admin, now=now)
    seen = snapshot.load(session, blobs, now, Timings(), sparing=True)
    assert [placed.job_id for placed in plan(seen, now).placements] == [job.id]


def test_a_crowd_that_cannot_be_placed_hides_nobody(
    session: Session, blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    for _ in range(queue.HEADS + 10):
        jobs.submit(session, KernelSpec(kernel=GEMM, threads=99), principal=admin, now=now)
    late = jobs.submit(session, NoopSpec(), principal=admin, now=now)
    seen = snapshot.load(session, blobs, now, Timings())
    assert len(seen.waiting) == queue.HEADS + 1
    assert [placed.job_id for placed in plan(seen, now).placements] == [late.id]


def test_a_waiting_job_is_shown_with_its_needs(
    session: Session, blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    spec = KernelSpec(kernel=GEMM, threads=2)
    job = jobs.submit(session, spec, principal=admin, now=now, priority=7, node=node.id, arch="acme")
    (waiting,) = snapshot.load(session, blobs, now, Timings()).waiting
    assert (waiting.id, waiting.priority, waiting.avoid) == (job.id, 7, frozenset())
    assert (waiting.needs.exclusive, waiting.needs.threads) == (True, 2)
    assert (waiting.needs.node_id, waiting.needs.arch) == (node.id, "acme")


def test_a_device_is_shown_with_the_end_of_what_runs_there(
    sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        for timeout_s in (50.0, 70.0):
            jobs.submit(session, NoopSpec(), principal=admin, now=now, timeout_s=timeout_s)
    reconcile.tick(sessions, blobs, now)
    agent.sync(now + 5)
    agent.sync(now + 5)  # they run since then
    with db.reading(sessions) as reader:
        seen = snapshot.load(reader, blobs, now + 6, Timings())
    (device,) = seen.nodes[0].devices
    assert (device.shared_held, device.free_at) == (2, now + 75)
    assert [attempt.timeout_s for attempt in seen.attempts] == [50.0, 70.0]
    assert {(each.state, each.started_at, each.renewed_at) for each in seen.attempts} == {
        ("running", now + 5, now + 5)
    }


def test_a_searchs_job_is_shown_as_old_as_its_search(
    sessions: sessionmaker[Session], blobs: Blobs, node: Node, submit: Submit, admin: Principal, now: float
) -> None:
    submit()
    with sessions.begin() as session:
        jobs.submit(session, NoopSpec(), principal=admin, now=now + 1)
    with db.reading(sessions) as reader:
        seen = snapshot.load(reader, blobs, now + 9, Timings())
    (start,) = plan(seen, now + 9).steps
    assert isinstance(start, Start)
    with sessions.begin() as session:
        rounds.apply(session, start, Kept(), now + 9)
        seen = snapshot.load(session, blobs, now + 9, Timings())
    assert {(each.needs.kind, each.asked_at, each.queued_at) for each in seen.waiting} == {
        ("noop", now + 1, now + 1),
        ("expand", now, now + 9),
    }


def test_where_there_are_too_many_classes_each_tenant_has_its_first_and_the_rest_their_turn() -> None:
    many = [queue.Class("flood", 100, f"wish {each}", 0.0, each) for each in range(1000)]
    late = queue.Class("small", -100, "a GPU", 9000.0, 5000)
    seen = [queue.looked_at([*many, late], float(second)) for second in range(30)]
    assert {len(set(each)) for each in seen} == {queue.CLASSES}
    assert all(late in each for each in seen)
    assert {each for one in seen for each in one} == {late, *many}
    assert set.intersection(*map(set, seen)) >= set(many[: queue.CLASSES - queue.IN_TURN - 1])


def test_what_cannot_be_had_by_however_many_keeps_no_job_from_starting(
    fleet: Fleet, admin: Principal
) -> None:
    with fleet.sessions.begin() as session:
        asked = [
            jobs.asked(NoopSpec(), requirements=Requirements(labels={"n": str(each)}))
            for each in range(queue.CLASSES + 50)
        ]
        batches.submit(session, asked, principal=admin, now=fleet.now)
        last = jobs.submit(session, NoopSpec(), principal=admin, now=fleet.now + 0.01).id
    for _ in range(4):
        fleet.now += 1.0
        fleet.step()
    with db.reading(fleet.sessions) as reader:
        assert jobs.get(reader, last).state == "succeeded"
