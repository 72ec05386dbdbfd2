"""Why a job waits, from what the planner sees now: loads it, asks fleet/why.py and fleet/forecast.py."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import forecast, holdings, queue, run_times
from fleet.lifecycle import JobState
from fleet.models import Dependency, Job, Search
from fleet.order import Waiting, book, in_order
from fleet.placement import run
from fleet.scheduling_rows import ArrayDependency
from fleet.settings import Timings
from fleet.why import Why, explain

FORWARD = 128  # jobs ahead that are played forward for an estimate


@dataclass(frozen=True)
class Explanation:
    """Why a job waits, how many wait, the start that is planned and the likely one, and how good such guesses were."""

    why: Why | None
    waits_for: tuple[int, ...]
    waits_for_arrays: tuple[int, ...]
    queued: int
    planned_at: float | None
    expected_at: float | None
    likely_s: float | None
    guesses: run_times.Known | None


def of(session: Session, job: Job, now: float, timings: Timings, up_since: float) -> Explanation:
    """Explain a job; of one that does not wait there is nothing to."""
    queued = session.scalar(select(func.count()).where(Job.state == JobState.QUEUED)) or 0
    guesses = run_times.known(session, [run_times.FORECAST]).get(run_times.FORECAST)
    likely = run_times.known(session, [run_times.of(job)]).get(run_times.of(job))
    likely_s = likely.mean_s if likely is not None else None
    if job.state == JobState.BLOCKED:
        return Explanation(None, *_waits_for(session, job), queued, None, None, likely_s, guesses)
    if job.state != JobState.QUEUED:
        return Explanation(None, (), (), queued, None, None, likely_s, guesses)
    leases = holdings.held(session)
    nodes = holdings.nodes(session, now, timings, up_since, leases)
    accounts = holdings.accounts(session, leases, now)
    running = holdings.running(session, leases, now)
    waiting = list(queue.waiting(session, now))
    asked = _waiting(session, job, waiting, likely)
    why = explain(asked, waiting, nodes, now, accounts, running)
    others = [each for each in waiting if each.id != job.id]
    made = run([*others, asked], nodes, now, accounts, running).made
    planned = {each.job_id: each.starts_at for each in made.delays}
    order = in_order([*others, asked], book(accounts, nodes, waiting).penalty, now)
    expected = forecast.starts(order, nodes, running, now, FORWARD)
    return Explanation(why, (), (), queued, planned.get(job.id), expected.get(job.id), likely_s, guesses)


def _waiting(session: Session, job: Job, waiting: list[Waiting], likely: run_times.Known | None) -> Waiting:
    """The job as the planner sees it, or would if it were among the heads of the queue."""
    known = next((each for each in waiting if each.id == job.id), None)
    if known is not None:
        return known
    search = session.get(Search, job.search_id) if job.search_id is not None else None
    return queue.view(job, search.created_at if search is not None else job.created_at, ran=likely)


def _waits_for(session: Session, job: Job) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Jobs, and arrays."""
    on_jobs = select(Dependency.on_job_id).where(Dependency.job_id == job.id)
    on_arrays = select(ArrayDependency.on_array_id).where(ArrayDependency.job_id == job.id)
    return tuple(sorted(session.scalars(on_jobs))), tuple(sorted(session.scalars(on_arrays)))
