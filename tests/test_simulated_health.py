"""GPUs of simulated nodes go wrong in front of the real server: it takes them out, tests them, and lets them in again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.client import Client
from fleet.resources import Device, Node
from fleet.settings import Settings
from fleet.simulation.boxes import BOXES
from fleet.simulation.crowd import Crowd, Wanted
from fleet.simulation.faults import parse_all
from tests.serving import Served, serving
from tests.whole import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def served(settings: Settings, admin_token: str) -> Iterator[Served]:
    with serving(settings, admin_token) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url, served.token) as found:
        yield found


@pytest.fixture
def crowd(served: Served, client: Client, tmp_path: Path) -> Iterator[Crowd]:
    """Two nodes that run, fast."""
    found = Crowd(Wanted(2, [BOXES["h200x8"]], speed=60.0), served.url, tmp_path / "simulation")
    found.join(client)
    found.start()
    until(lambda: {node.contact for node in client.nodes().items} == {"online"}, "all are online", 60.0)
    yield found
    found.stop()


def node(client: Client, name: str) -> Node:
    """A node by its name."""
    return next(each for each in client.nodes().items if each.name == name)


def gpu(client: Client, name: str, number: int) -> Device:
    """A GPU of a node."""
    return next(each for each in node(client, name).devices if each.name == f"gpu{number}")


def comes_to(client: Client, name: str, number: int, state: str) -> None:
    """Wait until a GPU is there on its ladder."""
    until(lambda: gpu(client, name, number).health == state, f"gpu{number} of {name} is {state}", 90.0)


def test_a_gpu_with_a_fault_that_stays_is_quarantined_and_back_once_it_was_mended(
    crowd: Crowd, client: Client
) -> None:
    crowd.set_faults(parse_all("xid=48:sim-001:1"))
    comes_to(client, "sim-001", 1, "quarantined")
    assert "known answers are wrong" in gpu(client, "sim-001", 1).health_reason
    wish = {"gpus": 8}
    asked = client.submit_job({"kind": "noop"}, node=node(client, "sim-001").id, requirements=wish).id
    until(lambda: "7 GPUs in order, not 8" in client.job(asked).reason, "the job says why it waits", 30.0)
    crowd.set_faults(())
    client.retest_gpu(node(client, "sim-001").id, "gpu1")
    comes_to(client, "sim-001", 1, "ok")
    until(lambda: client.job(asked).state == "succeeded", "the job has its eight GPUs", 60.0)


def test_a_gpu_off_the_bus_cordons_its_node_and_a_wrong_clock_another(crowd: Crowd, client: Client) -> None:
    crowd.set_faults(parse_all("gpu-lost:sim-001:2\nclock-skew=20:sim-002"))
    comes_to(client, "sim-001", 2, "quarantined")
    assert "reboot the node" in gpu(client, "sim-001", 2).health_reason
    until(lambda: bool(node(client, "sim-002").cordons), "the other is cordoned", 60.0)
    found = {name: {each.kind for each in node(client, name).cordons} for name in ("sim-001", "sim-002")}
    assert found == {"sim-001": {"gpus"}, "sim-002": {"clock"}}
    why = client.why(client.submit_job({"kind": "noop"}).id)
    assert all("is cordoned by itself" in group.problem for group in why.groups)
    crowd.set_faults(())
    until(lambda: not node(client, "sim-002").cordons, "a clock that is right lets it in again", 60.0)
