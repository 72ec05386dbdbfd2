"""Requests that nodes sign: what is refused, by the real application."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import identities
from fleet.agents.keys import Key
from fleet.agents.protocol import blob_address
from fleet.agents.signature import SERVER_TIME, WINDOW_S, Signature, parse, rotation_text
from fleet.client import Client
from fleet.models import NodeKey, Nonce
from tests.api.agent import Agent, running
from tests.signing import Pen, compact

CONTENT = b"what an attempt has made"
BLOB = f"/v1/blobs/{blob_address(CONTENT)}"
SYNC = "/v1/agents/sync"


def report(agent: Agent, sequence: int, boot_id: str = "boot-1") -> bytes:
    """The body of one sync."""
    return compact({"boot_id": boot_id, "sequence": sequence, "generation": agent.generation})


def send(http: TestClient, method: str, target: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """Exactly these bytes under this header."""
    kind = {"Content-Type": "application/json"} if target == SYNC else {}
    return http.request(method, target, content=body, headers={**headers, **kind})


def test_a_request_is_accepted_as_it_was_signed_and_no_other(http: TestClient, agent: Agent) -> None:
    headers = agent.pen.headers("PUT", BLOB, CONTENT)
    others = [
        ("PUT", BLOB, CONTENT + b"!"),
        ("PUT", BLOB + "?x=1", CONTENT),
        ("HEAD", BLOB, b""),
        ("PUT", f"/v1/blobs/{'0' * 64}", CONTENT),
    ]
    assert [send(http, *other, headers).status_code for other in others] == [401] * len(others)
    assert send(http, "PUT", BLOB, CONTENT, headers).status_code == 200


@pytest.mark.parametrize("field", ["key", "time", "nonce", "digest", "signature"])
def test_a_field_of_the_header_that_was_changed_is_refused(
    http: TestClient, agent: Agent, field: str
) -> None:
    said = parse(agent.pen.headers("PUT", BLOB, CONTENT)["Authorization"])
    fields = {**vars(said)}
    if field == "time":
        fields["time_ms"] += 1
    else:
        fields[field] = fields[field][:-1] + ("0" if fields[field][-1] != "0" else "1")
    headers = {"Authorization": Signature(**fields).header()}
    assert send(http, "PUT", BLOB, CONTENT, headers).status_code == 401


@pytest.mark.parametrize(
    "header",
    ["TinyFleet", "TinyFleet key=1", "TinyFleet key=a, key=b, key=c, key=d, key=e", "tinyfleet ,,,,"],
)
def test_a_header_that_is_no_signature_is_401(http: TestClient, header: str) -> None:
    assert send(http, "PUT", BLOB, CONTENT, {"Authorization": header}).status_code == 401


def test_a_mutation_is_accepted_once(http: TestClient, agent: Agent) -> None:
    headers = agent.pen.headers("PUT", BLOB, CONTENT)
    answers = [send(http, "PUT", BLOB, CONTENT, headers).status_code for _ in range(3)]
    assert answers == [200, 401, 401]
    assert send(http, "PUT", BLOB, CONTENT, agent.pen.headers("PUT", BLOB, CONTENT)).status_code == 200


def test_a_read_may_be_repeated_but_not_that_of_secrets(http: TestClient, agent: Agent) -> None:
    send(http, "PUT", BLOB, CONTENT, agent.pen.headers("PUT", BLOB, CONTENT))
    for target, expected in ((BLOB, [200, 200]), ("/v1/agents/attempts/7/secrets?fence=7", [404, 401])):
        headers = agent.pen.headers("GET", target, b"")
        assert [send(http, "GET", target, b"", headers).status_code for _ in range(2)] == expected


def test_a_wrong_signature_spends_no_nonce(http: TestClient, agent: Agent, parts: Parts) -> None:
    headers = agent.pen.headers("PUT", BLOB, CONTENT)
    send(http, "PUT", BLOB, b"another body", headers)
    send(http, "PUT", BLOB, CONTENT, Pen().headers("PUT", BLOB, CONTENT))
    with parts.read() as session:
        assert session.scalar(select(func.count()).select_from(Nonce)) == 0
    assert send(http, "PUT", BLOB, CONTENT, headers).status_code == 200


def test_a_sync_writes_no_nonce_and_is_not_replayed(http: TestClient, agent: Agent, parts: Parts) -> None:
    body = report(agent, 7)
    headers = agent.pen.headers("POST", SYNC, body)
    assert [send(http, "POST", SYNC, body, headers).status_code for _ in range(3)] == [200, 409, 409]
    with parts.read() as session:
        assert session.scalar(select(func.count()).select_from(Nonce)) == 0


def test_a_request_of_another_minute_is_refused_with_the_servers_time(http: TestClient, agent: Agent) -> None:
    for wrong_s in (-WINDOW_S - 5, WINDOW_S + 5):
        headers = agent.pen.headers("PUT", BLOB, CONTENT, at=time.time() + wrong_s)
        reply = send(http, "PUT", BLOB, CONTENT, headers)
        assert reply.status_code == 401
        assert abs(int(reply.headers[SERVER_TIME]) / 1000 - time.time()) < 30


@pytest.mark.parametrize("ahead_s", [-86_400.0, -90.0, 90.0, 86_400.0])
def test_a_node_whose_clock_is_wrong_signs_by_the_servers(
    http: TestClient, agent: Agent, ahead_s: float
) -> None:
    pen = Pen(agent.pen.key, ahead_s)
    other = Agent(http, pen, agent.node_id)
    other.sequence = agent.sequence
    other.sync()
    assert abs(pen.now() - time.time()) < 30
    other.sync()


def test_node_a_cannot_speak_for_node_b(parts: Parts, http: TestClient, client: Client, agent: Agent) -> None:
    client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    other = Agent.enrolled(http, client.join_token().secret, "tiny2")
    other.sync(attempts=[{**running(attempt), "state": "exited", "outcome": "succeeded"}])
    assert client.job(attempt.job_id).state == "leased"
    assert other.log(attempt, 0, b"forged").status_code == 404
    body = report(agent, 99)
    said = parse(other.pen.headers("POST", SYNC, body)["Authorization"])
    borrowed = Signature(agent.pen.key.id, said.time_ms, said.nonce, said.digest, said.signature)
    assert send(http, "POST", SYNC, body, {"Authorization": borrowed.header()}).status_code == 401
    assert client.node(agent.node_id).state == "ready"


def bring(agent: Agent, following: Key, proof: str | None = None) -> httpx.Response:
    """Ask for another key."""
    proof = proof or following.sign(rotation_text(agent.node_id, following.public))
    body = {"public_key": following.public, "proof": proof}
    return agent._http.request("POST", "/v1/agents/keys", json=body, auth=agent.auth)


def test_a_rotated_key_is_good_at_once_and_the_old_one_for_an_hour_more(
    http: TestClient, agent: Agent, parts: Parts
) -> None:
    following = Key.made()
    assert bring(agent, following).json() == {"key": following.id}
    assert bring(agent, following).json() == {"key": following.id}  # the answer was lost: sent again
    anew = Agent(http, Pen(following), agent.node_id)
    anew.sequence = agent.sequence
    anew.sync()
    agent.sequence = anew.sequence
    agent.sync()
    with parts.read() as session:
        ends = {key.id: key.expires_at for key in session.scalars(select(NodeKey))}
    assert ends.pop(following.id) is None
    [end] = ends.values()
    assert end is not None
    assert 0 < end - time.time() <= identities.OVERLAP_S


def test_a_key_that_the_node_does_not_hold_or_another_has_is_refused(
    http: TestClient, client: Client, agent: Agent
) -> None:
    following, other = Key.made(), Agent.enrolled(http, client.join_token().secret, "tiny2")
    assert bring(agent, following, proof=agent.pen.key.sign(b"something else")).status_code == 422
    assert (
        bring(agent, following, proof=following.sign(rotation_text(999, following.public))).status_code == 422
    )
    assert bring(agent, other.pen.key).status_code == 422


def test_an_ended_key_is_refused(http: TestClient, agent: Agent, parts: Parts) -> None:
    bring(agent, Key.made())
    with parts.write() as session:
        session.get_one(NodeKey, agent.pen.key.id).expires_at = time.time() - 1
    assert agent.observe().status_code == 401


# ----------------------------------------------------------------------------------------------- clones


def cloned(http: TestClient, agent: Agent) -> Agent:
    """The same key in a second agent, which has started after the first."""
    copy = Agent(http, agent.pen, agent.node_id, "boot-2")
    copy.sequence = agent.sequence
    return copy


def test_two_live_agents_of_one_identity_are_told_and_both_refused(
    http: TestClient, client: Client, agent: Agent
) -> None:
    copy = cloned(http, agent)
    copy.sync()
    found = agent.observe()
    assert found.status_code == 403
    assert "two live agents" in found.json()["detail"]
    assert [copy.observe().status_code, agent.observe().status_code] == [401, 401]
    told = [event for event in client.events(after=0, limit=200).items if event.kind == "node.contested"]
    assert [event.subject for event in told] == [f"node:{agent.node_id}"]
    assert told[0].data == {"boot_id": "boot-2", "other": "boot-1"}


def test_what_an_earlier_boot_sent_and_arrives_late_is_no_clone(http: TestClient, agent: Agent) -> None:
    late = report(agent, 50)
    headers = agent.pen.headers("POST", SYNC, late)
    copy = cloned(http, agent)
    copy.sync()
    assert send(http, "POST", SYNC, late, headers).status_code == 409
    copy.sync()


@pytest.fixture
def node_act(http: TestClient, bearer: Callable[[str], dict[str, str]]) -> Callable[..., httpx.Response]:
    """An administrator's POST about a node."""
    headers = bearer("admin")

    def act(node_id: int, verb: str, **body: Any) -> httpx.Response:
        return http.post(f"/v1/nodes/{node_id}/{verb}", json=body or None, headers=headers)

    return act


def test_a_readmitted_node_brings_a_new_key_and_its_copy_stays_outside(
    http: TestClient, agent: Agent, node_act: Callable[..., httpx.Response]
) -> None:
    copy = cloned(http, agent)
    copy.sync()
    before = agent.pen.headers("POST", SYNC, report(agent, 60))
    agent.observe()
    assert node_act(agent.node_id, "readmit").status_code == 200
    assert send(http, "POST", SYNC, report(agent, 60), before).status_code == 401  # signed before
    assert agent.sync().rotate_key
    following = Key.made()
    assert bring(agent, following).status_code == 200
    assert copy.observe().status_code == 401  # the key that was copied is good for nothing
    anew = Agent(http, Pen(following), agent.node_id)
    anew.sequence = agent.sequence
    assert not anew.sync().rotate_key
