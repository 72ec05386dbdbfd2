"""Load what the planner looks at, as frozen values: one consistent read, no decisions.

Of the queue only the heads are loaded: the first jobs of each class (fleet/queue.py), never every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from fleet import arrays, confirmations, dependencies, documents, holdings, jobs, kernels, queue
from fleet.advance import RoundView, SearchView, StepJob
from fleet.agents.protocol import (
    CandidateRef,
    CandidateResult,
    ExpandResult,
    JobKind,
    KernelRef,
    MeasureResult,
)
from fleet.blobs import Blobs
from fleet.errors import FleetError
from fleet.lifecycle import DESIRED, AttemptState, JobState, SearchState
from fleet.models import Attempt, Job, Lease, Node, Round, Search
from fleet.plan import AttemptView, Limits, Snapshot
from fleet.settings import Timings


def load(
    session: Session,
    blobs: Blobs,
    now: float,
    timings: Timings,
    up_since: float = 0.0,
    sparing: bool = False,
) -> Snapshot:
    """The fleet as the planner sees it; `up_since` is when the control plane started.

    `sparing`: while nothing waits that could be given a device, only the nodes come about which there may be something
    else to decide, without their devices. Of 300 nodes that saves nine tenths of a look.
    """
    leases, waiting = holdings.held(session), queue.waiting(session, now)
    searches, claims = _searches(session, blobs), confirmations.views(session, blobs)
    asked = not sparing or waiting or searches or claims
    return Snapshot(
        nodes=holdings.nodes(session, now, timings, up_since, leases)
        if asked
        else holdings.unsettled_nodes(session, now, timings, up_since),
        attempts=_attempts(session),
        waiting=waiting,
        running=holdings.running(session, leases, now),
        accounts=holdings.accounts(session, leases, now),
        overdue=queue.overdue(session, now),
        blocked=dependencies.ready(session),
        arrays=arrays.views(session),
        searches=searches,
        limits=Limits(timings.lease_s, timings.grace_s),
        up_since=up_since,
        claims=claims,
    )


# -------------------------------------------------------------------------------------- work under way


def _attempts(session: Session) -> tuple[AttemptView, ...]:
    """Of the rows only what is looked at: specs and results are large."""
    cancelling_at = case((Job.state.not_in(DESIRED), Job.state_at))
    renewed_at = func.coalesce(Node.last_seen, Node.enrolled_at)
    query = (
        select(
            Attempt.id,
            Attempt.generation,
            Attempt.node_id,
            Node.name,
            Attempt.state,
            case((Attempt.state == AttemptState.LEASED, Attempt.state_at), else_=Lease.granted_at),
            renewed_at,
            Job.timeout_s,
            Attempt.started_at,
            cancelling_at,
        )
        .join(Job, Job.id == Attempt.job_id)
        .join(Lease, Lease.attempt_id == Attempt.id)
        .join(Node, Node.id == Attempt.node_id)
        .where(Attempt.state != AttemptState.ENDED)
        .order_by(Attempt.id)
    )
    return tuple(AttemptView(*row) for row in session.execute(query))


# -------------------------------------------------------------------------------------------- searches


def _searches(session: Session, blobs: Blobs) -> tuple[SearchView, ...]:
    live = Search.state.in_([SearchState.QUEUED, SearchState.RUNNING])
    rows = session.scalars(select(Search).where(live).order_by(Search.id)).all()
    return tuple(_search(session, blobs, row) for row in rows)


def _search(session: Session, blobs: Blobs, row: Search) -> SearchView:
    running = row.state == SearchState.RUNNING
    views = _phase_jobs(session, row) if running else ()
    due = running and all(job.final for job in views)
    if due:
        views = tuple(_step_job(session, blobs, row, jobs.get(session, job.id)) for job in views)
    kernel_hash = _kernel_hash(row, views)
    ask = kernel_hash is not None and (due or not running)
    barred = kernels.barred(session, kernel_hash, row.target_id, row.threads) if ask else ()
    return SearchView(
        id=row.id,
        generation=row.generation,
        state=row.state,
        kernel=KernelRef.model_validate(row.kernel),
        arch=row.arch,
        target_id=row.target_id,
        threads=row.threads,
        width=row.width,
        budget_s=row.budget_s,
        per_round=row.per_round,
        max_rounds=row.max_rounds,
        seed=row.seed,
        phase=row.phase,
        round=row.round,
        reason=row.reason,
        started_at=row.started_at or 0.0,
        best_s=row.best_s,
        rounds=_rounds(session, row.id) if due else (),
        jobs=views,
        confirmed=tuple(CandidateResult.model_validate(each) for each in row.confirmed),
        barred=frozenset(barred),
        known=_known(session, row, kernel_hash) if due else (),
    )


def _known(session: Session, row: Search, kernel_hash: str | None) -> tuple[CandidateRef, ...]:
    """The schedule to beat, for a search that runs although one is known."""
    if not row.refresh or row.round != 1 or kernel_hash is None:
        return ()
    tuned = kernels.lookup(session, kernel_hash, row.target_id, row.threads, row.tenant)
    return () if tuned is None else (CandidateRef(hash=tuned.schedule_hash, schedule=tuned.schedule),)


def _kernel_hash(row: Search, jobs: Sequence[StepJob]) -> str | None:
    found = (job.found.kernel_hash for job in jobs if job.found is not None)
    return row.kernel_hash or next(found, None)


def _phase_jobs(session: Session, row: Search) -> tuple[StepJob, ...]:
    """The search's own jobs that its phase waits for, as far as they stand; of the confirming ones only the last."""
    query = select(Job.id, Job.state, Job.reason).where(Job.search_id == row.id, Job.round == row.round)
    found = [StepJob(*job) for job in session.execute(query.where(Job.kind == row.phase).order_by(Job.id))]
    return tuple(found[-1:] if row.phase == "confirm" else found)


