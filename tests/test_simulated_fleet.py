"""Simulated nodes against the real server: a test makes each of them do what is due, or lets them run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.client import Client
from fleet.settings import Settings
from fleet.simulation.boxes import BOXES
from fleet.simulation.crowd import Crowd, Wanted
from fleet.simulation.faults import parse_all
from tests.serving import Served, serving
from tests.whole import until

pytestmark = pytest.mark.slow


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
    """Four nodes in two racks, joined and at rest."""
    wanted = Wanted(4, [BOXES["h200x8"], BOXES["rtx4090x6"]], speed=60.0, per_rack=2)
    found = Crowd(wanted, served.url, tmp_path / "simulation")
    found.join(client)
    yield found
    found.stop()


def step(crowd: Crowd) -> None:
    """Let every node do what it does when it is due."""
    for node in crowd.nodes:
        node.next_sync = node.next_push = 0.0
        node.step()
    assert crowd.counts().failures == 0


def test_simulated_nodes_join_sync_push_and_stand_in_their_racks(crowd: Crowd, client: Client) -> None:
    step(crowd)
    found = client.telemetry().items
    assert sorted(each.node for each in found) == ["sim-001", "sim-002", "sim-003", "sim-004"]
    assert {(each.contact, each.stale, bool(each.findings)) for each in found} == {("online", False, False)}
    assert sorted((rack.name, rack.nodes) for rack in client.racks().items) == [("r01", 2), ("r02", 2)]
    assert sorted(len(each.gpus) for each in found) == [6, 6, 8, 8]


def test_they_join_once_and_are_the_same_the_next_time(
    crowd: Crowd, served: Served, client: Client, tmp_path: Path
) -> None:
    step(crowd)
    again = Crowd(crowd.wanted, served.url, tmp_path / "simulation")
    again.join(client)
    step(again)
    again.stop()
    assert len(client.nodes().items) == 4


def test_a_fault_that_is_switched_on_shows_and_goes_when_it_is_switched_off(
    crowd: Crowd, client: Client
) -> None:
    crowd.set_faults(parse_all("gpu-lost:sim-001:2\nclock-skew=5:sim-002\nsilent:sim-003"))
    step(crowd)
    found = {each.node: each for each in client.telemetry().items}
    assert {each.device for each in found["sim-001"].findings} == {"gpu2", "node"}
    assert [each.action for each in found["sim-002"].findings] == ["set the node's clock by NTP"]
    assert found["sim-003"].measured_at is None
    crowd.set_faults(())
    for node in crowd.nodes:
        node.counts.failures = 0
    step(crowd)
    found = {each.node: each for each in client.telemetry().items}
    assert found["sim-001"].findings == []
    assert found["sim-003"].measured_at is not None


def test_a_crowd_runs_jobs_in_simulated_time(crowd: Crowd, client: Client) -> None:
    crowd.start()
    until(lambda: {node.contact for node in client.nodes().items} == {"online"}, "all are online")
    jobs = [client.submit_job({"kind": "noop", "seconds": 60.0}).id for _ in range(20)]
    until(
        lambda: all(client.job(job).state == "succeeded" for job in jobs), "20 minutes of work are done", 60.0
    )
    done = [client.job(job) for job in jobs]
    assert {str(each.result) for each in done} == {"{'simulated': True}"}
