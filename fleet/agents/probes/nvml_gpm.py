"""How busy an NVIDIA GPU truly is: NVML's GPM, on Hopper and later. Each value is a mean over the time between two looks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.agents.probes.nvml import Device, Session
from fleet.agents.samples import Readings, Sample

# Ids of nvml.h: in percent, and in MiB a second.
METRICS = {"sm_active": 2, "sm_occupancy": 3, "tensor_active": 5, "memory_bandwidth": 10}
RATES = {"pcie_tx": 20, "pcie_rx": 21}
_ALL = METRICS | RATES
_MIB = 1 << 20


class NvmlGpm:
    """A part per GPU. Looking costs the GPU a little, so it is left alone while something is timed on it."""

    name, interval_s, timeout_s, disturbs = "nvml_gpm", 10.0, 5.0, True

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last: dict[str, Any] = {}
        self._spare: dict[str, Any] = {}
        self._request: dict[str, Any] = {}
        self._supported: dict[str, bool] = {}

    def parts(self) -> Sequence[str]:
        """The GPUs. Raises Unavailable."""
        return self._session.look()

    def read(self, part: str) -> list[Sample]:
        """The means since the last call; the first call only begins. OSError when the GPU is in trouble."""
        device = self._session.devices[part]
        if part not in self._supported:
            found = self._session.ask("nvmlGpmQueryDeviceSupport", device.handle)
            self._supported[part] = bool(found is not None and found.isSupportedDevice)
        if not self._supported[part]:
            return samples(device, supported=False, values={})
        sample = self._spare.pop(part, None) or self._session.ask("nvmlGpmSampleAlloc")
        self._session.ask("nvmlGpmSampleGet", device.handle, sample)
        before, self._last[part] = self._last.get(part), sample
        if before is None:
            return samples(device, supported=True, values={})
        self._spare[part] = before
        return samples(device, supported=True, values=self._values(part, before, sample))

    def _values(self, part: str, before: Any, now: Any) -> dict[str, float | None]:
        request = self._request.get(part) or self._session.library.c_nvmlGpmMetricsGet_t()
        self._request[part] = request
        request.version, request.numMetrics = 1, len(_ALL)
        request.sample1, request.sample2 = before, now
        for place, number in enumerate(_ALL.values()):
            request.metrics[place].metricId = number
        if self._session.ask("nvmlGpmMetricsGet", request) is None:
            return {}
        answers = zip(_ALL, request.metrics, strict=False)
        return {name: None if each.nvmlReturn else float(each.value) for name, each in answers}


def samples(device: Device, supported: bool, values: Mapping[str, float | None]) -> list[Sample]:
    """Samples of percentages and rates. Pure."""
    readings = Readings()
    readings.add("fleet_gpu_gpm_supported", device.labels, int(supported))
    for name, value in values.items():
        if value is None or not math.isfinite(value) or value < 0:
            continue
        if name in RATES:
            readings.add(f"fleet_gpu_{name}_bytes_per_second", device.labels, value, _MIB)
        else:
            readings.add(f"fleet_gpu_{name}_ratio", device.labels, min(value, 100.0), 0.01)
    return readings.samples
