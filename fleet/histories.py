"""The kinds of rows that are collected: which of each may go, and what goes with them.

A row that another refers to is not chosen. What belongs to a row (a job's attempts, their leases and logs) goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, delete, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from fleet.lifecycle import JOB, SEARCH
from fleet.models import (
    Attempt,
    Cron,
    CronPoint,
    CronRun,
    Delivery,
    Dependency,
    Event,
    IdempotencyKey,
    Job,
    JobArray,
    Lease,
    LeaseGpu,
    LogChunk,
    Quarantine,
    Round,
    Search,
    TunedKernel,
    Webhook,
)
from fleet.retention import Bounds
from fleet.scheduling_rows import ArrayDependency
from fleet.webhook_plan import DELIVERY

KEPT_RUNS = 200  # of each cron, however old: its history and baselines


@dataclass(frozen=True)
class Kind:
    """`count`: rows and bytes of all that may go; `choose`: the keys of some; `remove`: take them out, with all that
    belongs to them, and say rows and bytes."""

    name: str
    count: Callable[[Session, Bounds], tuple[int, int]]
    choose: Callable[[Session, Bounds, int], Sequence[Any]]
    remove: Callable[[Session, Sequence[Any]], tuple[int, int]]


def _plain(name: str, table: Any, may_go: Callable[[Bounds], ColumnElement[bool]]) -> Kind:
    """Rows with an id, to which nothing belongs."""

    def count(session: Session, bounds: Bounds) -> tuple[int, int]:
        return session.scalar(select(func.count()).select_from(table).where(may_go(bounds))) or 0, 0

    def choose(session: Session, bounds: Bounds, limit: int) -> Sequence[int]:
        return session.scalars(select(table.id).where(may_go(bounds)).order_by(table.id).limit(limit)).all()

    def remove(session: Session, chosen: Sequence[int]) -> tuple[int, int]:
        session.execute(delete(table).where(table.id.in_(chosen)))
        return len(chosen), 0

    return Kind(name, count, choose, remove)


# ---------------------------------------------------------------------------------------------- events


def _old_events(bounds: Bounds) -> ColumnElement[bool]:
    """The newest one stays: it is where readers without a cursor begin."""
    return and_(Event.at < bounds.events, Event.id < select(func.max(Event.id)).scalar_subquery())


def _count_events(session: Session, bounds: Bounds) -> tuple[int, int]:
    size = func.coalesce(func.sum(func.length(cast(Event.data, Text)) + func.length(Event.subject)), 0)
    rows, total = session.execute(select(func.count(), size).where(_old_events(bounds))).one()
    return rows, total


def _choose_events(session: Session, bounds: Bounds, limit: int) -> Sequence[int]:
    """The first ones, as far as they are old: there is no need to look at all the others."""
    oldest = session.execute(select(Event.id, Event.at).order_by(Event.id).limit(limit + 1)).all()
    newest = session.scalar(select(func.max(Event.id)))
    return [row_id for row_id, at in oldest[:limit] if at < bounds.events and row_id != newest]


def _remove_events(session: Session, chosen: Sequence[int]) -> tuple[int, int]:
    session.execute(delete(Event).where(Event.id.in_(chosen)))
    return len(chosen), 0


# ------------------------------------------------------------------------------------------------ logs


def _old_logs(bounds: Bounds) -> ColumnElement[bool]:
    ended = func.coalesce(Attempt.finished_at, Attempt.state_at)
    of_old = select(Attempt.id).where(Attempt.outcome.is_not(None), ended < bounds.logs)
    return LogChunk.attempt_id.in_(of_old)


def _count_logs(session: Session, bounds: Bounds) -> tuple[int, int]:
    size = func.coalesce(func.sum(func.length(LogChunk.data)), 0)
    rows, total = session.execute(select(func.count(), size).where(_old_logs(bounds))).one()
    return rows, total


def _choose_logs(session: Session, bounds: Bounds, limit: int) -> Sequence[int]:
    query = select(LogChunk.attempt_id).where(_old_logs(bounds)).distinct().order_by(LogChunk.attempt_id)
    return session.scalars(query.limit(limit)).all()


def _remove_logs(session: Session, chosen: Sequence[int]) -> tuple[int, int]:
    """Of these attempts."""
    mine = LogChunk.attempt_id.in_(chosen)
    size = func.coalesce(func.sum(func.length(LogChunk.data)), 0)
    rows, total = session.execute(select(func.count(), size).where(mine)).one()
    session.execute(delete(LogChunk).where(mine))
    return rows, total


# ------------------------------------------------------------------------------------------------ jobs


def _old_jobs(bounds: Bounds) -> ColumnElement[bool]:
    """Those that have ended, that no job or array waits for, and that no live search or run goes by."""
    waiting = aliased(Job)
    awaited = exists().where(
        Dependency.on_job_id == Job.id, waiting.id == Dependency.job_id, waiting.state.not_in(JOB.final)
    )
    waits = ArrayDependency.job_id == waiting.id
    of_awaited = exists().where(
        waits, ArrayDependency.on_array_id == Job.array_id, waiting.state.not_in(JOB.final)
    )
    # what an array waits for is in its row: while one waits, its tenant's jobs stay
    held = exists().where(
        JobArray.tenant == Job.tenant,
        JobArray.waits_for.is_not(None),
        JobArray.made == 0,
        JobArray.cancelled_at.is_(None),
    )
    searched = exists().where(Search.id == Job.search_id, Search.state.not_in(SEARCH.final))
    run = exists().where(CronRun.job_id == Job.id, CronRun.state.in_(("waiting", "running")))
    confirming = exists().where(TunedKernel.confirm_job_id == Job.id, TunedKernel.confirmed_at.is_(None))
    return and_(
        Job.state.in_(JOB.final),
        func.coalesce(Job.finished_at, Job.state_at) < bounds.history,
        ~awaited,
        ~of_awaited,
        ~held,
        ~searched,
        ~run,
        ~confirming,
    )


def _remove_jobs(session: Session, chosen: Sequence[int]) -> tuple[int, int]:
    attempts = session.scalars(select(Attempt.id).where(Attempt.job_id.in_(chosen))).all()
    leases = select(Lease.id).where(Lease.attempt_id.in_(attempts))
    _, logs = _remove_logs(session, attempts)
    session.execute(delete(LeaseGpu).where(LeaseGpu.lease_id.in_(leases)))
    session.execute(delete(Lease).where(Lease.attempt_id.in_(attempts)))
    session.execute(delete(Attempt).where(Attempt.id.in_(attempts)))
    either = or_(Dependency.job_id.in_(chosen), Dependency.on_job_id.in_(chosen))
    session.execute(delete(Dependency).where(either))
    session.execute(delete(ArrayDependency).where(ArrayDependency.job_id.in_(chosen)))
    session.execute(delete(Job).where(Job.id.in_(chosen)))
    return len(chosen), logs


# -------------------------------------------------------------------------------------- searches, crons


def _old_searches(bounds: Bounds) -> ColumnElement[bool]:
    """Those that have ended without a kernel or a culprit that is known, and whose jobs have gone."""
    return and_(
        Search.state.in_(SEARCH.final),
        func.coalesce(Search.finished_at, Search.state_at) < bounds.history,
        ~exists().where(TunedKernel.search_id == Search.id),
        ~exists().where(Quarantine.search_id == Search.id),
        ~exists().where(Job.search_id == Search.id),
    )


def _remove_searches(session: Session, chosen: Sequence[int]) -> tuple[int, int]:
    session.execute(delete(Round).where(Round.search_id.in_(chosen)))
    session.execute(delete(Search).where(Search.id.in_(chosen)))
    return len(chosen), 0


def _old_runs(bounds: Bounds) -> ColumnElement[bool]:
    """Those that have ended, and after which the cron has had two hundred more or was removed."""
    later = aliased(CronRun)
    counted = select(func.count()).where(later.cron_id == CronRun.cron_id, later.id > CronRun.id)
    removed = exists().where(Cron.id == CronRun.cron_id, Cron.removed_at.is_not(None))
    return and_(
        CronRun.finished_at < bounds.history,
        CronRun.state.not_in(("waiting", "running")),
        or_(removed, counted.scalar_subquery() >= KEPT_RUNS),
    )


def _remove_runs(session: Session, chosen: Sequence[int]) -> tuple[int, int]:
    session.execute(delete(CronPoint).where(CronPoint.run_id.in_(chosen)))
    session.execute(delete(CronRun).where(CronRun.id.in_(chosen)))
    return len(chosen), 0


def _old_crons(bounds: Bounds) -> ColumnElement[bool]:
    return and_(Cron.removed_at < bounds.history, ~exists().where(CronRun.cron_id == Cron.id))


# ------------------------------------------------------------------------------------ deliveries, keys


def _old_deliveries(bounds: Bounds) -> ColumnElement[bool]:
    return and_(Delivery.state.in_(DELIVERY.final), Delivery.state_at < bounds.events)


def _old_webhooks(bounds: Bounds) -> ColumnElement[bool]:
    return and_(Webhook.removed_at < bounds.events, ~exists().where(Delivery.webhook_id == Webhook.id))


def _count_keys(session: Session, bounds: Bounds) -> tuple[int, int]:
    old = IdempotencyKey.created_at < bounds.events
    return session.scalar(select(func.count()).select_from(IdempotencyKey).where(old)) or 0, 0


def _choose_keys(session: Session, bounds: Bounds, limit: int) -> Sequence[IdempotencyKey]:
    return session.scalars(
        select(IdempotencyKey).where(IdempotencyKey.created_at < bounds.events).limit(limit)
    ).all()


def _remove_keys(session: Session, chosen: Sequence[IdempotencyKey]) -> tuple[int, int]:
    for each in chosen:
        session.delete(each)
    return len(chosen), 0


_JOBS = _plain("jobs", Job, _old_jobs)
_SEARCHES = _plain("searches", Search, _old_searches)
_RUNS = _plain("cron runs", CronRun, _old_runs)
# In an order in which what refers goes before what is referred to.
KINDS = (
    Kind("events", _count_events, _choose_events, _remove_events),
    Kind("log chunks", _count_logs, _choose_logs, _remove_logs),
    _plain("deliveries", Delivery, _old_deliveries),
    _plain("webhooks", Webhook, _old_webhooks),
    Kind("idempotency keys", _count_keys, _choose_keys, _remove_keys),
    Kind(_JOBS.name, _JOBS.count, _JOBS.choose, _remove_jobs),
    Kind(_SEARCHES.name, _SEARCHES.count, _SEARCHES.choose, _remove_searches),
    Kind(_RUNS.name, _RUNS.count, _RUNS.choose, _remove_runs),
    _plain("crons", Cron, _old_crons),
)
