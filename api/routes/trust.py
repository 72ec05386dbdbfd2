"""An operator's word on trust: how far a node is believed, whether it is let in again, what it said is taken back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from api.auth import Truster
from api.body import StrictRoute
from api.deps import PartsDep, Writing
from api.pages import LARGEST_ID, RowId
from api.routes.nodes import node_resource
from api.routing import Router
from api.schemas import Request, problems
from fleet import identities, kernels, nodes, trust
from fleet.db import now
from fleet.resources import Node, Purged, QuarantinedCandidate, TunedKernel
from fleet.standing_rows import Trust

router = Router(prefix="/v1", tags=["trust"], route_class=StrictRoute, responses=problems(401, 403, 422, 503))


RowIdField = Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)]


class TrustRequest(Request):
    """How far a node is trusted from now on, and why."""

    trust: Trust
    reason: Annotated[str, Field(min_length=1, max_length=400)]


@router.post(
    "/nodes/{node_id}/trust", summary="Say how far a node is trusted", responses=problems(404, 413, 415)
)
def trust_node(
    principal: Truster, session: Writing, parts: PartsDep, node_id: RowId, request: TrustRequest
) -> Node:
    """It falls by itself; only this raises it."""
    trust.decide(session, node_id, request.trust, request.reason, principal, now(session))
    return node_resource(session, nodes.get(session, node_id), parts, principal.tenant)


@router.post(
    "/nodes/{node_id}/readmit",
    summary="Let in a node whose identity was used by two agents",
    responses=problems(404),
)
def readmit_node(principal: Truster, session: Writing, parts: PartsDep, node_id: RowId) -> Node:
    """Stop the copy first: the agent that reports next is the node. It brings a new key, and the old one ends."""
    row = identities.readmit(session, nodes.get(session, node_id), principal, now(session))
    return node_resource(session, nodes.get(session, row.node_id), parts, principal.tenant)


class PurgeRequest(Request):
    """Whose word is taken back, since when."""

    node: RowIdField
    since: Annotated[StrictFloat, Field(ge=0, le=1e11, description="epoch seconds")] = 0.0
    dry_run: StrictBool = Field(default=False, description="only say which ones it would be")


@router.post(
    "/kernels/purge",
    summary="Take out what rests on a node's word: tuned kernels, and the quarantine",
    responses=problems(404, 413, 415),
)
def purge_kernels(principal: Truster, session: Writing, request: PurgeRequest) -> Purged:
    """Those that it found, timed or confirmed since then, and the candidates that are in quarantine by its word. A search
    of the same kernel then searches again."""
    node = nodes.get(session, request.node)
    taken = kernels.purge(session, node.id, request.since, principal, now(session), request.dry_run)
    return Purged(
        dry_run=request.dry_run,
        kernels=[TunedKernel.model_validate(row) for row in taken.kernels],
        quarantined=[QuarantinedCandidate.model_validate(row) for row in taken.quarantined],
    )
