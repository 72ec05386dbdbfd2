"""An agent as the server sees one: requests in its name, with nothing behind them."""

from __future__ import annotations

from typing import Any, Protocol

import httpx

from fleet.agents.client import Signed
from fleet.agents.protocol import AttemptSpec, Desired
from tests.fleet.acting import inventory
from tests.signing import Pen, joining


class Http(Protocol):
    """What sends requests: a test client, or a client over a network."""

    def request(self, method: str, url: str, **options: Any) -> httpx.Response: ...


class Agent:
    """One enrolled node: each call is one request."""

    def __init__(self, http: Http, pen: Pen, node_id: int = 0, boot_id: str = "boot-1") -> None:
        self.node_id = node_id
        self.boot_id = boot_id
        self.pen = pen
        self.auth = Signed(pen)
        self.sequence = 0
        self.generation = 0
        self._http = http

    @classmethod
    def enrolled(cls, http: Http, join_secret: str, name: str = "tiny1") -> Agent:
        """Join with a join token, and report the inventory."""
        pen = Pen()
        reply = enroll(http, join_secret, name, pen)
        assert reply.status_code == 201, reply.text
        agent = cls(http, pen, reply.json()["node_id"])
        agent.sync(inventory=inventory().model_dump(mode="json"))
        return agent

    def observe(self, **said: Any) -> httpx.Response:
        """One report; the answer as it comes."""
        self.sequence += 1
        observed = {"boot_id": self.boot_id, "sequence": self.sequence, "generation": self.generation, **said}
        return self._http.request("POST", "/v1/agents/sync", json=observed, auth=self.auth)

    def sync(self, **said: Any) -> Desired:
        """One report; what the answer wants is applied at once."""
        reply = self.observe(**said)
        assert reply.status_code == 200, reply.text
        desired = Desired.model_validate(reply.json())
        self.generation = desired.generation
        return desired

    def log(
        self,
        attempt: AttemptSpec,
        offset: int,
        content: bytes,
        fence: int | None = None,
        runs: str | None = None,
    ) -> httpx.Response:
        """Send a piece of an attempt's log."""
        streams = {} if runs is None else {"runs": runs}
        return self._http.request(
            "PUT",
            f"/v1/agents/attempts/{attempt.attempt_id}/logs",
            params={"offset": offset, "fence": attempt.fence if fence is None else fence, **streams},
            content=content,
            auth=self.auth,
        )

    def ask(self, path: str, **query: Any) -> httpx.Response:
        """Any other question in the node's name."""
        return self._http.request("GET", path, params=query, auth=self.auth)


def enroll(http: Http, join_secret: str, name: str = "tiny1", pen: Pen | None = None) -> httpx.Response:
    """A request to join."""
    request = joining(join_secret, name, (pen or Pen()).key)
    return http.request(
        "POST",
        "/v1/agents/enroll",
        json=request.model_dump(mode="json"),
        headers={"Authorization": f"Bearer {join_secret}"},
    )


def running(attempt: AttemptSpec) -> dict[str, Any]:
    """A report that the attempt runs."""
    return {"attempt_id": attempt.attempt_id, "fence": attempt.fence, "state": "running"}


def exited(attempt: AttemptSpec, outcome: str = "succeeded", **more: Any) -> dict[str, Any]:
    """A report that the attempt has ended."""
    return {**running(attempt), "state": "exited", "outcome": outcome, **more}
