"""The Python SDK: `Client(url, token)` speaks the whole public API, typed, over one HTTP connection pool.

    with Client("http://127.0.0.1:8000", token) as fleet:
        search = fleet.run_search(KernelRef(program="gemm", shape=[512, 512, 512]))
        while search.state not in FINISHED:
            search = fleet.search(search.id, wait=30)

A refusal by the server is an `ApiError` with the problem document; a server that cannot be reached, after brief
retries of what is safe to repeat, is `Unreachable`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fleet.agents.protocol import CommandSpec, KernelRef, KernelSpec, NoopSpec
from fleet.client_access import AccessCalls
from fleet.client_commands import CommandCalls
from fleet.client_crons import CronCalls
from fleet.client_events import EventCalls
from fleet.client_nodes import NodeCalls
from fleet.client_scheduling import SchedulingCalls
from fleet.client_telemetry import TelemetryCalls
from fleet.client_updates import UpdateCalls
from fleet.client_wire import ApiError as ApiError
from fleet.client_wire import Unreachable as Unreachable
from fleet.client_wire import document, new_key
from fleet.client_wire import given as _given
from fleet.resources import (
    Attempt,
    Candidate,
    Job,
    JoinToken,
    MintedToken,
    Node,
    Page,
    Purged,
    QuarantinedCandidate,
    RemovedPerson,
    Round,
    Search,
    Secret,
    SecretPage,
    Token,
    TunedKernel,
    WhoAmI,
)
from fleet.wishes import Requirements

# States after which a job or a search changes no more.
FINISHED = frozenset({"succeeded", "done", "failed", "cancelled"})

Spec = NoopSpec | KernelSpec | CommandSpec | Mapping[str, Any]


class Client(
    AccessCalls, CommandCalls, CronCalls, EventCalls, NodeCalls, SchedulingCalls, TelemetryCalls, UpdateCalls
):
    """A connection to one control plane: see `client_wire.Connection` for how it is made."""

    # ------------------------------------------------------------------------------------------- identity

    def whoami(self) -> WhoAmI:
        """Who this client's token says is asking."""
        return self._get(WhoAmI, "/v1/whoami")

    def join_token(
        self, ttl_s: float | None = None, pool: str | None = None, place: tuple[str, str] | None = None
    ) -> JoinToken:
        """A one-use secret with which one node enrolls, into `pool`, valid for `ttl_s` seconds; `place`: the site and
        the rack that it stands in."""
        where = None if place is None else {"site": place[0], "rack": place[1]}
        return self._post(JoinToken, "/v1/join-tokens", _given(ttl_s=ttl_s, pool=pool, place=where))

    def tokens(self, after: int | None = None, limit: int | None = None) -> Page[Token]:
        """The bearer tokens, without secrets."""
        return self._get(Page[Token], "/v1/tokens", _given(after=after, limit=limit))

    def mint_token(
        self,
        name: str,
        role: str = "user",
        ttl_s: float | None = None,
        kind: str = "user",
        scopes: Sequence[str] | None = None,
        tenant: str | None = None,
    ) -> MintedToken:
        """A new bearer token; its secret is in the answer and nowhere else. `scopes`: the only permissions of the
        role that it gives."""
        body = _given(name=name, role=role, ttl_s=ttl_s, kind=kind, scopes=scopes, tenant=tenant)
        return self._post(MintedToken, "/v1/tokens", body)

    def revoke_token(self, token_id: int) -> None:
        """End a token at once."""
        self._send("DELETE", f"/v1/tokens/{token_id}", repeatable=True)

    def put_secret(self, name: str, value: str) -> Secret:
        """Keep a secret of this tenant, in place of its value before; no call returns it."""
        path = f"/v1/secrets/{quote(name, safe='')}"
        reply = self._send("PUT", path, repeatable=True, body={"value": value})
        return Secret.model_validate_json(reply.content)

    def secrets(self, after: str = "", limit: int = 50) -> SecretPage:
        """This tenant's secrets, without values."""
        return self._get(SecretPage, "/v1/secrets", {"after": after, "limit": limit})

    def remove_secret(self, name: str) -> None:
        """Forget a secret."""
        self._send("DELETE", f"/v1/secrets/{quote(name, safe='')}", repeatable=True)

    def remove_person(self, name: str) -> RemovedPerson:
        """End every token of a person and what they have queued or running."""
        reply = self._send("DELETE", f"/v1/people/{quote(name, safe='')}", repeatable=True)
        return RemovedPerson.model_validate_json(reply.content)

    # ---------------------------------------------------------------------------------------------- nodes

    def nodes(self, after: int | None = None, limit: int | None = None) -> Page[Node]:
        """The nodes under management."""
        return self._get(Page[Node], "/v1/nodes", _given(after=after, limit=limit))

    def node(self, node_id: int) -> Node:
        """One node with its devices."""
        return self._get(Node, f"/v1/nodes/{node_id}")

    def cordon(self, node_id: int) -> Node:
        """Accept nothing new on the node."""
        return self._post(Node, f"/v1/nodes/{node_id}/cordon")

    def uncordon(self, node_id: int) -> Node:
        """Accept work on the node again."""
        return self._post(Node, f"/v1/nodes/{node_id}/uncordon")

    def drain(self, node_id: int, deadline_s: float | None = None) -> Node:
        """Cordon the node and let what runs there finish, for so many seconds at most."""
        return self._post(Node, f"/v1/nodes/{node_id}/drain", _given(deadline_s=deadline_s))

    def retire(self, node_id: int) -> Node:
        """Take the node out of the fleet; its identity is refused from now on."""
        return self._post(Node, f"/v1/nodes/{node_id}/retire")

    def trust_node(self, node_id: int, trust: str, reason: str) -> Node:
        """Say how far the node is trusted: sealed, shared or tainted, and why."""
        return self._post(Node, f"/v1/nodes/{node_id}/trust", {"trust": trust, "reason": reason})

    def readmit(self, node_id: int) -> Node:
        """Let in a node whose identity two live agents used, after the copy was stopped."""
        return self._post(Node, f"/v1/nodes/{node_id}/readmit")

    # ----------------------------------------------------------------------------------------------- jobs

    def submit_job(
        self,
        spec: Spec,
        *,
        name: str | None = None,
        priority: int | None = None,
        arch: str | None = None,
        node: int | str | None = None,
        timeout_s: float | None = None,
        max_retries: int | None = None,
        requirements: Requirements | Mapping[str, Any] | None = None,
        preemptible: bool | None = None,
        queue_timeout_s: float | None = None,
        retry_on: Sequence[str] | None = None,
        after: Sequence[int] | None = None,
        after_ok: Sequence[int] | None = None,
        after_any: Sequence[int] | None = None,
        after_ok_arrays: Sequence[int] | None = None,
        after_any_arrays: Sequence[int] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Queue a job, `node` by id or name; after others have begun, succeeded or ended. The same idempotency key with the same request gives the same job."""
        wanted = document(requirements) if requirements else None
        placement = _given(
            priority=priority, arch=arch, node=node, requirements=wanted, preemptible=preemptible
        )
        limits = _given(name=name, timeout_s=timeout_s, max_retries=max_retries, retry_on=retry_on)
        limits |= _given(queue_timeout_s=queue_timeout_s, after=after, after_ok=after_ok, after_any=after_any)
        limits |= _given(after_ok_arrays=after_ok_arrays, after_any_arrays=after_any_arrays)
        body = {"spec": document(spec), **placement, **limits}
        return self._post(Job, "/v1/jobs", body, idempotency_key or new_key())

    def jobs(
        self,
        state: str | None = None,
        kind: str | None = None,
        after: int | None = None,
        limit: int | None = None,
        array: int | None = None,
    ) -> Page[Job]:
        """Jobs, newest first, without those that searches made."""
        query = _given(state=state, kind=kind, after=after, limit=limit, array=array)
        return self._get(Page[Job], "/v1/jobs", query)

    def job(self, job_id: int, wait: float | None = None) -> Job:
        """One job. With `wait`, the answer comes when it has finished or after so many seconds (≤ 60)."""
        return self._get(Job, f"/v1/jobs/{job_id}", _given(wait=wait))

    def cancel_job(self, job_id: int) -> Job:
        """Ask for the job's end; it is `cancelled` once its agent has stopped it."""
        return self._post(Job, f"/v1/jobs/{job_id}/cancel")

    def attempts(self, job_id: int) -> list[Attempt]:
        """Every try at the job, the first one first."""
        return self._get(Page[Attempt], f"/v1/jobs/{job_id}/attempts").items

    # ------------------------------------------------------------------------------------------- searches

    def run_search(
        self,
        kernel: KernelRef | Mapping[str, Any],
        *,
        arch: str | None = None,
        width: int | None = None,
        budget_s: float | None = None,
        threads: int | None = None,
        per_round: int | None = None,
        max_rounds: int | None = None,
        seed: int | None = None,
        refresh: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Search:
        """Begin a BEAM search and return at once. A known kernel is `done` already (`source` is "cache"); the
        same search in flight is joined."""
        options = _given(arch=arch, width=width, budget_s=budget_s, threads=threads)
        limits = _given(per_round=per_round, max_rounds=max_rounds, seed=seed, refresh=refresh)
        body = {"kernel": document(kernel), **options, **limits}
        return self._post(Search, "/v1/searches", body, idempotency_key or new_key())

    def searches(
        self, state: str | None = None, after: int | None = None, limit: int | None = None
    ) -> Page[Search]:
        """Searches, newest first."""
        return self._get(Page[Search], "/v1/searches", _given(state=state, after=after, limit=limit))

    def search(self, search_id: int, wait: float | None = None) -> Search:
        """One search. With `wait`, the answer comes when it has finished or after so many seconds (≤ 60)."""
        return self._get(Search, f"/v1/searches/{search_id}", _given(wait=wait))

    def cancel_search(self, search_id: int) -> Search:
        """Stop a search; what it measured stays."""
        return self._post(Search, f"/v1/searches/{search_id}/cancel")

    def rounds(self, search_id: int) -> list[Round]:
        """The rounds of a search, the first one first."""
        return self._get(Page[Round], f"/v1/searches/{search_id}/rounds").items

    def candidates(self, search_id: int, limit: int | None = None) -> list[Candidate]:
        """The candidates of a search, the fastest first."""
        path = f"/v1/searches/{search_id}/candidates"
        return self._get(Page[Candidate], path, _given(limit=limit)).items

    # -------------------------------------------------------------------------------------------- kernels

    def kernels(self, after: int | None = None, limit: int | None = None) -> Page[TunedKernel]:
        """The fleet's tuned kernels."""
        return self._get(Page[TunedKernel], "/v1/kernels", _given(after=after, limit=limit))

    def kernel(self, kernel_id: int) -> TunedKernel:
        """One tuned kernel."""
        return self._get(TunedKernel, f"/v1/kernels/{kernel_id}")

    def kernel_source(self, kernel_id: int) -> str:
        """The C source of a tuned kernel."""
        return self._send("GET", f"/v1/kernels/{kernel_id}/source", repeatable=True).text

    def purge_kernels(self, node_id: int, since: float = 0.0, dry_run: bool = False) -> Purged:
        """Take out the tuned kernels that rest on a node's word since then (epoch seconds), or only say which."""
        body = {"node": node_id, "since": since, "dry_run": dry_run}
        return self._post(Purged, "/v1/kernels/purge", body)

    def quarantine(self, after: int | None = None, limit: int | None = None) -> Page[QuarantinedCandidate]:
        """Candidates set aside because they crashed, hung or lied."""
        return self._get(Page[QuarantinedCandidate], "/v1/quarantine", _given(after=after, limit=limit))
