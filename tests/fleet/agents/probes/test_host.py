"""The machine from its /proc, and the one that the tests run on."""

from __future__ import annotations

from pathlib import Path

from fleet.agents.exporter import render
from fleet.agents.probes.host import Host, parse
from tests.fleet.agents.probes import box
from tests.fleet.agents.probes.reading import value


def test_a_machine_says_what_it_has(tmp_path: Path) -> None:
    box.host(tmp_path, cpus=4)
    found = Host(tmp_path).read("host")
    assert value(found, "node_cpus") == 4
    assert value(found, "node_cpu_seconds_total", mode="idle") == 162.5
    assert value(found, "node_memory_available_bytes") == 12000000 * 1024
    assert value(found, "node_boot_timestamp_seconds") == 1764120000
    assert value(found, "node_pressure_stalled_seconds_total", resource="io") == 2.5
    assert value(found, "node_network_transmit_bytes_total") == 2000, "neither lo nor an attempt's interface"
    assert value(found, "node_disk_written_bytes_total") == 4096 * 512, "neither partitions nor loop devices"


def test_a_machine_without_some_files_says_the_rest() -> None:
    found = parse({"stat": "", "meminfo": "", "loadavg": "1.5 1 1 1/2 3", "net/dev": "", "diskstats": ""})
    assert {each.name for each in found} == {"fleet_node_load1"}


def test_this_machine_can_be_read(tmp_path: Path) -> None:
    probe = Host(state=tmp_path)
    found = [sample for part in probe.parts() for sample in probe.read(part)]
    assert value(found, "node_cpus") >= 1
    assert value(found, "node_filesystem_size_bytes") > 0
    assert render(found)
