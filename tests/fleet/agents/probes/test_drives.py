"""Drives: from tools' recorded words, from sysfs, and gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.agents.probes import nvme, smartctl
from fleet.agents.probes.blocks import Blocks
from fleet.agents.probes.commands import Failed
from fleet.agents.probes.drives import Drives
from fleet.agents.samples import labels
from tests.fleet.agents.probes import box
from tests.fleet.agents.probes.reading import sample, value
from tests.fleet.agents.probes.tools import Tools, recorded

OWN = labels(device="nvme0", serial="EX0001")
STAT = "100 0 2048 5 200 0 4096 9 0 77 14 0 0 0 0 0 0"


def drive(root: Path, number: int, serial: str, state: str = "live") -> None:
    """An NVMe drive of two namespaces."""
    controller = root / "sys/class/nvme" / f"nvme{number}"
    box.write(controller, {"serial": f"{serial}      ", "model": "Example NVMe 4TB", "firmware_rev": "1.2"})
    box.write(controller, {"state": state, "transport": "pcie", "device/current_link_width": "4"})
    for namespace in (1, 2):
        box.write(root / "sys/block" / f"nvme{number}n{namespace}", {"size": "7814037168", "stat": STAT})


def test_smartctl_is_believed_although_it_ends_with_an_error() -> None:
    found = smartctl.samples(
        OWN, smartctl.read(Tools({"smartctl": (4, recorded("smartctl-nvme.json"))}), "nvme0")
    )
    assert value(found, "drive_up") == 1
    assert value(found, "drive_temperature_celsius") == 71, "smartctl speaks Celsius"
    assert value(found, "drive_percentage_used_ratio") == 1.03, "endurance may be used up and the drive go on"
    assert value(found, "drive_host_read_bytes_total") == 512_000_000
    assert value(found, "drive_host_written_bytes_total") == (1 << 64) * 512_000, "larger than JSON's numbers"
    assert value(found, "drive_warning_temperature_seconds_total") == 420
    assert value(found, "drive_critical_warning", bit="temperature") == 1
    assert value(found, "drive_critical_warning", bit="spare") == 0


def test_a_failing_drive_of_another_kind_says_what_it_has() -> None:
    tools = Tools({"smartctl": (24, recorded("smartctl-failing.json"))})
    found = smartctl.samples(OWN, smartctl.read(tools, "sda"))
    assert value(found, "drive_up") == 0, "a bit of the exit status says so, though the JSON does not"
    assert value(found, "drive_media_errors_total") == 12
    assert value(found, "drive_percentage_used_ratio") == 0.41
    assert not [each for each in found if "written" in each.name or "spare" in each.name]


@pytest.mark.parametrize("output", [b"", b"[]", b"Permission denied", recorded("smartctl-no-device.json")])
def test_a_drive_that_cannot_be_opened_is_a_failure_not_a_reading(output: bytes) -> None:
    with pytest.raises(Failed, match="smartctl of nvme3"):
        smartctl.read(Tools({"smartctl": (2, output)}), "nvme3")


def test_nvme_cli_speaks_kelvin() -> None:
    found = nvme.samples(OWN, nvme.read(Tools({"nvme": (0, recorded("nvme-smart-log.json"))}), "nvme0"))
    assert value(found, "drive_temperature_celsius") == 33
    assert value(found, "drive_percentage_used_ratio") == 0.02
    assert value(found, "drive_available_spare_ratio") == 1
    assert value(found, "drive_thermal_throttle_seconds_total", level="1") == 30
    assert value(found, "drive_critical_warning", bit="reliability") == 0


def test_newer_nvme_cli_takes_the_warning_apart() -> None:
    log = json.loads(recorded("nvme-smart-log.json")) | {
        "critical_warning": {"value": 5, "available_spare": 1}
    }
    found = nvme.samples(OWN, log)
    assert value(found, "drive_critical_warning", bit="spare") == 1
    assert value(found, "drive_critical_warning", bit="reliability") == 1


def test_the_best_tool_that_answers_is_used(tmp_path: Path) -> None:
    drive(tmp_path, 0, "EX0001")
    whole = {"smartctl": (4, recorded("smartctl-nvme.json")), "nvme": (0, recorded("nvme-smart-log.json"))}
    for missing, degrees in ((), 71), (("smartctl",), 33), (("smartctl", "nvme"), None):
        tools = Tools({name: said for name, said in whole.items() if name not in missing})
        probe = Drives(tmp_path, tools)
        assert probe.parts() == ("EX0001",)
        found = probe.read("EX0001")
        assert value(found, "drive_up") == 1
        temperatures = [each.value for each in found if each.name == "fleet_drive_temperature_celsius"]
        assert temperatures == ([] if degrees is None else [degrees])
        assert all('serial="EX0001"' in each.labels for each in found)
    assert tools.ran == ["smartctl -j -a /dev/nvme0", "nvme smart-log -o json /dev/nvme0"]


def test_one_tool_a_minute_is_started_and_the_other_has_its_turn(tmp_path: Path) -> None:
    drive(tmp_path, 0, "EX0001")
    tools = Tools({"smartctl": (2, b""), "nvme": (0, recorded("nvme-smart-log.json"))})
    probe = Drives(tmp_path, tools)
    probe.parts()
    assert [each.name for each in probe.read("EX0001")] == ["fleet_drive_up"], (
        "this minute only the kernel's word"
    )
    assert value(probe.read("EX0001"), "drive_temperature_celsius") == 33
    assert value(probe.read("EX0001"), "drive_temperature_celsius") == 33
    assert [line.split()[0] for line in tools.ran] == ["smartctl", "nvme", "nvme"]


def test_a_drive_is_known_by_its_serial_and_missed_when_it_is_gone(tmp_path: Path) -> None:
    drive(tmp_path, 0, "EX0001")
    drive(tmp_path, 1, "EX0002")
    probe = Drives(tmp_path, Tools({}))
    probe.parts()
    for namespace in (1, 2):
        (tmp_path / f"sys/block/nvme1n{namespace}").rename(tmp_path / f"gone{namespace}")
    assert probe.parts() == ("EX0001", "EX0002")
    assert value(probe.read("EX0002"), "drive_up") == 0


def test_a_drive_that_the_kernel_gave_up_is_down_without_being_asked(tmp_path: Path) -> None:
    drive(tmp_path, 0, "EX0001", state="dead")
    tools = Tools({})
    probe = Drives(tmp_path, tools)
    probe.parts()
    assert value(probe.read("EX0001"), "drive_up") == 0
    assert tools.ran == []


def test_sysfs_says_who_a_drive_is_and_how_busy(tmp_path: Path) -> None:
    drive(tmp_path, 0, "EX0001")
    drive(tmp_path, 1, "EX0002")
    box.write(tmp_path, {"proc/self/mounts": "/dev/nvme0n1p2 / ext4 rw 0 0\nproc /proc proc rw 0 0"})
    box.write(
        tmp_path,
        {"sys/block/md0/md/degraded": "1", "sys/block/md0/slaves/nvme1n1/x": "", "sys/block/loop0/size": "1"},
    )
    probe = Blocks(tmp_path)
    assert probe.parts() == ("sysfs",)
    found = probe.read("sysfs")
    about = sample(found, "drive_info", device="nvme0").labels
    assert 'product="Example NVMe 4TB",firmware="1.2",transport="pcie",role="system"' in about
    assert 'role="raid"' in sample(found, "drive_info", device="nvme1").labels
    assert value(found, "drive_capacity_bytes", serial="EX0001") == 7814037168 * 512
    assert value(found, "drive_link_width", serial="EX0002") == 4
    assert value(found, "drive_io_time_seconds_total", serial="EX0002") == 0.077
    assert value(found, "raid_array_up", array="md0") == 0


@pytest.mark.parametrize("pattern", ["*.json"])
def test_recorded_drives_of_many_makers_are_read(shared_samples: Path, pattern: str) -> None:
    files = [path for path in sorted((shared_samples / "smartctl").glob(pattern)) if "scan" not in path.name]
    assert files
    for path in files:
        document = json.loads(path.read_text())
        status = document["smartctl"].get("exit_status", 0)
        found = smartctl.samples(OWN, smartctl.read(Tools({"smartctl": (status, path.read_bytes())}), "x"))
        assert value(found, "drive_up") == int(document.get("smart_status", {}).get("passed", True)), (
            path.name
        )
        assert 0 < value(found, "drive_temperature_celsius") < 90, path.name
        assert value(found, "drive_power_on_seconds_total") > 0, path.name


def test_a_recorded_log_of_nvme_cli_is_read(shared_samples: Path) -> None:
    log = json.loads((shared_samples / "nvme_cli/ocp-nvme_smartlog.json").read_text())
    found = nvme.samples(OWN, log)
    assert value(found, "drive_temperature_celsius") == log["temperature"] - 273
    assert not [each for each in found if "critical_warning" in each.name], "this record misspells its name"
