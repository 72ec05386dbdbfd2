"""GPUs of simulated nodes go wrong in front of the real server: it takes them out, tests them, and lets them in again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.box_resources import Acceptance
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


H200X8 = {
    "gpus": 8,
    "gpu_model": "H200",
    "gpu_arch": "sm_90",
    "gpu_memory_bytes": 140 << 30,
    "pcie_width": 16,
    "pcie_generation": 5,
    "memory_bytes": 1 << 41,
    "drives": 8,
    "gpu_temperature_celsius": 90,
    "gpu_burnin_rate": 7e12,
    "cpu_burnin_rate": 1e11,
}


def verdict(client: Client, name: str) -> Acceptance:
    """What a node was found to be, once that is known."""
    found = node(client, name).id
    until(lambda: client.acceptance(found).state != "measuring", f"{name} is measured", 120.0)
    return client.acceptance(found)


def test_a_node_is_held_against_its_model_on_demand_and_stays_out_until_it_is_that(
    crowd: Crowd, client: Client
) -> None:
    client.put_box_model("h200x8", H200X8)
    crowd.set_faults(parse_all("link-degraded:sim-001:3\ndrive-gone:sim-001:2"))
    client.accept_node(node(client, "sim-001").id, "h200x8")
    refused = verdict(client, "sim-001")
    assert {line.what: line.have for line in refused.lines if not line.ok} == {
        "gpu3 PCIe width": "x8",
        "drives": "7",
    }
    assert all(line.fix for line in refused.lines if not line.ok)
    job = client.submit_job({"kind": "noop"}, node=node(client, "sim-001").id).id
    until(lambda: "gpu3 PCIe width should be at least x16, is x8" in client.job(job).reason, "it waits", 30.0)
    crowd.set_faults(())
    client.accept_node(node(client, "sim-001").id)
    accepted = verdict(client, "sim-001")
    assert [line for line in accepted.lines if not line.ok] == []
    assert accepted.state == "accepted"
    until(lambda: client.job(job).state == "succeeded", "the job runs", 60.0)


def test_a_box_of_the_stock_is_measured_when_it_joins_and_takes_no_work_before(
    crowd: Crowd, served: Served, client: Client, tmp_path: Path
) -> None:
    client.put_box_model("h200x8", H200X8)
    client.add_box("SN42", "h200x8", state="installed", place="berlin/r1", node="new-001")
    new = Crowd(Wanted(1, [BOXES["h200x8"]], speed=60.0, prefix="new"), served.url, tmp_path / "more")
    new.join(client)
    found = node(client, "new-001")
    assert [each.kind for each in found.cordons] == ["acceptance"]
    new.start()
    try:
        until(lambda: node(client, "new-001").state == "ready", "it has reported", 60.0)
        until(lambda: not node(client, "new-001").cordons, "it is accepted", 120.0)
        assert client.acceptance(found.id).state == "accepted"
        assert client.acceptance(found.id).asked_by == "server:enrolment"
    finally:
        new.stop()
