"""What Prometheus scrapes: the text that each node pushed, and what the control plane says of itself."""

from __future__ import annotations

import gzip
from typing import Annotated, Any

from fastapi import Header, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from api.auth import NodeIdentity, Scraper
from api.body import StrictRoute
from api.deps import Parts, PartsDep, RawBody
from api.pages import RowId
from api.routing import Router
from api.schemas import binary, problems
from api.signed import Signed
from fleet import expositions, faults, gpus, health, metrics, nodes, readings
from fleet.db import now
from fleet.errors import InvalidSpec
from fleet.telemetry import Exposition

TEXT = "text/plain; version=0.0.4; charset=utf-8"
SMALLEST_PACKED_LEVEL = 1  # gzip: what an agent sent plain is packed here, for every scrape of it
_EXPOSITION: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "metrics in Prometheus' text format",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}
CHECKER = expositions.Checker()
router = Router(tags=["metrics"], route_class=StrictRoute, responses=problems(401, 403, 422, 503))


class Pushed(BaseModel):
    """The text is kept."""

    interval_s: float = Field(description="push the next one after so many seconds")


class Stale(HTTPException):
    """What the node said is too old to be shown as if it were so."""

    def __init__(self, detail: str) -> None:
        super().__init__(503, detail, headers={"Cache-Control": "no-store"})


@router.put(
    "/v1/agents/metrics",
    summary="Push the node's metrics",
    responses=problems(409, 413),
    openapi_extra={"requestBody": binary("text/plain")},
)
async def push_metrics(
    principal: NodeIdentity,
    signed: Signed,
    parts: PartsDep,
    content: RawBody,
    content_encoding: Annotated[str, Header(description="gzip, or nothing")] = "",
) -> Pushed:
    """Prometheus' text format, names beginning with `fleet_`, no timestamps. One that was signed before another
    that is kept is refused (409): drop it."""
    assert signed is not None, "a node is known by its signature"
    encoding = content_encoding.strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise InvalidSpec(
            "Content-Encoding", f"{encoding[:40]!r} is not unpacked here: send gzip, or plain text"
        )
    await run_in_threadpool(_keep, parts, principal.id, signed.at, content, encoding)
    return Pushed(interval_s=parts.settings.fleet.timings.metrics_s)


def _keep(parts: Parts, node_id: int, signed_at: float, content: bytes, encoding: str) -> None:
    text = CHECKER.check(expositions.unpacked(content, encoding))
    packed = content if encoding == "gzip" else gzip.compress(content, SMALLEST_PACKED_LEVEL)
    with parts.read() as session:
        moment = now(session)
        before = faults.of(session, node_id)
        resets = gpus.answered(session, node_id)
    skew = expositions.Sample(readings.SKEW, (), moment - signed_at)
    samples = [*readings.READER.read(text), skew]
    parts.telemetry.put(node_id, Exposition(packed, moment, signed_at, readings.read(samples)))
    found = health.worst(health.findings(samples, moment, resets=resets))
    if faults.differ(before, found):
        with parts.write() as session:
            faults.observe(session, node_id, found, moment)
        parts.controllers.changed()


@router.get(
    "/v1/nodes/{node_id}/metrics",
    summary="What a node last said of itself",
    responses=problems(404) | _EXPOSITION,
    response_class=PlainTextResponse,
)
async def node_metrics(
    principal: Scraper,
    parts: PartsDep,
    node_id: RowId,
    accept_encoding: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """As the node wrote it; 503 once it is older than two intervals, so that Prometheus sees the node as down."""
    found = parts.telemetry.at_hand(node_id)
    said, age_s = await run_in_threadpool(_latest, parts, node_id) if found is None else found
    limit_s = parts.settings.fleet.timings.stale_s
    if age_s > limit_s:
        raise Stale(f"the node's metrics are {age_s:.0f} s old; older than {limit_s:g} s they are not served")
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if "gzip" in accept_encoding.lower():
        return Response(said.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=TEXT)
    return Response(gzip.decompress(said.packed), headers=headers, media_type=TEXT)


def _latest(parts: Parts, node_id: int) -> tuple[Exposition, float]:
    said = parts.telemetry.latest(node_id)
    with parts.read() as session:
        if said is None:
            name = nodes.get(session, node_id).name
            raise Stale(f"node {name} has not pushed any metrics since this server started")
        return said, now(session) - said.received_at


@router.get(
    "/metrics",
    summary="What the control plane says of itself",
    responses=_EXPOSITION,
    response_class=PlainTextResponse,
)
def own_metrics(principal: Scraper, parts: PartsDep, request: Request) -> Response:
    """Jobs, queue, searches, leases, agents by their contact, racks, and how long requests took."""
    with parts.read() as session:
        sources = metrics.Sources(parts.settings.fleet.timings, parts.up_since, parts.telemetry, parts.tally)
        text = metrics.render(session, sources)
    return Response(text + parts.instruments.render(), headers={"Cache-Control": "no-store"}, media_type=TEXT)
