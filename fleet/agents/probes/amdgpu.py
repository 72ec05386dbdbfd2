"""AMD GPUs as the kernel's amdgpu driver shows them in sysfs: Radeon wholly, Instinct as far as it goes.

It has no energy counter worth trusting: power is integrated by the telemetry, and labelled so.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.agents.probes import gpu_metrics, pcie
from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, joined, labels

_VENDOR = "0x1002"
_SENSORS = {"edge": "edge", "junction": "junction", "mem": "memory"}


class Card(NamedTuple):
    """One card: its folders below the root, and the text of its labels."""

    name: str
    device: str
    hwmon: str
    labels: str
    info: str
    gpu: str
    uuid: str
    sensors: tuple[tuple[str, str], ...]
    power: str
    link: str
    pci_address: str


class AmdGpu:
    """A part per card. `clock` in seconds, for the time that a card has been throttled."""

    name, interval_s, timeout_s, disturbs = "amdgpu", 1.0, 2.0, False

    def __init__(self, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._cards: dict[str, Card] = {}
        self._files: dict[str, Files] = {}
        self._power_files: dict[str, Files] = {}
        self._throttled: dict[str, dict[str, float]] = {}
        self._seen: dict[str, float] = {}

    def parts(self) -> Sequence[str]:
        """The cards of this vendor that the driver has, by name."""
        found = cards(Files(self._root))
        for name in found:
            self._files.setdefault(name, Files(self._root))
            self._power_files.setdefault(name, Files(self._root))
        self._cards = found
        return tuple(found)

    def identity(self, part: str) -> tuple[str, str]:
        """The labels `gpu` and `uuid` of a card."""
        return self._cards[part].gpu, self._cards[part].uuid

    def watts(self, part: str) -> float | None:
        """Its power now. Called from a thread of its own, ten times a second."""
        microwatts = self._power_files[part].number(self._cards[part].power)
        return None if microwatts is None else microwatts * 1e-6

    def joules(self, part: str) -> float | None:
        """No counter."""
        return None

    def read(self, part: str) -> list[Sample]:
        """What the card says of itself now. OSError when it says nothing at all."""
        card, files = self._cards[part], self._files[part]
        readings = Readings()
        metrics = gpu_metrics.parse(files.content(f"{card.device}/gpu_metrics") or b"")
        _sysfs(readings, card, files)
        if metrics is not None:
            _metrics(readings, card, metrics)
            self._throttles(readings, card, metrics.throttled)
        if not readings.samples:
            raise OSError(f"{card.device}: nothing in it can be read")
        readings.add("fleet_gpu_info", card.info, 1)
        return readings.samples

    def _throttles(self, readings: Readings, card: Card, now: tuple[str, ...] | None) -> None:
        at = self._clock()
        since = at - self._seen.get(card.name, at)
        self._seen[card.name] = at
        if now is None:
            return
        totals = self._throttled.setdefault(card.name, dict.fromkeys(gpu_metrics.REASONS, 0.0))
        for reason in totals:
            totals[reason] += since if reason in now else 0.0
            text = joined(card.labels, reason=reason)
            readings.add("fleet_gpu_throttled", text, int(reason in now))
            readings.add("fleet_gpu_throttle_seconds_total", text, totals[reason])


def cards(files: Files) -> dict[str, Card]:
    """The cards below a root, by name."""
    found: dict[str, Card] = {}
    for name in files.names("sys/class/drm"):
        device = f"sys/class/drm/{name}/device"
        if re.fullmatch(r"card\d+", name) and files.said(f"{device}/vendor") == _VENDOR:
            found[name] = _card(files, name, device, len(found))
    files.close()
    return found


def _card(files: Files, name: str, device: str, index: int) -> Card:
    hwmons = files.names(f"{device}/hwmon")
    hwmon = f"{device}/hwmon/{hwmons[0]}" if hwmons else ""
    address = files.target(f"sys/class/drm/{name}/device") or ""
    renders = [int(each[7:]) for each in files.names(f"{device}/drm") if each.startswith("renderD")]
    gpu = str(renders[0] - 128) if renders else str(index)
    # A card without an identity of its own is known by its slot.
    uuid = files.said(f"{device}/unique_id") or address or name
    own = labels(gpu=gpu, uuid=uuid)
    info = joined(
        own,
        vendor="amd",
        product=files.said(f"{device}/product_name") or files.said(f"{device}/device") or "unknown",
        pci_address=address,
        serial=files.said(f"{device}/serial_number") or "",
        driver_version=files.said("sys/module/amdgpu/version")
        or files.said("proc/sys/kernel/osrelease")
        or "",
        source="sysfs",
    )
    power = next(
        (
            f"{hwmon}/{each}"
            for each in ("power1_average", "power1_input")
            if files.number(f"{hwmon}/{each}") is not None
        ),
        f"{hwmon}/power1_average",
    )
    return Card(
        name,
        device,
        hwmon,
        own,
        info,
        gpu,
        uuid,
        _sensors(files, hwmon),
        power,
        pcie.slot(files, device),
        address,
    )


def _sensors(files: Files, hwmon: str) -> tuple[tuple[str, str], ...]:
    """Files of temperatures with their sensors' names."""
    found = []
    for each in files.names(hwmon) if hwmon else ():
        match = re.fullmatch(r"temp(\d+)_input", each)
        if match:
            said = files.said(f"{hwmon}/temp{match[1]}_label") or f"temp{match[1]}"
            found.append((f"{hwmon}/{each}", _SENSORS.get(said, said)))
    return tuple(found)


