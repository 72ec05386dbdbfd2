"""Tuned kernels, their source, and the candidates in quarantine."""

from __future__ import annotations

from starlette.responses import PlainTextResponse

from api.auth import Reader
from api.body import StrictRoute
from api.deps import PartsDep, Reading
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import problems
from fleet import kernels
from fleet.errors import NotFound
from fleet.resources import Page, QuarantinedCandidate, TunedKernel

router = Router(
    prefix="/v1", tags=["kernels"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.get("/kernels", summary="List tuned kernels, newest first")
def list_kernels(principal: Reader, session: Reading, page: PageDep) -> Page[TunedKernel]:
    """One for each kernel, target and thread count; one that no second node has confirmed is its finder's alone."""
    rows = kernels.page(session, page.after, page.limit, principal.tenant)
    return Page(items=[TunedKernel.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.get("/kernels/{kernel_id}", summary="Get a tuned kernel", responses=problems(404))
def get_kernel(principal: Reader, session: Reading, kernel_id: RowId) -> TunedKernel:
    """With its schedule, its time and what its check found."""
    return TunedKernel.model_validate(kernels.get(session, kernel_id, principal.tenant))


@router.get(
    "/kernels/{kernel_id}/source",
    summary="Get a tuned kernel's source",
    response_class=PlainTextResponse,
    responses=problems(404),
)
def get_kernel_source(
    principal: Reader, session: Reading, parts: PartsDep, kernel_id: RowId
) -> PlainTextResponse:
    """C, as it was compiled when it was measured."""
    row = kernels.get(session, kernel_id, principal.tenant)
    if row.source_blob is None:
        raise NotFound("source of tuned kernel", kernel_id)
    source = parts.blobs.get(row.source_blob).decode("utf-8", "replace")
    return PlainTextResponse(source, headers={"X-Content-Type-Options": "nosniff"})


@router.get("/quarantine", summary="List candidates in quarantine, newest first")
def list_quarantine(principal: Reader, session: Reading, page: PageDep) -> Page[QuarantinedCandidate]:
    """Those that crashed, hung, lied or wrote where they must not."""
    rows = kernels.quarantine(session, principal.tenant, page.after, page.limit)
    items = [QuarantinedCandidate.model_validate(row) for row in rows]
    return Page(items=items, next=next_cursor(rows, page))
