"""Boxes: what one of a model must be, whether a node is that, and which ones there are."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field, StrictStr, StringConstraints

from api.auth import Operator, Reader
from api.body import StrictRoute
from api.deps import IdempotencyKey, Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import Request, problems
from fleet import acceptance, box_models, idempotency, models, nodes, stock
from fleet.agents.protocol import Name
from fleet.box_limits import Limits
from fleet.box_resources import Acceptance, AcceptanceLine, Box, BoxCount, BoxCounts, BoxModel
from fleet.db import Session, now
from fleet.lifecycle_boxes import AcceptanceState, BoxState
from fleet.resources import Page

router = Router(prefix="/v1", tags=["boxes"], route_class=StrictRoute, responses=problems(401, 403, 422, 503))
ModelName = Annotated[Name, Path()]
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Serial = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[!-~]+$")]


# ---------------------------------------------------------------------------------------------- models


@router.get("/box-models", summary="List the models of boxes")
def list_box_models(principal: Reader, session: Reading, page: PageDep) -> Page[BoxModel]:
    """In order of id, each with what one of it must be."""
    rows = box_models.page(session, page.after, page.limit)
    return Page(items=[BoxModel.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.get("/box-models/{model}", summary="Get a model of box", responses=problems(404))
def get_box_model(principal: Reader, session: Reading, model: ModelName) -> BoxModel:
    """What one of it must be."""
    return BoxModel.model_validate(box_models.get(session, model))


@router.put("/box-models/{model}", summary="Say what a box of a model must be", responses=problems(413, 415))
def put_box_model(principal: Operator, session: Writing, model: ModelName, request: Limits) -> BoxModel:
    """All of it: a limit that is left out is none. It is made if there is none of that name."""
    row = box_models.put(session, model, request, principal, now(session))
    return BoxModel.model_validate(row)


@router.delete(
    "/box-models/{model}", status_code=204, summary="Forget a model of box", responses=problems(404)
)
def remove_box_model(principal: Operator, session: Writing, model: ModelName) -> None:
    """Not while boxes of the stock are of it."""
    box_models.remove(session, model, principal, now(session))


# ------------------------------------------------------------------------------------------ acceptance


class AcceptanceRequest(Request):
    """Against which model."""

    model: Name | None = Field(default=None, description="the node's own when it is left out")


@router.post(
    "/nodes/{node_id}/acceptance",
    status_code=202,
    summary="Hold a node against the limits of its model",
    responses=problems(404, 409, 413, 415),
)
def ask_acceptance(
    principal: Operator, session: Writing, node_id: RowId, request: AcceptanceRequest | None = None
) -> Acceptance:
    """It is cordoned and burnt in; then it is compared, and uncordoned if nothing is wrong."""
    model = None if request is None else request.model
    return _acceptance(session, acceptance.ask(session, node_id, model, principal, now(session)))


@router.get("/nodes/{node_id}/acceptance", summary="What a node was found to be", responses=problems(404))
def get_acceptance(principal: Reader, session: Reading, node_id: RowId) -> Acceptance:
    """The last time that it was held against a model, limit by limit."""
    return _acceptance(session, acceptance.of(session, node_id))


@router.get("/acceptances", summary="List what nodes were found to be")
def list_acceptances(
    principal: Reader,
    session: Reading,
    page: PageDep,
    state: Annotated[AcceptanceState | None, Query(description="only verdicts in this state")] = None,
) -> Page[Acceptance]:
    """The last verdict on each node that was held against a model, in order of the nodes' ids."""
    kept = None if state is None else str(state)
    rows = acceptance.page(session, page.after, page.limit, kept)
    return Page(
        items=[_verdict(row, name) for row, name in rows], next=next_cursor([row for row, _ in rows], page)
    )


def _acceptance(session: Session, row: models.Acceptance) -> Acceptance:
    return _verdict(row, nodes.get(session, row.id).name)


def _verdict(row: models.Acceptance, node: str) -> Acceptance:
    measuring = row.state == AcceptanceState.MEASURING
    return Acceptance(
        node=node,
        model=row.model,
        state=row.state,
        asked_at=row.asked_at,
        asked_by=row.asked_by,
        decided_at=None if measuring else row.state_at,
        lines=[AcceptanceLine.model_validate(line) for line in row.lines],
        jobs=row.jobs,
    )


# ----------------------------------------------------------------------------------------------- stock


class BoxRequest(Request):
    """A box more."""

    serial: Serial
    model: Name
    state: BoxState = BoxState.STORED
    place: Text = ""
    node: Name | None = Field(default=None, description="the name of the node that it is, or will be")
    note: Text = ""


class MoveRequest(Request):
    """What changes about a box; what is left out stays."""

    state: BoxState | None = None
    place: Text | None = None
    node: Name | None = Field(default=None, description="null takes its node off, if it is given")
    note: Text | None = None
    model: Name | None = None


@router.get("/boxes", summary="List the stock")
def list_boxes(
    principal: Operator,
    session: Reading,
    page: PageDep,
    serial: Annotated[StrictStr | None, Query(max_length=100)] = None,
    model: Annotated[StrictStr | None, Query(max_length=100)] = None,
    state: Annotated[BoxState | None, Query(description="only boxes in this state")] = None,
    place: Annotated[StrictStr | None, Query(max_length=200)] = None,
    node: Annotated[StrictStr | None, Query(max_length=100)] = None,
) -> Page[Box]:
    """In order of id."""
    wanted = {"serial": serial, "model": model, "place": place, "node": node}
    kept = None if state is None else str(state)
    rows = stock.page(session, page.after, page.limit, state=kept, **wanted)
    return Page(items=[Box.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.get("/boxes/counts", summary="Count the stock")
def count_boxes(principal: Operator, session: Reading) -> BoxCounts:
    """How many boxes of each model are in each state at each place."""
    found = stock.counts(session)
    return BoxCounts(
        items=[BoxCount(model=model, state=state, place=place, boxes=n) for model, state, place, n in found]
    )


@router.get("/boxes/{box_id}", summary="Get a box", responses=problems(404))
def get_box(principal: Operator, session: Reading, box_id: RowId) -> Box:
    """By its id; `GET /v1/boxes?serial=` finds it by its serial."""
    return Box.model_validate(stock.get(session, box_id))


@router.post("/boxes", status_code=201, summary="Add a box to the stock", responses=problems(409, 413, 415))
def add_box(principal: Operator, session: Writing, request: BoxRequest, key: IdempotencyKey = None) -> Box:
    """A node that joins by the name in `node` is held against the model before it takes work."""
    body = request.model_dump(mode="json")
    earlier = idempotency.earlier(session, principal, "box", key, body)
    if earlier is not None:
        return Box.model_validate(stock.get(session, earlier))
    at = now(session)
    row = stock.add(session, principal=principal, now=at, **request.model_dump())
    idempotency.remember(session, principal, "box", key, body, row.id, at)
    return Box.model_validate(row)


@router.patch("/boxes/{box_id}", summary="Move a box", responses=problems(404, 409, 413, 415))
def move_box(principal: Operator, session: Writing, box_id: RowId, request: MoveRequest) -> Box:
    """To another state or place, or onto another node."""
    given = request.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name == "node"}
    return Box.model_validate(stock.move(session, box_id, principal, now(session), changes))