def _step_job(session: Session, blobs: Blobs, row: Search, job: Job) -> StepJob:
    state, found, error = job.state, None, job.error
    if job.state == JobState.SUCCEEDED:
        found, error = _found(blobs, row, job)
        state = job.state if found is not None else JobState.FAILED
    return StepJob(
        id=job.id,
        state=state,
        reason=job.reason,
        error=error,
        node_id=_last_node(session, job.id),
        candidates=tuple(CandidateRef.model_validate(each) for each in job.spec.get("candidates", ())),
        found=found,
        artifacts=job.artifacts,
    )


def _last_node(session: Session, job_id: int) -> int | None:
    tried = select(Attempt.node_id).where(Attempt.job_id == job_id)
    return session.scalars(tried.order_by(Attempt.id.desc()).limit(1)).first()


def _found(blobs: Blobs, row: Search, job: Job) -> tuple[ExpandResult | MeasureResult | None, str]:
    """What a succeeded job found, from its row or its artifact; None and why when that cannot be used."""
    kind = ExpandResult if job.kind == JobKind.EXPAND else MeasureResult
    try:
        found = kind.model_validate(_document(blobs, job))
    except (ValidationError, FleetError, ValueError, KeyError) as error:
        return None, f"the result of job {job.id} cannot be read: {error}"
    why = _unlike(row, found)
    return (None, f"the result of job {job.id} is about {why}") if why else (found, "")


def _unlike(row: Search, found: ExpandResult | MeasureResult) -> str:
    """What is not the search's own in a result: it would be filed under the wrong key. Empty when all is."""
    learnt = row.flops is not None  # from the first expand on, the search knows which kernel it is about
    if learnt and found.kernel_hash != row.kernel_hash:
        return f"kernel {found.kernel_hash}, not {row.kernel_hash}"
    if isinstance(found, MeasureResult) and found.target_id != row.target_id:
        return f"target {found.target_id}, not {row.target_id}"
    return ""


def _document(blobs: Blobs, job: Job) -> Any:
    result = job.result or {}
    if set(result) == {"artifact"}:  # too large for a report
        return documents.read(blobs.get(job.artifacts[result["artifact"]]))
    return result


def _rounds(session: Session, search_id: int) -> tuple[RoundView, ...]:
    columns = (Round.number, Round.hashes, Round.top, Round.best_s, Round.artifacts)
    query = select(*columns).where(Round.search_id == search_id).order_by(Round.number)
    return tuple(
        RoundView(
            number=number,
            hashes=frozenset(hashes),
            top=tuple(CandidateResult.model_validate(each) for each in top),
            best_s=best_s,
            artifacts=tuple(artifacts),
        )
        for number, hashes, top, best_s, artifacts in session.execute(query).all()
    )
