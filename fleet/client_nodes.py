"""The SDK's calls about the health of nodes: GPUs that are tested, what boxes should be, and which boxes there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from fleet.box_limits import Limits
from fleet.box_resources import Acceptance, Box, BoxCounts, BoxModel
from fleet.client_wire import Connection, given
from fleet.resources import Node, Page


class NodeCalls(Connection):
    """Health of nodes, and boxes."""

    def retest_gpu(self, node_id: int, gpu: str) -> Node:
        """Have a GPU reset and burnt in; it takes work again when it passed."""
        path = f"/v1/nodes/{node_id}/gpus/{quote(gpu, safe='')}/retest"
        return Node.model_validate_json(self._send("POST", path).content)

    # --------------------------------------------------------------------------------------- acceptance

    def box_models(self, after: int | None = None, limit: int | None = None) -> Page[BoxModel]:
        """The models of boxes, each with what one of it must be."""
        return self._get(Page[BoxModel], "/v1/box-models", given(after=after, limit=limit))

    def box_model(self, model: str) -> BoxModel:
        """What a box of a model must be."""
        return self._get(BoxModel, f"/v1/box-models/{quote(model, safe='')}")

    def put_box_model(self, model: str, limits: Limits | Mapping[str, Any]) -> BoxModel:
        """Say what a box of a model must be, all of it."""
        body = limits.model_dump(exclude_none=True) if isinstance(limits, Limits) else dict(limits)
        return self._put(BoxModel, f"/v1/box-models/{quote(model, safe='')}", body)

    def remove_box_model(self, model: str) -> None:
        """Forget a model of box."""
        self._send("DELETE", f"/v1/box-models/{quote(model, safe='')}", repeatable=True)

    def accept_node(self, node_id: int, model: str | None = None) -> Acceptance:
        """Hold a node against the limits of its model; `acceptance` has the verdict once it is there."""
        reply = self._send("POST", f"/v1/nodes/{node_id}/acceptance", body=given(model=model))
        return Acceptance.model_validate_json(reply.content)

    def acceptance(self, node_id: int) -> Acceptance:
        """What a node was found to be, the last time."""
        return self._get(Acceptance, f"/v1/nodes/{node_id}/acceptance")

    def acceptances(
        self, after: int | None = None, limit: int | None = None, state: str | None = None
    ) -> Page[Acceptance]:
        """The last verdict on each node that was held against a model; those measuring, accepted or refused."""
        return self._get(Page[Acceptance], "/v1/acceptances", given(after=after, limit=limit, state=state))

    # -------------------------------------------------------------------------------------------- stock

    def boxes(self, after: int | None = None, limit: int | None = None, **wanted: str | None) -> Page[Box]:
        """The stock; of this `serial`, `model`, `state`, `place` or `node`, where given."""
        return self._get(Page[Box], "/v1/boxes", given(after=after, limit=limit, **wanted))

    def box_counts(self) -> BoxCounts:
        """The stock in short."""
        return self._get(BoxCounts, "/v1/boxes/counts")

    def box(self, box_id: int) -> Box:
        """A box by its id."""
        return self._get(Box, f"/v1/boxes/{box_id}")

    def add_box(self, serial: str, model: str, key: str | None = None, **said: str | None) -> Box:
        """Add a box; `said`: its `state`, `place`, `node` and `note`."""
        body = given(serial=serial, model=model, **said)
        return self._post(Box, "/v1/boxes", body, key)

    def move_box(self, box_id: int, changes: Mapping[str, str | None]) -> Box:
        """Change what is given of a box's `state`, `place`, `node` (None takes it off), `note` and `model`."""
        reply = self._send("PATCH", f"/v1/boxes/{box_id}", body=dict(changes))
        return Box.model_validate_json(reply.content)
