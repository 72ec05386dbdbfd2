"""What has been kept for long enough: what would go, or a pass that takes it out."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field, StrictBool

from api.auth import Collecting
from api.body import StrictRoute
from api.deps import PartsDep
from api.routing import Router
from api.schemas import Request, problems
from fleet import garbage
from fleet.collected import Collected, CollectedBlob, CollectedKind
from fleet.db import now

router: APIRouter = Router(
    prefix="/v1/gc", tags=["retention"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class CollectRequest(Request):
    """Whether to look only."""

    dry_run: StrictBool = Field(default=True, description="change nothing, and say all that would go")


@router.post("", summary="Collect what was kept for long enough", responses=problems(413, 415))
def collect(principal: Collecting, parts: PartsDep, request: CollectRequest) -> Collected:
    """A pass like those that the server makes by itself every hour, or, as a dry run, a list of what would go. What
    something refers to stays, and the audit stays."""
    collector = garbage.Collector(parts.read, parts.write, parts.blobs, parts.settings.fleet.retention)
    haul = collector.look() if request.dry_run else collector.collect()
    with parts.write() as session:
        garbage.asked(session, principal, haul, now(session))
    return Collected(
        dry_run=request.dry_run,
        kinds=[
            CollectedKind(kind=kind, rows=rows, bytes=haul.bytes[kind]) for kind, rows in haul.rows.items()
        ],
        blobs=[CollectedBlob(hash=each.address, size=each.size) for each in haul.blobs],
        bytes=sum(haul.bytes.values()),
        more=haul.more,
    )
