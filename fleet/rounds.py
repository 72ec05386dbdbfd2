"""Write the steps of searches: each in one transaction, guarded by the generation of the search it was decided on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import blobs, confirmations, events, holders, holdings, jobs, kernels, searches
from fleet.advance import (
    Close,
    Conclude,
    Confirmed,
    Fail,
    GiveUp,
    Hold,
    Propose,
    Start,
    Step,
    StepJob,
    StopJobs,
    Stray,
)
from fleet.agents.protocol import (
    QUARANTINED,
    CandidateResult,
    ConfirmSpec,
    ExpandResult,
    ExpandSpec,
    KernelRef,
    MeasureSpec,
)
from fleet.artifacts import Kept
from fleet.errors import StaleWrite
from fleet.firing import amend
from fleet.lifecycle import JobState, SearchEvent
from fleet.models import Device, Round, Search

# One attempt's bounds: compiling and checking take their time besides the measuring budget.
EXPAND_TIMEOUT_S = 300.0
MEASURE_EXTRA_S = 120.0
CONFIRM_TIMEOUT_S = 300.0
STRAYS_SHOWN = 8


def apply(session: Session, step: Step, kept: Kept, now: float) -> None:
    """Write one step with what was kept of its artifacts; StaleWrite when the search has moved on since."""
    search = searches.get(session, step.search_id)
    if search.generation != step.generation:
        raise StaleWrite("search", search.id, "it changed after it was looked at")
    match step:
        case Hold():
            amend(session, "search", search, {"reason": step.reason})
        case Start():
            _start(session, search, step, now)
        case Propose():
            _propose(session, search, step, kept, now)
        case Conclude():
            _conclude(session, search, step, kept, now)
        case Close():
            _close(session, search, step, kept, now)
        case Confirmed():
            _confirmed(session, search, step, kept, now)
        case StopJobs():
            _stop(session, step, now)
        case Fail():
            _fail(session, search, step.error, now)


# ---------------------------------------------------------------------------------------------- rounds


def _start(session: Session, search: Search, step: Start, now: float) -> None:
    tuned = kernels.lookup(session, search.kernel_hash or "", step.target_id, search.threads, search.tenant)
    if tuned is not None and not search.refresh:  # found by another search while this one waited
        searches.hit(session, search, tuned, now)
        return
    searches.fire(
        session, search, SearchEvent.START, now, target_id=step.target_id, started_at=now, reason=""
    )
    _open(session, search, step.expand, now)


def _open(session: Session, search: Search, expand: ExpandSpec, now: float) -> None:
    """Begin the next round with its expand job."""
    amend(session, "search", search, {"phase": "expand", "round": search.round + 1, "reason": ""})
    session.add(Round(search_id=search.id, number=search.round, started_at=now))
    _submit(session, search, expand, EXPAND_TIMEOUT_S, now)


def _submit(
    session: Session,
    search: Search,
    spec: ExpandSpec | MeasureSpec | ConfirmSpec,
    timeout_s: float,
    now: float,
) -> None:
    jobs.insert(
        session,
        spec,
        tenant=search.tenant,
        created_by=search.created_by,
        now=now,
        timeout_s=timeout_s,
        target_id=search.target_id,
        search=search,
    )


def _propose(session: Session, search: Search, step: Propose, kept: Kept, now: float) -> None:
    _learn(session, search, step.found, kept, now)
    tuned = kernels.lookup(session, step.found.kernel_hash, search.target_id, search.threads, search.tenant)
    if (
        search.round == 1 and tuned is not None and not search.refresh
    ):  # only now do we know which kernel was meant
        searches.hit(session, search, tuned, now)
        searches.stop_work(session, search, now)
        return
    row = _row(session, search)
    row.generated, row.illegal = step.found.generated, step.found.illegal
    row.duplicate = step.duplicate
    row.candidates = [each.model_dump(mode="json") for each in step.candidates]
    for batch in step.batches:
        _submit(session, search, batch, batch.budget_s + MEASURE_EXTRA_S, now)
    amend(session, "search", search, {"phase": "measure", "reason": ""})
    data = {"round": search.round, "candidates": len(step.candidates)}
    events.append(session, "search.proposed", f"search:{search.id}", data, now)


def _learn(session: Session, search: Search, found: ExpandResult, kept: Kept, now: float) -> None:
    """Keep what the first expand found out about the kernel: its hash, its document and what it costs."""
    if search.flops is not None:
        return
    for key in (search.ref_key, KernelRef.model_validate(search.kernel).key()):
        kernels.learn(session, key, found.kernel_hash, kept.document, now)
    learnt = {"kernel_hash": found.kernel_hash, "flops": found.flops, "bytes": found.bytes}
    amend(session, "search", search, learnt)


def _close(session: Session, search: Search, step: Close, kept: Kept, now: float) -> None:
    row = _row(session, search)
    row.results = [result.model_dump(mode="json") for _, result in step.results]
    row.top = [result.model_dump(mode="json") for result in step.round.top]
    row.hashes, row.counts = sorted(step.round.hashes), dict(step.counts)
    row.artifacts = _addresses([job for job, _ in step.results])
    row.best_s, row.finished_at = step.round.best_s, now
    for job, result in step.results:
        _set_aside(session, search, job, result, kept, now)
    _note_strays(session, search, step.strays, now)
    best = step.round.top[0] if step.round.top else None
    if best is not None and (search.best_s is None or (best.time_s or 0.0) < search.best_s):
        amend(session, "search", search, {"best_s": best.time_s, "best_hash": best.hash})
    data = {"round": row.number, "best_s": search.best_s, "round_best_s": row.best_s, "counts": row.counts}
    events.append(session, "search.round", f"search:{search.id}", data, now)
    _go_on(session, search, step.then, now)


def _addresses(found: Sequence[StepJob]) -> list[str]:
    """Where the sources of a round are: one artifact per measuring job."""
    artifacts = (job.artifacts.get("candidates.json") for job in found)
    return sorted({address for address in artifacts if address})


def _conclude(session: Session, search: Search, step: Conclude, kept: Kept, now: float) -> None:
    row = _row(session, search)
    row.finished_at = now
    if step.found is not None:
        _learn(session, search, step.found, kept, now)
        row.generated, row.illegal = step.found.generated, step.found.illegal
        row.duplicate = step.found.duplicate
    _go_on(session, search, step.then, now)


def _go_on(session: Session, search: Search, then: ExpandSpec | ConfirmSpec | GiveUp, now: float) -> None:
    if isinstance(then, GiveUp):
        _fail(session, search, then.error, now)
    elif isinstance(then, ExpandSpec):
        _open(session, search, then, now)
    else:
        amend(session, "search", search, {"phase": "confirm", "reason": ""})
        _submit(session, search, then, CONFIRM_TIMEOUT_S, now)
        data = {"candidates": [each.hash for each in then.candidates]}
        events.append(session, "search.confirming", f"search:{search.id}", data, now)


def _row(session: Session, search: Search) -> Round:
    query = select(Round).where(Round.search_id == search.id, Round.number == search.round)
    return session.scalars(query).one()


# ------------------------------------------------------------------------------------------------ ends


def _confirmed(session: Session, search: Search, step: Confirmed, kept: Kept, now: float) -> None:
    for result in step.results:
        _set_aside(session, search, step.job, result, kept, now)
    _note_strays(session, search, step.strays, now)
    confirmed = [result.model_dump(mode="json") for result in step.confirmed]
    amend(session, "search", search, {"confirmed": confirmed})
    if step.winner is not None:
        _crown(session, search, step.job, step.winner, kept, now)
    elif step.then is not None:
        _go_on(session, search, step.then, now)


def _crown(
    session: Session, search: Search, job: StepJob, winner: CandidateResult, kept: Kept, now: float
) -> None:
    """The winner becomes the tuned kernel, unless another search has found a faster one meanwhile. For others than
    its tenant it is one when this run was its second opinion, or else once there is one."""
    found_on = confirmations.measured_on(session, search, winner.hash)
    tuned = kernels.record(
        session,
        search,
        winner,
        arch=_arch(session, search, job),
        node_id=job.node_id or 0,
        source_blob=_source(session, search, winner, kept, now),
        now=now,
        found_by=min(found_on, default=None),
        confirmed=confirmations.confirmed_by(
            holdings.nodes(session, now), search, found_on, job.node_id or 0
        ),
    )
    searches.fire(
        session,
        search,
        SearchEvent.CONFIRM,
        now,
        tuned_kernel_id=tuned.id,
        best_s=tuned.time_s,
        best_hash=tuned.schedule_hash,
        finished_at=now,
        reason="",
    )


def _arch(session: Session, search: Search, job: StepJob) -> str:
    query = select(Device.arch).where(Device.node_id == job.node_id, Device.target_id == search.target_id)
    return session.scalars(query).first() or search.arch or ""


def _fail(session: Session, search: Search, error: str, now: float) -> None:
    searches.fire(session, search, SearchEvent.FAIL, now, error=error, finished_at=now, reason="")
    searches.stop_work(session, search, now)


def _stop(session: Session, step: StopJobs, now: float) -> None:
    for job_id in step.job_ids:
        job = jobs.get(session, job_id)
        if job.state == JobState.QUEUED:
            jobs.stop(session, job, now)


# --------------------------------------------------------------------------------------------- sources


def _set_aside(
    session: Session, search: Search, job: StepJob, result: CandidateResult, kept: Kept, now: float
) -> None:
    if result.outcome in QUARANTINED:
        source = _source(session, search, result, kept, now)
        kernels.set_aside(session, search, result, node_id=job.node_id or 0, source_blob=source, now=now)


def _source(session: Session, search: Search, result: CandidateResult, kept: Kept, now: float) -> str | None:
    """The blob of a candidate's source, now with its row; None when no artifact had it."""
    if result.source_hash is None or result.source_hash not in kept.sources:
        return None
    blobs.record(session, result.source_hash, kept.sources[result.source_hash], now)
    holders.hold(session, holders.of_tenant(search.tenant), [result.source_hash], now)
    return result.source_hash


def _note_strays(session: Session, search: Search, strays: Sequence[Stray], now: float) -> None:
    for stray in strays:
        shown = list(stray.hashes[:STRAYS_SHOWN])
        data = {"job": stray.job.id, "node": stray.job.node_id, "count": len(stray.hashes), "hashes": shown}
        events.append(session, "search.stray_results", f"search:{search.id}", data, now)
