"""`amd-smi metric --json`, and what ROCm's Python package says in the same shape.

Its JSON was a list once and is {"gpu_data": […]} now; a warning may stand before it; any value may be "N/A".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.agents.probes.commands import Failed, Run
from fleet.agents.samples import Readings, Sample, joined

_TIMEOUT_S = 20.0
_INSTINCT = "0x1200"  # PCI's class of processing accelerators
_SENSORS = {"edge": "edge", "hotspot": "junction", "mem": "memory"}


def accelerators(root: Path) -> list[str]:
    """Addresses of AMD's processing accelerators."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            kind, vendor = ((device / name).read_text().strip() for name in ("class", "vendor"))
        except OSError:
            continue
        if vendor == "0x1002" and kind.startswith(_INSTINCT):
            found.append(device.name)
    return found


def documents(output: bytes) -> list[dict[str, Any]]:
    """One object per GPU, whichever form they come in. Raises Failed."""
    text = output.decode(errors="replace")
    for start in (place for place, letter in enumerate(text) if letter in "[{"):
        try:
            document, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            continue  # a bracket in the warning before it
        if isinstance(document, dict):
            document = document.get("gpu_data", [document])
        found = [each for each in document if isinstance(each, dict)] if isinstance(document, list) else []
        if found:
            return found
    raise Failed(f"amd-smi: no JSON of GPUs in {text[:120]!r}")


def facts(metric: Mapping[str, Any]) -> dict[str, float | None]:
    """Numbers of one GPU in their own units; None for what is not there. Pure."""

    def at(*path: str) -> float | None:
        return number(_walk(metric, path))

    found = {
        "busy": at("usage", "gfx_activity"),
        "power": at("power", "socket_power"),
        "used": at("mem_usage", "used_vram"),
        "total": at("mem_usage", "total_vram"),
        "graphics": _first(at("clock", "gfx_0", "clk"), at("clock", "gfx", "clk")),
        "memory": _first(at("clock", "mem_0", "clk"), at("clock", "mem", "clk")),
        "corrected": at("ecc", "total_correctable_count"),
        "uncorrected": at("ecc", "total_uncorrectable_count"),
        "replays": at("pcie", "replay_count"),
        "width": at("pcie", "width"),
        "fan": at("fan", "usage"),
    }
    return found | {f"temperature {ours}": at("temperature", theirs) for theirs, ours in _SENSORS.items()}


def _walk(document: Any, path: Sequence[str]) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _first(*values: float | None) -> float | None:
    return next((each for each in values if each is not None), None)


def number(value: Any) -> float | None:
    """A number, alone, as {"value": 3, "unit": "W"} or as "3 W"; None for "N/A" and all else."""
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value if isinstance(value, int | float) else str(value).split()[0])
    except (ValueError, IndexError):
        return None


def read(run: Run) -> list[dict[str, Any]]:
    """One document per GPU, with its address as "bdf". Raises Failed."""
    listed = documents(run(("amd-smi", "list", "--json"), _TIMEOUT_S).output)
    known = {str(each.get("gpu")): each for each in listed}
    metrics = documents(run(("amd-smi", "metric", "--json"), _TIMEOUT_S).output)
    return [known.get(str(each.get("gpu")), {}) | each for each in metrics]


def samples(own: str, found: Mapping[str, float | None]) -> list[Sample]:
    """Samples of one GPU's facts under its labels. Pure.

    Its energy counter is left out: power is integrated for all of AMD's.
    """
    readings, get = Readings(), found.get
    readings.add("fleet_gpu_busy_ratio", own, get("busy"), 0.01)
    readings.add("fleet_gpu_power_watts", own, get("power"))
    readings.add("fleet_gpu_memory_used_bytes", own, get("used"), 1 << 20)
    readings.add("fleet_gpu_memory_total_bytes", own, get("total"), 1 << 20)
    readings.add("fleet_gpu_pcie_replays_total", own, get("replays"))
    readings.add("fleet_gpu_pcie_link_width", own, get("width"))
    readings.add("fleet_gpu_fan_ratio", own, get("fan"), 0.01)
    for domain in ("graphics", "memory"):
        readings.add("fleet_gpu_clock_hertz", joined(own, domain=domain), get(domain), 1e6)
    for kind in ("corrected", "uncorrected"):
        text = joined(own, kind=kind, scope="volatile")
        readings.add("fleet_gpu_ecc_errors_total", text, get(kind))
    for sensor in _SENSORS.values():
        text = joined(own, sensor=sensor)
        readings.add("fleet_gpu_temperature_celsius", text, get(f"temperature {sensor}"))
    return readings.samples
