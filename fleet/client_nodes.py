"""The SDK's calls about the health of nodes: GPUs that are tested, what boxes should be, and which boxes there are."""

from __future__ import annotations

from urllib.parse import quote

from fleet.client_wire import Connection
from fleet.resources import Node


class NodeCalls(Connection):
    """Health of nodes."""

    def retest_gpu(self, node_id: int, gpu: str) -> Node:
        """Have a GPU reset and burnt in; it takes work again when it passed."""
        path = f"/v1/nodes/{node_id}/gpus/{quote(gpu, safe='')}/retest"
        return Node.model_validate_json(self._send("POST", path).content)
