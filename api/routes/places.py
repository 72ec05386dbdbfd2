"""Racks, and where nodes stand."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import Field

from api.auth import Operator, Reader
from api.body import StrictRoute
from api.deps import Reading, Writing
from api.pages import PageDep, RowId
from api.routing import Router
from api.schemas import Request, problems
from fleet import places
from fleet.agents.protocol import Name
from fleet.db import now
from fleet.resources import Page
from fleet.telemetry_resources import Place, Rack

MOST_WATTS = 1e9
router = Router(
    prefix="/v1", tags=["places"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
PlaceName = Annotated[Name, Path()]


class PlaceRequest(Request):
    """Where a node stands."""

    site: Name
    rack: Name
    nameplate_watts: float | None = Field(
        default=None, gt=0, le=MOST_WATTS, description="the most that the node draws, by its maker's word"
    )


class RackRequest(Request):
    """What a rack may draw; null forgets it."""

    power_budget_watts: float | None = Field(default=None, gt=0, le=MOST_WATTS)


@router.put("/nodes/{node_id}/place", summary="Say where a node stands", responses=problems(404, 413, 415))
def place_node(principal: Operator, session: Writing, node_id: RowId, request: PlaceRequest) -> Place:
    """Its rack is made if there is none of that name. Prometheus gets both as labels at its next discovery."""
    found = places.put_node(
        session,
        node_id,
        principal,
        request.site,
        request.rack,
        request.nameplate_watts,
        now(session),
    )
    return Place(site=found.site, rack=found.rack, nameplate_watts=found.nameplate_watts)


@router.get("/racks", summary="List racks")
def list_racks(principal: Reader, session: Reading, page: PageDep) -> Page[Rack]:
    """In order of id, each with the number of its nodes."""
    rows = places.racks(session, page.after, page.limit)
    items = [
        Rack(id=row.id, site=row.site, name=row.name, power_budget_watts=row.power_budget_watts, nodes=count)
        for row, count in rows
    ]
    return Page(items=items, next=rows[-1][0].id if len(rows) == page.limit else None)


@router.put("/racks/{site}/{rack}", summary="Say what a rack may draw", responses=problems(413, 415))
def put_rack(
    principal: Operator, session: Writing, site: PlaceName, rack: PlaceName, request: RackRequest
) -> Rack:
    """It is made if there is none of that name."""
    row = places.put_rack(session, principal, site, rack, request.power_budget_watts, now(session))
    return Rack(id=row.id, site=row.site, name=row.name, power_budget_watts=row.power_budget_watts, nodes=0)
