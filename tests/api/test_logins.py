"""Logins over HTTP: what is refused and how it is said, who is woken, and what a node's agent hears."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.testclient import TestClient

from fleet.agents.protocol import Desired
from fleet.client import ApiError, Client
from tests.api.agent import Agent
from tests.api.conftest import Bridge, Served
from tests.sshkeys import public_key

HOST_KEY = public_key(900).line


def says(agent: Agent, *grants: int, generation: int | None = None) -> Desired:
    """The node reports which logins are in force."""
    report = {
        "generation": agent.generation if generation is None else generation,
        "grants": list(grants),
        "address": "tiny1.lan",
        "port": 2222,
        "host_keys": [HOST_KEY],
    }
    return agent.sync(access=report)


@pytest.fixture
def alice(http: TestClient, secret: Callable[[str], str]) -> Iterator[Client]:
    """A contributor, who may what a user may."""
    with Client("http://127.0.0.1", secret("user"), transport=Bridge(http), retry_delays_s=()) as sdk:
        yield sdk


def test_a_login_from_the_key_to_the_ssh_command_and_out_again(
    client: Client, alice: Client, agent: Agent
) -> None:
    says(agent)
    key = alice.add_ssh_key(f"{public_key(1).line} alice@laptop")
    assert (key.person, key.label, key.bits) == ("a-user", "alice@laptop", 256)
    asked = alice.request_grant("to measure", node="tiny1", duration_s=3600.0)
    assert (asked.state, asked.node, asked.nodes) == ("requested", "tiny1", [])
    granted = client.approve_grant(asked.id)
    assert [place.ssh for place in granted.nodes] == [""]
    (wanted,) = says(agent).access.grants
    assert (wanted.account, wanted.key) == ("tf-a-user", public_key(1).line)
    says(agent, asked.id)
    (place,) = alice.grant(asked.id).nodes
    assert place.ssh == (
        "ssh -o UserKnownHostsFile=~/.config/tinyfleet/known_hosts -o StrictHostKeyChecking=yes "
        "-o HostKeyAlias=tinyfleet-tiny1 -p 2222 tf-a-user@tiny1.lan"
    )
    host = alice.ssh_host(agent.node_id)
    assert (host.user, host.port, host.known_hosts) == ("tf-a-user", 2222, [f"tinyfleet-tiny1 {HOST_KEY}"])
    alice.revoke_grant(asked.id, "done")
    assert says(agent, asked.id).access.grants == []
    says(agent)
    ended = alice.grant(asked.id)
    assert (ended.state, ended.ended_by, ended.nodes[0].ssh) == ("revoked", "user:a-user", "")
    assert ended.nodes[0].gone_after_s is not None


def test_the_same_request_twice_makes_one_login(
    alice: Client, http: TestClient, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer("user") | {"Idempotency-Key": "k"}
    key = {"public_key": public_key(1).line}
    made = [http.post("/v1/ssh-keys", json=key, headers=headers).json()["id"] for _ in range(2)]
    asked = {"node": agent.node_id, "reason": "why"}
    grants = [http.post("/v1/grants", json=asked, headers=headers).json()["id"] for _ in range(2)]
    assert made == [made[0]] * 2
    assert grants == [grants[0]] * 2
    other = http.post("/v1/grants", json={**asked, "reason": "else"}, headers=headers)
    assert other.status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"public_key": "ssh-ed25519 AAAA"}, "public_key"),
        ({"public_key": f'command="id" {public_key(1).line}'}, "public_key"),
        ({"public_key": ""}, "public_key"),
        ({"public_key": public_key(1).line, "person": "root"}, "person"),
        ({"public_key": public_key(1).line, "label": "x" * 101}, "label"),
    ],
)
def test_a_key_that_is_refused_names_its_field(
    http: TestClient, bearer: Callable[[str], dict[str, str]], body: dict[str, str], field: str
) -> None:
    reply = http.post("/v1/ssh-keys", json=body, headers=bearer("user"))
    assert reply.status_code == 422
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_a_forge_that_leads_inwards_is_refused(alice: Client) -> None:
    for forge in ("localhost", "127.0.0.1", "169.254.169.254", "fleet.internal"):
        with pytest.raises(ApiError) as caught:
            alice.import_ssh_keys(forge, "alice")
        assert caught.value.status == 422


def test_somebody_elses_logins_and_keys_are_not_there(
    http: TestClient, client: Client, alice: Client, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    key = alice.add_ssh_key(public_key(1).line)
    asked = alice.request_grant("to measure", node=agent.node_id)
    operator = bearer("operator")
    assert http.get(f"/v1/grants/{asked.id}", headers=operator).status_code == 404
    assert http.delete(f"/v1/ssh-keys/{key.id}", headers=operator).status_code == 404
    assert http.get("/v1/ssh-keys", headers=operator).json()["items"] == []
    assert http.post(f"/v1/grants/{asked.id}/approve", headers=operator).status_code == 403
    assert [row.id for row in client.grants("requested").items] == [asked.id]
    client.remove_ssh_key(key.id)
    assert alice.grant(asked.id).end_reason == "its key was removed"


def test_without_an_authority_there_is_no_certificate_and_it_is_said(
    client: Client, alice: Client, agent: Agent
) -> None:
    alice.add_ssh_key(public_key(1).line)
    asked = alice.request_grant("to measure", node=agent.node_id)
    client.approve_grant(asked.id)
    with pytest.raises(ApiError, match="no SSH authority"):
        alice.certify_grant(asked.id)


def test_who_waits_for_a_login_is_woken_by_its_decision(served: Served, secret: Callable[[str], str]) -> None:
    with Client(served.url, secret("user")) as alice, Client(served.url, secret("admin")) as admin:
        with httpx.Client(base_url=served.url) as network:
            agent = Agent.enrolled(network, admin.join_token().secret)
        alice.add_ssh_key(public_key(1).line)
        asked = alice.request_grant("to measure", node=agent.node_id)
        found: list[str] = []
        waiter = threading.Thread(
            target=lambda: found.append(alice.grant(asked.id, wait=30.0, seen=asked.version).state)
        )
        waiter.start()
        admin.deny_grant(asked.id, "no room")
        waiter.join(10.0)
        assert found == ["denied"]


def test_a_node_speaks_about_its_own_logins_only(
    client: Client, alice: Client, http: TestClient, agent: Agent
) -> None:
    """What another node says of a grant that is not its own changes nothing."""
    says(agent)
    other = Agent.enrolled(http, client.join_token().secret, "tiny2")
    alice.add_ssh_key(public_key(1).line)
    asked = alice.request_grant("to measure", node="tiny1")
    client.approve_grant(asked.id)
    says(other, asked.id)
    (place,) = client.grant(asked.id).nodes
    assert place.applied_at is None
    assert client.node(other.node_id).trust == "sealed"
