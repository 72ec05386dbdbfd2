"""NVIDIA GPUs through NVML: what costs microseconds, once a second, and the energy counter; power, ten times a second.

`nvml_fields`, `nvml_gpm` and `nvml_events` read the rest, each as a collector of its own, of the same opened library.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fleet.agents.families import THROTTLE_REASONS
from fleet.agents.samples import Readings, Sample, joined, labels

# What a device answers that does not have something, or not for this user. Anything else is trouble.
_LACKING = frozenset({2, 3, 4, 6, 13, 21, 25, 26})
# Bits of the clocks' event reasons; idle and a user's own clock settings hold nothing back.
_REASONS = {
    "power_cap": 4,
    "hw_slowdown": 8,
    "sync_boost": 16,
    "sw_thermal": 32,
    "hw_thermal": 64,
    "power_brake": 128,
}
_CLOCKS = {"graphics": 0, "sm": 1, "memory": 2, "video": 3}
_INSTANT = [(186, 0)]  # the field of power now
_CHEAP_S = 200e-6
Facts = Mapping[str, float | None]


class Unavailable(Exception):
    """There is no NVML to ask here; the message says what is missing and the fix."""


class Device(NamedTuple):
    """One GPU: its handle and the text of its labels. `gpu` is the number of its device node."""

    handle: Any
    gpu: str
    uuid: str
    pci_address: str
    labels: str
    info: str


def open_nvml() -> Any:
    """The opened library. Raises Unavailable."""
    try:
        import pynvml
    except ImportError as error:
        raise Unavailable("the Python package nvidia-ml-py is missing: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        code = getattr(error, "value", 0)
        fix = {12: "no NVIDIA driver is installed", 9: "the kernel driver nvidia is not loaded"}
        raise Unavailable(fix.get(code, str(error))) from error
    return pynvml


class Session:
    """NVML and its devices. `open` is called at the first use, by whichever thread is first."""

    def __init__(self, opened: Callable[[], Any] = open_nvml) -> None:
        self._open = opened
        self._opening = threading.Lock()
        self._library: Any = None
        self.devices: dict[str, Device] = {}

    @property
    def library(self) -> Any:
        """The library. Raises Unavailable."""
        with self._opening:  # four collectors ask first at the same moment: it is opened once
            if self._library is None:
                self._library = self._open()
            return self._library

    def look(self) -> Sequence[str]:
        """The parts: a GPU each, by NVML's own number. Raises Unavailable. A GPU that is lost has none."""
        for index in range(self.library.nvmlDeviceGetCount()):
            if str(index) not in self.devices:
                handle = self.ask("nvmlDeviceGetHandleByIndex", index)
                if handle is not None:
                    self.devices[str(index)] = self._device(handle, index)
        return tuple(self.devices)

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a call answers; None where the device, the driver or the user lacks it. OSError for a GPU in trouble."""
        try:
            return getattr(self.library, function)(*arguments)
        except self.library.NVMLError as error:
            code = getattr(error, "value", 999)
            if code in _LACKING:
                return None
            raise OSError(code, f"{function}: {error}") from error

    def fields(self, device: Device, wanted: Sequence[tuple[int, int]]) -> list[float | None]:
        """Field values by (id, scope), in one call; None for those that the device lacks."""
        if not wanted:
            return []
        found = self.ask("nvmlDeviceGetFieldValues", device.handle, list(wanted))
        return [None] * len(wanted) if found is None else [_number(each) for each in found]

    def _device(self, handle: Any, index: int) -> Device:
        minor = self.ask("nvmlDeviceGetMinorNumber", handle)
        pci = self.ask("nvmlDeviceGetPciInfo", handle)
        uuid = str(self.ask("nvmlDeviceGetUUID", handle) or "")
        address = "" if pci is None else pci_address(_text(pci.busId))
        own = labels(gpu=str(index if minor is None else minor), uuid=uuid)
        info = joined(
            own,
            vendor="nvidia",
            product=_text(self.ask("nvmlDeviceGetName", handle)),
            pci_address=address,
            serial=_text(self.ask("nvmlDeviceGetSerial", handle)),
            driver_version=_text(self.ask("nvmlSystemGetDriverVersion")),
            source="nvml",
        )
        return Device(handle, str(index if minor is None else minor), uuid, address, own, info)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _number(value: Any) -> float | None:
    """A field's value by its type; None for one that is not supported."""
    if value.nvmlReturn != 0:
        return None
    kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    kind = kinds[value.valueType] if value.valueType < len(kinds) else "ullVal"
    return float(getattr(value.value, kind)) if kind == "dVal" else int(getattr(value.value, kind))


