"""What NVML says slowly: field values in one call, errors of memory, links. Milliseconds each, so every ten seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.agents.probes.nvml import Device, Session
from fleet.agents.samples import Readings, Sample, joined

_ALL_LINKS = 0xFFFFFFFF
# Field ids of nvml.h. PCIe's bytes (197, 198) are not among them: they have 32 bits, and begin anew every 76 ms at 56 GB/s.
FIELDS = {
    "memory temperature": (82, 0),
    "replays": (94, 0),
    "throttle power_cap": (74, 0),
    "throttle sync_boost": (76, 0),
    "throttle sw_thermal": (269, 0),
    "throttle hw_thermal": (270, 0),
    "throttle power_brake": (271, 0),
    "remapped correctable": (142, 0),
    "remapped uncorrectable": (143, 0),
    "remap pending": (144, 0),
    "remap failed": (145, 0),
    "ecc corrected volatile": (3, 0),
    "ecc uncorrected volatile": (4, 0),
    "ecc corrected aggregate": (5, 0),
    "ecc uncorrected aggregate": (6, 0),
    "link rx": (139, _ALL_LINKS),
    "link tx": (138, _ALL_LINKS),
    "recovery action": (230, 0),
}
SLOW = (
    "throttle hw_thermal",
    "throttle power_brake",
)  # 370 µs each on an H200, as much as all others: once a minute
_SLOW_EVERY = 6
_THROUGHPUT = {"tx": 0, "rx": 1}  # over 20 ms, for which the call blocks: only where GPM cannot say more
_CALLS = {
    "width": "nvmlDeviceGetCurrPcieLinkWidth",
    "width_max": "nvmlDeviceGetMaxPcieLinkWidth",
    "generation": "nvmlDeviceGetCurrPcieLinkGeneration",
    "generation_max": "nvmlDeviceGetMaxPcieLinkGeneration",
}


class NvmlFields:
    """A part per GPU."""

    name, interval_s, timeout_s, disturbs = "nvml_fields", 10.0, 5.0, True

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, list[str]] = {}
        self._slow: dict[str, dict[str, float | None]] = {}
        self._rounds: dict[str, int] = {}
        self._gpm: dict[str, bool] = {}

    def parts(self) -> Sequence[str]:
        """The GPUs. Raises Unavailable."""
        return self._session.look()

    def read(self, part: str) -> list[Sample]:
        """All of it. OSError when the GPU is in trouble."""
        session, device = self._session, self._session.devices[part]
        names = self._known.get(part) or list(FIELDS)
        rounds = self._rounds[part] = self._rounds.get(part, -1) + 1
        if rounds % _SLOW_EVERY:
            names = [name for name in names if name not in SLOW]
        facts = dict(zip(names, session.fields(device, [FIELDS[name] for name in names]), strict=True))
        if not rounds % _SLOW_EVERY:
            # What a device lacks it lacks for good, and asking for it costs as much as for what it has.
            self._known[part] = [name for name in names if facts[name] is not None]
            self._slow[part] = {name: facts[name] for name in SLOW if name in facts}
        facts |= self._slow.get(part, {})
        for name, function in _CALLS.items():
            facts[name] = session.ask(function, device.handle)
        for kind, number in (("corrected", 0), ("uncorrected", 1)):
            for scope, counter in (("volatile", 0), ("aggregate", 1)):
                if facts.get(f"ecc {kind} {scope}") is None:
                    count = session.ask("nvmlDeviceGetTotalEccErrors", device.handle, number, counter)
                    facts[f"ecc {kind} {scope}"] = count
        if not self._has_gpm(part, device):
            for name, direction in _THROUGHPUT.items():
                facts[name] = session.ask("nvmlDeviceGetPcieThroughput", device.handle, direction)
        processes = session.ask("nvmlDeviceGetComputeRunningProcesses", device.handle)
        facts["processes"] = None if processes is None else len(processes)
        return samples(device, facts)

    def _has_gpm(self, part: str, device: Device) -> bool:
        if part not in self._gpm:
            found = self._session.ask("nvmlGpmQueryDeviceSupport", device.handle)
            self._gpm[part] = bool(found is not None and found.isSupportedDevice)
        return self._gpm[part]


def samples(device: Device, facts: Mapping[str, float | None]) -> list[Sample]:
    """Samples of these facts; a fact that is not there is None. Pure."""
    readings, own, get = Readings(), device.labels, facts.get
    degrees = get("memory temperature")
    readings.add("fleet_gpu_temperature_celsius", joined(own, sensor="memory"), degrees or None)
    for direction in _THROUGHPUT:
        readings.add(f"fleet_gpu_pcie_{direction}_bytes_per_second", own, get(direction), 1024)
    readings.add("fleet_gpu_pcie_replays_total", own, get("replays"))
    for name in _CALLS:
        readings.add(f"fleet_gpu_pcie_link_{name}", own, get(name) or None)
    for direction in ("rx", "tx"):
        text = joined(own, fabric="nvlink", link="all")
        readings.add(f"fleet_gpu_link_{direction}_bytes_total", text, get(f"link {direction}"), 1024)
    readings.add("fleet_gpu_remap_pending", own, get("remap pending"))
    readings.add("fleet_gpu_remap_failed", own, get("remap failed"))
    readings.add("fleet_gpu_recovery_action", own, get("recovery action"))
    readings.add("fleet_gpu_processes", own, get("processes"))
    for name, value in facts.items():
        first, _, rest = name.partition(" ")
        if first == "throttle":
            readings.add("fleet_gpu_throttle_seconds_total", joined(own, reason=rest), value, 1e-9)
        elif first == "remapped":
            readings.add("fleet_gpu_remapped_rows", joined(own, cause=rest), value)
        elif first == "ecc":
            kind, scope = rest.split()
            readings.add("fleet_gpu_ecc_errors_total", joined(own, kind=kind, scope=scope), value)
    return readings.samples
