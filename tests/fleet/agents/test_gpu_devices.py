"""The GPUs of a machine as devices: from its bus and what is said of them."""

from __future__ import annotations

import sys
from pathlib import Path

from fleet.agents.gpu_devices import Known, amd, devices, here
from fleet.agents.inventory import gpu_devices
from fleet.agents.probes.gpus import Gpu

H100 = Gpu("0", "0000:9b:00.0", "nvidia", "nvidia", "kernel")
RADEON = Gpu("1", "0000:03:00.0", "amd", "amdgpu", "kernel")
BARE = Gpu("2", "0000:04:00.0", "amd", "", "none")


def test_a_gpu_has_the_vendors_number_what_it_says_and_the_driver_that_has_it() -> None:
    (found,) = devices([H100], {H100.pci_address: Known("3", "NVIDIA H100", "sm_90", 80 << 30)})
    assert (found.name, found.arch, found.memory_bytes) == ("gpu3", "sm_90", 80 << 30)
    assert (found.vendor, found.driver) == ("nvidia", "nvidia")


def test_a_gpu_that_says_nothing_is_a_device_all_the_same() -> None:
    (found,) = devices([BARE], {})
    assert (found.name, found.driver, found.memory_bytes) == ("gpu2", "none", 0)
    assert found.model == "amd GPU at 0000:04:00.0"


def test_two_vendors_that_both_begin_at_0_do_not_share_a_name() -> None:
    known = {each.pci_address: Known("0", "x", "", 0) for each in (H100, RADEON)}
    assert [each.name for each in devices([H100, RADEON], known)] == ["gpu0", "gpu1"]


def test_amdgpu_says_memory_and_kfd_the_architecture(tmp_path: Path) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:03:00.0"
    device.mkdir(parents=True)
    (device / "mem_info_vram_total").write_text("25753026560\n")
    for number, version, location in ((0, 0, 0), (1, 110000, 768), (2, 90402, 1024)):
        node = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number}"
        node.mkdir(parents=True)
        said = f"gfx_target_version {version}\ndomain 0\nlocation_id {location}\n"
        (node / "properties").write_text(said)
    found = amd(tmp_path, [RADEON, BARE])
    assert found == {"0000:03:00.0": Known("0", "", "gfx1100", 25753026560)}
    moved = RADEON._replace(pci_address="0000:04:00.0")
    assert amd(tmp_path, [moved])["0000:04:00.0"].arch == "gfx942"


def test_a_machine_without_a_bus_has_none(tmp_path: Path) -> None:
    assert here(tmp_path) == []


def test_a_look_that_fails_costs_the_node_its_gpus_only() -> None:
    assert gpu_devices((sys.executable, "-c", "raise SystemExit(3)")) == []
    assert gpu_devices((sys.executable, "-c", "print('no JSON')")) == []
