"""Windows: nodes that are reserved for a tenant, or in maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt

from api.auth import Operator, Reader
from api.body import StrictRoute
from api.deps import IdempotencyKey, Reading, Writing
from api.pages import LARGEST_ID, PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import Request, problems
from fleet import idempotency, nodes, windows
from fleet.agents.protocol import Name
from fleet.db import Session, now
from fleet.models import NodeWindow
from fleet.permissions import HOME
from fleet.resources import Page
from fleet.scheduling_resources import Window

LATEST = 253_402_300_000.0  # the year 9999
NodeId = Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)]
router = Router(
    prefix="/v1/windows", tags=["nodes"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class WindowRequest(Request):
    """Which nodes, for whom, from when until when. Times are epoch seconds."""

    kind: Literal["reservation", "maintenance"]
    tenant: Name | None = Field(default=None, description="of a reservation: whose jobs alone begin there")
    nodes: list[NodeId | Name] = Field(
        min_length=1, max_length=windows.MOST_NODES, description="ids (numbers) or names (texts)"
    )
    starts_at: StrictFloat | None = Field(default=None, ge=0, le=LATEST, description="now, if it is left out")
    ends_at: StrictFloat = Field(ge=0, le=LATEST)
    reason: str = Field(default="", max_length=400)


@router.post("", status_code=201, summary="Keep nodes for a while", responses=problems(409, 413, 415))
def add_window(
    principal: Operator, session: Writing, request: WindowRequest, key: IdempotencyKey = None
) -> Window:
    """Nothing of others is begun there that could still run when it opens."""
    at = now(session)
    body = request.model_dump(mode="json")
    before = idempotency.earlier(session, principal, "window", key, body)
    if before is not None:
        return _resources(session, [windows.get(session, before)], principal.tenant)[0]
    ids = [nodes.named(session, each) if isinstance(each, str) else each for each in request.nodes]
    row = windows.add(
        session,
        kind=request.kind,
        tenant=request.tenant,
        node_ids=ids,
        starts_at=at if request.starts_at is None else request.starts_at,
        ends_at=request.ends_at,
        reason=request.reason,
        principal=principal,
        now=at,
    )
    idempotency.remember(session, principal, "window", key, body, row.id, at)
    return _resources(session, [row], principal.tenant)[0]


@router.get("", summary="List windows that are not over")
def list_windows(principal: Reader, session: Reading, page: PageDep) -> Page[Window]:
    """In order of id."""
    rows = windows.page(session, page.after, page.limit, now(session))
    return Page(items=_resources(session, rows, principal.tenant), next=next_cursor(rows, page))


@router.delete("/{window_id}", summary="Keep nodes no longer", responses=problems(404, 409))
def cancel_window(principal: Operator, session: Writing, window_id: RowId) -> Window:
    """What was planned round it is planned anew."""
    return _resources(
        session, [windows.cancel(session, window_id, principal, now(session))], principal.tenant
    )[0]


def _resources(session: Session, rows: Sequence[NodeWindow], tenant: str) -> list[Window]:
    """For somebody of this tenant: that another's nodes are kept, but not for whom, why and by whom."""
    names = nodes.names(session, {node_id for row in rows for node_id in row.node_ids})
    return [
        Window(
            id=row.id,
            kind=row.kind,
            tenant=row.tenant if _shown(row, tenant) else None,
            nodes=[names[node_id] for node_id in row.node_ids],
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            reason=row.reason if _shown(row, tenant) else "",
            created_by=row.created_by if _shown(row, tenant) else "",
            cancelled_at=row.cancelled_at,
        )
        for row in rows
    ]


def _shown(row: NodeWindow, tenant: str) -> bool:
    return row.kind == "maintenance" or tenant in (row.tenant, HOME)
