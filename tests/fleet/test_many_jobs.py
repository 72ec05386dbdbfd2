"""Arrays, batches, dependencies, and jobs again: in a real control plane with agents played by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from fleet import arrays, batches, blocking, db, jobs
from fleet.agents.protocol import NoopSpec, Outcome
from fleet.blocking import ArrayView, Blocked, Make, Needed, Unblock
from fleet.errors import InvalidSpec, InvalidTransition, QuotaExceeded
from fleet.models import Job, Quota
from fleet.principals import Principal
from tests.fleet.stepping import Fleet

NOOP = NoopSpec()


def submit(fleet: Fleet, admin: Principal, spec: NoopSpec = NOOP, **wanted: Any) -> int:
    with fleet.sessions.begin() as session:
        return jobs.submit(session, spec, principal=admin, now=fleet.now, **wanted).id


def look(fleet: Fleet, job_id: int) -> Job:
    with db.reading(fleet.sessions) as reader:
        return jobs.get(reader, job_id)


# ---------------------------------------------------------------------------------------- dependencies


@pytest.mark.parametrize(
    ("after", "state", "started", "becomes"),
    [
        ("after_ok", "succeeded", True, Unblock(9, 1)),
        ("after_ok", "failed", True, Unblock(9, 1, "job 1, after whose success it was to run, is failed")),
        ("after_ok", "running", True, None),
        ("after_any", "failed", True, Unblock(9, 1)),
        ("after_any", "cancelled", False, Unblock(9, 1)),
        ("after_any", "running", True, None),
        ("after", "running", True, Unblock(9, 1)),
        ("after", "leased", False, None),
        ("after", "queued", True, Unblock(9, 1)),
    ],
)
def test_what_a_job_waits_for_and_for_how_long(
    after: str, state: str, started: bool, becomes: Unblock | None
) -> None:
    found = blocking.unblocked([Blocked(9, 1, (Needed(1, after, state, started),))])
    assert found == ((becomes,) if becomes else ())


def test_a_job_waits_for_all_and_fails_for_one() -> None:
    done, runs, failed = (
        Needed(1, "after_ok", "succeeded", True),
        Needed(2, "after_any", "running", True),
        Needed(3, "after_ok", "cancelled", False),
    )
    assert blocking.unblocked([Blocked(9, 1, (done, runs))]) == ()
    (broken,) = blocking.unblocked([Blocked(9, 1, (done, runs, failed))])
    assert broken.error


def test_a_pipeline_runs_in_order_and_its_broken_branch_fails(fleet: Fleet, admin: Principal) -> None:
    first = submit(fleet, admin)
    second = submit(fleet, admin, after_ok=[first])
    third = submit(fleet, admin, after_ok=[second])
    always = submit(fleet, admin, after_any=[second])
    assert (look(fleet, second).state, look(fleet, second).reason) == ("blocked", f"waits for job {first}")
    fleet.step()
    assert look(fleet, first).state == "succeeded"
    fleet.run_until("noop")
    (agent,) = fleet.agents
    agent.exit(next(iter(agent.running)), Outcome.FAILED, error="no")
    agent.sync(fleet.now)
    fleet.step()
    assert (look(fleet, second).state, look(fleet, third).state) == ("failed", "failed")
    assert look(fleet, third).error == f"job {second}, after whose success it was to run, is failed"
    assert look(fleet, always).state == "succeeded"


def test_waiting_for_what_cannot_be_is_refused(fleet: Fleet, admin: Principal) -> None:
    with pytest.raises(InvalidSpec, match="there is no job 99"):
        submit(fleet, admin, after=[99])
    first = submit(fleet, admin)
    with fleet.sessions.begin() as session:
        jobs.cancel(session, first, admin, fleet.now)
    with pytest.raises(InvalidSpec, match=f"job {first} is cancelled: wait for another, or by after_any"):
        submit(fleet, admin, after_ok=[first])


def test_a_blocked_job_can_be_cancelled(fleet: Fleet, admin: Principal) -> None:
    first = submit(fleet, admin)
    second = submit(fleet, admin, after_ok=[first])
    with fleet.sessions.begin() as session:
        jobs.cancel(session, second, admin, fleet.now)
    assert look(fleet, second).state == "cancelled"


# ---------------------------------------------------------------------------------------------- arrays


def test_no_more_rows_of_an_array_are_made_than_may_run() -> None:
    assert blocking.made([ArrayView(1, 100_000, 0, 256, 0)]) == (Make(1, 0, 256),)
    assert blocking.made([ArrayView(1, 100_000, 256, 256, 200)]) == (Make(1, 256, 56),)
    assert blocking.made([ArrayView(1, 300, 256, 256, 0)]) == (Make(1, 256, 44),)
    assert blocking.made([ArrayView(1, 300, 256, 256, 256)]) == ()


def test_a_hundred_thousand_jobs_are_one_row_and_a_short_queue(fleet: Fleet, admin: Principal) -> None:
    with fleet.sessions.begin() as session:
        array = arrays.submit(session, jobs.asked(NOOP), 100_000, principal=admin, now=fleet.now, parallel=8)
    for _ in range(6):
        fleet.step()
    with db.reading(fleet.sessions) as reader:
        states = arrays.counts(reader, [arrays.owned(reader, array.id, "default")])[array.id]
        total = reader.scalar(select(func.count()).select_from(Job))
    assert states.unmade == 100_000 - sum(states.states.values())
    assert states.states["succeeded"] > 6
    assert sum(states.states.values()) - states.states["succeeded"] <= 8
    assert total == sum(states.states.values())


def test_each_job_of_an_array_knows_its_index_and_all_of_them_run(fleet: Fleet, admin: Principal) -> None:
    with fleet.sessions.begin() as session:
        asked = jobs.asked(NOOP, name="sweep", priority=3)
        array = arrays.submit(session, asked, 5, principal=admin, now=fleet.now, parallel=2)
    seen: Counter[int] = Counter()
    (agent,) = fleet.agents
    for _ in range(30):
        fleet.step()
        with db.reading(fleet.sessions) as reader:
            counts = arrays.counts(reader, [array])[array.id]
        if counts.states == {"succeeded": 5}:
            break
    with db.reading(fleet.sessions) as reader:
        rows = reader.scalars(select(Job).where(Job.array_id == array.id)).all()
    seen.update(row.array_index or 0 for row in rows)
    assert seen == Counter(range(5))
    assert {(row.name, row.priority) for row in rows} == {("sweep", 3)}
    assert agent.running == {}


def test_an_attempt_of_an_array_is_told_its_index(fleet: Fleet, admin: Principal) -> None:
    with fleet.sessions.begin() as session:
        arrays.submit(session, jobs.asked(NOOP), 3, principal=admin, now=fleet.now, parallel=1)
    fleet.run_until("noop")
    (spec,) = fleet.agents[0].running.values()
    assert spec.array is not None
    assert (spec.array.index, spec.array.size) == (0, 3)


def test_a_cancelled_array_makes_no_more(fleet: Fleet, admin: Principal) -> None:
    with fleet.sessions.begin() as session:
        array = arrays.submit(session, jobs.asked(NOOP), 100, principal=admin, now=fleet.now, parallel=4)
    fleet.run_until("noop")
    with fleet.sessions.begin() as session:
        arrays.cancel(session, array.id, admin, fleet.now)
    for _ in range(3):
        fleet.step()
    with db.reading(fleet.sessions) as reader:
        found = arrays.counts(reader, [arrays.owned(reader, array.id, "default")])[array.id]
    assert found.unmade == 0
    assert set(found.states) == {"cancelled"}
    assert sum(found.states.values()) <= 4


def array_of(fleet: Fleet, admin: Principal, size: int = 2, spec: NoopSpec = NOOP, **wanted: Any) -> int:
    with fleet.sessions.begin() as session:
        return arrays.submit(session, jobs.asked(spec, **wanted), size, principal=admin, now=fleet.now).id


def states(fleet: Fleet, array_id: int) -> dict[str, int]:
    with db.reading(fleet.sessions) as reader:
        row = arrays.owned(reader, array_id, "default")
        found = arrays.counts(reader, [row])[array_id]
    return {**found.states, **({"unmade": found.unmade} if found.unmade else {})}


def test_arrays_wait_for_jobs_and_arrays_and_jobs_for_arrays(fleet: Fleet, admin: Principal) -> None:
    first = submit(fleet, admin)
    second = array_of(fleet, admin, after_ok=[first])
    third = array_of(fleet, admin, after_ok_arrays=[second], after_any=[first])
    last = submit(fleet, admin, after_ok_arrays=[third], after_any_arrays=[second], after=[first])
    assert look(fleet, last).reason == f"waits for job {first} and array {second}, {third}"
    assert (states(fleet, second), states(fleet, third)) == ({"unmade": 2}, {"unmade": 2})
    fleet.tick()
    assert states(fleet, second) == {"unmade": 2}
    order = []
    for _ in range(20):
        fleet.step()
        order.append((states(fleet, second), states(fleet, third), look(fleet, last).state))
    done = {"succeeded": 2}
    assert order[-1] == (done, done, "succeeded")
    assert all(before == done for before, after, _ in order if after != {"unmade": 2})
    assert all(before == done for _, before, after in order if after != "blocked")


def test_what_waits_for_the_success_of_an_array_fails_with_one_of_its_jobs(
    fleet: Fleet, admin: Principal
) -> None:
    broken = array_of(fleet, admin, max_retries=0)
    never = array_of(fleet, admin, after_ok_arrays=[broken])
    neither = submit(fleet, admin, after_ok_arrays=[broken])
    anyhow = submit(fleet, admin, after_any_arrays=[broken])
    later = submit(fleet, admin, after_ok_arrays=[never])
    fleet.run_until("noop")
    (agent,) = fleet.agents
    agent.exit(next(iter(agent.running)), Outcome.FAILED, error="no")
    agent.sync(fleet.now)
    assert look(fleet, neither).state == "blocked", "its other job still runs"
    for _ in range(6):
        fleet.step()
    why = f"array {broken}, after whose success it was to run, is failed"
    assert (look(fleet, neither).state, look(fleet, neither).error) == ("failed", why)
    assert look(fleet, anyhow).state == "succeeded"
    assert look(fleet, later).state == "failed"
    with db.reading(fleet.sessions) as reader:
        row = arrays.owned(reader, never, "default")
        assert (row.error, row.made, row.cancelled_at is not None) == (why, 0, True)
    with pytest.raises(InvalidSpec, match=f"array {broken} is failed"):
        submit(fleet, admin, after_ok_arrays=[broken])
    with pytest.raises(InvalidSpec, match="there is no array 999"):
        array_of(fleet, admin, after_any_arrays=[999])


def test_an_array_whose_failed_job_was_retried_has_succeeded(fleet: Fleet, admin: Principal) -> None:
    array = array_of(fleet, admin)
    fleet.run_until("noop")
    (agent,) = fleet.agents
    agent.exit(next(iter(agent.running)), Outcome.FAILED, error="no")
    agent.sync(fleet.now)
    with db.reading(fleet.sessions) as reader:
        failed = reader.scalars(select(Job.id).where(Job.array_id == array, Job.state == "failed")).one()
    with fleet.sessions.begin() as session:
        batches.retry(session, failed, admin, fleet.now)
    waits = submit(fleet, admin, after_ok_arrays=[array])
    for _ in range(6):
        fleet.step()
    assert look(fleet, waits).state == "succeeded"


# --------------------------------------------------------------------------------------------- batches


def test_a_batch_is_queued_whole_or_not_at_all(
    sessions: sessionmaker[Session], admin: Principal, now: float
) -> None:
    good, bad = jobs.asked(NOOP), jobs.asked(NOOP, priority=500)
    with pytest.raises(InvalidSpec) as caught, sessions.begin() as session:
        batches.submit(session, [good, good, bad], principal=admin, now=now)
    assert caught.value.field == "jobs[2].priority"
    with sessions.begin() as session:
        ids = batches.submit(session, [good] * 3, principal=admin, now=now, idempotency_key="k")
    with sessions.begin() as session:
        assert batches.submit(session, [good] * 3, principal=admin, now=now + 5, idempotency_key="k") == ids
        assert session.scalar(select(func.count()).select_from(Job)) == 3


@pytest.mark.slow
def test_ten_thousand_jobs_are_one_batch(
    sessions: sessionmaker[Session], admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        ids = batches.submit(session, [jobs.asked(NOOP)] * 10_000, principal=admin, now=now)
    assert len(set(ids)) == 10_000


def test_a_quota_counts_what_an_array_has_yet_to_make(
    sessions: sessionmaker[Session], admin: Principal, now: float
) -> None:
    with sessions.begin() as session:
        session.add(Quota(tenant="default", weight=1.0, period_s=86_400.0, max_queued=100))
    with sessions.begin() as session:
        arrays.submit(session, jobs.asked(NOOP), 90, principal=admin, now=now)
        with pytest.raises(QuotaExceeded):
            batches.submit(session, [jobs.asked(NOOP)] * 11, principal=admin, now=now)
        batches.submit(session, [jobs.asked(NOOP)] * 10, principal=admin, now=now)


# ------------------------------------------------------------------------------------------ once more


def test_a_clone_asks_for_the_same_and_a_retry_is_of_what_failed(fleet: Fleet, admin: Principal) -> None:
    job = submit(fleet, admin, name="one", priority=7, max_retries=1, retry_on=["failed"])
    with fleet.sessions.begin() as session, pytest.raises(InvalidTransition, match="it accepts clone"):
        batches.retry(session, job, admin, fleet.now)
    with fleet.sessions.begin() as session:
        jobs.cancel(session, job, admin, fleet.now)
        again = batches.retry(session, job, admin, fleet.now)
        clone = batches.clone(session, again.id, admin, fleet.now)
    for found in (again, clone):
        assert (found.name, found.priority, found.retry_on, found.state) == ("one", 7, ["failed"], "queued")
    assert (again.clone_of, clone.clone_of) == (job, again.id)
    assert look(fleet, job).state == "cancelled"
