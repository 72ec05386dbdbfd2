"""Every expression of every panel and rule, against a real Prometheus that scraped fifty simulated nodes through the
real API: none is empty, and alerts fire for the faults that were switched on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import build
from fleet import db, tenants
from fleet.client import Client
from fleet.settings import Settings
from fleet.simulation.boxes import BOXES
from fleet.simulation.crowd import Crowd, Wanted
from fleet.simulation.faults import parse_all
from tests.dashboards.expressions import within
from tests.dashboards.prometheus import Prometheus, running
from tests.serving import serving
from tests.whole import ROOT, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
NODES = 50
FAULTS = """
gpu-lost:sim-001:2
driver-gone:sim-004:1
xid=48:sim-007:3
thermal:sim-010:0
power-brake:sim-013:1
ecc:sim-016:2
remap-failed:sim-019:3
link-degraded:sim-022:0
power-limit:sim-025:1
drive-wear:sim-028:0
drive-gone:sim-031:1
silent:sim-034
collector-hung:sim-037
clock-skew=-20:sim-040
power-mismatch:sim-043
phase-imbalance:sim-046
no-metrics:sim-049
"""
# By name, the nodes for which each fires, where an alert waits for as many seconds as it does minutes; what it looks for is as
# it is (TelemetryStale: metrics that are a minute old). The others rest on what racks and GPUs happen to do, or on half an
# hour of a queue: those are promtool's business.
FIRE = {
    "NodeAgentDown": {"sim-034"},
    "TelemetryStale": {"sim-049"},
    "CollectorHung": {"sim-037"},
    "NodeClockSkew": {"sim-040"},
    "GpuMissing": {"sim-001", "sim-004"},
    "GpuDriverGone": {"sim-004"},
    "GpuXidCritical": {"sim-001", "sim-007"},
    "GpuRecoveryNeeded": {"sim-016"},
    "GpuUncorrectedEcc": {"sim-016"},
    "GpuRowRemapFailed": {"sim-019"},
    "GpuHwThermal": {"sim-010"},
    "GpuPowerBrake": {"sim-013"},
    "GpuPowerLimitDrift": {"sim-025"},
    "PcieAerBurst": {"sim-022"},
    "DriveGone": {"sim-031"},
    "DriveMediaErrors": {"sim-028"},
    "DriveSpareLow": {"sim-028"},
    "DriveWearFast": {"sim-028"},
    "RaidDegraded": {"sim-031"},
}


@dataclass(frozen=True)
class Scene:
    """A fleet at work and Prometheus over it."""

    prometheus: Prometheus
    client: Client


def settings_of(folder: Path) -> Settings:
    """A new data folder, and a push every five seconds."""
    found = Settings.from_env({"TINYFLEET_DATA": str(folder / "data"), "TINYFLEET_METRICS_S": "5"})
    found.data.mkdir(mode=0o700)
    return found


def admin(settings: Settings) -> str:
    """An administrator's token."""
    engine = db.engine_for(settings.database_url)
    db.upgrade(engine)
    with db.session_factory(engine).begin() as writer:
        _, secret = tenants.mint(writer, name="root", role="admin", now=db.now(writer))
    engine.dispose()
    return secret


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    settings = settings_of(folder)
    wanted = Wanted(NODES, [BOXES["h200x8"], BOXES["rtx4090x6"], BOXES["mi300x8"]])
    # every third node is an H200 box: those have the faults
    with serving(settings, admin(settings)) as served, Client(served.url, served.token) as client:
        crowd = Crowd(wanted, served.url, folder / "simulation")
        crowd.join(client)
        crowd.start()
        scraper = client.mint_token("prometheus", "viewer", kind="service", scopes=["metrics"])
        try:
            with running(folder, served.url, scraper.secret) as prometheus:
                until(lambda: _up(prometheus) == NODES, "all nodes are scraped", 120.0)
                _work(client)
                until(lambda: prometheus.query("fleet_gpu_power_limit_watts"), "limits are known", 30.0)
                crowd.set_faults(parse_all(FAULTS))
                until(lambda: _told(prometheus), "the faults show, and all series have a history", 120.0)
                yield Scene(prometheus, client)
        finally:
            crowd.stop()


def _up(prometheus: Prometheus) -> float:
    found = prometheus.query('sum(up{job="tinyfleet-nodes"})')
    return float(found[0]["value"][1]) if found else 0.0


def _work(client: Client) -> None:
    """Jobs that hold GPUs, jobs that end, jobs that wait, a cron."""
    for _ in range(10):
        client.submit_job({"kind": "noop", "seconds": 3000.0}, requirements={"gpus": 1})
    for _ in range(5):
        client.submit_job({"kind": "noop"})
    client.add_cron("nightly", "0 3 * * *", {"spec": {"kind": "noop"}})


def _told(prometheus: Prometheus) -> bool:
    return all(
        prometheus.query(expr)
        for expr in (
            "increase(fleet_drive_media_errors_total[1h]) > 0",
            "fleet_job_info",
            "fleet_drive_critical_warning > 0",
            "node:fleet_parts_power_watts:sum",
            "route:fleet_http_request_seconds:p99_5m",
            'up{job="tinyfleet-nodes",node="sim-034"} == 0',
            "fleet_device_finding",
            "rate(fleet_jobs_finished_total[1m]) > 0",
        )
    )


def test_no_expression_of_a_panel_is_empty(scene: Scene) -> None:
    empty = [f"{where}: {expr}" for where, expr in build.expressions() if not scene.prometheus.query(expr)]
    assert empty == []


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of a file."""
    document = yaml.safe_load((ROOT / "dashboards" / "rules" / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_every_recording_rule_records_something(scene: Scene) -> None:
    assert [
        rule["record"] for rule in rules("recording.yml") if not scene.prometheus.query(rule["record"])
    ] == []


def test_everything_that_an_alert_looks_at_is_there(scene: Scene) -> None:
    empty = [
        f"{alert['alert']}: {part}"
        for alert in rules("alerts.yml")
        for part in within(alert["expr"])
        if not scene.prometheus.query(part)
    ]
    assert empty == []


def test_every_rule_is_healthy_and_every_alert_can_be_read(scene: Scene) -> None:
    found = scene.prometheus.rules()
    assert {rule["health"] for rule in found} == {"ok"}, [rule for rule in found if rule["health"] != "ok"]
    for alert in scene.prometheus.alerts():
        assert "<error" not in str(alert["annotations"]), alert
        assert "<no value>" not in str(alert["annotations"]), alert


def test_alerts_fire_for_the_nodes_that_have_the_faults(scene: Scene) -> None:
    """A rule that looks back waits for as many scrapes as it needs."""

    def firing(name: str) -> set[str]:
        return {
            each["labels"]["node"]
            for each in scene.prometheus.alerts()
            if each["state"] == "firing" and each["labels"]["alertname"] == name and "node" in each["labels"]
        }

    for name, nodes in FIRE.items():
        until(lambda name=name, nodes=nodes: firing(name) == nodes, f"{name} fires for {nodes}", 150)  # type: ignore[misc]


def test_the_place_of_a_node_is_said_by_discovery(scene: Scene) -> None:
    [found] = scene.prometheus.query('fleet_gpu_power_watts{node="sim-002",gpu="0"}')
    labels = found["metric"]
    assert (labels["site"], labels["rack"]) == ("site1", "r01")
    assert labels["model"] == "NVIDIA GeForce RTX 4090"
    assert labels["instance"] == "sim-002"
