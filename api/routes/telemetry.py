"""What nodes were last measured to do, from what they pushed: the racks' map, and a node's last hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from api.auth import Reader
from api.body import StrictRoute
from api.deps import Parts, PartsDep, Reading
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import problems
from fleet import faults, models, nodes, places
from fleet.db import Session, now
from fleet.readings import Reading as Measured
from fleet.resources import Page
from fleet.telemetry import KEPT_S, Latest
from fleet.telemetry_resources import Finding, GpuSample, NodeHistory, NodeTelemetry

router = Router(
    prefix="/v1", tags=["telemetry"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


@router.get("/telemetry", summary="What every node was last measured to do")
def list_telemetry(
    principal: Reader, session: Reading, page: PageDep, parts: PartsDep
) -> Page[NodeTelemetry]:
    """Nodes in order of id, with where they stand; `stale` when the measurement is older than two intervals."""
    rows = nodes.page(session, page.after, page.limit)
    return Page(items=_shown(session, rows, parts), next=next_cursor(rows, page))


@router.get("/nodes/{node_id}/telemetry", summary="A node's last hour", responses=problems(404))
def node_telemetry(principal: Reader, session: Reading, node_id: RowId, parts: PartsDep) -> NodeHistory:
    """A moment every half minute, for each GPU and each value that its source supports. The history begins with the
    server's start where it is kept in memory."""
    row = nodes.get(session, node_id)
    (latest,) = _shown(session, [row], parts)
    points = parts.telemetry.history(node_id, now(session) - KEPT_S)
    series: dict[str, dict[str, list[float | None]]] = {}
    for number, point in enumerate(points):
        _add(series, point.reading, number, len(points))
    return NodeHistory(
        latest=latest,
        at=[point.at for point in points],
        power_watts=[point.reading.power_watts for point in points],
        gpus=series,
    )


def _add(
    series: dict[str, dict[str, list[float | None]]], reading: Measured, number: int, points: int
) -> None:
    for gpu in reading.gpus:
        for name, value in gpu.values.items():
            series.setdefault(gpu.gpu, {}).setdefault(name, [None] * points)[number] = value


def _shown(session: Session, rows: Sequence[models.Node], parts: Parts) -> list[NodeTelemetry]:
    ids, at = [row.id for row in rows], now(session)
    where, wrong = places.of(session, ids), faults.known(session, ids)
    said = parts.telemetry.readings(ids)
    timings = parts.settings.fleet.timings
    return [
        _node(
            row,
            where[row.id],
            wrong.get(row.id, ()),
            said.get(row.id),
            at,
            timings.stale_s,
            str(nodes.contact(row, at, timings, parts.up_since)),
        )
        for row in rows
    ]


def _node(
    row: models.Node,
    place: places.Standpoint,
    wrong: Sequence[models.FindingRow],
    said: Latest | None,
    at: float,
    stale_s: float,
    contact: str,
) -> NodeTelemetry:
    measured_at = None if said is None else said.received_at
    reading = Measured() if said is None else said.reading
    return NodeTelemetry(
        node_id=row.id,
        node=row.name,
        contact=contact,
        site=place.site,
        rack=place.rack,
        measured_at=measured_at,
        stale=measured_at is None or at - measured_at > stale_s,
        power_watts=reading.power_watts,
        power_source=reading.power_source,
        gpus=[GpuSample.model_validate(_gpu(each.gpu, each.values)) for each in reading.gpus],
        findings=[Finding.model_validate(each) for each in wrong],
    )


def _gpu(name: str, values: Mapping[str, float]) -> dict[str, object]:
    return {"gpu": name, **values}
