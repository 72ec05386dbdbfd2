"""Confirm tuned kernels by ordinary jobs: load what `fleet.confirming` decides on, and write its steps.

Each step names the job that it was decided on: one that has been decided meanwhile is stale.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import documents, events, jobs, kernels, trust
from fleet.advance import StepJob
from fleet.agents.protocol import CandidateRef, CandidateResult, KernelRef, MeasureResult
from fleet.blobs import Blobs
from fleet.confirming import TRIES, Again, Ask, ClaimView, Confirm, ConfirmingStep, Refute, confirmers
from fleet.errors import FleetError, StaleWrite
from fleet.lifecycle import JobState
from fleet.models import Attempt, Job, Search, TunedKernel
from fleet.requirements import NodeView
from fleet.standing_rows import Trust

AT_ONCE = 128  # claims looked at in one tick
PRIORITY = -50  # whoever asked for work goes first
TIMEOUT_S = 300.0


def views(session: Session, blobs: Blobs) -> tuple[ClaimView, ...]:
    """The claims that may call for a step."""
    open_claims = TunedKernel.confirmed_at.is_(None) & (TunedKernel.confirm_tries < TRIES)
    query = select(TunedKernel, Search.seed).join(Search, Search.id == TunedKernel.search_id)
    order = (TunedKernel.confirm_job_id.is_(None), TunedKernel.id)  # those with a run first
    rows = session.execute(query.where(open_claims).order_by(*order).limit(AT_ONCE)).all()
    found = (_view(session, blobs, row, seed) for row, seed in rows)
    return tuple(view for view in found if view is not None)


def _view(session: Session, blobs: Blobs, row: TunedKernel, seed: int) -> ClaimView | None:
    """None for a row that cannot be read, which must not stop the fleet."""
    try:
        kernel = kernels.with_document(session, KernelRef.model_validate(row.kernel))
    except ValidationError:
        return None
    job = session.get(Job, row.confirm_job_id) if row.confirm_job_id is not None else None
    step_job = None if job is None else StepJob(job.id, job.state, node_id=_ran_on(session, job.id))
    said = _said(blobs, row, job) if job is not None and job.state == JobState.SUCCEEDED else None
    return ClaimView(
        id=row.id,
        kernel=kernel,
        schedule=CandidateRef(hash=row.schedule_hash, schedule=row.schedule),
        target_id=row.target_id,
        threads=row.threads,
        seed=seed,
        involved=frozenset(node for node in (row.node_id, row.found_by) if node is not None),
        tries=row.confirm_tries,
        job=step_job,
        said=said,
    )


def _ran_on(session: Session, job_id: int) -> int | None:
    tried = select(Attempt.node_id).where(Attempt.job_id == job_id)
    return session.scalars(tried.order_by(Attempt.id.desc()).limit(1)).first()


def _said(blobs: Blobs, row: TunedKernel, job: Job) -> CandidateResult | None:
    """What the run said of this kernel's schedule on this target; None when it cannot be read or is of others."""
    result = job.result or {}
    try:
        if set(result) == {"artifact"}:  # too large for a report
            result = documents.read(blobs.get(job.artifacts[result["artifact"]]))
        found = MeasureResult.model_validate(result)
    except (ValidationError, FleetError, ValueError, KeyError):
        return None
    if (found.kernel_hash, found.target_id) != (row.kernel_hash, row.target_id):
        return None
    return next((each for each in found.results if each.hash == row.schedule_hash), None)


# ------------------------------------------------------------------------------------------------ steps


def apply(session: Session, step: ConfirmingStep, now: float) -> None:
    """Write one step; StaleWrite when the claim has been decided meanwhile."""
    row = session.get(TunedKernel, step.claim_id)
    expected = None if isinstance(step, Ask) else step.job_id
    if row is None or row.confirmed_at is not None or row.confirm_job_id != expected:
        raise StaleWrite("tuned kernel", step.claim_id, "it was decided meanwhile")
    match step:
        case Ask():
            _ask(session, row, step, now)
        case Confirm():
            kernels.confirm(session, row, by=step.node_id, time_s=step.time_s, now=now)
        case Refute():
            _refute(session, row, step, now)
        case Again():
            row.confirm_job_id, row.confirm_tries = None, row.confirm_tries + 1
            session.flush()


def _ask(session: Session, row: TunedKernel, step: Ask, now: float) -> None:
    job = jobs.insert(
        session,
        step.spec,
        tenant=row.tenant,
        created_by="server:confirmation",
        now=now,
        timeout_s=TIMEOUT_S,
        name=f"confirm-kernel-{row.id}",
        priority=PRIORITY,
        target_id=row.target_id,
        node_id=step.node_id,
        max_retries=0,
    )
    row.confirm_job_id = job.id
    session.flush()
    data = {"job": job.id, "node": step.node_id}
    events.append(session, "kernel.confirming", f"kernel:{row.id}", data, now)


def _refute(session: Session, row: TunedKernel, step: Refute, now: float) -> None:
    """The schedule is set aside, the kernel goes, and its finder's word counts for less until somebody has looked."""
    search = session.get_one(Search, row.search_id)
    culprit = step.said.model_copy(update={"schedule": row.schedule})
    kernels.set_aside(session, search, culprit, node_id=step.node_id, source_blob=row.source_blob, now=now)
    data = {"finder": row.node_id, "by": step.node_id, "outcome": str(step.said.outcome)}
    kernels.drop(session, row, "kernel.refuted", data, now)
    for node_id in {row.node_id, row.found_by} - {None, step.node_id}:
        reason = f"node {step.node_id} found its kernel {row.id} {step.said.outcome}"
        trust.lower(session, int(node_id or 0), Trust.SHARED, reason, now)


# --------------------------------------------------------------------------------- at the end of a search


def confirmed_by(
    nodes: Sequence[NodeView], search: Search, measured_on: frozenset[int], confirmed_on: int
) -> bool:
    """Whether a search's own confirming run, with another seed than its measuring ones, is the second opinion."""
    opinions = confirmers(search.target_id or "", search.threads, measured_on, nodes)
    return confirmed_on in {node.id for node in opinions}


def measured_on(session: Session, search: Search, schedule_hash: str) -> frozenset[int]:
    """The nodes that measured this candidate in the rounds of a search."""
    query = select(Job).where(Job.search_id == search.id, Job.kind == "measure")
    asked = [job.id for job in session.scalars(query) if _asks(job, schedule_hash)]
    return frozenset(node for job_id in asked if (node := _ran_on(session, job_id)) is not None)


def _asks(job: Job, schedule_hash: str) -> bool:
    return any(each["hash"] == schedule_hash for each in job.spec.get("candidates", ()))
