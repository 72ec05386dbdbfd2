"""Crons: jobs that start by the clock. Add, list, show, run now, pause, resume, remove; runs, and their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import Field, StrictBool, StrictFloat, StrictInt

from api.auth import Reader, Writer
from api.body import StrictRoute
from api.deps import IdempotencyKey, Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routes.jobs import JobRequest
from api.routing import Router
from api.schemas import Request, problems
from fleet import crons, firetimes, models, nodes
from fleet.agents.protocol import Name
from fleet.baselines import Better, Watch
from fleet.cron_plan import CatchUp, Overlap
from fleet.cron_resources import Cron, CronRun, Point, Series
from fleet.db import Session, now
from fleet.resources import Page

router = Router(
    prefix="/v1/crons", tags=["crons"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
UPCOMING = 5
SeriesName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class WatchRequest(Request):
    """A series of numbers to compare with its baseline: the median of the last good runs."""

    name: SeriesName
    better: Better = Field(default=Better.LOWER, description="which way it gets better")
    tolerance: StrictFloat = Field(default=0.05, ge=0, le=100, description="0.05: five percent")
    window: StrictInt = Field(default=10, ge=1, le=200, description="how many good runs make the baseline")
    least: StrictInt = Field(default=3, ge=1, le=200, description="how many before anything is said")


class CronRequest(Request):
    """When, and what."""

    name: Name
    schedule: str = Field(
        min_length=1,
        max_length=firetimes.LONGEST,
        description="minute, hour, day of month, month, day of week, as 30 2 * * 1-5; or @hourly, @daily, …",
        examples=["30 2 * * 1-5"],
    )
    timezone: str = Field(
        default="UTC", min_length=1, max_length=64, description="of the tz database, as Europe/Zurich"
    )
    job: JobRequest
    overlap: Overlap = Field(
        default=Overlap.SKIP, description="what a run does that is due while another is under way"
    )
    catch_up: CatchUp = Field(
        default=CatchUp.LAST,
        description="which of the times are run at which the control plane was not there",
    )
    most_caught_up: StrictInt = Field(default=10, ge=1, le=100, description="the bound of catch_up all")
    watch: list[WatchRequest] = Field(default_factory=list, max_length=64)
    paused: StrictBool = False


class CronChange(Request):
    """What is to be otherwise; what is left out or null stays as it is."""

    schedule: str | None = Field(default=None, min_length=1, max_length=firetimes.LONGEST)
    timezone: str | None = Field(default=None, min_length=1, max_length=64)
    job: JobRequest | None = Field(default=None, description="the whole of it")
    overlap: Overlap | None = None
    catch_up: CatchUp | None = None
    most_caught_up: StrictInt | None = Field(default=None, ge=1, le=100)
    watch: list[WatchRequest] | None = Field(default=None, max_length=64, description="all of them")


class AcceptRequest(Request):
    """Which series is right as it is now."""

    series: SeriesName


@router.post("", status_code=201, summary="Add a cron", responses=problems(409, 413, 415))
def add_cron(principal: Writer, session: Writing, request: CronRequest, key: IdempotencyKey = None) -> Cron:
    """Its job is checked now as if it were submitted. The same Idempotency-Key with the same body gives the same cron."""
    given = request.model_dump(exclude={"job", "watch"})
    watch = [Watch(**each.model_dump()) for each in request.watch]
    row = crons.add(
        session,
        **given,
        job=job_arguments(session, request.job),
        watch=watch,
        principal=principal,
        now=now(session),
        idempotency_key=key,
    )
    return cron_resource(session, row)


def job_arguments(session: Session, job: JobRequest) -> dict[str, Any]:
    """What a run gives to jobs.submit, as JSON: the fields that were given, a node by its id."""
    fields = job.model_dump(mode="json", exclude={"spec", "node"}, exclude_unset=True)
    node = nodes.named(session, job.node) if isinstance(job.node, str) else job.node
    spec = job.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**fields, "spec": spec, **({} if node is None else {"node": node})}


@router.get("", summary="List crons, newest first")
def list_crons(
    principal: Reader,
    session: Reading,
    page: PageDep,
    name: Annotated[Name | None, Query(description="only the one of this name")] = None,
) -> Page[Cron]:
    """With the last run of each and when it is due next."""
    rows = crons.page(session, principal.tenant, name, page.after, page.limit)
    return Page(items=_resources(session, rows), next=next_cursor(rows, page))


@router.get("/{cron_id}", summary="Get a cron", responses=problems(404))
def get_cron(principal: Reader, session: Reading, cron_id: RowId) -> Cron:
    """How it stands, its last run, and the next times at which it is due."""
    return cron_resource(session, crons.get(session, cron_id, principal.tenant))


@router.patch("/{cron_id}", summary="Change a cron", responses=problems(404, 409, 413, 415))
def change_cron(principal: Writer, session: Writing, cron_id: RowId, request: CronChange) -> Cron:
    """Its history stays. Another schedule holds from now on; a run that is under way goes on as it was."""
    row = crons.change(
        session,
        cron_id,
        principal,
        now(session),
        job=None if request.job is None else job_arguments(session, request.job),
        watch=None if request.watch is None else [Watch(**each.model_dump()) for each in request.watch],
        **request.model_dump(exclude={"job", "watch"}),
    )
    return cron_resource(session, row)


@router.get("/{cron_id}/runs", summary="List a cron's runs, newest first", responses=problems(404))
def list_runs(principal: Reader, session: Reading, cron_id: RowId, page: PageDep) -> Page[CronRun]:
    """Also those that were skipped or missed, each with why."""
    crons.get(session, cron_id, principal.tenant)
    rows = crons.runs(session, cron_id, page.after, page.limit)
    return Page(items=[CronRun.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.get("/{cron_id}/series", summary="List the numbers of a cron's runs", responses=problems(404))
def list_series(
    principal: Reader,
    session: Reading,
    cron_id: RowId,
    limit: Annotated[int, Query(ge=1, le=200, description="how many points of each at most")] = 60,
) -> Page[Series]:
    """The last points of every series, oldest first, with the verdict on each."""
    row = crons.get(session, cron_id, principal.tenant)
    watched = crons.watches(row)
    found = crons.series(session, cron_id, limit)
    return Page(
        items=[
            Series(
                name=name,
                watched=crons.watched(watched[name]) if name in watched else None,
                points=[Point.model_validate(each) for each in points],
            )
            for name, points in found.items()
        ]
    )


@router.post("/{cron_id}/run", status_code=201, summary="Run a cron now", responses=problems(404, 409))
def run_cron(principal: Writer, session: Writing, cron_id: RowId, key: IdempotencyKey = None) -> CronRun:
    """Beside its schedule, also while it is paused. It waits for its turn when another run is under way."""
    return CronRun.model_validate(crons.run_now(session, cron_id, principal, now(session), key))


@router.post("/{cron_id}/pause", summary="Pause a cron", responses=problems(404, 409))
def pause_cron(principal: Writer, session: Writing, cron_id: RowId) -> Cron:
    """Nothing more is started by the clock; what runs goes on."""
    return cron_resource(session, crons.pause(session, cron_id, principal, now(session)))


@router.post("/{cron_id}/resume", summary="Resume a cron", responses=problems(404, 409))
def resume_cron(principal: Writer, session: Writing, cron_id: RowId) -> Cron:
    """From now on: times while it was paused are not missed."""
    return cron_resource(session, crons.resume(session, cron_id, principal, now(session)))


@router.post(
    "/{cron_id}/accept", summary="Accept what a series shows now", responses=problems(404, 409, 413, 415)
)
def accept_series(principal: Writer, session: Writing, cron_id: RowId, request: AcceptRequest) -> Cron:
    """Its baseline begins anew with the newest number: for a change that was wanted."""
    return cron_resource(session, crons.accept(session, cron_id, request.series, principal, now(session)))


@router.delete("/{cron_id}", status_code=204, summary="Remove a cron", responses=problems(404, 409))
def remove_cron(principal: Writer, session: Writing, cron_id: RowId) -> Response:
    """What runs or waits of it is cancelled."""
    crons.remove(session, cron_id, principal, now(session))
    return Response(status_code=204)


def cron_resource(session: Session, row: models.Cron) -> Cron:
    """A cron's row as the API shows it."""
    (resource,) = _resources(session, [row])
    return resource


def _resources(session: Session, rows: Sequence[models.Cron]) -> list[Cron]:
    last, at = crons.last_runs(session, [row.id for row in rows]), now(session)
    return [_resource(row, last.get(row.id), at) for row in rows]


def _resource(row: models.Cron, last: models.CronRun | None, at: float) -> Cron:
    paused = row.paused_at is not None
    computed: dict[str, Any] = {
        "paused": paused,
        "upcoming": () if paused else firetimes.upcoming(row.schedule, row.timezone, at, UPCOMING),
        "last_run": None if last is None else CronRun.model_validate(last),
    }
    copied = {name: getattr(row, name) for name in Cron.model_fields if name not in computed}
    return Cron.model_validate(copied | computed)
