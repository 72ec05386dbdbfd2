"""All probes of a machine together, ticked by hand."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.agents.energy import Meter
from fleet.agents.processes import clock
from fleet.agents.sources import sources
from fleet.agents.telemetry import Power, Telemetry, Told
from fleet.agents.telemetry_config import Config
from fleet.agents.xids import Xids
from tests.fleet.agents.probes import box


def telemetry(root: Path) -> Telemetry:
    """Of a machine made of files; every probe has read once."""
    xids = Xids()
    found = Telemetry(sources(root, root, xids, Config()), xids, "1.0")
    tick(found)
    return found


def tick(found: Telemetry) -> None:
    for collector in found.collectors:
        if not collector.probe.name.startswith("nvml"):
            collector.round()


def seen(found: Telemetry) -> dict[str, float]:
    """The exposition, by name and labels but uuid."""
    values = {}
    for family in text_string_to_metric_families(found.collect()):
        for sample in family.samples:
            labels = [f"{key}={value}" for key, value in sample.labels.items() if key != "uuid"]
            values[" ".join([sample.name.removeprefix("fleet_"), *sorted(labels)])] = sample.value
    return values


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Three Radeons, of which one is driven from user space and one by nobody."""
    box.host(tmp_path)
    cards = [box.radeon(tmp_path, index) for index in range(3)]
    (cards[1] / "driver").unlink()
    (tmp_path / "sys/bus/pci/drivers/vfio-pci").mkdir()
    box.link(cards[1] / "driver", tmp_path / "sys/bus/pci/drivers/vfio-pci")
    (cards[2] / "driver").unlink()
    for number in (1, 2):
        (tmp_path / "sys/class/drm" / f"card{number}").unlink()
    return tmp_path


def test_silence_is_a_state_and_no_zero(machine: Path) -> None:
    values = seen(telemetry(machine))
    assert values["gpu_up gpu=0"] == 1
    assert "gpu_up gpu=1" not in values, "nobody could answer for it"
    assert "gpu_up gpu=2" not in values
    assert values["gpu_driver_state gpu=1 state=userspace"] == 1
    assert values["gpu_driver_state gpu=2 state=none"] == 1
    assert values["gpus_expected"] == 2
    assert not [name for name in values if name.startswith("gpu_power_watts gpu=1")]


def test_a_gpu_that_stops_answering_is_down_and_keeps_its_name(machine: Path) -> None:
    found = telemetry(machine)
    seen(found)
    amd = next(each for each in found.collectors if each.probe.name == "amdgpu")
    amd._parts["card0"].at -= 3600
    values = seen(found)
    assert values["gpu_up gpu=0"] == 0
    assert "gpu_power_watts gpu=0" not in values
    assert any('gpu_up{gpu="0",uuid="5a3c7b21d94e0000"} 0' in line for line in found.collect().splitlines())


def test_an_attempt_on_a_card_without_a_counter_is_told_integrated_joules(machine: Path) -> None:
    found = telemetry(machine)
    begun = clock() + 100
    for step in range(101):
        found.meters["gpu0"].ring.push(begun + step / 10, 155.0)
    attempt = {"key": "1-1", "devices": ["gpu0"], "job_id": 9, "started": begun + 2}
    found.hear(Told(attempts=(attempt,)))
    assert found.marked["1-1"]["gpu0"].counter is None
    assert seen(found)["job_info gpu=0 job_id=9"] == 1
    found.hear(Told(attempts=(attempt | {"ended": begun + 8},)))
    tick(found)
    (spent,) = found.ended().values()
    assert spent is not None
    assert spent["method"] == "integrated"
    assert spent["joules"] == pytest.approx(155 * 6)
    assert found.ended() == {}, "said once"


def test_an_attempt_on_a_device_without_a_meter_is_told_nothing_at_once(machine: Path) -> None:
    found = telemetry(machine)
    attempt = {"key": "1-1", "devices": ["gpu7"], "job_id": 9, "started": clock(), "ended": clock()}
    found.hear(Told(attempts=(attempt,)))
    assert found.ended() == {"1-1": None}


