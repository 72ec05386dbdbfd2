"""Arrays: many jobs that differ in their index only, submitted as one row; the jobs' rows are made a few at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter
from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from fleet import dependencies, events, idempotency, jobs, quotas
from fleet.agents.protocol import AnySpec
from fleet.blocking import ArrayView, Drop, Make
from fleet.errors import InvalidSpec, NotFound, StaleWrite
from fleet.firing import fire_all
from fleet.lifecycle import JOB, JobEvent, JobState
from fleet.models import Job, JobArray
from fleet.principals import Principal

MOST = 100_000
PARALLEL, MOST_PARALLEL = 256, 4096
_SPEC: TypeAdapter[jobs.Spec] = TypeAdapter(AnySpec)
_FINAL = [str(state) for state in JOB.final]


@dataclass(frozen=True)
class Counts:
    """How an array's jobs stand: by state, those without a row yet as `unmade`."""

    states: Mapping[str, int]
    unmade: int


def submit(
    session: Session,
    asked: jobs.Asked,
    size: int,
    *,
    principal: Principal,
    now: float,
    parallel: int = PARALLEL,
    idempotency_key: str | None = None,
) -> JobArray:
    """Queue `size` jobs like this one, at most `parallel` of them at a time. InvalidSpec, QuotaExceeded."""
    jobs.permit(principal)
    if not 1 <= size <= MOST:
        raise InvalidSpec("size", f"{size} must be from 1 to {MOST}")
    if not 1 <= parallel <= MOST_PARALLEL:
        raise InvalidSpec("parallel", f"{parallel} must be from 1 to {MOST_PARALLEL}")
    template = {"spec": asked.spec.model_dump(mode="json", by_alias=True), **asked.columns}
    body = {"template": template, "size": size, "parallel": parallel}
    body |= {"after": asked.after} if asked.after else {}
    earlier = idempotency.earlier(session, principal, "array", idempotency_key, body)
    if earlier is not None:
        return owned(session, earlier, principal.tenant)
    jobs.check(session, asked, principal.tenant)
    dependencies.check(session, asked.after, principal.tenant)
    quotas.admit(session, principal.tenant, size)
    array = JobArray(
        tenant=principal.tenant,
        name=asked.columns["name"],
        template=template,
        size=size,
        parallel=parallel,
        waits_for={kind: list(ids) for kind, ids in asked.after.items()} or None,
        created_by=str(principal),
        created_at=now,
    )
    session.add(array)
    session.flush()
    idempotency.remember(session, principal, "array", idempotency_key, body, array.id, now)
    data = {"size": size, "kind": asked.spec.kind, "name": array.name}
    events.audit(session, principal, "array.submit", f"array:{array.id}", data, now)
    return array


def owned(session: Session, array_id: int, tenant: str) -> JobArray:
    """The tenant's array, or NotFound: somebody else's is none."""
    array = session.get(JobArray, array_id)
    if array is None or array.tenant != tenant:
        raise NotFound("array", array_id)
    return array


def page(session: Session, after: int | None, limit: int, tenant: str) -> Sequence[JobArray]:
    """A tenant's arrays, newest first, with ids below `after`."""
    query = select(JobArray).where(JobArray.tenant == tenant).order_by(JobArray.id.desc()).limit(limit)
    return session.scalars(query if after is None else query.where(JobArray.id < after)).all()


def counts(session: Session, arrays: Sequence[JobArray]) -> Mapping[int, Counts]:
    """How the jobs of each of these arrays stand."""
    found: dict[int, dict[str, int]] = {array.id: {} for array in arrays}
    query = select(Job.array_id, Job.state, func.count()).where(Job.array_id.in_(found))
    for array_id, state, count in session.execute(query.group_by(Job.array_id, Job.state)):
        found[array_id or 0][state] = count
    return {
        array.id: Counts(found[array.id], 0 if array.cancelled_at else array.size - array.made)
        for array in arrays
    }


