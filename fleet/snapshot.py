"""Load what the planner looks at, as frozen values: one consistent read, no decisions.

Of the queue only the heads are loaded: the first jobs of each (priority, requirement), never every row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session, load_only

from fleet import confirmations, documents, faults, jobs, kernels, trust
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
from fleet.lifecycle import AttemptState, JobState, NodeState, SearchState
from fleet.models import Attempt, Device, Job, Lease, Node, Round, Search, Standing
from fleet.nodes import Contact, contact
from fleet.placement import DeviceView, Needs, NodeView, Waiting
from fleet.plan import AttemptView, Limits, Snapshot
from fleet.settings import Timings

HEADS = 256  # of each (priority, requirement)
CLASSES = 64  # (priority, requirement) pairs looked at in one tick, highest priority first
# Of a queued job only what its placement depends on is read: specs are large.
_PLACED_BY = load_only(
    Job.generation,
    Job.kind,
    Job.arch,
    Job.target_id,
    Job.node_id,
    Job.threads,
    Job.priority,
    Job.state_at,
    Job.retries,
    Job.reason,
    raiseload=True,
)


def load(session: Session, blobs: Blobs, now: float, timings: Timings, up_since: float = 0.0) -> Snapshot:
    """The fleet as the planner sees it; `up_since` is when the control plane started."""
    return Snapshot(
        nodes=nodes(session, now, timings, up_since),
        attempts=_attempts(session),
        waiting=_waiting(session),
        searches=_searches(session, blobs),
        limits=Limits(timings.lease_s, timings.grace_s),
        up_since=up_since,
        claims=confirmations.views(session, blobs),
    )


# ----------------------------------------------------------------------------------------------- nodes


def nodes(
    session: Session, now: float, timings: Timings | None = None, up_since: float = 0.0
) -> tuple[NodeView, ...]:
    """Every node that is not retired, with its devices and what holds them."""
    rows = session.scalars(select(Node).where(Node.state != NodeState.RETIRED).order_by(Node.id)).all()
    holds: dict[int, list[tuple[bool, float]]] = defaultdict(list)
    ends_by = func.coalesce(Attempt.started_at, Attempt.created_at) + Job.timeout_s
    held = (
        select(Lease.device_id, Lease.exclusive, ends_by)
        .join(Attempt, Attempt.id == Lease.attempt_id)
        .join(Job, Job.id == Attempt.job_id)
        .where(Lease.released_at.is_(None))
    )
    for device_id, exclusive, until in session.execute(held):
        holds[device_id].append((exclusive, until))
    devices: dict[int, list[DeviceView]] = defaultdict(list)
    found = faults.everywhere(session)
    for device in session.scalars(select(Device).order_by(Device.name)):
        wrong = faults.barring(found.get((device.node_id, device.name)))
        devices[device.node_id].append(_device(device, holds[device.id], wrong))
    standings = trust.standings(session, [row.id for row in rows])
    return tuple(
        _node(row, standings[row.id], devices[row.id], contact(row, now, timings, up_since)) for row in rows
    )


def _node(row: Node, standing: Standing, devices: Sequence[DeviceView], where: Contact) -> NodeView:
    return NodeView(
        id=row.id,
        name=row.name,
        state=row.state,
        cordoned=row.cordoned,
        contact=str(where),
        cores=row.cores,
        devices=tuple(devices),
        told_contact=row.contact,
        contested=standing.contested_at is not None,
        trust=standing.trust,
    )


def _device(row: Device, holds: Sequence[tuple[bool, float]], wrong: str = "") -> DeviceView:
    return DeviceView(
        id=row.id,
        name=row.name,
        kind=row.kind,
        arch=row.arch,
        target_id=row.target_id,
        slots=row.slots,
        problem=row.problem or wrong,
        present=row.present,
        exclusive_held=any(exclusive for exclusive, _ in holds),
        shared_held=sum(not exclusive for exclusive, _ in holds),
        free_at=max((until for _, until in holds), default=0.0),
    )


# -------------------------------------------------------------------------------------- work under way


def _attempts(session: Session) -> tuple[AttemptView, ...]:
    """Of the rows only what is looked at: specs and results are large."""
    cancelling_at = case((Job.state == JobState.CANCELLING, Job.state_at))
    renewed_at = func.coalesce(Node.last_seen, Node.enrolled_at)
    query = (
        select(
            Attempt.id,
            Attempt.generation,
            Attempt.node_id,
            Node.name,
            Attempt.state,
            Lease.granted_at,
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


# ----------------------------------------------------------------------------------------------- queue


def _waiting(session: Session) -> tuple[Waiting, ...]:
    queued = Job.state == JobState.QUEUED
    classes = session.execute(
        select(Job.priority, Job.requirement)
        .where(queued)
        .group_by(Job.priority, Job.requirement)
        .order_by(Job.priority.desc(), func.min(Job.id))
        .limit(CLASSES)
    ).all()
    asked_at = func.coalesce(Search.created_at, Job.created_at)
    asked = select(Job, asked_at).outerjoin(Search, Search.id == Job.search_id).options(_PLACED_BY)
    heads: list[tuple[Job, float]] = []
    for priority, requirement in classes:
        same = (Job.priority == priority) & (Job.requirement == requirement)
        heads += session.execute(asked.where(queued, same).order_by(Job.id).limit(HEADS)).all()
    avoid = _avoid(session, [job.id for job, _ in heads if job.retries])
    return tuple(_queued(job, asked_at, avoid.get(job.id, frozenset())) for job, asked_at in heads)


def _queued(job: Job, asked_at: float, avoid: frozenset[int]) -> Waiting:
    return Waiting(
        id=job.id,
        generation=job.generation,
        needs=Needs(JobKind(job.kind), job.arch, job.target_id, job.node_id, job.threads),
        priority=job.priority,
        asked_at=asked_at,
        queued_at=job.state_at,
        avoid=avoid,
        reason=job.reason,
    )


def _avoid(session: Session, job_ids: Sequence[int]) -> Mapping[int, frozenset[int]]:
    """The nodes on which each of these jobs was tried before."""
    found: dict[int, set[int]] = defaultdict(set)
    query = select(Attempt.job_id, Attempt.node_id).where(Attempt.job_id.in_(job_ids))
    for job_id, node_id in session.execute(query):
        found[job_id].add(node_id)
    return {job_id: frozenset(tried) for job_id, tried in found.items()}


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
