"""Data sets: folders of files that nodes keep for the commands that read them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Response

from api.auth import Reader, Uploader
from api.body import StrictRoute
from api.deps import PartsDep, Reading, Writing
from api.pages import LONGEST_PAGE
from api.routing import Router
from api.schemas import problems
from fleet import datasets, holders
from fleet.db import now
from fleet.resources import DataSet, DataSetPage

router = Router(
    prefix="/v1/data-sets",
    tags=["data sets"],
    route_class=StrictRoute,
    responses=problems(401, 403, 422, 503),
)
Address = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="of the blob that lists it", alias="data_set")
]


@router.get("", summary="List data sets, by address")
def list_data_sets(
    principal: Reader,
    session: Reading,
    after: Annotated[str, Query(max_length=64, description="the `next` of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="how many items at most")] = 50,
) -> DataSetPage:
    """Those of the tenant."""
    rows = datasets.page(session, principal.tenant, after, limit)
    return DataSetPage(
        items=[DataSet.model_validate(row) for row in rows],
        next=rows[-1].address if len(rows) == limit else None,
    )


@router.put("/{data_set}", summary="Keep a data set", responses=problems(404))
def put_data_set(principal: Uploader, address: Address, parts: PartsDep) -> DataSet:
    """Its list is a blob of this address; that and the blobs of its parts are there already, and stay while it does."""
    with parts.read() as session:
        holders.check(session, principal, address)
    found = datasets.listed(parts.blobs.get(address))  # before any transaction: a disk is slow
    with parts.write() as session:
        return DataSet.model_validate(datasets.put(session, address, found, principal, now(session)))


@router.delete("/{data_set}", status_code=204, summary="Keep a data set no more", responses=problems(404))
def delete_data_set(principal: Uploader, session: Writing, address: Address) -> Response:
    """Commands that were submitted with it and have not begun fail when a blob of it has gone."""
    datasets.remove(session, address, principal, now(session))
    return Response(status_code=204)
