"""A node is held against its model by the whole product: a real server, a real agent, its walls and its engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet.box_resources import Acceptance
from fleet.client import Client
from tests.whole import Fleet, running_fleet, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server with one node."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        running.start_agent("tiny1")
        yield running


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    with fleet.client() as connected:
        yield connected


def verdict(client: Client, node_id: int) -> Acceptance:
    until(lambda: client.acceptance(node_id).state != "measuring", "it is measured", 200.0)
    return client.acceptance(node_id)


def test_a_real_node_multiplies_matrices_and_is_accepted_or_refused_by_its_rate(client: Client) -> None:
    node = client.nodes().items[0]
    gpus = sum(device.kind == "gpu" for device in node.devices)
    client.put_box_model("any", {"gpus": gpus, "cores": 1, "cpu_burnin_rate": 1e6})
    client.accept_node(node.id, "any")
    found = verdict(client, node.id)
    (cpu,) = [line for line in found.lines if line.what == "cpu burn-in"]
    assert cpu.ok, cpu
    assert cpu.have.startswith("passed at ")
    assert "GFLOP/s" in cpu.have
    assert client.job(found.jobs["cpu"]).kind == "burnin"
    client.put_box_model("any", {"gpus": gpus, "cpu_burnin_rate": 1e18})
    client.accept_node(node.id)
    (line,) = [line for line in verdict(client, node.id).lines if line.what == "cpu burn-in"]
    assert not line.ok
    assert line.fix
    (cordon,) = client.node(node.id).cordons
    assert cordon.kind == "acceptance"
    client.uncordon(node.id)
    assert client.node(node.id).cordons == []
