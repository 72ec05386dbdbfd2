"""What agents ask: enrolment, the sync that is a long poll, and the upload of logs."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from api.auth import NodeIdentity, Secret
from api.body import StrictRoute
from api.deps import Parts, PartsDep, RawBody, Writing
from api.pages import LARGEST_ID, RowId
from api.schemas import binary, problems
from api.waits import job_key, node_key
from fleet import jobs, leases, nodes, sync
from fleet.agents.protocol import Desired, EnrollRequest, EnrollResponse, LogAck, Observed
from fleet.db import now

router = APIRouter(
    prefix="/v1/agents", tags=["agents"], route_class=StrictRoute, responses=problems(401, 403, 413, 422, 503)
)


@router.post(
    "/enroll",
    status_code=201,
    summary="Join the fleet with a join token as the bearer",
    responses=problems(409, 415),
)
def enroll(secret: Secret, session: Writing, request: EnrollRequest, response: Response) -> EnrollResponse:
    """Spends the join token and answers with the node's own token, shown this once."""
    response.headers["Cache-Control"] = "no-store"
    return nodes.enroll(session, secret, request, now(session))


@router.post(
    "/sync", summary="Report all that is observed; get all that is desired", responses=problems(409, 415)
)
async def sync_node(principal: NodeIdentity, parts: PartsDep, observed: Observed) -> Desired:
    """Records at once; then parks, for at most `wait_s`, until there is a newer generation than the one that
    the agent has applied. An older (boot id, sequence) is refused."""
    await run_in_threadpool(_record, parts, principal.id, observed)
    look = partial(_generation, parts, principal.id)
    await parts.waits.look_until(
        node_key(principal.id), observed.wait_s, look, lambda newest: newest > observed.generation
    )
    return await run_in_threadpool(_desired, parts, principal.id)


@router.put(
    "/attempts/{attempt_id}/logs",
    summary="Append to an attempt's log",
    responses=problems(404, 409),
    openapi_extra={"requestBody": binary("application/octet-stream")},
)
def append_log(
    principal: NodeIdentity,
    attempt_id: RowId,
    offset: Annotated[int, Query(ge=0, le=LARGEST_ID, description="where in the log the bytes begin")],
    fence: Annotated[
        int, Query(ge=0, le=LARGEST_ID, description="of the attempt's lease; an older one is refused")
    ],
    content: RawBody,
    parts: PartsDep,
) -> LogAck:
    """Answers how much of the log is there: the agent continues there, whatever it sent twice or too early."""
    with parts.write() as session:
        known = jobs.append_log(session, principal.id, attempt_id, fence, offset, content)
        job_id = leases.get(session, attempt_id).job_id
    parts.waits.hint(job_key(job_id))  # a log makes no event
    return LogAck(offset=known)


def _record(parts: Parts, node_id: int, observed: Observed) -> None:
    with parts.write() as session:
        decide = sync.record(session, node_id, observed, now(session))
    if decide:
        parts.controllers.changed()


def _generation(parts: Parts, node_id: int) -> int:
    with parts.read() as session:
        return sync.generation(session, node_id)


def _desired(parts: Parts, node_id: int) -> Desired:
    with parts.read() as session:
        return sync.desired(session, node_id, now(session), parts.settings.fleet.timings)
