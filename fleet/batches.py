"""Many jobs in one request, all or none; and a job again: as it was (clone), or because it failed (retry)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import dependencies, events, idempotency, jobs, quotas
from fleet.agents.protocol import AnySpec
from fleet.errors import InvalidSpec, InvalidTransition
from fleet.lifecycle import JobState
from fleet.models import Job
from fleet.principals import Principal

MOST = 10_000
_SPEC: TypeAdapter[jobs.Spec] = TypeAdapter(AnySpec)
_COPIED = (
    *("name", "priority", "arch", "node_id", "timeout_s", "max_retries", "requires", "preemptible"),
    *("queue_timeout_s", "retry_on"),
)


def submit(
    session: Session,
    requests: Sequence[jobs.Asked],
    *,
    principal: Principal,
    now: float,
    idempotency_key: str | None = None,
) -> Sequence[int]:
    """Queue all of these jobs; their ids, in order. InvalidSpec names the first that cannot be, as jobs[3].priority."""
    jobs.permit(principal)
    body = [{**each.columns, **each.after, "spec": each.spec.model_dump(mode="json")} for each in requests]
    earlier = idempotency.earlier(session, principal, "batch", idempotency_key, body)
    if earlier is not None:
        return _of_batch(session, jobs.get(session, earlier), len(requests))
    for place, each in enumerate(requests):
        _check(session, each, place, principal.tenant)
    quotas.admit(session, principal.tenant, len(requests))
    owner: dict[str, Any] = {"tenant": principal.tenant, "created_by": str(principal), "now": now}
    rows = jobs.insert_all(session, [jobs.row(each.spec, **owner, **each.columns) for each in requests], now)
    for job, each in zip(rows, requests, strict=True):
        dependencies.block(session, job, each.after, now)
    found = [job.id for job in rows]
    idempotency.remember(session, principal, "batch", idempotency_key, body, found[0], now)
    data = {"count": len(found), "last": found[-1]}
    events.audit(session, principal, "job.batch", f"job:{found[0]}", data, now)
    return found


def _check(session: Session, request: jobs.Asked, place: int, tenant: str) -> None:
    try:
        jobs.check(session, request, tenant)
        dependencies.check(session, request.after, tenant)
    except InvalidSpec as error:
        raise InvalidSpec(f"jobs[{place}].{error.field}", error.problem) from error


def _of_batch(session: Session, first: Job, count: int) -> Sequence[int]:
    """Those that were made with the first, in one transaction."""
    same = (Job.created_at == first.created_at) & (Job.created_by == first.created_by)
    query = select(Job.id).where(same, Job.id >= first.id).order_by(Job.id).limit(count)
    return session.scalars(query).all()


def clone(session: Session, job_id: int, principal: Principal, now: float, key: str | None = None) -> Job:
    """A new job that asks for the same. InvalidTransition for one that a search made."""
    jobs.permit(principal)
    job = jobs.owned(session, job_id, principal.tenant)
    if (before := idempotency.earlier(session, principal, "clone", key, job_id)) is not None:
        return jobs.get(session, before)
    if job.search_id is not None:
        raise InvalidTransition("job", job.state, "clone", (f"another search, like {job.search_id}",))
    quotas.admit(session, principal.tenant, 1)
    return _again(session, job, "clone", principal, now, key)


def retry(session: Session, job_id: int, principal: Principal, now: float, key: str | None = None) -> Job:
    """A job that failed or was cancelled, anew: what has ended stays as it is. InvalidTransition for any other."""
    jobs.permit(principal)
    job = jobs.owned(session, job_id, principal.tenant)
    if (before := idempotency.earlier(session, principal, "retry", key, job_id)) is not None:
        return jobs.get(session, before)
    if job.search_id is not None or job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise InvalidTransition("job", job.state, "retry", ("clone",))
    quotas.admit(session, principal.tenant, 1)
    return _again(session, job, "retry", principal, now, key)


def _again(session: Session, job: Job, action: str, principal: Principal, now: float, key: str | None) -> Job:
    columns: dict[str, Any] = {name: getattr(job, name) for name in _COPIED}
    if action == "retry":
        columns |= {"array_id": job.array_id, "array_index": job.array_index}
    spec = _SPEC.validate_python(job.spec)
    found = jobs.insert(
        session,
        spec,
        tenant=job.tenant,
        created_by=str(principal),
        now=now,
        clone_of=job.id,
        **columns,
    )
    idempotency.remember(session, principal, action, key, job.id, found.id, now)
    events.audit(session, principal, f"job.{action}", f"job:{found.id}", {"of": job.id}, now)
    return found
