from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console, RenderableType
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import leases, nodes
from fleet.cli import tables
from fleet.client import ApiError, Client
from tests.api.agent import Agent, running
from tests.fleet.acting import inventory


def test_a_node_is_shown_with_its_devices(client: Client, agent: Agent) -> None:
    [node] = client.nodes().items
    assert (node.name, node.state, node.contact, node.cordoned) == ("tiny1", "ready", "online", False)
    assert node.last_seen_at is not None
    [device] = node.devices
    assert (device.name, device.kind, device.leases, device.exclusive) == ("cpu", "cpu", 0, False)
    assert client.node(agent.node_id) == node


def test_a_node_says_which_walls_stand_round_its_attempts(client: Client, agent: Agent) -> None:
    assert client.node(agent.node_id).walls == []
    walls = [
        {"name": "landlock", "state": "up", "detail": "version 7"},
        {"name": "uid", "state": "missing", "detail": "not root"},
    ]
    agent.sync(inventory=inventory().model_dump(mode="json") | {"walls": walls})
    assert [wall.model_dump() for wall in client.node(agent.node_id).walls] == walls
    assert "but uid" in printed(tables.nodes(client.nodes().items))
    assert "not root" in printed(tables.node(client.node(agent.node_id)))


def printed(shown: RenderableType) -> str:
    text = StringIO()
    Console(file=text, width=200).print(shown)
    return text.getvalue()


def test_a_device_says_who_holds_it(parts: Parts, client: Client, agent: Agent) -> None:
    client.submit_job({"kind": "kernel", "kernel": {"program": "copy", "shape": [8]}})
    parts.controllers.tick()
    [device] = client.node(agent.node_id).devices
    assert (device.leases, device.exclusive) == (1, True)


def test_an_operator_cordons_and_takes_it_back(client: Client, agent: Agent) -> None:
    assert client.cordon(agent.node_id).cordoned
    assert not client.uncordon(agent.node_id).cordoned


def test_a_node_leaves_the_fleet_by_way_of_a_drain(parts: Parts, client: Client, agent: Agent) -> None:
    with pytest.raises(ApiError) as refused:
        client.retire(agent.node_id)
    assert refused.value.status == 409
    assert client.drain(agent.node_id).state == "draining"
    parts.controllers.tick()
    assert client.retire(agent.node_id).state == "retired"
    assert client.nodes().items == []
    assert client.node(agent.node_id).state == "retired"


def test_an_unknown_node_is_not_found(client: Client) -> None:
    for ask in (client.node, client.cordon, client.uncordon, client.drain, client.retire):
        with pytest.raises(ApiError) as refused:
            ask(4711)
        assert refused.value.status == 404


def test_a_server_that_was_down_for_long_does_not_blame_the_node(
    parts: Parts, client: Client, agent: Agent
) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[running(attempt)])
    with parts.write() as session:
        nodes.get(session, agent.node_id).last_seen = parts.up_since - 1000.0
        leases.held(session, agent.node_id)[0].granted_at = parts.up_since - 1010.0
    parts.controllers.tick()
    assert client.node(agent.node_id).contact == "online"
    assert client.job(job.id).state == "running"


def test_an_administrator_says_how_far_a_node_is_trusted(client: Client, agent: Agent) -> None:
    node = client.trust_node(agent.node_id, "shared", "people log in")
    assert (node.trust, node.trust_reason, node.contested) == ("shared", "people log in", False)
    with pytest.raises(ApiError, match="trust"):
        client.trust_node(agent.node_id, "golden", "no such thing")
    with pytest.raises(ApiError, match="404"):
        client.trust_node(999, "sealed", "new image")


def test_a_nodes_pool_is_that_of_its_join_token(http: TestClient, client: Client) -> None:
    joined = Agent.enrolled(http, client.join_token(pool="red").secret, "tiny7")
    assert client.node(joined.node_id).pool == "red"


def test_what_a_node_found_is_purged(client: Client, agent: Agent, finished: int) -> None:
    kernel_id = client.search(finished).tuned_kernel_id
    assert [row.id for row in client.purge_kernels(agent.node_id, dry_run=True).kernels] == [kernel_id]
    assert client.kernels().items
    purged = client.purge_kernels(agent.node_id)
    assert [row.id for row in purged.kernels] == [kernel_id]
    assert client.kernels().items == []
    assert client.search(finished).tuned_kernel_id is None
