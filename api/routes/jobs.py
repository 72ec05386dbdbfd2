"""Jobs: submit, list, wait for the end, cancel; their attempts and logs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import FailFast, Field, StrictBool, StrictFloat, StrictInt

from api.auth import Reader, Writer
from api.body import StrictRoute
from api.deps import IdempotencyKey, Parts, PartsDep, Reading, WaitQuery, Writing
from api.pages import LARGEST_ID, PageDep, RowId, next_cursor
from api.routes.attempts import attempt_resources
from api.routing import Router
from api.schemas import Request, problems
from api.waits import job_key
from fleet import batches, jobs, models, nodes, usage
from fleet.agents.protocol import JobKind, Name, Positive, PublicSpec
from fleet.db import Session, now
from fleet.lifecycle import HOLDING, JOB, JobState
from fleet.resources import Attempt, Job, Page, Resource
from fleet.wishes import Requirements

JobIds = list[Annotated[StrictInt, Field(ge=1, le=LARGEST_ID)]]
RetriedOutcome = Literal["failed", "timed_out", "infra_failed", "node_lost", "device_wedged"]
router = Router(
    prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class JobRequest(Request):
    """What to run, where it may run, and how often to try."""

    spec: PublicSpec
    name: Name | None = None
    priority: StrictInt = Field(default=0, ge=-100, le=100, description="higher goes first")
    arch: str | None = Field(
        default=None, min_length=1, max_length=400, description="only devices whose arch begins so"
    )
    node: Positive | Name | None = Field(
        default=None, description="only this node, by id (a number) or name (a text)"
    )
    timeout_s: StrictFloat = Field(default=600.0, gt=0, le=86_400, description="of one attempt")
    max_retries: StrictInt = Field(default=2, ge=0, le=10, description="after the outcomes in retry_on")
    requirements: Requirements = Field(default_factory=Requirements, description="of each node")
    preemptible: StrictBool = Field(
        default=False, description="may be stopped for a job of a higher priority, and is then queued again"
    )
    queue_timeout_s: StrictFloat | None = Field(
        default=None, gt=0, le=31_536_000, description="it fails when it has waited for so long"
    )
    retry_on: list[RetriedOutcome] | None = Field(
        default=None, max_length=8, description="without it: infra_failed, node_lost and device_wedged"
    )


class WaitingRequest(JobRequest):
    """A job that may wait for others."""

    after_ok: JobIds = Field(default_factory=list, max_length=64, description="jobs that must succeed first")
    after_any: JobIds = Field(default_factory=list, max_length=64, description="jobs that must end first")
    after: JobIds = Field(default_factory=list, max_length=64, description="jobs that must begin first")
    after_ok_arrays: JobIds = Field(
        default_factory=list, max_length=64, description="arrays all of whose jobs must succeed first"
    )
    after_any_arrays: JobIds = Field(
        default_factory=list, max_length=64, description="arrays whose jobs must all end first"
    )


@router.post("", status_code=201, summary="Submit a job", responses=problems(409, 413, 415))
def submit_job(
    principal: Writer, session: Writing, request: WaitingRequest, key: IdempotencyKey = None
) -> Job:
    """It is queued until a node has room; blocked while it waits for others. The same Idempotency-Key with the same
    body gives the same job."""
    wanted = options(session, request)
    job = jobs.submit(
        session, request.spec, principal=principal, now=now(session), idempotency_key=key, **wanted
    )
    return job_resource(session, job)


def options(session: Session, request: JobRequest) -> dict[str, Any]:
    """What a request asks for besides its spec, as `fleet.jobs.asked` takes it."""
    node = nodes.named(session, request.node) if isinstance(request.node, str) else request.node
    rest = request.model_dump(exclude={"spec", "node", "requirements", "size", "parallel"})
    return {"node": node, "requirements": request.requirements, **rest}


class BatchRequest(Request):
    """Many jobs at once, all or none."""

    # The first that is wrong ends it: each error costs a kilobyte, and there may be a million.
    jobs: Annotated[list[WaitingRequest], FailFast()] = Field(min_length=1, max_length=batches.MOST)


class Batch(Resource):
    """The ids of what was submitted, in its order."""

    ids: list[int]


@router.post("/batch", status_code=201, summary="Submit many jobs", responses=problems(409, 413, 415))
def submit_batch(
    principal: Writer, session: Writing, request: BatchRequest, key: IdempotencyKey = None
) -> Batch:
    """All of them or none, in one transaction."""
    asked = [jobs.asked(each.spec, **options(session, each)) for each in request.jobs]
    ids = batches.submit(session, asked, principal=principal, now=now(session), idempotency_key=key)
    return Batch(ids=list(ids))


@router.post(
    "/{job_id}/clone", status_code=201, summary="Submit a job again as it was", responses=problems(404, 409)
)
def clone_job(principal: Writer, session: Writing, job_id: RowId, key: IdempotencyKey = None) -> Job:
    """A new job that asks for the same."""
    return job_resource(session, batches.clone(session, job_id, principal, now(session), key))


@router.post(
    "/{job_id}/retry", status_code=201, summary="Try a job that failed again", responses=problems(404, 409)
)
def retry_job(principal: Writer, session: Writing, job_id: RowId, key: IdempotencyKey = None) -> Job:
    """A new job, for what has ended stays as it is. Only of one that failed or was cancelled."""
    return job_resource(session, batches.retry(session, job_id, principal, now(session), key))


@router.get("", summary="List jobs, newest first")
def list_jobs(
    principal: Reader,
    session: Reading,
    page: PageDep,
    state: Annotated[JobState | None, Query(description="only jobs in this state")] = None,
    kind: Annotated[
        JobKind | None, Query(description="only this kind; also those that searches made")
    ] = None,
    array: Annotated[int | None, Query(ge=1, le=LARGEST_ID, description="only of this array")] = None,
) -> Page[Job]:
    """Without the jobs that searches made, unless asked for by their kind."""
    rows = jobs.page(session, state, kind, page.after, page.limit, principal.tenant, array)
    return Page(items=_job_resources(session, rows), next=next_cursor(rows, page))


@router.get("/{job_id}", summary="Get a job, or wait for its end", responses=problems(404))
async def get_job(principal: Reader, parts: PartsDep, job_id: RowId, wait: WaitQuery = 0.0) -> Job:
    """With `wait`, answers when the job is final, else after so many seconds with the job as it then is."""
    look = partial(_read, parts, job_id, principal.tenant)
    return await parts.waits.look_until(job_key(job_id), wait, look, _is_final)


@router.post("/{job_id}/cancel", summary="Cancel a job", responses=problems(404, 409))
def cancel_job(principal: Writer, session: Writing, job_id: RowId) -> Job:
    """A queued job is cancelled at once, a running one when its node has stopped it."""
    return job_resource(session, jobs.cancel(session, job_id, principal, now(session)))


@router.get(
    "/{job_id}/attempts", summary="List a job's attempts, the first one first", responses=problems(404)
)
def list_attempts(principal: Reader, session: Reading, job_id: RowId) -> Page[Attempt]:
    """All of them: there are at most as many as retries allow."""
    jobs.owned(session, job_id, principal.tenant)
    rows = jobs.attempts(session, job_id)
    return Page(items=attempt_resources(session, rows))


def job_resource(session: Session, job: models.Job) -> Job:
    """A job's row as the API shows it, with the names of the node that it must run on and of that where it ran."""
    (resource,) = _job_resources(session, [job])
    return resource


