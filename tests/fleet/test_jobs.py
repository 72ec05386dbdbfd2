"""Submitting, reading and cancelling jobs, and the logs of their attempts."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, jobs, leases, nodes, reconcile
from fleet.agents.protocol import KernelRef, KernelSpec, NoopSpec, Outcome
from fleet.blobs import Blobs
from fleet.errors import (
    IdempotencyConflict,
    InvalidSpec,
    InvalidTransition,
    NotFound,
    NotPermitted,
)
from fleet.models import Job, Node
from fleet.principals import Principal
from tests.fleet.acting import GEMM, KERNEL_HASH, Agent


@pytest.fixture
def submit(session: Session, admin: Principal, now: float) -> Any:
    """Queue a job in the open session."""

    def ask(spec: Any = None, **wanted: Any) -> Job:
        return jobs.submit(session, spec or NoopSpec(), principal=admin, now=now, **wanted)

    return ask


def test_a_submitted_job_is_queued_with_an_event_and_an_audit_row(session: Session, submit: Any) -> None:
    job = submit(name="first")
    assert (job.state, job.kind, job.created_by) == ("queued", "noop", "user:root")
    assert [event.kind for event in events.page(session) if event.subject == f"job:{job.id}"] == [
        "job.queued"
    ]
    assert events.audit_page(session)[-1].subject == f"job:{job.id}"


def test_the_same_key_and_body_give_the_same_job(session: Session, submit: Any) -> None:
    first = submit(idempotency_key="k", priority=3)
    assert submit(idempotency_key="k", priority=3).id == first.id
    assert len(jobs.page(session)) == 1


def test_the_same_key_with_another_body_is_refused(session: Session, submit: Any) -> None:
    submit(idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        submit(idempotency_key="k", priority=1)
    with pytest.raises(IdempotencyConflict):
        submit(NoopSpec(seconds=1.0), idempotency_key="k")
    assert len(jobs.page(session)) == 1


def test_keys_belong_to_their_principal(session: Session, submit: Any, now: float) -> None:
    first = submit(idempotency_key="k")
    ada = Principal("user", 77, "root", "default", "user")
    other = jobs.submit(session, NoopSpec(seconds=2), principal=ada, now=now, idempotency_key="k")
    assert other.id != first.id


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"timeout_s": 90_000.0}, "timeout_s"),
        ({"max_retries": 11}, "max_retries"),
        ({"priority": 1000}, "priority"),
        ({"node": 99}, "node"),
        ({"idempotency_key": "x" * 201}, "idempotency key"),
        ({"spec": KernelSpec(kernel=KernelRef(hash=KERNEL_HASH))}, "spec.kernel.hash"),
        ({"spec": KernelSpec(kernel=GEMM, tuned=[])}, "spec.tuned"),
        (
            {"spec": KernelSpec(kernel=KernelRef(json={"nodes": ["x" * 300_000]}))},
            "spec.kernel.json",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_field_is_named_and_nothing_is_written(
    session: Session, submit: Any, wanted: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        submit(**wanted)
    assert caught.value.field == field
    assert list(jobs.page(session)) == []


@pytest.mark.parametrize(
    ("wanted", "refusal"),
    [
        (
            {"arch": "other-9"},
            "arch: no architecture of a node begins with 'other-9'; there is acme-6-1+avx2",
        ),
        ({"arch": "\ud800"}, "arch: no architecture of a node begins with '\\ud800'; there is acme-6-1+avx2"),
        ({"node": 99}, "node: there is no node 99; there is tiny1 (id 1)"),
        ({"node": 1, "arch": "x"}, "arch: no architecture of node 1 begins with 'x'; there is acme-6-1+avx2"),
    ],
    ids=["arch", "no text", "node", "both"],
)
def test_what_no_node_could_ever_be_is_refused_with_what_there_is(
    session: Session, submit: Any, node: Node, wanted: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        submit(**wanted)
    assert str(caught.value) == refusal
    assert list(jobs.page(session)) == []


def test_a_job_for_what_there_is_is_queued_however_busy_or_away_it_is(
    session: Session, submit: Any, node: Node, admin: Principal, now: float
) -> None:
    nodes.cordon(session, node.id, admin, now)
    assert submit(arch="acme", node=node.id).state == "queued"
    assert submit(KernelSpec(kernel=GEMM, threads=99), arch="acme").state == "queued"


def test_a_retired_node_is_no_node(
    session: Session, submit: Any, node: Node, admin: Principal, now: float
) -> None:
    nodes.get(session, node.id).state = "drained"
    session.flush()
    nodes.retire(session, node.id, admin, now)
    for wanted in ({"node": node.id}, {"arch": "acme"}):
        with pytest.raises(InvalidSpec, match="there is none"):
            submit(**wanted)


def test_a_kernel_by_the_hash_of_a_blob_is_taken_unless_it_is_too_large(
    session: Session, submit: Any, blobs: Blobs, now: float
) -> None:
    small, large = (
        blobs.put(session, b"{}", now, holder="tenant:default"),
        blobs.put(session, b" " * 300_000, now, holder="tenant:default"),
    )
    assert submit(KernelSpec(kernel=KernelRef(hash=small))).state == "queued"
    with pytest.raises(InvalidSpec, match="send it as json"):
        submit(KernelSpec(kernel=KernelRef(hash=large)))


def test_a_viewer_cannot_submit(session: Session, now: float) -> None:
    viewer = Principal("user", 5, "vi", "default", "viewer")
    with pytest.raises(NotPermitted):
        jobs.submit(session, NoopSpec(), principal=viewer, now=now)


def test_pages_are_newest_first_and_follow_the_cursor(session: Session, submit: Any) -> None:
    ids = [submit().id for _ in range(5)]
    first = jobs.page(session, limit=2)
    assert [job.id for job in first] == ids[:2:-1]
    assert [job.id for job in jobs.page(session, after=first[-1].id)] == ids[2::-1]
    assert jobs.page(session, state="running") == []


def test_a_job_that_is_not_there_is_not_found(session: Session) -> None:
    with pytest.raises(NotFound, match="there is no job 4"):
        jobs.get(session, 4)


# ------------------------------------------------------------------------------------------ cancelling


def test_a_queued_job_is_cancelled_at_once(
    session: Session, submit: Any, admin: Principal, now: float
) -> None:
    job = submit()
    assert jobs.cancel(session, job.id, admin, now + 1).state == "cancelled"
    assert (job.finished_at, jobs.cancel(session, job.id, admin, now + 2).state) == (now + 1, "cancelled")


@pytest.fixture
def running(sessions: sessionmaker[Session], blobs: Blobs, admin: Principal, agent: Agent, now: float) -> Job:
    """A job that runs on tiny1."""
    with sessions.begin() as session:
        job = jobs.submit(session, NoopSpec(seconds=60), principal=admin, now=now)
    reconcile.tick(sessions, blobs, now)
    agent.sync(now)
    agent.sync(now)
    return job


def state_of(sessions: sessionmaker[Session], job: Job) -> str:
    """The job's state now."""
    with db.reading(sessions) as reader:
        return jobs.get(reader, job.id).state


