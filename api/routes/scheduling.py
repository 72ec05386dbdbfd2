"""Why a job waits, what tenants may have, and who held what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field, StrictFloat, StrictInt

from api.auth import QuotaAdmin, Reader
from api.body import StrictRoute
from api.deps import PartsDep, Reading, Writing
from api.pages import LARGEST_ID, RowId
from api.routing import Router
from api.schemas import Request, problems
from fleet import explanations, holdings, jobs, nodes, quotas, usage
from fleet.db import Session, now
from fleet.models import Quota, Tenant
from fleet.order import Account, book
from fleet.permissions import HOME
from fleet.scheduling_resources import (
    Guesses,
    QuotaLimits,
    TenantPage,
    TenantQuota,
    Usage,
    UsageNode,
    UsageRow,
    Why,
    WhyGroup,
    WhyRemedy,
)

router = Router(
    prefix="/v1", tags=["scheduling"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
TenantName = Annotated[str, Path(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
DAY_S = 86_400.0
LATEST = 253_402_300_000.0  # the year 9999: what a timestamp can show


@router.get("/jobs/{job_id}/why", summary="Say why a job waits", responses=problems(404))
def why_job(principal: Reader, session: Reading, parts: PartsDep, job_id: RowId) -> Why:
    """Per group of nodes what they lack, without which requirements it would start, how many go before it, when its
    start is planned, and when it likely is."""
    job = jobs.owned(session, job_id, principal.tenant)
    at = now(session)
    found = explanations.of(session, job, at, parts.settings.fleet.timings, parts.up_since)
    guesses = found.guesses
    answer = Why(
        job_id=job.id,
        state=job.state,
        reason=job.reason,
        queued=found.queued,
        waits_for=list(found.waits_for),
        waits_for_arrays=list(found.waits_for_arrays),
        planned_at=found.planned_at,
        expected_at=found.expected_at,
        likely_s=found.likely_s,
        guesses=None
        if guesses is None
        else Guesses(count=guesses.count, late_s=guesses.mean_s, off_s=guesses.deviation_s),
    )
    if found.why is None:
        return answer
    told = {
        "ahead": found.why.ahead,
        "quota": found.why.quota,
        "would_start": found.why.would_start,
        "groups": [WhyGroup.model_validate(_listed(each)) for each in found.why.groups],
        "remedies": [WhyRemedy.model_validate(_listed(each)) for each in found.why.remedies],
    }
    return answer.model_copy(update=told)


def _listed(value: object) -> dict[str, object]:
    return {name: list(each) if isinstance(each, tuple) else each for name, each in vars(value).items()}


# ---------------------------------------------------------------------------------------------- tenants


class QuotaRequest(Request):
    """All of a tenant's limits; null, or left out, is without one."""

    weight: StrictFloat = Field(default=1.0, gt=0, le=1e6, description="of its fair share")
    max_gpus: StrictInt | None = Field(default=None, ge=0, le=LARGEST_ID, description="at once")
    gpu_seconds: StrictFloat | None = Field(default=None, ge=0, le=1e15, description="of each period")
    period_s: StrictFloat = Field(default=30 * DAY_S, ge=DAY_S, le=366 * DAY_S, description="whole days")
    max_queued: StrictInt | None = Field(default=None, ge=0, le=LARGEST_ID, description="jobs that wait")


@router.get("/tenants", summary="List tenants: what they may have, and what they have")
def list_tenants(
    principal: Reader,
    session: Reading,
    after: Annotated[str, Query(max_length=63, description="the `next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=200, description="how many items at most")] = 50,
) -> TenantPage:
    """By name. Those to whom the machines belong see all, others themselves."""
    rows = quotas.page(session, after, limit, principal.tenant)
    items = _tenants(session, rows)
    return TenantPage(items=items, next=rows[-1].name if len(rows) == limit else None)


@router.put(
    "/tenants/{tenant}/quota", summary="Say what a tenant may have", responses=problems(404, 413, 415)
)
def put_quota(
    principal: QuotaAdmin, session: Writing, tenant: TenantName, request: QuotaRequest
) -> TenantQuota:
    """All limits at once. What runs goes on; what waits is held to them from now on."""
    quotas.put(session, tenant, principal, now(session), **request.model_dump())
    (answer,) = _tenants(session, [quotas.tenant_named(session, tenant)])
    return answer


def _tenants(session: Session, rows: Sequence[Tenant]) -> list[TenantQuota]:
    at = now(session)
    accounts = quotas.accounts(session, at)
    found = quotas.of(session, [row.name for row in rows])
    whole = book(accounts, holdings.nodes(session, at), ())
    return [
        _tenant(
            row.name,
            found.get(row.name),
            accounts.get(row.name, Account(row.name)),
            quotas.queued(session, row.name),
            whole.share(row.name),
        )
        for row in rows
    ]


def _tenant(name: str, quota: Quota | None, account: Account, queued: int, share: float) -> TenantQuota:
    limits = QuotaLimits() if quota is None else QuotaLimits.model_validate(quota)
    return TenantQuota(
        tenant=name,
        held_gpus=account.held_gpus,
        held_slots=account.held_slots,
        queued=queued,
        gpu_seconds_left=account.gpu_s_left,
        share=share,
        **limits.model_dump(),
    )


# ------------------------------------------------------------------------------------------------ usage


@router.get("/usage", summary="Say who held what, by tenant and node")
def get_usage(
    principal: Reader,
    session: Reading,
    days: Annotated[int, Query(ge=1, le=3660, description="so many days, today's included (UTC)")] = 1,
) -> Usage:
    """Leases count from their grant to their end, or until now. Those to whom the machines belong see everybody's."""
    at = now(session)
    since = max(0.0, (at // DAY_S - days + 1) * DAY_S)
    home = principal.tenant == HOME
    rows = usage.held(session, since, at, None if home else principal.tenant)
    names = nodes.names(session, [row.node_id for row in rows])
    return Usage(
        since=since,
        until=at,
        tenants=[_usage_row(row, names) for row in rows],
        nodes=_usage_nodes(session, rows, since, at) if home else [],
    )


def _usage_row(row: usage.Held, names: Mapping[int, str]) -> UsageRow:
    counted = {name: value for name, value in vars(row).items() if name != "node_id"}
    return UsageRow(node=names[row.node_id], **counted)


def _usage_nodes(session: Session, rows: Sequence[usage.Held], since: float, until: float) -> list[UsageNode]:
    leased: dict[int, float] = defaultdict(float)
    busy: dict[int, float] = defaultdict(float)
    joules: dict[int, float] = defaultdict(float)
    throttled: dict[int, float] = defaultdict(float)
    for row in rows:
        joules[row.node_id] += row.joules
        throttled[row.node_id] += row.throttled_s
        leased[row.node_id] += row.gpu_leased_s
        busy[row.node_id] += row.gpu_busy_s
    return [
        UsageNode(
            node=each.name,
            gpus=each.gpus,
            gpu_s=each.gpu_s,
            leased_s=leased[each.node_id],
            busy_s=busy[each.node_id],
            quarantined_s=each.quarantined_s,
            joules=joules[each.node_id],
            throttled_s=throttled[each.node_id],
            idle_s=max(0.0, each.gpu_s - leased[each.node_id] - each.quarantined_s),
        )
        for each in usage.capacity(session, since, until)
    ]
