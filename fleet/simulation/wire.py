"""How simulated nodes reach the server: one pool of connections for all of them, each request signed by its node.

A real agent keeps a connection of its own; three hundred of those from one address are more than a server takes.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import httpx

from fleet.agents.client import Signed
from fleet.agents.keys import Signer
from fleet.agents.protocol import Desired, EnrollRequest, EnrollResponse, Inventory, Observed
from fleet.agents.signature import enrolment_text

TIMEOUT_S = 20.0


class Refusal(Exception):
    """The server answered with an error: its status and what it said."""

    def __init__(self, status: int, said: str) -> None:
        self.status = status
        super().__init__(f"{status}: {said}")


class NoAnswer(Exception):
    """The server did not answer."""


class Wire:
    """Requests of many nodes to one server. May be used from several threads; `connections` is how many it keeps."""

    def __init__(self, server: str, connections: int, ca_file: Path | None = None) -> None:
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        verify = httpx.create_ssl_context() if ca_file is None else httpx.create_ssl_context(str(ca_file))
        self._http = httpx.Client(base_url=server, limits=limits, timeout=TIMEOUT_S, verify=verify)

    def close(self) -> None:
        """Drop all connections."""
        self._http.close()

    def enroll(self, signer: Signer, join_token: str, name: str, inventory: Inventory) -> int:
        """Join; returns the node's id. Raises Refusal and NoAnswer, as all of these do."""
        key = signer.key
        request = EnrollRequest(
            name=name,
            inventory=inventory,
            public_key=key.public,
            proof=key.sign(enrolment_text(join_token, name, key.public)),
        )
        headers = {"authorization": f"Bearer {join_token}", "content-type": "application/json"}
        reply = self._send(
            "POST", "/v1/agents/enroll", content=request.model_dump_json(by_alias=True), headers=headers
        )
        return EnrollResponse.model_validate_json(reply.content).node_id

    def sync(self, signer: Signer, observed: Observed) -> Desired:
        """Say all that is so, hear all that should be."""
        content = observed.model_dump_json(by_alias=True, exclude_none=True)
        headers = {"content-type": "application/json"}
        reply = self._send("POST", "/v1/agents/sync", content=content, headers=headers, auth=Signed(signer))
        return Desired.model_validate_json(reply.content)

    def push(self, signer: Signer, text: str) -> float:
        """Push an exposition; returns after how many seconds the next one is wanted."""
        headers = {"content-type": "text/plain; version=0.0.4", "content-encoding": "gzip"}
        packed = gzip.compress(text.encode(), 1)
        reply = self._send("PUT", "/v1/agents/metrics", content=packed, headers=headers, auth=Signed(signer))
        return float(reply.json()["interval_s"])

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            reply = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise NoAnswer(f"{method} {path}: {error or type(error).__name__}") from error
        if not reply.is_success:
            raise Refusal(reply.status_code, f"{method} {path}: {reply.text[:300]}")
        return reply
