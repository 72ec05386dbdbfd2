"""Jobs: what was asked for. Submitting, reading, cancelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import commands, dependencies, events, idempotency, kernels, nodes, permissions, quotas, wishes
from fleet.agents.protocol import (
    BurninSpec,
    CommandSpec,
    ConfirmSpec,
    ExpandSpec,
    JobKind,
    KernelSpec,
    MeasureSpec,
    NoopSpec,
)
from fleet.errors import InvalidSpec, InvalidTransition, NotFound
from fleet.firing import amend
from fleet.firing import fire as fire_row
from fleet.lifecycle import JOB, AttemptState, JobEvent, JobState
from fleet.models import Attempt, Job, Node, Search
from fleet.principals import Principal
from fleet.wishes import Requirements

PublicSpec = NoopSpec | KernelSpec | CommandSpec
Spec = PublicSpec | ExpandSpec | MeasureSpec | ConfirmSpec | BurninSpec
INTERNAL = (JobKind.EXPAND, JobKind.MEASURE, JobKind.CONFIRM, JobKind.BURNIN)


def fire(session: Session, job: Job, event: JobEvent, now: float, **changes: Any) -> None:
    """Advance a job; StaleWrite when somebody wrote it since it was read."""
    fire_row(session, JOB, job, event, now, **changes)


# ------------------------------------------------------------------------------------------ submitting


@dataclass(frozen=True)
class Asked:
    """A request for a job: its spec, what its row says of it, and the jobs that it waits for, by what of their end."""

    spec: PublicSpec
    columns: Mapping[str, Any]
    after: Mapping[str, Sequence[int]] = field(default_factory=dict)


def asked(
    spec: PublicSpec,
    *,
    name: str | None = None,
    priority: int = 0,
    arch: str | None = None,
    node: int | None = None,
    timeout_s: float = 600.0,
    max_retries: int = 2,
    requirements: Requirements | None = None,
    preemptible: bool = False,
    queue_timeout_s: float | None = None,
    retry_on: Sequence[str] | None = None,
    after: Sequence[int] = (),
    after_ok: Sequence[int] = (),
    after_any: Sequence[int] = (),
    after_ok_arrays: Sequence[int] = (),
    after_any_arrays: Sequence[int] = (),
) -> Asked:
    """A request in one piece, unchecked; see `submit`."""
    columns: dict[str, Any] = {
        "name": name,
        "priority": priority,
        "arch": arch,
        "node_id": node,
        "timeout_s": timeout_s,
        "max_retries": max_retries,
        "requires": requirements.stored() if requirements is not None else {},
        "preemptible": preemptible,
        "queue_timeout_s": queue_timeout_s,
        "retry_on": sorted(set(retry_on)) if retry_on is not None else None,
    }
    if isinstance(spec, CommandSpec):
        columns["requires"] = commands.requires(spec, columns["requires"])
    waits = {"after": list(after), "after_ok": list(after_ok), "after_any": list(after_any)}
    waits |= {"after_ok_arrays": list(after_ok_arrays), "after_any_arrays": list(after_any_arrays)}
    return Asked(spec, columns, {kind: sorted(set(ids)) for kind, ids in waits.items() if ids})


def submit(
    session: Session,
    spec: PublicSpec,
    *,
    principal: Principal,
    now: float,
    idempotency_key: str | None = None,
    **wanted: Any,
) -> Job:
    """Queue a job. The same idempotency key and body give the same job; IdempotencyConflict for another body.

    `wanted` is what `asked` takes. `arch`: only on devices whose architecture begins so; `node`: only on that node
    (id); InvalidSpec when nothing enrolled is so. `timeout_s` bounds one attempt, `queue_timeout_s` the wait;
    `max_retries` counts retries after the outcomes in `retry_on`, without which those of the infrastructure count.
    """
    permit(principal)
    request = asked(spec, **wanted)
    body = {**request.columns, **request.after, "spec": spec.model_dump(mode="json")}
    earlier = idempotency.earlier(session, principal, "job", idempotency_key, body)
    if earlier is not None:
        return get(session, earlier)
    check(session, request, principal.tenant)
    dependencies.check(session, request.after, principal.tenant)
    quotas.admit(session, principal.tenant, 1)
    job = insert(
        session, spec, tenant=principal.tenant, created_by=str(principal), now=now, **request.columns
    )
    dependencies.block(session, job, request.after, now)
    idempotency.remember(session, principal, "job", idempotency_key, body, job.id, now)
    data = {"kind": job.kind, "name": job.name}
    events.audit(session, principal, "job.submit", f"job:{job.id}", data, now)
    return job


def permit(principal: Principal) -> None:
    """NotPermitted unless this principal may ask for work."""
    permissions.require(principal, permissions.Permission.WORK)


def check(session: Session, request: Asked, tenant: str) -> None:
    """InvalidSpec for what cannot be."""
    columns, spec = request.columns, request.spec
    if not 0 < columns["timeout_s"] <= 86_400:
        raise InvalidSpec("timeout_s", f"{columns['timeout_s']} must be above 0 and at most 86400 seconds")
    if not 0 <= columns["max_retries"] <= 10:
        raise InvalidSpec("max_retries", f"{columns['max_retries']} must be from 0 to 10")
    if not -100 <= columns["priority"] <= 100:
        raise InvalidSpec("priority", f"{columns['priority']} must be from -100 to 100")
    if columns["node_id"] is not None and columns["requires"].get("ranks", 1) > 1:
        raise InvalidSpec("node", "one node cannot hold a gang: leave out node, or requirements.ranks")
    nodes.check_wanted(session, columns["arch"], columns["node_id"])
    if isinstance(spec, KernelSpec):
        kernels.check(session, spec.kernel, "spec.kernel", tenant)
        if spec.tuned is not None:
            raise InvalidSpec("spec.tuned", "is filled in by the control plane; ask with schedule 'tuned'")
    if isinstance(spec, CommandSpec):
        commands.check(session, spec, tenant)


def insert(session: Session, spec: Spec, *, now: float, **columns: Any) -> Job:
    """A queued job's row and event, unchecked: for `submit` and for searches. `columns` are what `row` takes."""
    (job,) = insert_all(session, [row(spec, now=now, **columns)], now)
    return job


