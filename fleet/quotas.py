"""What a tenant may have: GPUs at once, GPU-seconds of a period, jobs in the queue; and its weight in fair share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import events, holdings, permissions
from fleet.errors import InvalidSpec, NotFound, QuotaExceeded
from fleet.lifecycle import JobState
from fleet.models import Job, JobArray, Quota, Tenant
from fleet.order import Account
from fleet.principals import Principal

MAX_QUEUED = 1_000_000  # of a tenant without a quota
DAY_S = 86_400.0


def put(session: Session, tenant: str, principal: Principal, now: float, **limits: Any) -> Quota:
    """Set all of a tenant's limits; None is without one. NotFound for the tenant, InvalidSpec for a broken day."""
    permissions.require(principal, permissions.Permission.QUOTAS)
    tenant_named(session, tenant)
    if limits["period_s"] % DAY_S:
        raise InvalidSpec("period_s", f"{limits['period_s']:.0f} is not a whole number of days of 86400 s")
    row = session.get(Quota, tenant)
    if row is None:
        row = Quota(tenant=tenant, **limits)
        session.add(row)
    else:
        for name, value in limits.items():
            setattr(row, name, value)
    session.flush()
    events.audit(session, principal, "quota.put", f"tenant:{tenant}", limits, now)
    return row


def tenant_named(session: Session, name: str) -> Tenant:
    """The tenant. NotFound."""
    found = session.get(Tenant, name)
    if found is None:
        raise NotFound("tenant", name)
    return found


def of(session: Session, tenants: Sequence[str]) -> Mapping[str, Quota]:
    """The quotas of those of these tenants that have any."""
    query = select(Quota).where(Quota.tenant.in_(tenants))
    return {row.tenant: row for row in session.scalars(query)}


def page(session: Session, after: str, limit: int, tenant: str) -> Sequence[Tenant]:
    """Tenants by name after `after`: the home tenant sees all, another only itself."""
    query = select(Tenant).where(Tenant.name > after).order_by(Tenant.name).limit(limit)
    return session.scalars(query if tenant == permissions.HOME else query.where(Tenant.name == tenant)).all()


def accounts(session: Session, now: float) -> Mapping[str, Account]:
    """What each tenant holds, held and may hold."""
    return holdings.accounts(session, holdings.held(session), now)


def queued(session: Session, tenant: str) -> int:
    """How many jobs of a tenant wait, those of arrays that have no row yet among them."""
    waits = Job.state.in_([JobState.QUEUED, JobState.BLOCKED])
    rows = select(func.count()).where(Job.tenant == tenant, waits, Job.search_id.is_(None))
    unmade = select(func.sum(JobArray.size - JobArray.made)).where(
        JobArray.tenant == tenant, JobArray.cancelled_at.is_(None)
    )
    return (session.scalar(rows) or 0) + int(session.scalar(unmade) or 0)


def admit(session: Session, tenant: str, count: int) -> None:
    """QuotaExceeded when so many more jobs would be too many in the queue."""
    quota = session.get(Quota, tenant)
    most = quota.max_queued if quota is not None and quota.max_queued is not None else MAX_QUEUED
    there = queued(session, tenant)
    if there + count > most:
        raise QuotaExceeded(tenant, "queued jobs", there, most)
