"""The SDK's calls about scheduling: labels of nodes, what tenants may have, why a job waits, who held what."""

from __future__ import annotations

from collections.abc import Mapping

from fleet.client_wire import Connection
from fleet.resources import Node


class SchedulingCalls(Connection):
    """Scheduling."""

    def label_node(self, node_id: int, labels: Mapping[str, str]) -> Node:
        """Put labels on a node: all of them; those that are left out go."""
        body = {"labels": dict(labels)}
        reply = self._send("PUT", f"/v1/nodes/{node_id}/labels", body=body, repeatable=True)
        return Node.model_validate_json(reply.content)
