"""Commands that run inside what runs already: in the walls and the folder of a job's live attempt, under its lease."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events, idempotency, jobs, leases
from fleet.agents.protocol import CommandSpec, Inside
from fleet.errors import Crowded, InvalidSpec, InvalidTransition
from fleet.lifecycle import AttemptState
from fleet.models import Attempt, Job, Lease
from fleet.placement import Placement
from fleet.principals import Principal

MOST_IN_ATTEMPT, MOST_ON_NODE = 16, 256


def submit(
    session: Session,
    job_id: int,
    spec: CommandSpec,
    *,
    principal: Principal,
    now: float,
    rank: int = 0,
    timeout_s: float = 3600.0,
    idempotency_key: str | None = None,
) -> Job:
    """A job of its own, at once where the other one runs: it waits for nothing and holds nothing that is not held already.

    `rank`: of a gang, in whose attempt. NotFound for another tenant's job, InvalidTransition for one that does not run,
    InvalidSpec for what a guest cannot have, Crowded where too many run already.
    """
    jobs.permit(principal)
    host = jobs.owned(session, job_id, principal.tenant)
    body = {
        "job": job_id,
        "rank": rank,
        "timeout_s": timeout_s,
        "spec": spec.model_dump(mode="json"),
    }
    earlier = idempotency.earlier(session, principal, "job", idempotency_key, body)
    if earlier is not None:
        return jobs.get(session, earlier)
    _check(spec)
    attempt, lease = _live(session, host, rank)
    _check_room(session, attempt)
    inside = Inside(attempt_id=attempt.id, fence=lease.id)
    job = jobs.insert(
        session,
        spec.model_copy(update={"inside": inside}),
        tenant=principal.tenant,
        created_by=str(principal),
        now=now,
        timeout_s=timeout_s,
        name=f"in-{job_id}",
        node_id=attempt.node_id,
        max_retries=0,
    )
    leases.grant(
        session, Placement(job.id, job.generation, attempt.node_id, attempt.device_id, False, slots=0), now
    )
    idempotency.remember(session, principal, "job", idempotency_key, body, job.id, now)
    events.audit(session, principal, "job.exec", f"job:{job_id}", {"as": job.id}, now)
    return job


def _check_room(session: Session, attempt: Attempt) -> None:
    """Crowded where one more is one too many. They hold nothing that would run out, and a node tells of all it runs in one
    message."""
    guests = (
        select(Attempt.spec)
        .join(Lease, Lease.attempt_id == Attempt.id)
        .where(Lease.node_id == attempt.node_id, Lease.slots == 0, Lease.released_at.is_(None))
    )
    hosts = [spec["inside"]["attempt_id"] for spec in session.scalars(guests) if spec.get("inside")]
    if hosts.count(attempt.id) >= MOST_IN_ATTEMPT:
        raise Crowded("the job", hosts.count(attempt.id), MOST_IN_ATTEMPT)
    if len(hosts) >= MOST_ON_NODE:
        raise Crowded("its node", len(hosts), MOST_ON_NODE)


def _check(spec: CommandSpec) -> None:
    given = [name for name in ("files", "secrets", "artifacts", "container") if getattr(spec, name)]
    if given:
        raise InvalidSpec(f"spec.{given[0]}", "is the host's: a command in another one's folder brings none")
    if spec.inside is not None:
        raise InvalidSpec("spec.inside", "is filled in by the control plane")


def _live(session: Session, host: Job, rank: int) -> tuple[Attempt, Lease]:
    live = (
        select(Attempt, Lease)
        .join(Lease, Lease.attempt_id == Attempt.id)
        .where(Attempt.job_id == host.id, Attempt.rank == rank, Attempt.state == AttemptState.RUNNING)
    )
    found = session.execute(live.order_by(Attempt.id.desc())).first()
    if found is None:
        raise InvalidTransition("job", host.state, "exec", ("exec of a job that runs",))
    return found[0], found[1]