def test_one_that_has_the_processors_to_itself_is_told_theirs(machine: Path) -> None:
    zone = machine / "sys/class/powercap/intel-rapl:0"
    box.write(zone, {"name": "package-0", "energy_uj": "1000000", "max_energy_range_uj": "262143328850"})
    found = telemetry(machine)
    attempt = {"key": "1-1", "devices": ["cpu"], "job_id": 9, "started": clock()}
    found.hear(Told(attempts=(attempt,)))
    box.write(zone, {"energy_uj": "31000000"})
    found.hear(Told(attempts=(attempt | {"ended": clock() + 0.5},)))
    (spent,) = found.ended().values()
    assert spent is not None
    assert (spent["method"], spent["joules"]) == ("counter", pytest.approx(30, rel=0.2))


class Card:
    """A GPU of 100 W with an energy counter, which counts how often it is asked for that."""

    def __init__(self) -> None:
        self.asked = 0

    def parts(self) -> list[str]:
        return ["0"]

    def identity(self, part: str) -> tuple[str, str]:
        return "0", "GPU-0"

    def watts(self, part: str) -> float:
        return 100.0

    def joules(self, part: str) -> float:
        self.asked += 1
        return 7e6 + 100 * clock()


@pytest.fixture
def card() -> tuple[Card, Power]:
    card = Card()
    power = Power(card, {}, "card_power", threading.Event())
    power.parts()
    return card, power


def test_an_energy_counter_is_asked_rarely_and_when_it_is_wanted(card: tuple[Card, Power]) -> None:
    """It takes an H200 three milliseconds to answer."""
    gpu, power = card
    for _ in range(50):
        power.read("0")
    assert gpu.asked == 1
    power.wanted.add("gpu0")
    power.read("0")
    assert (gpu.asked, power.wanted) == (2, set())


def test_an_energy_counter_is_left_alone_while_something_is_timed_but_for_attempts() -> None:
    gpu, paused = Card(), threading.Event()
    power = Power(gpu, {}, "card_power", paused)
    power.parts()
    paused.set()
    power.read("0")
    assert gpu.asked == 0
    power.wanted.add("gpu0")
    power.read("0")
    assert gpu.asked == 1


def test_an_attempts_beginning_is_marked_again_once_its_counter_was_read(machine: Path) -> None:
    found, gpu = telemetry(machine), Card()
    power = Power(gpu, found.meters, "card_power", found.paused)
    found._powers.append(power)
    found.meters["gpu0"] = Meter()
    power.parts()
    started = clock()
    found.hear(Told(attempts=({"key": "1-1", "devices": ["gpu0"], "job_id": 9, "started": started},)))
    assert found.marked.pop("1-1")["gpu0"].counter is None
    found.settle()
    assert found.marked == {}, "nothing was read since"
    assert found.settling
    tick(found)
    power.read("0")
    found.settle()
    assert found.marked["1-1"]["gpu0"].counter == pytest.approx(7e6 + 100 * started, abs=100)
    assert not found.settling


def test_the_clocks_offset_is_said_when_it_is_known(machine: Path) -> None:
    found = telemetry(machine)
    assert "agent_clock_offset_seconds" not in seen(found)
    found.hear(Told.of(b'{"every_s": 5, "offset_s": -3.5, "attempts": []}'))
    assert seen(found)["agent_clock_offset_seconds"] == -3.5


def test_several_gpus_of_one_attempt_are_added_up_or_not_known(machine: Path) -> None:
    found = telemetry(machine)
    begun = clock() + 100  # after what the probe itself has said
    for name in ("gpu0", "gpu5"):
        meter = found.meters.setdefault(name, Meter())
        for step in range(101):
            meter.ring.push(begun + step / 10, 100.0)
    told = {"job_id": 9, "started": begun, "ended": begun + 10}
    both = {"key": "1-1", "devices": ["gpu0", "gpu5"], **told}
    beyond = {"key": "2-1", "devices": ["gpu0", "gpu6"], **told}
    found.hear(Told(attempts=(both, beyond)))
    tick(found)
    said = found.ended()
    assert said["1-1"] is not None
    assert (said["1-1"]["joules"], said["1-1"]["method"]) == (pytest.approx(2000), "integrated")
    assert said["2-1"] is None