def _sysfs(readings: Readings, card: Card, files: Files) -> None:
    device, hwmon, own = card.device, card.hwmon, card.labels
    readings.add("fleet_gpu_busy_ratio", own, files.number(f"{device}/gpu_busy_percent"), 0.01)
    readings.add("fleet_gpu_memory_used_bytes", own, files.number(f"{device}/mem_info_vram_used"))
    readings.add("fleet_gpu_memory_total_bytes", own, files.number(f"{device}/mem_info_vram_total"))
    readings.add("fleet_gpu_pcie_replays_total", own, files.number(f"{device}/pcie_replay_count"))
    pcie.add_link(readings, own, files, card.link)
    _errors(readings, own, files.said(f"{device}/ras/umc_err_count"))
    if not hwmon:
        return
    readings.add("fleet_gpu_power_watts", own, files.number(card.power), 1e-6)
    readings.add("fleet_gpu_power_limit_watts", own, files.number(f"{hwmon}/power1_cap"), 1e-6)
    for path, sensor in card.sensors:
        readings.add("fleet_gpu_temperature_celsius", joined(own, sensor=sensor), files.number(path), 1e-3)
    for number, domain in ((1, "graphics"), (2, "memory")):
        hertz = files.number(f"{hwmon}/freq{number}_input")
        readings.add("fleet_gpu_clock_hertz", joined(own, domain=domain), hertz)
    turns, most = files.number(f"{hwmon}/fan1_input"), files.number(f"{hwmon}/fan1_max")
    if turns is not None and most:
        readings.add("fleet_gpu_fan_ratio", own, turns / most)


def _metrics(readings: Readings, card: Card, found: gpu_metrics.GpuMetrics) -> None:
    """What the binary file adds to what sysfs had, or lacked."""
    had = {(sample.name, sample.labels) for sample in readings.samples}
    more = Readings()
    more.add("fleet_gpu_power_watts", card.labels, found.power_watts)
    more.add("fleet_gpu_busy_ratio", card.labels, found.busy_ratio)
    for sensor, degrees in found.temperatures.items():
        more.add("fleet_gpu_temperature_celsius", joined(card.labels, sensor=sensor), degrees)
    more.add("fleet_gpu_clock_hertz", joined(card.labels, domain="graphics"), found.clock_hertz)
    for number, (read, written) in enumerate(found.links):
        text = joined(card.labels, fabric="xgmi", link=str(number))
        more.add("fleet_gpu_link_rx_bytes_total", text, read)
        more.add("fleet_gpu_link_tx_bytes_total", text, written)
    readings.samples += [sample for sample in more.samples if (sample.name, sample.labels) not in had]


def _errors(readings: Readings, own: str, text: str | None) -> None:
    """`ue: 0` and `ce: 3` on lines of their own, since the driver was loaded."""
    for short, kind in (("ue", "uncorrected"), ("ce", "corrected")):
        found = re.search(rf"^{short}:\s*(\d+)", text or "", re.MULTILINE)
        if found:
            readings.add(
                "fleet_gpu_ecc_errors_total", joined(own, kind=kind, scope="volatile"), int(found[1])
            )
