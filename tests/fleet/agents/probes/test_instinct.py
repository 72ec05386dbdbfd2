"""AMD's tools, as recorded; and its Python package, in the place of which a module stands that misbehaves as it does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fleet.agents.probes import amd_smi, amdsmi
from fleet.agents.probes.commands import Failed, run
from fleet.agents.probes.instinct import Instinct
from tests.fleet.agents.probes import box
from tests.fleet.agents.probes.reading import sample, value
from tests.fleet.agents.probes.tools import Tools, recorded

METRIC = {
    "amd-smi metric": (0, recorded("amd-smi-metric.txt")),
    "amd-smi list": (0, recorded("amd-smi-list.json")),
}


def machine(root: Path, kind: str = "0x120000") -> None:
    box.write(root, {"sys/bus/pci/devices/0000:0c:00.0/vendor": "0x1002"})
    box.write(root, {"sys/bus/pci/devices/0000:0c:00.0/class": kind})


def test_a_warning_before_the_json_and_values_that_are_not_there(tmp_path: Path) -> None:
    machine(tmp_path)
    probe = Instinct(tmp_path, Tools(METRIC))
    assert probe.parts() == ("all",)
    found = probe.read("all")
    assert value(found, "gpu_power_watts") == 740
    assert value(found, "gpu_busy_ratio") == 0.83
    assert value(found, "gpu_clock_hertz", domain="memory") == 1300e6, "a number as a text, with its unit"
    assert value(found, "gpu_memory_total_bytes") == 196592 << 20
    assert value(found, "gpu_ecc_errors_total", kind="corrected") == 4
    assert value(found, "gpu_temperature_celsius", sensor="junction") == 61
    assert not [each for each in found if 'sensor="edge"' in each.labels or "energy" in each.name]
    assert 'pci_address="0000:0c:00.0"' in sample(found, "gpu_info").labels


def test_the_list_that_it_was_once_is_read_too() -> None:
    text = recorded("amd-smi-metric.txt").partition(b'{"gpu_data": ')[2].rstrip().removesuffix(b"}")
    assert amd_smi.documents(text)[0]["gpu"] == 0
    assert amd_smi.documents(b'{"gpu": 3}') == [{"gpu": 3}]


@pytest.mark.parametrize("output", [b"", b"[]", b"ERROR [video]", b'{"gpu_data": "N/A"}', b"[1, 2]"])
def test_what_is_no_json_of_gpus_is_a_failure(output: bytes) -> None:
    with pytest.raises(Failed, match="no JSON of GPUs"):
        amd_smi.documents(output)


def test_a_radeon_needs_neither_tool(tmp_path: Path) -> None:
    machine(tmp_path, kind="0x030000")
    assert Instinct(tmp_path, Tools(METRIC)).parts() == ()


def test_a_card_that_sysfs_shows_too_keeps_its_labels(tmp_path: Path) -> None:
    box.radeon(tmp_path, 0)
    machine(tmp_path)
    listed = recorded("amd-smi-list.json").replace(b"0000:0C:00.0", b"0000:03:00.0")
    found = Instinct(tmp_path, Tools(METRIC | {"amd-smi list": (0, listed)})).read("all")
    assert value(found, "gpu_power_watts", uuid="5a3c7b21d94e0000") == 740
    assert not [each for each in found if "info" in each.name], "sysfs has said who it is"


PACKAGE = """
print("a library that talks while it is imported")
class AmdSmiTemperatureType: EDGE, HOTSPOT, VRAM = range(3)
class AmdSmiTemperatureMetric: CURRENT = 0
def amdsmi_init(): print("and while it begins")
def amdsmi_get_processor_handles(): return ["a"]
def amdsmi_get_power_info(handle): return {"socket_power": "N/A", "current_socket_power": 0xFFFF, "average_socket_power": 301}
def amdsmi_get_gpu_activity(handle): return {"gfx_activity": 12, "umc_activity": "N/A"}
def amdsmi_get_temp_metric(handle, kind, metric):
    if kind == 0: raise RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED")
    return 50 + kind
def amdsmi_get_gpu_vram_usage(handle): return {"vram_total": 65520, "vram_used": 10}
def amdsmi_get_gpu_total_ecc_count(handle): raise RuntimeError("AMDSMI_STATUS_NOT_SUPPORTED")
def amdsmi_get_gpu_device_bdf(handle): return "0000:0c:00.0"
def amdsmi_get_gpu_device_uuid(handle): return "abc"
"""


def test_the_python_package_is_asked_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amdsmi.py").write_text(PACKAGE)
    root = str(Path(__file__).parents[4])
    monkeypatch.setattr(amdsmi, "COMMAND", ("env", f"PYTHONPATH={root}:{tmp_path}", *amdsmi.COMMAND))
    (document,) = amdsmi.read(run)
    assert "amdsmi" not in sys.modules
    facts = amd_smi.facts(document)
    assert (facts["power"], facts["busy"], facts["temperature junction"]) == (301, 0.12 * 100, 51)
    assert (facts["temperature edge"], facts["corrected"]) == (None, None)


@pytest.mark.parametrize("content", ["raise KeyError('LD_LIBRARY_PATH')", "import os; os._exit(139)"])
def test_a_package_without_its_library_ends_no_more_than_its_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "amdsmi.py").write_text(content)
    root = str(Path(__file__).parents[4])
    monkeypatch.setattr(amdsmi, "COMMAND", ("env", f"PYTHONPATH={root}:{tmp_path}", *amdsmi.COMMAND))
    with pytest.raises(Failed, match=r"amdsmi: (KeyError|exit status 139)"):
        amdsmi.read(run)
