"""Commands inside a job that runs."""

from __future__ import annotations

from pydantic import Field, StrictFloat

from api.auth import Writer
from api.body import StrictRoute
from api.deps import IdempotencyKey, Writing
from api.pages import RowId
from api.routes.jobs import job_resource
from api.routing import Router
from api.schemas import Request, problems
from fleet import execs
from fleet.agents.protocol import CommandSpec, Count
from fleet.db import now
from fleet.resources import Job

router = Router(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class ExecRequest(Request):
    """What to run, and in which rank of a gang."""

    spec: CommandSpec
    rank: Count = 0
    timeout_s: StrictFloat = Field(default=3600.0, gt=0, le=86_400)


@router.post(
    "/{job_id}/exec",
    status_code=201,
    summary="Run a command inside a job that runs",
    responses=problems(404, 409, 413, 415),
)
def exec_in_job(
    principal: Writer, session: Writing, job_id: RowId, request: ExecRequest, key: IdempotencyKey = None
) -> Job:
    """In the walls, the folder and the lease of the job's live attempt. It is a job of its own, with a log and an end of
    its own, that begins at once and ends with the other one at the latest."""
    job = execs.submit(
        session,
        job_id,
        request.spec,
        principal=principal,
        now=now(session),
        rank=request.rank,
        timeout_s=request.timeout_s,
        idempotency_key=key,
    )
    return job_resource(session, job)
