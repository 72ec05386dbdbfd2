"""Updates: which version the fleet is meant to run, and an operator's word on how it gets there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from api.auth import Operator, Reader, Truster
from api.body import StrictRoute
from api.deps import Parts, PartsDep, Reading, Writing
from api.routing import Router
from api.schemas import Request, problems
from fleet import models, updates
from fleet.agents.protocol import Name
from fleet.db import Session, now
from fleet.update_resources import NodeVersion, Updates
from fleet.updating import NodeView

router = Router(
    prefix="/v1/updates", tags=["updates"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
MOST = 10_000


class UpdateRequest(Request):
    """The version that every node shall run, and how it gets there."""

    version: Annotated[str, Field(min_length=1, max_length=40, examples=["1.2.0"])]
    canary: list[Name] = Field(default_factory=list, max_length=200, description="the nodes that go first")
    canaries: StrictInt = Field(
        default=1, ge=1, le=MOST, description="how many go first, where none are named"
    )
    soak_s: StrictFloat = Field(
        default=updates.SOAK_S,
        ge=0,
        le=30 * 86400,
        description="how long those run it before the others get it",
    )
    at_once: StrictInt = Field(default=1, ge=1, le=MOST, description="how many nodes change at the same time")


class PauseRequest(Request):
    """Offer nobody anything, or go on."""

    paused: StrictBool = True
    reason: Annotated[str, Field(max_length=400)] = ""


@router.get("", summary="Which version is wanted, and how far the fleet has come")
def show_updates(principal: Reader, session: Reading, parts: PartsDep) -> Updates:
    """With every node that is not retired."""
    return _resource(session, parts)


@router.put("", summary="Have every node run a version", responses=problems(413, 415))
def set_updates(principal: Truster, session: Writing, parts: PartsDep, request: UpdateRequest) -> Updates:
    """Canaries first, the others when those have run it for a while, each when it runs nothing. One that does not report
    with it within a minute returns to the version before; that pauses all."""
    updates.want(
        session,
        parts.settings.fleet.releases,
        request.version,
        principal,
        now(session),
        canary=request.canary,
        canaries=request.canaries,
        soak_s=request.soak_s,
        at_once=request.at_once,
    )
    return _resource(session, parts)


@router.post("/promote", summary="Give the version to all nodes now", responses=problems(409))
def promote_updates(principal: Truster, session: Writing, parts: PartsDep) -> Updates:
    """Without waiting for the canaries any longer."""
    updates.promote(session, principal, now(session))
    return _resource(session, parts)


@router.post("/pause", summary="Offer nobody anything, or go on", responses=problems(409, 413, 415))
def pause_updates(principal: Operator, session: Writing, parts: PartsDep, request: PauseRequest) -> Updates:
    """Nodes that are at it finish. Going on, the failures that there are count no more."""
    updates.pause(session, principal, request.paused, request.reason, now(session))
    return _resource(session, parts)


def _resource(session: Session, parts: Parts) -> Updates:
    row = updates.current(session)
    timings, up_since = parts.settings.fleet.timings, parts.up_since
    views = updates.node_views(session, row, now(session), timings, up_since)
    found = {} if row is None else updates.parts(session, row.id)
    nodes = [_node(view, found.get(view.id), row) for view in views]
    if row is None:
        return Updates(nodes=nodes)
    return Updates(
        wanted=row.version,
        stage=row.state,
        paused=row.paused,
        reason=row.reason,
        canary=row.canary,
        canaries=row.canaries,
        soak_s=row.soak_s,
        at_once=row.at_once,
        since=row.state_at,
        nodes=nodes,
    )


def _node(view: NodeView, part: models.NodeUpdate | None, row: models.Rollout | None) -> NodeVersion:
    note = ""
    if part is not None:
        note = part.error or part.progress
    if not note and row is not None and view.version != row.version:
        note = view.cannot()
    return NodeVersion(
        id=view.id, name=view.name, version=view.version, ring=view.ring, state=view.state or "", note=note
    )
