"""The application: the one place where its parts are joined."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from importlib import metadata
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from api import errors
from api.audit_chain import AuditChain
from api.body import Bodies, BodyLimit
from api.controllers import Controllers
from api.deps import Parts
from api.latencies import Latencies
from api.logins import Logins
from api.rates import AddressRates, Buckets
from api.routes import (
    access,
    agents,
    arrays,
    blobs,
    boxes,
    crons,
    data_sets,
    discovery,
    document,
    events,
    execs,
    gc,
    health,
    jobs,
    kernels,
    logs,
    metrics,
    nodes,
    people,
    places,
    releases,
    scheduling,
    searches,
    secrets,
    telemetry,
    tokens,
    trust,
    updates,
    webhooks,
    windows,
)
from api.routes.console import Console
from api.schemas import MEDIA_TYPE
from api.scrapers import Scrapers
from api.settings import Settings
from api.uses import TokenUses
from api.waits import Waits
from fleet import acceptance, cron_ticks, gpu_ticks, reconcile, secrets_kept, update_ticks
from fleet.blobs import Blobs
from fleet.db import engine_for, now, reading, session_factory, upgrade, writing
from fleet.errors import DatabaseUnavailable
from fleet.expositions import MAX_PACKED_BYTES
from fleet.garbage import Collector
from fleet.instruments import Instruments
from fleet.leadership import Leadership
from fleet.loop import Loop
from fleet.metrics import Tally
from fleet.telemetry import telemetry_for
from fleet.webhook_sending import Sender

ROUTERS = (
    agents.router,
    nodes.router,
    trust.router,
    jobs.router,
    arrays.router,
    crons.router,
    logs.router,
    data_sets.router,
    execs.router,
    searches.router,
    kernels.router,
    blobs.router,
    events.router,
    gc.router,
    webhooks.router,
    tokens.router,
    people.router,
    secrets.router,
    places.router,
    boxes.router,
    scheduling.router,
    windows.router,
    telemetry.router,
    metrics.router,
    discovery.router,
    access.router,
    releases.router,
    updates.router,
    document.router,
    health.router,
)

SENDING_S = 1.0  # between two looks for events that somebody wants to be told of


def assemble(settings: Settings) -> Parts:
    """Open the database (bringing its schema up to date), the blobs and the controllers; nothing runs yet."""
    engine = engine_for(settings.fleet.database_url)
    upgrade(engine)
    sessions = session_factory(engine)
    files = Blobs(settings.fleet.blobs, settings.fleet.max_blob_bytes)
    waits = Waits()
    read, write = partial(reading, sessions), partial(writing, sessions)
    timings = settings.fleet.timings
    uses = TokenUses(write)
    with read() as session:
        up_since = now(session)
        tally = Tally(session)

    said = telemetry_for(settings.fleet.database_url, read, write)
    leadership = Leadership(write, alone=engine.dialect.name == "sqlite")
    chain = AuditChain(settings.fleet, read, write)

    logins = Logins(settings.fleet.ssh_authority_file, read, write)

    def tick() -> Iterable[int]:
        uses.write()
        if (
            not leadership.held()
        ):  # of several servers on one database another one decides; this one wakes its agents
            return reconcile.behind(sessions)
        logins.tick()
        chain.seal()
        update_ticks.tick(
            read, write, timings, up_since
        )  # before: a node that is offered a version takes no work
        gpu_ticks.tick(read, write)  # before: what is at fault takes no work
        acceptance.tick(read, write, said.latest)
        cron_ticks.tick(sessions, files)  # before: what it submits is placed in the same tick
        found = reconcile.tick(sessions, files, timings=timings, up_since=up_since, check=leadership.check)
        return found.hints

    keys = partial(secrets_kept.keys, settings.fleet.secret_keys_file, os.environ)
    collector = Collector(read, write, files, settings.fleet.retention)
    collecting = Loop(_led(leadership, collector.tick), settings.fleet.retention.every_s, "collector")
    sending = Loop(_led(leadership, Sender(read, write, keys).tick), SENDING_S, "webhooks")
    controllers = Controllers(tick, read, waits, timings.tick_s, beside=(sending, collecting))
    rates = Buckets(settings.rates.principal_per_s, settings.rates.principal_burst)
    downloads = Buckets(settings.rates.download_per_s, settings.rates.download_burst)
    return Parts(
        settings,
        read,
        write,
        files,
        waits,
        uses,
        Scrapers(),
        rates,
        downloads,
        controllers,
        up_since,
        partial(_close, leadership, engine.dispose),
        said,
        Instruments(),
        tally,
    )


def _led(leadership: Leadership, tick: Callable[[], object]) -> Callable[[], object]:
    """The tick, where this server decides."""
    return lambda: tick() if leadership.held() else None


def _close(leadership: Leadership, dispose: Callable[[], None]) -> None:
    with suppress(DatabaseUnavailable):
        leadership.release()
    dispose()


def create_app(parts: Parts, run_controllers: bool = True) -> FastAPI:
    """The API over its parts. Without controllers somebody else ticks (a test, by hand)."""
    app = FastAPI(
        title="tinyfleet",
        summary="GPU fleet manager, and search for fast kernels over the fleet",
        version=metadata.version("tinyfleet"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(parts, run_controllers),
        routes=[*api_routes(ROUTERS)],  # as they are: including a router would build each route once more
    )
    app.state.parts = parts
    errors.install(app)
    settings = parts.settings
    app.add_middleware(
        Bodies, waits=parts.waits, limits=body_limits(settings), otherwise_bytes=settings.max_body_bytes
    )
    if not settings.behind_tls_proxy:
        rates = Buckets(settings.rates.address_per_s, settings.rates.address_burst)
        app.add_middleware(AddressRates, buckets=rates)
    app.add_middleware(Latencies, instruments=parts.instruments)  # the last one added is outermost
    _serve_console(app)
    app.openapi = partial(openapi, app, app.openapi)  # type: ignore[method-assign]
    return app


def _lifespan(parts: Parts, run_controllers: bool) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Run the controllers while the application serves, and end what the parts hold after it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if run_controllers:
            parts.controllers.start()
        yield
        parts.waits.close()
        if run_controllers:
            await run_in_threadpool(parts.controllers.stop)
        parts.close()

    return lifespan


def _serve_console(app: FastAPI) -> None:
    console = Console()
    app.add_route("/console", console.index, include_in_schema=False)
    app.mount("/console", console)


def body_limits(settings: Settings) -> tuple[BodyLimit, ...]:
    """Where a body may be larger than elsewhere."""
    return (
        BodyLimit("/v1/jobs/batch", settings.max_batch_bytes),
        BodyLimit("/v1/blobs/", settings.fleet.max_blob_bytes),
        BodyLimit("/v1/agents/sync", settings.max_sync_bytes),
        BodyLimit("/v1/agents/metrics", MAX_PACKED_BYTES),
    )


def api_routes(routers: Iterable[APIRouter]) -> Iterable[APIRoute]:
    """Every endpoint of the routers."""
    for router in routers:
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def openapi(app: FastAPI, generate: Any) -> dict[str, Any]:
    """The OpenAPI document, with error responses under the media type that they have."""
    if app.openapi_schema is None:
        document: dict[str, Any] = generate()
        for path in document["paths"].values():
            for operation in path.values():
                _problem_media_type(operation["responses"])
    assert app.openapi_schema is not None
    return app.openapi_schema


def _problem_media_type(responses: Mapping[str, dict[str, Any]]) -> None:
    for status, response in responses.items():
        if status >= "400" and "content" in response:
            (content,) = response["content"].values()
            response["content"] = {MEDIA_TYPE: content}
