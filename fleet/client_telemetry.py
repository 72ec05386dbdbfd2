"""The SDK's calls about racks, where nodes stand, and what nodes were measured to do."""

from __future__ import annotations

from urllib.parse import quote

from fleet.client_wire import Connection, given
from fleet.resources import Page
from fleet.telemetry_resources import NodeHistory, NodeTelemetry, Place, Rack


class TelemetryCalls(Connection):
    """Places and telemetry."""

    def place_node(self, node_id: int, site: str, rack: str, nameplate_watts: float | None = None) -> Place:
        """Say where a node stands, and the most that it draws by its maker's word."""
        said = given(site=site, rack=rack, nameplate_watts=nameplate_watts)
        return self._put(Place, f"/v1/nodes/{node_id}/place", said)

    def racks(self, after: int | None = None, limit: int | None = None) -> Page[Rack]:
        """The racks, each with the number of its nodes."""
        return self._get(Page[Rack], "/v1/racks", given(after=after, limit=limit))

    def put_rack(self, site: str, rack: str, power_budget_watts: float | None = None) -> Rack:
        """Say what a rack may draw; None forgets it."""
        path = f"/v1/racks/{quote(site, safe='')}/{quote(rack, safe='')}"
        return self._put(Rack, path, {"power_budget_watts": power_budget_watts})

    def telemetry(self, after: int | None = None, limit: int | None = None) -> Page[NodeTelemetry]:
        """What every node was last measured to do, and what is wrong with it."""
        return self._get(Page[NodeTelemetry], "/v1/telemetry", given(after=after, limit=limit))

    def node_telemetry(self, node_id: int) -> NodeHistory:
        """A node's last hour."""
        return self._get(NodeHistory, f"/v1/nodes/{node_id}/telemetry")