def _job_resources(session: Session, rows: Sequence[models.Job]) -> list[Job]:
    names = nodes.names(session, [row.node_id for row in rows if row.node_id is not None])
    ran_on = jobs.ran_on(session, [row.id for row in rows])
    drawn = usage.drawn(session, [row.id for row in rows])
    return [
        _job(row, names.get(row.node_id or 0), ran_on.get(row.id), drawn.get(row.id, (None, None)))
        for row in rows
    ]


def _job(
    job: models.Job, node: str | None, ran_on: str | None, drawn: tuple[float | None, float | None]
) -> Job:
    computed: dict[str, Any] = {"attempts": _attempts(job), "node": node, "ran_on": ran_on}
    computed |= {"requirements": job.requires, "joules": drawn[0], "throttled_s": drawn[1]}
    copied = {name: getattr(job, name) for name in Job.model_fields if name not in computed}
    return Job(**copied, **computed)


def _attempts(job: models.Job) -> int:
    """How many attempts there were: one for each retry, and the one that is live or was the last."""
    live = job.state in HOLDING
    return job.retries + job.preempted + (live or job.outcome is not None)


def _read(parts: Parts, job_id: int, tenant: str) -> Job:
    with parts.read() as session:
        return job_resource(session, jobs.owned(session, job_id, tenant))


def _is_final(job: Job) -> bool:
    return job.state in JOB.final