def pci_address(bus_id: str) -> str:
    """`00000000:9B:00.0` as the kernel writes it: 0000:9b:00.0."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{int(domain or '0', 16):04x}:{rest}"


class Nvml:
    """A part per GPU."""

    name, interval_s, timeout_s, disturbs = "nvml", 1.0, 3.0, False

    def __init__(self, session: Session, timer: Callable[[], float] = time.perf_counter) -> None:
        self._session = session
        self._timer = timer
        self._instant: dict[str, bool] = {}
        self._fanless: set[str] = set()

    def parts(self) -> Sequence[str]:
        """The GPUs. Raises Unavailable."""
        self._fanless.clear()
        return self._session.look()

    def identity(self, part: str) -> tuple[str, str]:
        """The labels `gpu` and `uuid` of a GPU."""
        device = self._session.devices[part]
        return device.gpu, device.uuid

    def read(self, part: str) -> list[Sample]:
        """What a GPU says of itself now, its energy aside, which `joules` says. OSError when it is in trouble."""
        device = self._session.devices[part]
        facts = _facts(self._session, device)
        # To say that it has no fan takes an H200 longer than all the rest together.
        fan = None if part in self._fanless else self._session.ask("nvmlDeviceGetFanSpeed", device.handle)
        if fan is None:
            self._fanless.add(part)
        return samples(device, {**facts, "fan": fan})

    def watts(self, part: str) -> float | None:
        """Power now: of this instant where that is cheap to ask, else averaged over a second on newer GPUs."""
        device = self._session.devices[part]
        if part not in self._instant:
            self._instant[part] = self._instant_is_cheap(device)
        if self._instant[part]:
            found = self._session.ask("nvmlDeviceGetFieldValues", device.handle, _INSTANT)
            milliwatts = None if found is None else _number(found[0])
        else:
            milliwatts = self._session.ask("nvmlDeviceGetPowerUsage", device.handle)
        return None if milliwatts is None else milliwatts * 1e-3

    def joules(self, part: str) -> float | None:
        """Energy since the driver was loaded; None for a GPU that does not count it."""
        device = self._session.devices[part]
        millijoules = self._session.ask("nvmlDeviceGetTotalEnergyConsumption", device.handle)
        return None if millijoules is None else millijoules * 1e-3

    def _instant_is_cheap(self, device: Device) -> bool:
        took = []
        for _ in range(5):
            begun = self._timer()
            if not self._session.fields(device, _INSTANT)[0]:
                return False
            took.append(self._timer() - begun)
        return sorted(took)[2] <= _CHEAP_S


def _facts(session: Session, device: Device) -> Facts:
    """Numbers as NVML has them, None for what the device lacks."""
    ask, handle = session.ask, device.handle
    memory = ask("nvmlDeviceGetMemoryInfo", handle)
    utilization = ask("nvmlDeviceGetUtilizationRates", handle)
    facts: dict[str, float | None] = {
        "power": ask("nvmlDeviceGetPowerUsage", handle),
        "limit": ask("nvmlDeviceGetEnforcedPowerLimit", handle),
        "busy": None if utilization is None else utilization.gpu,
        "used": None if memory is None else memory.used,
        "total": None if memory is None else memory.total,
        "temperature": ask("nvmlDeviceGetTemperature", handle, 0),
        "reasons": ask("nvmlDeviceGetCurrentClocksEventReasons", handle),
    }
    for domain, number in _CLOCKS.items():
        facts[f"clock {domain}"] = ask("nvmlDeviceGetClockInfo", handle, number)
    return facts


def samples(device: Device, facts: Facts) -> list[Sample]:
    """Samples of these facts. Pure."""
    readings, own = Readings(), device.labels
    readings.add("fleet_gpu_info", device.info, 1)
    readings.add("fleet_gpu_power_watts", own, facts["power"], 1e-3)
    readings.add("fleet_gpu_power_limit_watts", own, facts["limit"], 1e-3)
    readings.add("fleet_gpu_busy_ratio", own, facts["busy"], 0.01)
    readings.add("fleet_gpu_memory_used_bytes", own, facts["used"])
    readings.add("fleet_gpu_memory_total_bytes", own, facts["total"])
    readings.add("fleet_gpu_temperature_celsius", joined(own, sensor="gpu"), facts["temperature"])
    readings.add("fleet_gpu_fan_ratio", own, facts["fan"], 0.01)
    for domain in _CLOCKS:
        readings.add("fleet_gpu_clock_hertz", joined(own, domain=domain), facts[f"clock {domain}"], 1e6)
    reasons = facts["reasons"]
    if reasons is not None:
        for reason in THROTTLE_REASONS:
            if reason in _REASONS:
                now = int(bool(int(reasons) & _REASONS[reason]))
                readings.add("fleet_gpu_throttled", joined(own, reason=reason), now)
    return readings.samples