def cancel(session: Session, array_id: int, principal: Principal, now: float) -> JobArray:
    """Make no more of its jobs, and cancel those that have not ended."""
    jobs.permit(principal)
    array = owned(session, array_id, principal.tenant)
    if array.cancelled_at is None:
        _stop(session, array, now)
        events.audit(session, principal, "array.cancel", f"array:{array_id}", {}, now)
    return array


def disown(session: Session, tenant: str, makers: set[str], now: float) -> int:
    """Make no more jobs of the arrays of people who were removed, and cancel those that have not ended; returns how many
    arrays."""
    theirs = (JobArray.tenant == tenant) & JobArray.created_by.in_(makers) & JobArray.cancelled_at.is_(None)
    rows = session.scalars(select(JobArray).where(theirs)).all()
    left = [row for row in rows if row.made < row.size or _has_live(session, row.id)]
    for row in left:
        _stop(session, row, now)
    return len(left)


def _has_live(session: Session, array_id: int) -> bool:
    live = select(Job.id).where(Job.array_id == array_id, Job.state.not_in(_FINAL)).limit(1)
    return session.scalar(live) is not None


def _stop(session: Session, array: JobArray, now: float) -> None:
    array.cancelled_at = now
    mine = Job.array_id == array.id
    for waits in (JobState.QUEUED, JobState.BLOCKED):  # thousands, perhaps
        fire_all(session, mine, waits, JobEvent.CANCEL, now, finished_at=now, reason="")
    live = select(Job).where(mine, Job.state.not_in([*_FINAL, JobState.CANCELLING]))
    for job in session.scalars(live.order_by(Job.id)).all():
        jobs.stop(session, job, now)


# -------------------------------------------------------------------------------------------- controllers


def views(session: Session) -> tuple[ArrayView, ...]:
    """The arrays that are not whole."""
    open_arrays = (JobArray.made < JobArray.size) & JobArray.cancelled_at.is_(None)
    rows = session.scalars(select(JobArray).where(open_arrays).order_by(JobArray.id)).all()
    if not rows:
        return ()
    live = select(Job.array_id, func.count()).where(
        Job.array_id.in_([row.id for row in rows]), Job.state.not_in(_FINAL)
    )
    unfinished = dict(session.execute(live.group_by(Job.array_id)).all())
    return tuple(
        ArrayView(
            row.id,
            row.size,
            row.made,
            row.parallel,
            unfinished.get(row.id, 0),
            dependencies.of_array(session, row.waits_for),
        )
        for row in rows
    )


def drop(session: Session, drop: Drop, now: float) -> None:
    """Make none of an array's jobs, for what it waits for will not be; StaleWrite when it was cancelled meanwhile."""
    as_seen = (JobArray.id == drop.array_id) & (JobArray.made == 0) & JobArray.cancelled_at.is_(None)
    gone = session.execute(
        update(JobArray).where(as_seen).values(cancelled_at=now, error=drop.error).returning(JobArray.id)
    )
    if gone.scalar() is None:
        raise StaleWrite("array", drop.array_id, "it changed after it was looked at")
    events.append(session, "array.failed", f"array:{drop.array_id}", {"error": drop.error}, now)


def apply(session: Session, make: Make, now: float) -> None:
    """Make the next rows; StaleWrite when somebody has made them, or cancelled the array."""
    as_seen = (JobArray.id == make.array_id) & (JobArray.made == make.first) & JobArray.cancelled_at.is_(None)
    taken = session.execute(update(JobArray).where(as_seen).values(made=make.first + make.count))
    if cast("CursorResult[Any]", taken).rowcount != 1:
        raise StaleWrite("array", make.array_id, "it changed after it was looked at")
    array = session.get_one(JobArray, make.array_id)
    session.refresh(array)
    spec = _SPEC.validate_python(array.template["spec"])
    columns = {name: value for name, value in array.template.items() if name != "spec"}
    rows = [
        jobs.row(
            spec,
            tenant=array.tenant,
            created_by=array.created_by,
            now=now,
            array_id=array.id,
            array_index=index,
            **columns,
        )
        for index in range(make.first, make.first + make.count)
    ]
    jobs.insert_all(session, rows, now)
