"""From a probe to a scrape, for real: an agent's telemetry, pushed to a real server and served to Prometheus."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fleet.agents.probes import nvidia
from tests.fleet.agents.probes.nvidia import GEFORCE, H200
from tests.parts import need
from tests.whole import Fleet, running_fleet, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


def scraped(fleet: Fleet, node_id: int) -> dict[tuple[str, str], float]:
    """What Prometheus would get of a node, by name and GPU; nothing while the server says 503."""
    answer = httpx.get(
        f"{fleet.url}/v1/nodes/{node_id}/metrics", headers={"Authorization": f"Bearer {fleet.token}"}
    )
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return {}
    assert answer.status_code == httpx.codes.OK, answer.text
    families = text_string_to_metric_families(answer.text)
    return {
        (each.name, each.labels.get("gpu", "")): each.value for family in families for each in family.samples
    }


def test_what_a_node_measures_can_be_scraped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("cc", "gcc", "clang", install="gcc")
    nvidia.build(tmp_path)
    nvidia.table(tmp_path / "table", H200, GEFORCE)
    monkeypatch.setenv("NVML_TABLE", str(tmp_path / "table"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with running_fleet(tmp_path) as fleet:
        node = fleet.start_agent("measured")
        found = until(lambda: scraped(fleet, node.id), "the first exposition is served")
        assert found["fleet_gpu_power_watts", "0"] == 150
        assert found["fleet_gpu_gpm_supported", "1"] == 0
        assert ("fleet_gpu_sm_active_ratio", "1") not in found
        assert found["fleet_node_cpus", ""] >= 1
        shown = httpx.get(
            f"{fleet.url}/v1/telemetry", headers={"Authorization": f"Bearer {fleet.token}"}
        ).json()
        (measured,) = shown["items"]
        assert [gpu["power_watts"] for gpu in measured["gpus"]] == [150, 150]
        assert not measured["stale"]
