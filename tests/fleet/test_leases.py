"""Leases, fences and retries: what becomes of an attempt, whatever its node does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, jobs, kernels, leases, nodes, reconcile, sync
from fleet.agents.protocol import AttemptReport, KernelRef, KernelSpec, NoopSpec, Outcome
from fleet.blobs import Blobs
from fleet.errors import StaleWrite
from fleet.models import Attempt, Job, Lease, Search, TunedKernel
from fleet.placement import Placement
from fleet.principals import Principal
from tests.fleet.acting import GEMM, KERNEL, KERNEL_HASH, TARGET_ID, Agent


class World:
    """A database with hands: submit, tick, look."""

    def __init__(self, sessions: sessionmaker[Session], blobs: Blobs, admin: Principal, now: float) -> None:
        self.sessions, self.blobs, self.admin, self.now = sessions, blobs, admin, now

    def submit(self, spec: Any = None, **wanted: Any) -> int:
        """Queue a job and return its id."""
        with self.sessions.begin() as session:
            spec = spec or NoopSpec(seconds=60)
            return jobs.submit(session, spec, principal=self.admin, now=self.now, **wanted).id

    def tick(self, after: float = 0.0) -> reconcile.TickResult:
        """One tick, `after` seconds later."""
        self.now += after
        return reconcile.tick(self.sessions, self.blobs, self.now)

    def job(self, job_id: int) -> Job:
        """The job now."""
        with db.reading(self.sessions) as reader:
            return jobs.get(reader, job_id)

    def attempts(self, job_id: int) -> list[tuple[int, str, str | None]]:
        """(node, state, outcome) of each attempt."""
        with db.reading(self.sessions) as reader:
            return [(each.node_id, each.state, each.outcome) for each in jobs.attempts(reader, job_id)]

    def kinds(self) -> list[str]:
        """The kinds of all events."""
        with db.reading(self.sessions) as reader:
            return [event.kind for event in events.page(reader, limit=1000)]


@pytest.fixture
def world(sessions: sessionmaker[Session], blobs: Blobs, admin: Principal, now: float) -> World:
    """The control plane of this test."""
    return World(sessions, blobs, admin, now)


def test_a_job_goes_from_queued_to_succeeded(world: World, agent: Agent) -> None:
    job_id = world.submit()
    assert world.tick().hints == {agent.node_id}
    assert world.job(job_id).state == "leased"
    (spec,) = agent.sync(world.now).attempts
    assert (spec.job_id, spec.device, spec.exclusive) == (job_id, "cpu", False)
    agent.sync(world.now)
    assert world.job(job_id).state == "running"
    agent.exit(spec.attempt_id, Outcome.SUCCEEDED, result={"slept_s": 60.0}, elapsed_s=60.1)
    desired = agent.sync(world.now)
    assert (desired.attempts, desired.settled) == ([], [spec.attempt_id])
    job = world.job(job_id)
    assert (job.state, job.outcome, job.result) == ("succeeded", "succeeded", {"slept_s": 60.0})
    assert agent.sync(world.now).settled == []
    assert world.tick().hints == frozenset()


def test_every_change_of_state_has_its_event(world: World, agent: Agent) -> None:
    world.submit()
    world.tick()
    agent.sync(world.now)
    agent.sync(world.now)
    agent.work(world.now)
    agent.sync(world.now)
    assert [kind for kind in world.kinds() if kind.startswith(("job", "attempt"))] == [
        "job.queued",
        "job.leased",
        "attempt.leased",
        "attempt.running",
        "job.running",
        "attempt.ended",
        "job.succeeded",
    ]


def test_a_lost_node_gives_its_job_to_another_under_a_new_fence(
    world: World, agent: Agent, enroll: Callable[..., int]
) -> None:
    job_id = world.submit()
    world.tick()
    first = agent.sync(world.now).attempts[0]
    agent.sync(world.now)
    other = Agent(world.sessions, world.blobs, enroll("tiny2"))
    world.tick(after=80.0)
    assert world.job(job_id).state == "running"  # silent, but the lease and the grace are not over
    other.sync(world.now)
    world.tick(after=11.0)
    assert world.attempts(job_id)[0] == (agent.node_id, "ended", "node_lost")
    second = other.sync(world.now).attempts[0]
    assert second.job_id == job_id
    assert second.fence > first.fence

    agent.exit(first.attempt_id, Outcome.SUCCEEDED, result={"who": "the dead"})
    answer = agent.sync(world.now)  # the lost node returns with its result
    assert (answer.attempts, answer.settled) == ([], [first.attempt_id])
    assert "attempt.stale_report" in world.kinds()
    assert world.job(job_id).state == "leased"

    other.exit(second.attempt_id, Outcome.SUCCEEDED, result={"who": "the living"})
    other.sync(world.now)
    assert world.job(job_id).result == {"who": "the living"}


def test_a_stale_fence_changes_nothing_and_is_recorded_once(world: World, agent: Agent) -> None:
    job_id = world.submit()
    world.tick()
    spec = agent.sync(world.now).attempts[0]
    agent.running.clear()
    lie = AttemptReport(
        attempt_id=spec.attempt_id, fence=spec.fence - 1, state="exited", outcome=Outcome.SUCCEEDED
    )
    agent.exited[spec.attempt_id] = lie
    agent.sync(world.now)
    agent.exited[spec.attempt_id] = lie
    agent.sync(world.now)
    assert (world.job(job_id).outcome, world.attempts(job_id)[0][2]) == (None, None)
    assert world.kinds().count("attempt.stale_report") == 1


def test_a_node_cannot_report_for_another(world: World, agent: Agent, enroll: Callable[..., int]) -> None:
    job_id = world.submit(node=agent.node_id)
    world.tick()
    spec = agent.sync(world.now).attempts[0]
    thief = Agent(world.sessions, world.blobs, enroll("tiny2"))
    thief.running[spec.attempt_id] = spec
    thief.exit(spec.attempt_id, Outcome.SUCCEEDED, result={"who": "the thief"})
    thief.sync(world.now)
    assert world.job(job_id).state == "leased"
    assert "attempt.stale_report" in world.kinds()


def test_infrastructure_failures_are_retried_and_then_fail(world: World, agent: Agent) -> None:
    job_id = world.submit(max_retries=1)
    for _ in range(2):
        world.tick()
        (spec,) = agent.sync(world.now).attempts
        agent.exit(spec.attempt_id, Outcome.INFRA_FAILED, error="no room on the disk")
        agent.sync(world.now)
    job = world.job(job_id)
    assert (job.state, job.outcome, job.error) == ("failed", "infra_failed", "no room on the disk")
    assert [outcome for _, _, outcome in world.attempts(job_id)] == ["infra_failed"] * 2


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INVALID, Outcome.TIMED_OUT])
def test_the_jobs_own_failures_are_not_retried(world: World, agent: Agent, outcome: Outcome) -> None:
    job_id = world.submit()
    world.tick()
    (spec,) = agent.sync(world.now).attempts
    agent.exit(spec.attempt_id, outcome, error="its own fault")
    agent.sync(world.now)
    assert (world.job(job_id).state, world.job(job_id).outcome) == ("failed", outcome)


def test_what_an_agent_cancels_unasked_is_retried(world: World, agent: Agent) -> None:
    job_id = world.submit()
    world.tick()
    (spec,) = agent.sync(world.now).attempts
    agent.exit(spec.attempt_id, Outcome.CANCELLED)
    agent.sync(world.now)
    assert (world.job(job_id).state, world.job(job_id).retries) == ("queued", 1)


def test_an_attempt_that_its_node_forgot_is_retried(world: World, agent: Agent) -> None:
    job_id = world.submit()
    world.tick()
    agent.sync(world.now)
    agent.sync(world.now)
    agent.running.clear()
    agent.sync(world.now)
    assert world.attempts(job_id) == [(agent.node_id, "ended", "infra_failed")]
    assert world.job(job_id).reason == "retrying after infra_failed: node tiny1 no longer has this attempt"


def test_a_restarted_agent_that_still_has_its_attempt_goes_on(world: World, agent: Agent) -> None:
    job_id = world.submit()
    world.tick()
    agent.sync(world.now)
    agent.sync(world.now)
    agent.boot_id, agent.sequence, agent.generation = "boot-2", 0, 0
    agent.sync(world.now)
    agent.work(world.now)
    agent.sync(world.now)
    assert world.job(job_id).state == "succeeded"
    assert len(world.attempts(job_id)) == 1


def test_a_repeated_report_of_an_end_is_no_news(world: World, agent: Agent) -> None:
    world.submit()
    world.tick()
    agent.sync(world.now)
    agent.work(world.now)
    said = dict(agent.exited)
    agent.sync(world.now)
    agent.exited = dict(said)  # our answer was lost: it says so again
    before = world.kinds()
    assert agent.sync(world.now).settled == list(said)
    assert world.kinds() == before


def test_a_timeout_that_the_agent_does_not_enforce_is_enforced_here(world: World, agent: Agent) -> None:
    job_id = world.submit(timeout_s=10.0)
    world.tick()
    agent.sync(world.now)
    for _ in range(9):
        world.now += 10.0
        agent.sync(world.now)
    world.tick()
    assert (world.job(job_id).state, world.job(job_id).outcome) == ("failed", "timed_out")
    assert agent.sync(world.now).attempts == []


def test_a_job_that_ends_before_it_was_seen_to_run_has_a_start_all_the_same(
    world: World, agent: Agent
) -> None:
    job_id = world.submit()
    world.tick()
    (spec,) = agent.sync(world.now).attempts
    agent.exit(spec.attempt_id, Outcome.SUCCEEDED, elapsed_s=2.0)
    agent.sync(world.now + 5.0)
    assert world.job(job_id).started_at == pytest.approx(world.now + 3.0)


def cancel(world: World, job_id: int) -> None:
    """The administrator cancels the job."""
    with world.sessions.begin() as session:
        jobs.cancel(session, job_id, world.admin, world.now)


def test_a_cancel_is_settled_although_its_node_always_has_something_newer_to_do(
    world: World, agent: Agent
) -> None:
    job_id = world.submit(node=agent.node_id)
    world.tick()
    cancel(world, job_id)  # before the node has heard of it
    agent.sync(world.now)
    world.submit(node=agent.node_id)
    world.tick()  # the desired set is newer than what the node has applied
    agent.sync(world.now)
    assert world.job(job_id).state == "cancelled"


def test_an_old_report_does_not_settle_a_cancel(world: World, agent: Agent) -> None:
    """The node answers for the set in which the attempt was wanted: it may be about to begin."""
    job_id = world.submit()
    world.tick()
    agent.generation = agent.sync(world.now).generation
    attempts = dict(agent.running)
    cancel(world, job_id)
    agent.running.clear()  # it has not claimed it yet
    with world.sessions.begin() as session:
        sync.record(session, agent.node_id, agent.observed(), world.now)
    assert world.job(job_id).state == "cancelling"
    agent.running = attempts
    agent.sync(world.now)  # is told to stop it
    agent.sync(world.now)
    assert world.job(job_id).state == "cancelled"


def test_an_end_that_comes_after_the_server_gave_up_waiting_for_it_is_settled_and_changes_nothing(
    world: World, agent: Agent
) -> None:
    job_id = world.submit()
    world.tick()
    agent.sync(world.now)
    (attempt_id,) = agent.running
    agent.sync(world.now)
    cancel(world, job_id)
    for _ in range(10):  # the node is there and does not stop it
        world.tick(after=10.0)
        with world.sessions.begin() as session:
            sync.record(session, agent.node_id, agent.observed(), world.now)
    assert world.job(job_id).state == "cancelled"
    assert world.attempts(job_id)[0][2] == "cancelled"
    agent.exit(attempt_id, Outcome.SUCCEEDED, result={"too": "late"})
    assert agent.sync(world.now).settled == [attempt_id]
    assert (world.job(job_id).state, world.job(job_id).result) == ("cancelled", None)
    assert world.kinds().count("attempt.stale_report") == 2  # that it runs, and that it ended


def test_a_job_whose_spec_no_longer_can_be_read_fails_instead_of_blocking_a_device(
    world: World, agent: Agent
) -> None:
    broken, sound = world.submit(KernelSpec(kernel=GEMM)), world.submit()
    with world.sessions.begin() as session:
        jobs.get(session, broken).spec = {"kind": "kernel", "of": "another version"}
    world.tick()
    world.tick()
    assert (world.job(broken).state, world.job(broken).outcome) == ("failed", "invalid")
    assert "cannot be read" in world.job(broken).error
    assert world.attempts(broken) == []
    assert world.job(sound).state == "leased"


def test_a_kernel_that_is_a_blob_is_an_input_of_its_attempt(world: World, agent: Agent) -> None:
    address = agent.put(KERNEL, world.now)
    assert address == KERNEL_HASH
    world.submit(KernelSpec(kernel=KernelRef(hash=address)))
    world.tick()
    (attempt,) = agent.sync(world.now).attempts
    assert attempt.blobs == [address]
    assert isinstance(attempt.spec, KernelSpec)
    assert attempt.spec.kernel.hash == address


def test_a_placement_that_was_overtaken_is_dropped(world: World, agent: Agent) -> None:
    job_id = world.submit()
    with db.reading(world.sessions) as reader:
        (device,) = nodes.devices(reader, agent.node_id)
    stale = Placement(job_id, 99, agent.node_id, device.id, exclusive=False)
    with pytest.raises(StaleWrite), world.sessions.begin() as session:
        leases.grant(session, stale, world.now)
    with world.sessions.begin() as session:
        nodes.cordon(session, agent.node_id, world.admin, world.now)
    late = Placement(job_id, 1, agent.node_id, device.id, exclusive=False)
    with pytest.raises(StaleWrite, match="stopped taking work"), world.sessions.begin() as session:
        leases.grant(session, late, world.now)
    assert world.job(job_id).state == "queued"


def test_the_database_refuses_a_second_exclusive_lease_on_a_device(world: World, agent: Agent) -> None:
    first, second = world.submit(KernelSpec(kernel=GEMM)), world.submit(KernelSpec(kernel=GEMM))
    world.tick()
    assert {world.job(first).state, world.job(second).state} == {"leased", "queued"}
    with db.reading(world.sessions) as reader:
        (held,) = leases.held(reader, agent.node_id)
    rival = Placement(second, world.job(second).generation, agent.node_id, held.device_id, exclusive=True)
    with pytest.raises(IntegrityError), world.sessions.begin() as session:
        leases.grant(session, rival, world.now)


def test_fences_only_grow_even_when_leases_are_deleted(world: World, agent: Agent) -> None:
    world.submit()
    world.tick()
    with world.sessions.begin() as session:
        first = session.scalars(select(Lease)).one()
        session.delete(first)
        session.flush()
        (attempt,) = session.scalars(select(Attempt))
        again = Lease(
            attempt_id=attempt.id,
            node_id=attempt.node_id,
            device_id=attempt.device_id,
            exclusive=False,
            granted_at=world.now,
        )
        session.add(again)
        session.flush()
        assert again.id > first.id


def test_a_job_for_the_tuned_schedule_gets_it_when_it_is_placed(world: World, agent: Agent) -> None:
    schedule = [["UPCAST", "out", 0, 4, None]]
    with world.sessions.begin() as session:
        kernels.learn(session, GEMM.key(), KERNEL_HASH, {"nodes": []}, world.now)
        search = _search(world)
        session.add(search)
        session.flush()
        session.add(_tuned(world, agent, search, schedule))
    world.submit(KernelSpec(kernel=GEMM, schedule="tuned", compare=["none", "numpy"]))
    world.submit(KernelSpec(kernel=GEMM, schedule="tuned", threads=2))
    world.tick()
    (spec,) = agent.sync(world.now).attempts
    assert isinstance(spec.spec, KernelSpec)
    assert spec.spec.tuned == schedule
    agent.work(world.now)
    agent.sync(world.now)
    world.tick()
    (spec,) = agent.sync(world.now).attempts
    assert isinstance(spec.spec, KernelSpec)
    assert spec.spec.tuned is None  # nothing is tuned for two threads


def _search(world: World) -> Search:
    return Search(
        tenant="default",
        kernel={},
        ref_key=GEMM.key(),
        join_key="x",
        threads=1,
        width=1,
        budget_s=1.0,
        per_round=1,
        max_rounds=1,
        seed=0,
        state="done",
        state_at=world.now,
        created_by="user:root",
        created_at=world.now,
    )


def _tuned(world: World, agent: Agent, search: Search, schedule: list[Any]) -> TunedKernel:
    return TunedKernel(
        kernel_hash=KERNEL_HASH,
        target_id=TARGET_ID,
        threads=1,
        kernel={},
        arch="acme",
        schedule=schedule,
        schedule_hash=KERNEL_HASH,
        time_s=1.0,
        flops=1.0,
        bytes=1.0,
        search_id=search.id,
        node_id=agent.node_id,
        created_at=world.now,
        tenant="default",
    )


def test_a_queued_job_says_why_it_waits(world: World, agent: Agent) -> None:
    job_id = world.submit(KernelSpec(kernel=GEMM, threads=99), arch="acme")
    world.tick()
    assert world.job(job_id).reason == "no node fits: tiny1 has 2 cores, not 99"
    assert world.tick().applied == 0  # it is not written again


def test_a_tick_with_nothing_to_do_writes_nothing(world: World, agent: Agent) -> None:
    agent.sync(world.now)
    agent.sync(world.now)  # says that it has applied the first answer
    before = world.kinds()
    assert world.tick() == reconcile.TickResult(frozenset(), 0, 0)
    assert world.kinds() == before
