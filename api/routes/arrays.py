"""Arrays: many jobs that differ in their index only."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, StrictInt

from api.auth import Reader, Writer
from api.body import StrictRoute
from api.deps import IdempotencyKey, Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routes.jobs import WaitingRequest, options
from api.routing import Router
from api.schemas import problems
from fleet import arrays, jobs
from fleet.db import Session, now
from fleet.models import JobArray
from fleet.resources import Page
from fleet.scheduling_resources import Array

router = Router(
    prefix="/v1/arrays", tags=["jobs"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class ArrayRequest(WaitingRequest):
    """What each of the jobs is, and how many there are."""

    size: StrictInt = Field(ge=1, le=arrays.MOST, description="their indices are 0 to size - 1")
    parallel: StrictInt = Field(
        default=arrays.PARALLEL, ge=1, le=arrays.MOST_PARALLEL, description="at most so many at a time"
    )


@router.post("", status_code=201, summary="Submit an array of jobs", responses=problems(409, 413, 415))
def submit_array(
    principal: Writer, session: Writing, request: ArrayRequest, key: IdempotencyKey = None
) -> Array:
    """One row, however many jobs; theirs are made a few at a time. Each knows its index."""
    asked = jobs.asked(request.spec, **options(session, request))
    row = arrays.submit(
        session,
        asked,
        request.size,
        principal=principal,
        now=now(session),
        parallel=request.parallel,
        idempotency_key=key,
    )
    return _resources(session, [row])[0]


@router.get("", summary="List arrays, newest first")
def list_arrays(principal: Reader, session: Reading, page: PageDep) -> Page[Array]:
    """With how many of their jobs are in which state."""
    rows = arrays.page(session, page.after, page.limit, principal.tenant)
    return Page(items=_resources(session, rows), next=next_cursor(rows, page))


@router.get("/{array_id}", summary="Get an array", responses=problems(404))
def get_array(principal: Reader, session: Reading, array_id: RowId) -> Array:
    """Its jobs are listed by `GET /v1/jobs?array=`."""
    return _resources(session, [arrays.owned(session, array_id, principal.tenant)])[0]


@router.post("/{array_id}/cancel", summary="Cancel an array", responses=problems(404, 409))
def cancel_array(principal: Writer, session: Writing, array_id: RowId) -> Array:
    """What has no row yet is never made; what has not ended is cancelled."""
    return _resources(session, [arrays.cancel(session, array_id, principal, now(session))])[0]


def _resources(session: Session, rows: Sequence[JobArray]) -> list[Array]:
    counts = arrays.counts(session, rows)
    return [
        Array(
            id=row.id,
            name=row.name,
            size=row.size,
            parallel=row.parallel,
            states=dict(counts[row.id].states),
            unmade=counts[row.id].unmade,
            created_at=row.created_at,
            cancelled_at=row.cancelled_at,
            waits_for=row.waits_for or {},
            error=row.error or "",
        )
        for row in rows
    ]
