"""The exposition: what Prometheus's own parsers make of it, and what is refused."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.agents.exporter import UnknownFamily, render
from fleet.agents.families import FAMILIES
from fleet.agents.samples import Readings, Sample, joined, labels
from tests.parts import need


def test_what_is_rendered_is_what_prometheus_reads() -> None:
    ugly = 'a "quoted" back\\slash\nand a line'
    text = render(
        [
            Sample("fleet_gpu_power_watts", labels(gpu="0", uuid=ugly), 12.5),
            Sample("fleet_node_load1", "", 3),
            Sample("fleet_gpu_power_watts", labels(gpu="1", uuid="b"), 1e-7),
            Sample("fleet_gpu_memory_used_bytes", labels(gpu="1", uuid="b"), 1 << 53),
        ]
    )
    found = {
        (each.name, each.labels.get("gpu")): each
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }
    assert found["fleet_gpu_power_watts", "0"].value == 12.5
    assert found["fleet_gpu_power_watts", "0"].labels["uuid"] == 'a "quoted" back\\slash�and a line'
    assert found["fleet_gpu_power_watts", "1"].value == 1e-7
    assert found["fleet_gpu_memory_used_bytes", "1"].value == 1 << 53
    assert found["fleet_node_load1", None].value == 3


def test_a_family_stands_together_and_each_series_once() -> None:
    text = render(
        [
            Sample("fleet_gpu_up", labels(gpu="0"), 0),
            Sample("fleet_node_load1", "", 1),
            Sample("fleet_gpu_up", labels(gpu="1"), 1),
            Sample("fleet_gpu_up", labels(gpu="0"), 1),
        ]
    )
    assert [line for line in text.splitlines() if line.startswith("fleet_gpu_up")] == [
        'fleet_gpu_up{gpu="0"} 1',
        'fleet_gpu_up{gpu="1"} 1',
    ]
    assert text.count("# TYPE fleet_gpu_up gauge\n") == 1


def test_what_a_device_does_not_have_is_no_sample() -> None:
    readings = Readings()
    readings.add("fleet_gpu_fan_ratio", "", None)
    readings.add("fleet_gpu_fan_ratio", "", math.nan)
    readings.add("fleet_gpu_power_watts", "", 0, 1e-3)
    assert readings.samples == [Sample("fleet_gpu_power_watts", "", 0)]


def test_a_state_is_a_set_of_which_one_is_so() -> None:
    readings = Readings()
    readings.state("fleet_gpu_driver_state", labels(gpu="0"), "state", ("kernel", "none"), "none")
    assert [sample.value for sample in readings.samples] == [0, 1]
    assert readings.samples[1].labels == 'gpu="0",state="none"'


def test_a_series_that_nobody_described_is_refused() -> None:
    with pytest.raises(UnknownFamily, match="fleet_gpu_powre_watts"):
        render([Sample("fleet_gpu_powre_watts", "", 1)])


def test_labels_that_firmware_made_are_cut_and_cleaned() -> None:
    assert labels(product=" MZ-V9P\0\0 ") == 'product="MZ-V9P"'
    assert len(labels(product="x" * 5000)) == 120 + len('product=""')
    assert joined("", state="none") == 'state="none"'


def test_names_follow_prometheus_own_rules() -> None:
    promtool = need("promtool", install="prometheus")
    every = [Sample(family.name, labels(gpu="0"), 1) for family in FAMILIES]
    done = subprocess.run(
        [promtool, "check", "metrics"], input=render(every), capture_output=True, text=True, check=False
    )
    # "info" families are gauges with a constant value: the only thing that promtool minds about them is nothing.
    assert done.stdout + done.stderr == "", shutil.which("promtool")
    assert done.returncode == 0


def test_every_series_is_documented_as_it_is() -> None:
    text = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()
    rows = dict(re.findall(r"^\| `(fleet_\w+)` \| [^|]*\| (.*) \|$", text, re.MULTILINE))
    assert rows == {family.name: family.help for family in FAMILIES}
