"""What the API answers about places, racks and telemetry: as `fleet.resources`, for the routes and the SDK."""

from __future__ import annotations

from pydantic import Field

from fleet.resources import Resource, Timestamp


class Place(Resource):
    """Where a node stands."""

    site: str
    rack: str
    nameplate_watts: float | None = None


class Rack(Resource):
    """A cabinet of a site."""

    id: int
    site: str
    name: str
    power_budget_watts: float | None = Field(default=None, description="what its nodes may draw together")
    nodes: int = Field(default=0, description="nodes that stand in it")


class Finding(Resource):
    """One device of a node that is not well."""

    device: str = Field(description="gpu0, a drive by its serial, or node")
    verdict: str = Field(description="warned, suspect or failed; the latter two take no new work")
    reason: str
    action: str = Field(description="what answers it")
    since: Timestamp


class GpuSample(Resource):
    """What one GPU was last measured to do; what its source does not support is null."""

    gpu: str
    sm_active_ratio: float | None = Field(default=None, description="true utilization, 0 to 1")
    tensor_active_ratio: float | None = None
    memory_bandwidth_ratio: float | None = None
    busy_ratio: float | None = Field(default=None, description="what vendors' tools call utilization")
    power_watts: float | None = None
    power_limit_watts: float | None = None
    memory_used_bytes: float | None = None
    memory_total_bytes: float | None = None
    temperature_celsius: float | None = Field(default=None, description="of its hottest sensor")


class NodeTelemetry(Resource):
    """What a node was last measured to do, and what is wrong with it."""

    node_id: int
    node: str
    contact: str
    site: str = ""
    rack: str = ""
    measured_at: Timestamp | None = None
    stale: bool = Field(description="the measurement is older than two intervals, or there is none")
    power_watts: float | None = None
    power_source: str = Field(default="", description="what measured the node's power")
    gpus: list[GpuSample]
    findings: list[Finding]


class NodeHistory(Resource):
    """A node's last hour: values at each of the moments `at`; null where there was none."""

    latest: NodeTelemetry
    at: list[Timestamp]
    power_watts: list[float | None]
    gpus: dict[str, dict[str, list[float | None]]] = Field(description="by GPU and by name of the value")