def test_a_running_job_is_cancelled_when_its_node_says_so(
    sessions: sessionmaker[Session], agent: Agent, running: Job, admin: Principal, now: float
) -> None:
    assert state_of(sessions, running) == "running"
    with sessions.begin() as session:
        assert jobs.cancel(session, running.id, admin, now).state == "cancelling"
        assert jobs.cancel(session, running.id, admin, now).state == "cancelling"
    assert agent.sync(now).attempts == []  # is told to stop
    assert state_of(sessions, running) == "cancelling"
    agent.sync(now)  # says that it has
    assert state_of(sessions, running) == "cancelled"
    with db.reading(sessions) as reader:
        (attempt,) = jobs.attempts(reader, running.id)
        assert (attempt.state, attempt.outcome) == ("ended", "cancelled")
        assert leases.held(reader, agent.node_id) == []


def test_a_success_that_comes_after_the_cancel_is_still_cancelled(
    sessions: sessionmaker[Session], agent: Agent, running: Job, admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        jobs.cancel(session, running.id, admin, now)
    agent.exit(1, Outcome.SUCCEEDED)
    agent.sync(now)
    assert state_of(sessions, running) == "cancelled"


def test_a_job_cancelled_before_its_node_heard_of_it_ends_with_the_next_exchange(
    sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        job = jobs.submit(session, NoopSpec(), principal=admin, now=now)
    reconcile.tick(sessions, blobs, now)
    with sessions.begin() as session:
        jobs.cancel(session, job.id, admin, now)
    agent.sync(now)
    agent.sync(now)
    assert state_of(sessions, job) == "cancelled"


def test_a_finished_job_cannot_be_cancelled(
    sessions: sessionmaker[Session], agent: Agent, running: Job, admin: Principal, now: float
) -> None:
    agent.exit(1, Outcome.FAILED, error="told to fail")
    agent.sync(now)
    with pytest.raises(InvalidTransition, match="it is final"), sessions.begin() as session:
        jobs.cancel(session, running.id, admin, now)


def test_a_node_is_only_told_of_its_own_jobs(sessions: sessionmaker[Session], node: Node) -> None:
    with db.reading(sessions) as reader:
        assert leases.held(reader, node.id + 1) == []
