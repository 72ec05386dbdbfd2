"""Agents of older versions: what they send is understood, and what they are answered they can read.

tests/recorded/protocol_2.py and protocol_3.py are the protocol as those agents have it: their strict models make their
messages and read the answers here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import dialects
from fleet.agents.client import Signed
from fleet.agents.protocol import PROTOCOL_VERSION, AttemptSpec, CommandSpec, Desired, ResetSpec, UpdateSpec
from fleet.client import ApiError, Client
from fleet.errors import InvalidSpec
from fleet.models import Node
from tests.api.agent import Agent
from tests.fleet.acting import inventory
from tests.recorded import protocol_2 as old
from tests.recorded import protocol_3
from tests.signing import Pen, joining

MODELS: dict[int, Any] = {2: old, 3: protocol_3}


class OldAgent:
    """An agent of version 2 or 3, played by hand with its own models."""

    def __init__(self, http: TestClient, join_secret: str, version: int) -> None:
        self.models = MODELS[version]
        self.http, self.pen, self.sequence, self.generation = http, Pen(), 0, 0
        said = inventory().model_dump(mode="json")
        known = {name: said[name] for name in old.Inventory.model_fields if name in said}
        known["devices"] = [
            {name: each[name] for name in old.DeviceReport.model_fields} for each in said["devices"]
        ]
        self.inventory = old.Inventory.model_validate({**known, "protocol": version})
        asked = joining(join_secret, "old1", self.pen.key)
        request = old.EnrollRequest(
            name="old1", inventory=self.inventory, public_key=asked.public_key, proof=asked.proof
        )
        reply = http.post(
            "/v1/agents/enroll",
            content=request.model_dump_json(by_alias=True),
            headers={"Authorization": f"Bearer {join_secret}", "Content-Type": "application/json"},
        )
        assert reply.status_code == 201, reply.text
        self.node_id = old.EnrollResponse.model_validate_json(reply.content).node_id
        self.auth = Signed(self.pen)

    def sync(self, **said: Any) -> old.Desired:
        """One report, and the answer as it reads it: a field that it does not know is an error."""
        self.sequence += 1
        observed = old.Observed.model_validate(
            {"boot_id": "old", "sequence": self.sequence, "generation": self.generation, **said}
        )
        reply = self.http.request(
            "POST",
            "/v1/agents/sync",
            content=observed.model_dump_json(by_alias=True, exclude_none=True),
            headers={"Content-Type": "application/json"},
            auth=self.auth,
        )
        assert reply.status_code == 200, reply.text
        desired: old.Desired = self.models.Desired.model_validate_json(reply.content)
        self.generation = desired.generation
        return desired


@pytest.fixture(params=[2, 3])
def agent(http: TestClient, client: Client, request: pytest.FixtureRequest) -> OldAgent:
    joined = OldAgent(http, client.join_token().secret, request.param)
    joined.sync(inventory=joined.inventory)
    return joined


def test_the_two_versions_before_are_spoken() -> None:
    assert set(MODELS) == {PROTOCOL_VERSION - 2, PROTOCOL_VERSION - 1} == {*dialects._KNOWN}


def test_an_agent_of_up_to_two_versions_back_joins_and_works(
    agent: OldAgent, client: Client, parts: Parts
) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    (attempt,) = agent.sync().attempts
    assert (attempt.job_id, attempt.spec.kind) == (job.id, "noop")
    done = {
        "attempt_id": attempt.attempt_id,
        "fence": attempt.fence,
        "state": "exited",
        "outcome": "succeeded",
    }
    assert agent.sync(attempts=[{**done, "result": {"slept_s": 0.0}}]).settled == [attempt.attempt_id]
    assert client.job(job.id).state == "succeeded"


def test_a_kernel_job_reaches_it_with_the_fields_that_it_knows(
    agent: OldAgent, client: Client, parts: Parts
) -> None:
    kernel = {"program": "gemm", "shape": [8, 8, 8]}
    client.submit_job({"kind": "kernel", "kernel": kernel, "compare": ["none"]})
    parts.controllers.tick()
    (attempt,) = agent.sync().attempts
    assert attempt.spec.kernel.program == "gemm"


def test_a_job_of_a_kind_that_it_does_not_know_waits_and_says_why(
    agent: OldAgent, client: Client, parts: Parts
) -> None:
    job = client.submit_job({"kind": "command", "argv": ["true"]})
    parts.controllers.tick()
    assert agent.sync().attempts == []
    assert "before jobs of kind command" in client.job(job.id).reason


@pytest.mark.parametrize("version", MODELS)
def test_whatever_is_new_is_left_out_for_it(version: int) -> None:
    reset = ResetSpec(gpu="gpu0", generation=1)
    said = Desired(generation=7, attempts=[], update=UpdateSpec(version="1.2.3"), resets=[reset])
    told = dialects.answer(said, version)
    assert told is not None
    assert MODELS[version].Desired.model_validate(told).generation == 7
    assert ("update" in told) == (version > 2)
    assert dialects.answer(said, PROTOCOL_VERSION) is None


def test_it_cannot_be_asked_to_change_its_version(agent: OldAgent, client: Client) -> None:
    (node,) = client.updates().nodes
    assert node.state == ""
    with pytest.raises(ApiError, match="there is no release"):
        client.set_updates("9.9.9")


def enroll(http: TestClient, secret: str, **said: Any) -> Any:
    """The answer to a request to join with this in its inventory."""
    request = joining(secret, "other", Pen().key).model_dump(mode="json")
    request["inventory"] |= said
    return http.post("/v1/agents/enroll", json=request, headers={"Authorization": f"Bearer {secret}"})


def test_an_agent_that_is_too_new_is_told_what_to_bring_up_to_date(http: TestClient, client: Client) -> None:
    newer = PROTOCOL_VERSION + 1
    reply = enroll(http, client.join_token().secret, protocol=newer, something_of_then=1)
    assert reply.status_code == 422
    assert f"protocol version {newer} is not spoken yet" in json.dumps(reply.json()["errors"])
    assert "bring the control plane up to date" in reply.text


def test_an_agent_that_is_too_old_is_told_what_to_do(http: TestClient, client: Client) -> None:
    secret = client.join_token().secret
    reply = enroll(http, secret, protocol=dialects.OLDEST - 1)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "inventory.protocol"
    assert "run its installer again" in reply.text
    assert enroll(http, secret).status_code == 201  # the token was not spent


def test_one_that_was_accepted_by_an_older_control_plane_is_refused_when_it_is_too_old(
    agent: OldAgent, parts: Parts
) -> None:
    with parts.write() as session:
        node = session.get(Node, agent.node_id)
        assert node is not None
        node.protocol = dialects.OLDEST - 1
    agent.sequence += 1
    observed = {"boot_id": "old", "sequence": agent.sequence}
    reply = agent.http.request("POST", "/v1/agents/sync", json=observed, auth=agent.auth)
    assert reply.status_code == 422
    assert "is spoken no more" in reply.text


@pytest.mark.parametrize("version", range(dialects.OLDEST, PROTOCOL_VERSION + 1))
def test_two_versions_back_are_spoken(version: int) -> None:
    dialects.check(version)


@pytest.mark.parametrize("version", [0, dialects.OLDEST - 1, PROTOCOL_VERSION + 1])
def test_no_others_are(version: int) -> None:
    with pytest.raises(InvalidSpec, match="this control plane speaks"):
        dialects.check(version)


def test_every_version_but_the_newest_is_recorded() -> None:
    """Whoever begins a version says what the one before knows of: agents of it refuse the rest."""
    assert [each for each in range(dialects.OLDEST, PROTOCOL_VERSION) if each not in dialects._KNOWN] == []
    for version, models in MODELS.items():
        assert dialects._KNOWN[version]["desired"] == models.Desired.model_fields.keys()
        assert dialects._KNOWN[version]["attempt"] == models.AttemptSpec.model_fields.keys()


# What this version's agents are told, and their commands. One that refuses what it does not know breaks on a field more:
# begin a version then, and say in fleet/dialects.py what the one before knows of.
TOLD = {
    Desired: "generation attempts access settled lease_s poll_s rotate_key update resets",
    AttemptSpec: "attempt_id job_id fence spec device exclusive timeout_s blobs gpus cpus gang array",
    CommandSpec: "kind argv script files env data secrets artifacts grace_s network container threads inside",
}


@pytest.mark.parametrize("model", TOLD, ids=lambda model: model.__name__)
def test_a_field_more_is_another_version(model: type[BaseModel]) -> None:
    assert PROTOCOL_VERSION == 4
    assert model.model_fields.keys() == set(TOLD[model].split())


def test_an_agent_of_this_version_is_told_all(http: TestClient, client: Client) -> None:
    current = Agent.enrolled(http, client.join_token().secret)
    assert "update" in current.observe().json()
