"""An agent of two versions back, as it was: what one of its processes sent over the wire is sent again.

tests/recorded/protocol_2.jsonl was recorded between the last agent of protocol 2 and this control plane, each message as
it was but for the node's key, the signatures and the host's name. Lines with `user` say what somebody asked of the fleet in
between. The answers are read by that version's own strict models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet.agents.client import Signed
from fleet.client import Client
from tests.recorded import protocol_2 as old
from tests.signing import Pen, joining

RECORDED = Path(__file__).parents[1] / "recorded" / "protocol_2.jsonl"
pytestmark = pytest.mark.slow
GEMM = {"program": "gemm", "shape": [32, 32, 32]}


def recorded() -> Iterator[dict[str, Any]]:
    """The lines, in their order."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


class Replay:
    """Sends the recorded messages, and does between them what was asked for then."""

    def __init__(self, http: TestClient, client: Client, parts: Parts) -> None:
        self.http, self.client, self.parts = http, client, parts
        self.pen = Pen()
        self.auth = Signed(self.pen)
        self.generation = 0
        self.told: dict[int, old.AttemptSpec] = {}
        self.settled: list[int] = []
        self.asked: dict[str, int] = {}

    def play(self) -> None:
        """All of it."""
        for line in recorded():
            if "user" in line:
                self._ask(line["user"])
            elif line["path"] == "/v1/agents/enroll":
                self._enroll(line["json"])
            elif line["path"] == "/v1/agents/sync":
                self._sync(line["json"])
            else:
                reply = self._send(line["method"], line["path"], line["text"].encode("latin-1"))
                assert reply.status_code == 200, (line["path"], reply.text)
            self.parts.controllers.tick()

    def _ask(self, what: str) -> None:
        if what == "search":
            self.asked[what] = self.client.run_search(GEMM, max_rounds=1).id
        elif what == "cancel":
            self.client.cancel_job(self.asked["long"])
        else:
            spec = {
                "noop": {"kind": "noop"},
                "long": {"kind": "noop", "seconds": 600.0},
                "kernel": {"kind": "kernel", "kernel": GEMM, "compare": ["numpy"], "time_s": 0.1},
            }[what]
            self.asked[what] = self.client.submit_job(spec).id

    def _enroll(self, said: dict[str, Any]) -> None:
        secret = self.client.join_token().secret
        proof = joining(secret, said["name"], self.pen.key)
        body = {**said, "public_key": proof.public_key, "proof": proof.proof}
        reply = self.http.post("/v1/agents/enroll", json=body, headers={"Authorization": f"Bearer {secret}"})
        assert reply.status_code == 201, reply.text
        old.EnrollResponse.model_validate_json(reply.content)

    def _sync(self, said: dict[str, Any]) -> None:
        body = json.dumps({**said, "generation": self.generation, "wait_s": 0.0}).encode()
        reply = self._send("POST", "/v1/agents/sync", body)
        assert reply.status_code == 200, (said, reply.text)
        answer = old.Desired.model_validate_json(reply.content)
        self.generation = answer.generation
        self.told |= {attempt.attempt_id: attempt for attempt in answer.attempts}
        self.settled += answer.settled

    def _send(self, method: str, path: str, body: bytes) -> Any:
        kind = "application/json" if method == "POST" else "application/octet-stream"
        headers = {"Content-Type": kind}
        return self.http.request(method, path, content=body, headers=headers, auth=self.auth)


@pytest.fixture
def replay(http: TestClient, client: Client, parts: Parts) -> Replay:
    """The agent, once more, from its first message to its last."""
    again = Replay(http, client, parts)
    again.play()
    return again


def test_all_that_an_agent_of_protocol_2_did_it_does_still(replay: Replay, client: Client) -> None:
    kinds = [replay.told[attempt_id].spec.kind for attempt_id in sorted(replay.told)]
    assert kinds == ["noop", "kernel", "expand", "measure", "confirm", "noop"]
    assert replay.settled == [1, 2, 3, 4, 5, 6]
    jobs = {what: client.job(replay.asked[what]) for what in ("noop", "kernel", "long")}
    assert {what: job.state for what, job in jobs.items()} == {
        "noop": "succeeded",
        "kernel": "succeeded",
        "long": "cancelled",
    }
    result = jobs["kernel"].result
    assert result is not None
    assert {row["name"] for row in result["rows"]} == {"heuristic", "numpy"}
    search = client.search(replay.asked["search"])
    assert (search.state, search.source) == ("done", "search")
    assert search.best_s is not None
    assert client.candidates(search.id)
    assert "noop: 0 s" in "".join(client.job_logs(replay.asked["noop"]))


def test_the_recording_is_of_protocol_2_and_of_all_that_its_agents_did() -> None:
    said = [line["json"] for line in recorded() if "json" in line]
    assert {each["inventory"]["protocol"] for each in said if each.get("inventory")} == {2}
    states = {attempt["state"] for each in said for attempt in each.get("attempts", [])}
    assert states == {"starting", "running", "exited"}
    for each in said[1:]:
        old.Observed.model_validate(each)
