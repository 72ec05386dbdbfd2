"""The SDK's calls about scheduling: labels of nodes, what tenants may have, why a job waits, who held what."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from fleet.client_wire import Connection, given
from fleet.resources import Node
from fleet.scheduling_resources import TenantPage, TenantQuota, Usage, Why


class SchedulingCalls(Connection):
    """Scheduling."""

    def label_node(self, node_id: int, labels: Mapping[str, str]) -> Node:
        """Put labels on a node: all of them; those that are left out go."""
        body = {"labels": dict(labels)}
        reply = self._send("PUT", f"/v1/nodes/{node_id}/labels", body=body, repeatable=True)
        return Node.model_validate_json(reply.content)

    def why(self, job_id: int) -> Why:
        """Why a job waits: what nodes lack for it, without what it would start, and when it likely will."""
        return self._get(Why, f"/v1/jobs/{job_id}/why")

    def tenants(self, after: str = "", limit: int = 50) -> TenantPage:
        """The tenants: what they may have, and what they have."""
        return self._get(TenantPage, "/v1/tenants", {"after": after, "limit": limit})

    def put_quota(
        self,
        tenant: str,
        *,
        weight: float = 1.0,
        max_gpus: int | None = None,
        gpu_seconds: float | None = None,
        period_s: float | None = None,
        max_queued: int | None = None,
    ) -> TenantQuota:
        """Say what a tenant may have, all of it; None is without a limit."""
        limits = given(max_gpus=max_gpus, gpu_seconds=gpu_seconds, period_s=period_s, max_queued=max_queued)
        path = f"/v1/tenants/{quote(tenant, safe='')}/quota"
        reply = self._send("PUT", path, body={"weight": weight, **limits}, repeatable=True)
        return TenantQuota.model_validate_json(reply.content)

    def usage(self, days: int = 1) -> Usage:
        """Who held what in so many days, today's included (UTC)."""
        return self._get(Usage, "/v1/usage", {"days": days})
