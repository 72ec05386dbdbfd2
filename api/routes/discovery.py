"""Where Prometheus finds the nodes: service discovery over HTTP (`http_sd`)."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel, Field

from api.auth import Scraper
from api.body import StrictRoute
from api.deps import Reading
from api.routing import Router
from api.schemas import problems
from fleet import places

router = Router(
    prefix="/v1/discovery", tags=["metrics"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)


class TargetGroup(BaseModel):
    """Targets with their labels, as http_sd has them."""

    targets: list[str] = Field(examples=[["fleet.example.org:8000"]])
    labels: dict[str, str] = Field(
        examples=[{"__metrics_path__": "/v1/nodes/7/metrics", "node": "tiny7", "rack": "r1"}]
    )


@router.get("/prometheus", summary="Every node as a target of Prometheus")
def discover(principal: Scraper, session: Reading, request: Request) -> list[TargetGroup]:
    """One target a node that is not retired: this server, at the node's own path. Where it sits (site, rack, model,
    pool) comes as labels, as far as it is known."""
    address = request.url.netloc
    return [
        TargetGroup(
            targets=[address],
            labels={"__metrics_path__": f"/v1/nodes/{target.node_id}/metrics", **target.labels},
        )
        for target in places.targets(session)
    ]