def insert_all(session: Session, rows: Sequence[Job], now: float) -> Sequence[Job]:
    """The rows of queued jobs and their events, in a few statements for all."""
    session.add_all(rows)
    session.flush()
    for job in rows:
        events.append(session, "job.queued", f"job:{job.id}", {"kind": job.kind}, now)
    return rows


def row(
    spec: Spec,
    *,
    tenant: str,
    created_by: str,
    now: float,
    timeout_s: float,
    name: str | None = None,
    priority: int = 0,
    arch: str | None = None,
    target_id: str | None = None,
    node_id: int | None = None,
    max_retries: int = 2,
    search: Search | None = None,
    requires: Mapping[str, Any] | None = None,
    **limits: Any,
) -> Job:
    """A queued job that is not in the database yet. `limits` are further columns."""
    threads = getattr(spec, "threads", 1)
    offered = dict(requires or {})
    needs = wishes.needs(spec.kind, offered, arch=arch, target_id=target_id, node_id=node_id, threads=threads)
    return Job(
        tenant=tenant,
        kind=spec.kind,
        name=name,
        spec=spec.model_dump(mode="json", by_alias=True),
        state=JOB.initial,
        state_at=now,
        priority=priority,
        requirement=needs.text(),
        arch=arch,
        target_id=target_id,
        node_id=node_id,
        threads=threads,
        timeout_s=timeout_s,
        max_retries=max_retries,
        search_id=search.id if search else None,
        round=search.round if search else None,
        created_by=created_by,
        created_at=now,
        requires=offered,
        ranks=needs.ranks,
        **limits,
    )


# --------------------------------------------------------------------------------------------- reading


def get(session: Session, job_id: int) -> Job:
    """The job, or NotFound."""
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound("job", job_id)
    return job


def owned(session: Session, job_id: int, tenant: str) -> Job:
    """The tenant's job, or NotFound: somebody else's is none."""
    job = session.get(Job, job_id)
    if job is None or job.tenant != tenant:
        raise NotFound("job", job_id)
    return job


def page(
    session: Session,
    state: str | None = None,
    kind: str | None = None,
    after: int | None = None,
    limit: int = 50,
    tenant: str | None = None,
    array: int | None = None,
) -> Sequence[Job]:
    """Jobs (of one tenant), newest first, with ids below the cursor `after`; a search's own only when asked by kind."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if array is not None:
        query = query.where(Job.array_id == array)
    query = query.where(Job.search_id.is_(None) if kind is None else Job.kind == kind)
    if tenant is not None:
        query = query.where(Job.tenant == tenant)
    if state is not None:
        query = query.where(Job.state == state)
    if after is not None:
        query = query.where(Job.id < after)
    return session.scalars(query).all()


def attempts(session: Session, job_id: int) -> Sequence[Attempt]:
    """A job's attempts, first to last."""
    return session.scalars(select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)).all()


def ran_on(session: Session, job_ids: Sequence[int]) -> Mapping[int, str]:
    """The name of the node of each job's last attempt, for those that had one."""
    last = select(func.max(Attempt.id)).where(Attempt.job_id.in_(job_ids)).group_by(Attempt.job_id)
    query = select(Attempt.job_id, Node.name).join(Node, Node.id == Attempt.node_id)
    return dict(session.execute(query.where(Attempt.id.in_(last))).all())


# ------------------------------------------------------------------------------------------ cancelling


def cancel(session: Session, job_id: int, principal: Principal, now: float) -> Job:
    """Ask a job to stop: a queued one is cancelled at once, a running one when its node has stopped it."""
    permit(principal)
    job = owned(session, job_id, principal.tenant)
    if job.search_id is not None:
        raise InvalidTransition("job", job.state, "cancel", (f"cancel of its search {job.search_id}",))
    if job.state not in (JobState.CANCELLING, JobState.CANCELLED):
        stop(session, job, now)
        events.audit(session, principal, "job.cancel", f"job:{job_id}", {}, now)
    return job


def stop(session: Session, job: Job, now: float) -> None:
    """Cancel a job that is not final, and change its node's desired set."""
    queued = job.state in (JobState.QUEUED, JobState.BLOCKED)
    fire(session, job, JobEvent.CANCEL, now, **({"finished_at": now, "reason": ""} if queued else {}))
    live = select(Attempt).where(Attempt.job_id == job.id, Attempt.state != AttemptState.ENDED)
    redirect(session, session.scalars(live).all())


def redirect(session: Session, attempts: Sequence[Attempt]) -> None:
    """Change the desired sets of the nodes of these attempts, whose job is no longer to run."""
    for attempt in attempts:
        since = nodes.redirect(session, attempt.node_id)
        amend(session, "attempt", attempt, {"since_generation": since})
