"""Nodes: what there is, what state it is in, and an operator's wishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Path, Query
from pydantic import Field, StrictFloat

from api.auth import Operator, Reader, Truster
from api.body import StrictRoute
from api.deps import Parts, PartsDep, Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import Request, problems
from fleet import cordons, datasets, gpus, labels, leases, models, nodes, places, trust
from fleet.agents.protocol import Name
from fleet.db import Session, now
from fleet.lifecycle import NodeState
from fleet.resources import Cordon, Device, Node, Page, Wall
from fleet.wishes import Labels

router = Router(
    prefix="/v1/nodes", tags=["nodes"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.get("", summary="List nodes")
def list_nodes(
    principal: Reader,
    session: Reading,
    page: PageDep,
    parts: PartsDep,
    state: Annotated[NodeState | None, Query(description="only nodes in this state")] = None,
) -> Page[Node]:
    """In order of id; retired ones only when asked for by their state."""
    rows = nodes.page(session, page.after, page.limit, state)
    items = _node_resources(session, rows, parts, principal.tenant)
    return Page(items=items, next=next_cursor(rows, page))


@router.get("/{node_id}", summary="Get a node with its devices", responses=problems(404))
def get_node(principal: Reader, session: Reading, parts: PartsDep, node_id: RowId) -> Node:
    """A retired node is still there to be read."""
    return node_resource(session, nodes.get(session, node_id), parts, principal.tenant)


@router.post("/{node_id}/cordon", summary="Accept nothing new on a node", responses=problems(404))
def cordon_node(principal: Operator, session: Writing, parts: PartsDep, node_id: RowId) -> Node:
    """What runs goes on."""
    row = nodes.cordon(session, node_id, principal, now(session))
    return node_resource(session, row, parts, principal.tenant)


@router.post("/{node_id}/uncordon", summary="Accept work on a node again", responses=problems(404, 409))
def uncordon_node(principal: Operator, session: Writing, parts: PartsDep, node_id: RowId) -> Node:
    """This takes back a drain too."""
    row = nodes.uncordon(session, node_id, principal, now(session))
    return node_resource(session, row, parts, principal.tenant)


class DrainRequest(Request):
    """How long what runs may go on."""

    deadline_s: StrictFloat | None = Field(
        default=None,
        ge=0,
        le=31_536_000,
        description="then it makes way and is queued again; null: until it ends",
    )


@router.post("/{node_id}/drain", summary="Drain a node", responses=problems(404, 409, 413, 415))
def drain_node(
    principal: Operator,
    session: Writing,
    parts: PartsDep,
    node_id: RowId,
    request: DrainRequest | None = None,
) -> Node:
    """Cordons it and lets what runs finish, for so long at most; then it is drained."""
    deadline_s = request.deadline_s if request is not None else None
    row = nodes.drain(session, node_id, principal, now(session), deadline_s)
    return node_resource(session, row, parts, principal.tenant)


@router.post(
    "/{node_id}/retire", summary="Take a drained node out of the fleet", responses=problems(404, 409)
)
def retire_node(principal: Truster, session: Writing, parts: PartsDep, node_id: RowId) -> Node:
    """Its token is revoked and its name is free."""
    row = nodes.retire(session, node_id, principal, now(session))
    return node_resource(session, row, parts, principal.tenant)


@router.post(
    "/{node_id}/gpus/{gpu}/retest", summary="Have a GPU reset and tested", responses=problems(404, 409)
)
def retest_gpu(
    principal: Operator, session: Writing, parts: PartsDep, node_id: RowId, gpu: Annotated[Name, Path()]
) -> Node:
    """One that is quarantined, once it was mended, or one that is doubted. It takes work again when a burn-in passed."""
    gpus.retest(session, node_id, gpu, principal, now(session))
    return node_resource(session, nodes.get(session, node_id), parts, principal.tenant)


class LabelsRequest(Request):
    """The labels of a node, for jobs to ask for."""

    labels: Labels = Field(description="all of them: those that are left out go")


@router.put("/{node_id}/labels", summary="Label a node", responses=problems(404, 413, 415))
def label_node(
    principal: Operator, session: Writing, parts: PartsDep, node_id: RowId, request: LabelsRequest
) -> Node:
    """Jobs can ask for them. What runs there goes on."""
    labels.put(session, node_id, principal, now(session), request.labels)
    return node_resource(session, nodes.get(session, node_id), parts, principal.tenant)


def node_resource(session: Session, node: models.Node, parts: Parts, tenant: str) -> Node:
    """A node's row as the API shows it to somebody of a tenant, with the devices that it has now."""
    (resource,) = _node_resources(session, [node], parts, tenant)
    return resource


def _node_resources(session: Session, rows: Sequence[models.Node], parts: Parts, tenant: str) -> list[Node]:
    ids, at = [row.id for row in rows], now(session)
    devices, held = nodes.devices_of(session, ids), leases.held(session, *ids)
    timings, up_since = parts.settings.fleet.timings, parts.up_since
    contacts = [nodes.contact(row, at, timings, up_since) for row in rows]
    standings, placed, labelled = (
        trust.standings(session, ids),
        places.of(session, ids),
        labels.of(session, ids),
    )
    taken, data = leases.held_gpus(session, held), datasets.kept(session, ids, tenant)
    ladders, barred = gpus.ladders(session, ids), cordons.of_all(session, ids)
    return [
        _node(
            row,
            standings[row.id],
            (placed[row.id].rack, labelled.get(row.id, {})),
            [_device(device, held, taken, ladders) for device in devices[row.id] if device.present],
            contact,
        ).model_copy(
            update={
                "data_sets": dict(data.get(row.id, {})),
                "cordons": [Cordon.model_validate(each) for each in barred.get(row.id, ())],
            }
        )
        for row, contact in zip(rows, contacts, strict=True)
    ]


def _node(
    node: models.Node,
    standing: models.Standing,
    place: tuple[str, dict[str, str]],
    devices: list[Device],
    contact: str,
) -> Node:
    return Node(
        id=node.id,
        name=node.name,
        state=node.state,
        cordoned=node.cordoned,
        contact=contact,
        pool=standing.pool,
        trust=standing.trust,
        trust_reason=standing.trust_reason,
        contested=standing.contested_at is not None,
        hostname=node.hostname,
        agent_version=node.agent_version,
        os=node.os,
        cores=node.cores,
        memory_bytes=node.memory_bytes,
        devices=devices,
        walls=[Wall.model_validate(wall) for wall in node.walls or []],
        rack=place[0],
        labels=place[1],
        drain_by=node.drain_by,
        enrolled_at=node.enrolled_at,
        last_seen_at=node.last_seen,
    )


def _device(
    device: models.Device,
    held: Sequence[models.Lease],
    gpu_ids: frozenset[int],
    ladders: Mapping[int, models.GpuLadder],
) -> Device:
    here = [lease for lease in held if lease.device_id == device.id]
    taken = {"leases": len(here), "exclusive": any(lease.exclusive for lease in here)}
    if device.id in gpu_ids:
        taken = {"leases": 1, "exclusive": True}
    state, reason = gpus.standing(ladders.get(device.id))
    health = {"health": state, "health_reason": reason}
    return Device.model_validate(device).model_copy(update={**taken, **health})
