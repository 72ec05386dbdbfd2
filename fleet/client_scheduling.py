"""The SDK's calls about scheduling: labels of nodes, what tenants may have, why a job waits, who held what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fleet.agents.protocol import CommandSpec, KernelSpec, NoopSpec
from fleet.client_wire import Connection, document, given, new_key
from fleet.resources import Job, Node, Page
from fleet.scheduling_resources import Array, TenantPage, TenantQuota, Usage, Why, Window

Spec = NoopSpec | KernelSpec | CommandSpec | Mapping[str, Any]


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

    # ---------------------------------------------------------------------------------- arrays, batches

    def submit_array(
        self, spec: Spec, size: int, parallel: int | None = None, key: str | None = None, **options: Any
    ) -> Array:
        """Queue `size` jobs that differ in their index only, at most `parallel` at a time. `options` are those of a
        job, by the names that the API has."""
        body = {"spec": document(spec), "size": size, **given(parallel=parallel, **options)}
        return self._post(Array, "/v1/arrays", body, key or new_key())

    def arrays(self, after: int | None = None, limit: int | None = None) -> Page[Array]:
        """Arrays, newest first."""
        return self._get(Page[Array], "/v1/arrays", given(after=after, limit=limit))

    def array(self, array_id: int) -> Array:
        """One array, with how many of its jobs are in which state."""
        return self._get(Array, f"/v1/arrays/{array_id}")

    def cancel_array(self, array_id: int) -> Array:
        """Queue no more of its jobs, and cancel those that have not ended."""
        return self._post(Array, f"/v1/arrays/{array_id}/cancel")

    def submit_batch(self, jobs: Sequence[Mapping[str, Any]], key: str | None = None) -> list[int]:
        """Queue many jobs, all or none: each a request as `POST /v1/jobs` takes it. Returns their ids, in order."""
        body = {"jobs": [{**job, "spec": document(job["spec"])} for job in jobs]}
        headers = {"Idempotency-Key": key or new_key()}
        reply = self._send("POST", "/v1/jobs/batch", body=body, headers=headers, repeatable=True)
        return [int(each) for each in reply.json()["ids"]]

    def clone_job(self, job_id: int) -> Job:
        """A new job that asks for the same."""
        return self._post(Job, f"/v1/jobs/{job_id}/clone", key=new_key())

    def retry_job(self, job_id: int) -> Job:
        """A job that failed or was cancelled, anew."""
        return self._post(Job, f"/v1/jobs/{job_id}/retry", key=new_key())

    # ------------------------------------------------------------------------------------------ windows

    def add_window(
        self,
        nodes: Sequence[int | str],
        ends_at: float,
        *,
        tenant: str | None = None,
        starts_at: float | None = None,
        reason: str = "",
        key: str | None = None,
    ) -> Window:
        """Keep nodes from then (now) until then (epoch seconds): for a tenant, or without one for maintenance."""
        kind = "maintenance" if tenant is None else "reservation"
        body = {"kind": kind, "nodes": list(nodes), "ends_at": float(ends_at), "reason": reason}
        body |= given(tenant=tenant, starts_at=None if starts_at is None else float(starts_at))
        return self._post(Window, "/v1/windows", body, key or new_key())

    def windows(self, after: int | None = None, limit: int | None = None) -> Page[Window]:
        """Windows that are not over."""
        return self._get(Page[Window], "/v1/windows", given(after=after, limit=limit))

    def cancel_window(self, window_id: int) -> Window:
        """Keep the nodes no longer."""
        reply = self._send("DELETE", f"/v1/windows/{window_id}", repeatable=True)
        return Window.model_validate_json(reply.content)
