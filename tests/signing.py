"""A node's key held in memory, and what is signed with it, for tests that play a node."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx

from fleet.agents.keys import Key, Signer
from fleet.agents.protocol import EnrollRequest, Inventory
from fleet.agents.signature import enrolment_text
from tests.fleet.acting import inventory


class Pen(Signer):
    """A signer without files; `ahead_s` is how wrong its clock is."""

    def __init__(self, key: Key | None = None, ahead_s: float = 0.0) -> None:
        super().__init__(Path("/nonexistent"), lambda: time.time() + ahead_s)
        self._held = key or Key.made()

    @property
    def key(self) -> Key:
        """The one key."""
        return self._held

    def following(self) -> Key | None:
        """There is none."""
        return None

    def headers(self, method: str, target: str, body: bytes = b"", at: float | None = None) -> dict[str, str]:
        """A request's Authorization header, signed now or at another time (epoch seconds)."""
        moment = self.now() if at is None else at
        return {"Authorization": self.key.request(method, target, body, moment)}


class Bearer(httpx.Auth):
    """A bearer token, where a signature could stand as well."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """The token, without asking twice."""
        request.headers["Authorization"] = f"Bearer {self._secret}"
        yield request


def joining(secret: str, name: str, key: Key, found: Inventory | None = None) -> EnrollRequest:
    """A node's request to join, with proof of its key."""
    proof = key.sign(enrolment_text(secret, name, key.public))
    return EnrollRequest(name=name, inventory=found or inventory(), public_key=key.public, proof=proof)


def compact(document: Any) -> bytes:
    """JSON as a body to be signed and sent as it is."""
    return json.dumps(document, separators=(",", ":")).encode()
