"""What the console, the verdicts and the racks' map need of a node's exposition: a few numbers for each GPU. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.expositions import Reader, Sample

# Family → the field of a GPU's reading that it fills.
GPU_FIELDS = {
    "fleet_gpu_sm_active_ratio": "sm_active_ratio",
    "fleet_gpu_tensor_active_ratio": "tensor_active_ratio",
    "fleet_gpu_memory_bandwidth_ratio": "memory_bandwidth_ratio",
    "fleet_gpu_busy_ratio": "busy_ratio",
    "fleet_gpu_power_watts": "power_watts",
    "fleet_gpu_power_limit_watts": "power_limit_watts",
    "fleet_gpu_memory_used_bytes": "memory_used_bytes",
    "fleet_gpu_memory_total_bytes": "memory_total_bytes",
}
HOTTEST = "fleet_gpu_temperature_celsius"  # the largest of a GPU's sensors
# Power of a whole node, the most complete measurement first.
POWER = "fleet_node_power_watts"
POWER_SOURCES = ("pdu", "redfish", "ipmi", "bmc")
UP = "fleet_gpu_up"
FAULTS = (
    UP,
    "fleet_gpu_driver_state",
    "fleet_gpus_expected",
    "fleet_gpu_xid_last_timestamp_seconds",
    "fleet_gpu_recovery_action",
    "fleet_gpu_ecc_errors_total",
    "fleet_gpu_remap_failed",
    "fleet_gpu_throttled",
    "fleet_drive_up",
    "fleet_drive_percentage_used_ratio",
    "fleet_drive_available_spare_ratio",
    "fleet_drive_critical_warning",
    "fleet_raid_array_up",
    "fleet_collector_success",
)
# Not said by the node: how far its signature's time was behind ours, with what the way took.
SKEW = "fleet_node_clock_skew_seconds"
READER = Reader(*GPU_FIELDS, HOTTEST, POWER, *FAULTS)


@dataclass(frozen=True)
class GpuReading:
    """What one GPU was last said to do; a field that its source does not support is absent, never 0."""

    gpu: str
    values: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"gpu": self.gpu, **self.values}


@dataclass(frozen=True)
class Reading:
    """One exposition in short: its GPUs in the order of their names, and the node's power by what measured it."""

    gpus: tuple[GpuReading, ...] = ()
    power_watts: float | None = None
    power_source: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "gpus": [each.document() for each in self.gpus],
            "power_watts": self.power_watts,
            "power_source": self.power_source,
        }

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> Reading:
        """The reading that made this document."""
        gpus = tuple(
            GpuReading(str(each["gpu"]), {key: value for key, value in each.items() if key != "gpu"})
            for each in document["gpus"]
        )
        return Reading(gpus, document["power_watts"], document["power_source"])


def gpu_name(sample: Sample) -> str:
    """A GPU as the inventory calls it: gpu0 for the label 0. One that fell off the bus may have lost its number."""
    number = sample.label("gpu")
    return f"gpu{number}" if number.isdigit() else number or f"gpu at {sample.label('uuid')}"


def read(samples: Iterable[Sample]) -> Reading:
    """The reading of an exposition's samples (those of READER)."""
    gpus: dict[str, dict[str, float]] = {}
    power: dict[str, float] = {}
    for sample in samples:
        if sample.name == POWER:
            power[sample.label("source")] = sample.value
            continue
        if sample.name == UP:  # one that is lost says nothing else, and is there to be seen
            gpus.setdefault(gpu_name(sample), {})
        name = GPU_FIELDS.get(sample.name)
        if name is None and sample.name != HOTTEST:
            continue
        values = gpus.setdefault(gpu_name(sample), {})
        if name is None:
            values["temperature_celsius"] = max(sample.value, values.get("temperature_celsius", sample.value))
        elif sample.value == sample.value:  # NaN says nothing
            values[name] = sample.value
    source = next((each for each in (*POWER_SOURCES, *sorted(power)) if each in power), "")
    ordered = sorted(gpus, key=lambda name: (len(name), name))
    return Reading(tuple(GpuReading(name, gpus[name]) for name in ordered), power.get(source), source)
