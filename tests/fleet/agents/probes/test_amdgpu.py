"""AMD cards from files of the driver's shapes: whole, lacking, nonsensical."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.probes import gpu_metrics
from fleet.agents.probes.amdgpu import AmdGpu
from fleet.agents.probes.gpus import Gpus, states
from fleet.agents.samples import Sample
from tests.fleet.agents.probes import box
from tests.fleet.agents.probes.reading import sample, value


def read(root: Path, part: str = "card0") -> list[Sample]:
    probe = AmdGpu(root)
    probe.parts()
    return probe.read(part)


def test_a_radeon_says_all_that_its_driver_knows(tmp_path: Path) -> None:
    box.radeon(tmp_path, 0)
    found = read(tmp_path)
    assert value(found, "gpu_power_watts") == 155
    assert value(found, "gpu_power_limit_watts") == 300
    assert value(found, "gpu_busy_ratio") == 0.97
    assert value(found, "gpu_memory_used_bytes") == 8908738560
    assert value(found, "gpu_temperature_celsius", sensor="edge") == 50
    assert value(found, "gpu_temperature_celsius", sensor="memory") == 74
    assert value(found, "gpu_temperature_celsius", sensor="vrgfx") == 49, "only the binary file has it"
    assert value(found, "gpu_clock_hertz", domain="graphics") == 2996e6
    assert value(found, "gpu_fan_ratio") == pytest.approx(0.5014, abs=1e-4)
    assert value(found, "gpu_throttled", reason="hw_thermal") == 1
    assert value(found, "gpu_throttled", reason="power_cap") == 0
    info = sample(found, "gpu_info")
    assert 'gpu="0",uuid="5a3c7b21d94e0000",vendor="amd"' in info.labels
    assert 'pci_address="0000:03:00.0"' in info.labels


def test_the_link_is_that_of_the_slot_not_of_the_switch_on_the_card(tmp_path: Path) -> None:
    box.radeon(tmp_path, 0)
    found = read(tmp_path)
    assert value(found, "gpu_pcie_link_width") == 8
    assert value(found, "gpu_pcie_link_width_max") == 16
    assert value(found, "gpu_pcie_link_generation") == 3


def test_what_a_card_lacks_is_absent_and_never_zero(tmp_path: Path) -> None:
    box.radeon(
        tmp_path, 0, gpu_busy_percent="", gpu_metrics="", hwmon__hwmon0__fan1_max="", current_link_speed=""
    )
    names = {each.name for each in read(tmp_path)}
    assert not names & {"fleet_gpu_busy_ratio", "fleet_gpu_fan_ratio", "fleet_gpu_throttled"}
    assert "fleet_gpu_power_watts" in names
    assert not [each for each in names if "ecc" in each or "energy" in each]


def test_power_comes_from_where_the_kernel_has_it(tmp_path: Path) -> None:
    box.radeon(tmp_path, 0, hwmon__hwmon0__power1_average="", hwmon__hwmon0__power1_input="90000000")
    probe = AmdGpu(tmp_path)
    probe.parts()
    assert value(probe.read("card0"), "gpu_power_watts") == 90
    assert probe.watts("card0") == 90
    assert probe.joules("card0") is None
    box.radeon(tmp_path / "bare", 0, hwmon__hwmon0__power1_average="")
    assert value(read(tmp_path / "bare"), "gpu_power_watts") == 178, "else the binary file's"


@pytest.mark.parametrize("content", ["N/A", "", "-1x", "\0\0", b"\xff\xfe"])
def test_nonsense_in_a_file_is_not_available(tmp_path: Path, content: str | bytes) -> None:
    card = box.radeon(tmp_path, 0, gpu_metrics="")
    box.write(card, {"gpu_busy_percent": content, "mem_info_vram_used": content, "max_link_speed": content})
    names = {each.name for each in read(tmp_path)}
    assert "fleet_gpu_busy_ratio" not in names
    assert "fleet_gpu_memory_used_bytes" not in names


def test_memory_errors_are_counted_where_the_card_counts_them(tmp_path: Path) -> None:
    box.radeon(tmp_path, 0, ras__umc_err_count="ue: 2\nce: 40")
    found = read(tmp_path)
    assert value(found, "gpu_ecc_errors_total", kind="uncorrected") == 2
    assert value(found, "gpu_ecc_errors_total", kind="corrected") == 40


def test_time_under_throttling_adds_up(tmp_path: Path) -> None:
    card, now = box.radeon(tmp_path, 0), [100.0]
    probe = AmdGpu(tmp_path, lambda: now[0])
    probe.parts()
    probe.read("card0")
    now[0] = 102.0
    found = probe.read("card0")
    assert value(found, "gpu_throttle_seconds_total", reason="hw_thermal") == 2
    assert value(found, "gpu_throttle_seconds_total", reason="power_cap") == 0
    (card / "gpu_metrics").write_bytes(box.metrics_13(throttlers=0))
    now[0] = 110.0
    assert value(probe.read("card0"), "gpu_throttle_seconds_total", reason="hw_thermal") == 2


def test_a_card_that_says_nothing_is_an_error_and_not_silence(tmp_path: Path) -> None:
    card = box.radeon(tmp_path, 0)
    probe = AmdGpu(tmp_path)
    probe.parts()
    for path in [*card.rglob("*"), card / "../current_link_width"]:
        if path.is_file() and not path.is_symlink():
            path.unlink()
    for path in card.parent.iterdir():
        if path.is_file():
            path.unlink()
    with pytest.raises(OSError, match="nothing in it can be read"):
        probe.read("card0")


def test_cards_are_counted_as_people_count(tmp_path: Path) -> None:
    for index in range(11):
        box.radeon(tmp_path, index)
    probe = AmdGpu(tmp_path)
    assert list(probe.parts())[-2:] == ["card9", "card10"]
    assert probe.identity("card10")[0] == "10"


def test_all_bits_set_means_not_available() -> None:
    found = gpu_metrics.parse(box.metrics_13(power=0xFFFF, edge=0xFFFF, throttlers=(1 << 64) - 1))
    assert found is not None
    assert (found.revision, found.power_watts, found.throttled) == ("1.3", None, None)
    assert "edge" not in found.temperatures
    assert found.temperatures["junction"] == 73
    assert found.busy_ratio == 1.0


@pytest.mark.parametrize("cut", [0, 3, 4, 40, 119])
def test_a_structure_that_was_cut_off_is_not_read(cut: int) -> None:
    assert gpu_metrics.parse(box.metrics_13()[:cut]) is None


def test_a_revision_that_is_not_known_is_not_guessed() -> None:
    content = bytearray(box.metrics_13())
    content[3] = 9
    assert gpu_metrics.parse(bytes(content)) is None
    content[2:4] = (2, 3)
    assert gpu_metrics.parse(bytes(content)) is None


def test_an_instinct_has_its_own_layout() -> None:
    header = (288).to_bytes(2, "little") + bytes((1, 4))
    body = header + b"".join(each.to_bytes(2, "little") for each in (61, 55, 0xFFFF, 740, 83, 20))
    content = body.ljust(104, b"\xff") + (7).to_bytes(8, "little") * 8 + (9).to_bytes(8, "little") * 8
    found = gpu_metrics.parse(content.ljust(288, b"\0"))
    assert found is not None
    assert found.temperatures == {"junction": 61, "memory": 55}
    assert (found.power_watts, found.busy_ratio) == (740, 0.83)
    assert found.links == ((7 * 1024, 9 * 1024),) * 8


def test_a_gpu_without_a_driver_is_a_state(tmp_path: Path) -> None:
    cards = [box.radeon(tmp_path, index) for index in range(3)]
    for card, driver in zip(cards[1:], ("vfio-pci", None), strict=True):
        (card / "driver").unlink()
        if driver:
            (tmp_path / "sys/bus/pci/drivers" / driver).mkdir()
            box.link(card / "driver", tmp_path / "sys/bus/pci/drivers" / driver)
    probe = Gpus(tmp_path)
    assert value(probe.read("pci"), "gpus_expected") == 2, "one has no kernel driver to answer through"
    assert [gpu.state for gpu in probe.found] == ["kernel", "userspace", "none"]
    box.write(tmp_path, {"proc/77/maps": "7f00-7f01 rw-s 0 00:00 1 /sys/devices/x/0000:43:00.0/resource0"})
    probe.read("pci")
    assert [gpu.state for gpu in probe.found] == ["kernel", "userspace", "userspace"]
    found = states(probe.found, {"0000:03:00.0": 'gpu="0",uuid="abc"'})
    assert value(found, "gpu_driver_state", uuid="abc", state="kernel") == 1
    assert value(found, "gpu_driver_state", gpu="1", uuid="", state="kernel") == 0


def test_a_gpu_that_fell_off_the_bus_is_still_expected(tmp_path: Path) -> None:
    for index in range(2):
        box.radeon(tmp_path, index)
    probe = Gpus(tmp_path)
    probe.read("pci")
    (tmp_path / "sys/bus/pci/devices/0000:23:00.0").unlink()
    assert value(probe.read("pci"), "gpus_expected") == 2
    assert len(probe.found) == 1


def test_a_real_card_reads_as_a_tool_of_amd_reads_it(shared_samples: Path) -> None:
    """The binary file made again from what amdgpu_top decoded on an RX 9060 XT."""
    document: list[dict[str, Any]] = json.loads((shared_samples / "amd/amdgpu_top-dump.json").read_text())
    theirs = document[0]["gpu_metrics"]
    found = gpu_metrics.parse(
        box.metrics_13(power=theirs["average_socket_power"], edge=theirs["temperature_edge"])
    )
    assert found is not None
    assert len(box.metrics_13()) == theirs["header"]["structure_size"]
    assert found.power_watts == theirs["average_socket_power"]
    assert found.temperatures["junction"] == theirs["temperature_hotspot"]
    assert found.clock_hertz == theirs["current_gfxclk"] * 1_000_000
