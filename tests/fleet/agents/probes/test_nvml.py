"""NVIDIA GPUs, through NVIDIA's own Python package and a library in the place of the driver's."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.probes.nvml import Nvml, Session, Unavailable, open_nvml, pci_address
from fleet.agents.probes.nvml_events import NvmlEvents
from fleet.agents.probes.nvml_fields import NvmlFields
from fleet.agents.probes.nvml_gpm import NvmlGpm
from fleet.agents.samples import Sample
from fleet.agents.xids import Xids
from tests.fleet.agents.probes import nvidia
from tests.fleet.agents.probes.nvidia import GEFORCE, H200
from tests.fleet.agents.probes.reading import sample, value
from tests.parts import need

Driver = Callable[..., Session]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Loaded first, it is what anybody gets who asks for the driver's."""
    need("cc", "gcc", "clang", install="gcc")
    return ctypes.CDLL(str(nvidia.build(tmp_path_factory.mktemp("nvml"))))


@pytest.fixture
def driver(library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    monkeypatch.setenv("NVML_TABLE", str(tmp_path / "table"))

    def opened(*gpus: dict[str, int]) -> Session:
        nvidia.table(tmp_path / "table", *gpus)
        return Session(open_nvml)

    yield opened
    (tmp_path / "table").write_text("")
    library.table_load()


def change(library: ctypes.CDLL, tmp_path: Path, *gpus: dict[str, int]) -> None:
    """The table from now on."""
    nvidia.table(tmp_path / "table", *gpus)
    library.table_load()


def names(samples: list[Sample]) -> set[str]:
    return {each.name.removeprefix("fleet_gpu_") for each in samples}


def test_a_gpu_says_what_it_does_now(driver: Driver) -> None:
    probe = Nvml(driver(H200, GEFORCE))
    assert probe.parts() == ("0", "1")
    assert probe.identity("1") == ("1", "GPU-0000-0001")
    found = probe.read("0")
    assert value(found, "gpu_power_watts") == 150
    assert value(found, "gpu_busy_ratio") == 0.31
    assert value(found, "gpu_clock_hertz", domain="sm") == 1395e6
    assert value(found, "gpu_throttled", reason="power_cap") == 1
    assert value(found, "gpu_throttled", reason="hw_thermal") == 1
    assert value(found, "gpu_throttled", reason="power_brake") == 0
    info = sample(found, "gpu_info").labels
    assert (
        'product="NVIDIA H200",pci_address="0000:1b:00.0",serial="165001",driver_version="580.159.04"' in info
    )


def test_a_geforce_lacks_much_and_none_of_it_is_zero(driver: Driver) -> None:
    session = driver(GEFORCE)
    found = Nvml(session).read(*Nvml(session).parts())
    fields, gpm = NvmlFields(session).read("0"), NvmlGpm(session).read("0")
    assert names(fields) == {
        *(
            "pcie_replays_total",
            "throttle_seconds_total",
            "processes",
            "pcie_link_width",
            "pcie_link_width_max",
        ),
        *("pcie_tx_bytes_per_second", "pcie_rx_bytes_per_second"),
        *("pcie_link_generation", "pcie_link_generation_max"),
    }
    assert value(fields, "gpu_pcie_rx_bytes_per_second") == 9_000 * 1024
    assert value(fields, "gpu_pcie_tx_bytes_per_second") == 400 * 1024
    assert 'serial=""' in sample(found, "gpu_info").labels
    assert [(each.name, each.value) for each in gpm] == [("fleet_gpu_gpm_supported", 0)]


def test_gpm_tells_a_busy_gpu_from_one_that_only_looks_so(driver: Driver) -> None:
    session = driver(H200)
    probe = NvmlGpm(session)
    probe.parts()
    assert names(probe.read("0")) == {"gpm_supported"}, "a mean needs two looks"
    found = probe.read("0")
    assert value(found, "gpu_sm_active_ratio") == pytest.approx(0.001)
    assert value(found, "gpu_tensor_active_ratio") == 0, "measured, and nothing"
    assert value(found, "gpu_memory_bandwidth_ratio") == pytest.approx(0.89)
    assert value(found, "gpu_pcie_rx_bytes_per_second") == pytest.approx(53_686.9 * 2**20)
    assert value(found, "gpu_pcie_tx_bytes_per_second") == pytest.approx(3_205.8 * 2**20)
    assert names(probe.read("0")) == names(found)


def test_slow_values_come_in_one_call_and_only_those_that_are_there(driver: Driver) -> None:
    session = driver(H200)
    probe = NvmlFields(session)
    probe.parts()
    found = probe.read("0")
    assert not any("bytes_per_second" in each.name for each in found), "GPM has it, of all the time"
    assert value(found, "gpu_temperature_celsius", sensor="memory") == 66
    assert value(found, "gpu_throttle_seconds_total", reason="power_cap") == 2.5
    assert value(found, "gpu_throttle_seconds_total", reason="hw_thermal") == 1
    assert value(found, "gpu_link_rx_bytes_total", fabric="nvlink") == 2000 * 1024
    assert value(found, "gpu_ecc_errors_total", kind="corrected", scope="aggregate") == 70
    assert value(found, "gpu_remapped_rows", cause="correctable") == 1
    assert value(found, "gpu_pcie_link_width") == 8
    assert "throttle sw_thermal" not in probe._known["0"]
    assert sorted(probe.read("0")) == sorted(found)


def test_what_takes_longest_is_asked_once_a_minute_and_kept(
    driver: Driver, library: ctypes.CDLL, tmp_path: Path
) -> None:
    probe = NvmlFields(driver(H200))
    probe.parts()
    assert value(probe.read("0"), "gpu_throttle_seconds_total", reason="hw_thermal") == 1
    change(library, tmp_path, H200 | {"field270": 9_000_000_000, "field74": 3_500_000_000})
    seen = [probe.read("0") for _ in range(6)]
    assert [value(each, "gpu_throttle_seconds_total", reason="hw_thermal") for each in seen] == [1] * 5 + [9]
    assert value(seen[0], "gpu_throttle_seconds_total", reason="power_cap") == 3.5


def test_power_is_of_the_instant_where_that_is_cheap(driver: Driver) -> None:
    instant = H200 | {"field186": 640_000}
    quick, slow = iter(range(10**6)), iter(range(10**6))
    probe = Nvml(driver(instant), lambda: next(quick) * 1e-6)
    probe.parts()
    assert probe.watts("0") == 640
    probe = Nvml(driver(instant), lambda: next(slow) * 1e-3)
    probe.parts()
    assert probe.watts("0") == 150
    probe = Nvml(driver(H200))
    probe.parts()
    assert probe.watts("0") == 150, "a driver that has no such field"


def test_energy_is_the_counter_or_nothing(driver: Driver) -> None:
    probe = Nvml(driver(H200, {name: number for name, number in H200.items() if name != "energy"}))
    probe.parts()
    assert (probe.joules("0") or 0) >= 5000
    assert probe.joules("1") is None


def test_a_lost_gpu_is_in_trouble_and_the_others_are_not(
    driver: Driver, library: ctypes.CDLL, tmp_path: Path
) -> None:
    session = driver(H200, H200)
    probe = Nvml(session)
    probe.parts()
    change(library, tmp_path, H200 | {"lost": 1}, H200)
    with pytest.raises(OSError, match="lost"):
        probe.read("0")
    with pytest.raises(OSError, match="lost"):
        NvmlFields(session).read("0")
    assert value(probe.read("1"), "gpu_power_watts") == 150


def test_the_second_xid_of_a_kind_counts_and_the_log_does_not_count_twice(
    driver: Driver, library: ctypes.CDLL
) -> None:
    xids, session = Xids(), driver(H200)
    probe = NvmlEvents(session, xids, lambda: 1700.0)
    probe.parts()
    for _ in range(2):
        library.table_xid(0, 79)
        assert probe.read("events") == []
    xids.saw("kmsg", "0000:1b:00.0", 79, 1600.0)
    found = xids.samples({"0000:1b:00.0": 'gpu="0",uuid="x"'})
    assert value(found, "gpu_xid_errors_total", gpu="0", xid="79") == 2
    assert value(found, "gpu_xid_last_timestamp_seconds", xid="79") == 1700
    xids.saw("kmsg", "0000:9b:00.0", 119, 1650.0)
    assert value(xids.samples({}), "gpu_xid_errors_total", uuid="0000:9b:00.0") == 1


def test_the_library_is_opened_once_whoever_is_first(driver: Driver) -> None:
    opened, together = [], threading.Barrier(4)

    def slowly() -> Any:
        opened.append(open_nvml())
        return opened[-1]

    driver(H200)
    session = Session(slowly)

    def look() -> None:
        together.wait()
        session.look()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert list(session.devices) == ["0"]


def test_a_machine_without_the_driver_says_so_in_words(driver: Driver) -> None:
    with pytest.raises(Unavailable, match="the kernel driver nvidia is not loaded"):
        Nvml(driver()).parts()


def test_addresses_are_those_of_the_kernel() -> None:
    assert pci_address("00000000:9B:00.0") == "0000:9b:00.0"
    assert pci_address("00010000:01:00.0") == "10000:01:00.0"
