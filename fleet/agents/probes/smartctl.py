"""`smartctl -j -a`: its exit status is a bit mask, and its JSON is good with most of the bits set. Needs root."""

from __future__ import annotations

import json
from typing import Any

from fleet.agents.probes.commands import Failed, Run
from fleet.agents.samples import Readings, Sample, joined

UNITS = 512_000  # bytes in one NVMe data unit
WARNINGS = ("spare", "temperature", "reliability", "read_only", "backup", "persistent_memory")
_NO_ANSWER = 0b11  # the command line was wrong, or the device could not be opened
_FAILING = 0b1000
_TIMEOUT_S = 20.0
_UNCORRECTED = 187  # ATA attribute: errors reported to the host


def read(run: Run, device: str) -> dict[str, Any]:
    """What smartctl says of /dev/`device`. Raises Failed."""
    said = run(("smartctl", "-j", "-a", f"/dev/{device}"), _TIMEOUT_S)
    try:
        document = json.loads(said.output)
    except ValueError as error:
        raise Failed(f"smartctl of {device}: no JSON, exit status {said.status}") from error
    if not isinstance(document, dict) or said.status & _NO_ANSWER:
        raise Failed(f"smartctl of {device}: {_message(document)}")
    if said.status & _FAILING:
        document.setdefault("smart_status", {})["passed"] = False
    return document


def _message(document: Any) -> str:
    messages = document.get("smartctl", {}).get("messages", []) if isinstance(document, dict) else []
    return "; ".join(str(each.get("string", "")) for each in messages) or "the device does not answer"


def identity(document: dict[str, Any]) -> dict[str, str]:
    """Product, firmware, serial: "" for what it does not say."""
    names = {"product": "model_name", "firmware": "firmware_version", "serial": "serial_number"}
    return {ours: str(document.get(theirs, "")) for ours, theirs in names.items()}


def samples(own: str, document: dict[str, Any]) -> list[Sample]:
    """A drive's samples under its labels. Pure."""
    readings = Readings()
    passed = _at(document, "smart_status", "passed")
    readings.add("fleet_drive_up", own, None if passed is None else int(bool(passed)))
    capacity = _number(_at(document, "user_capacity", "bytes")) or _number(
        document.get("nvme_total_capacity")
    )
    readings.add("fleet_drive_capacity_bytes", own, capacity)
    readings.add("fleet_drive_temperature_celsius", own, _number(_at(document, "temperature", "current")))
    hours = _number(_at(document, "power_on_time", "hours"))
    readings.add("fleet_drive_power_on_seconds_total", own, hours, 3600)
    log = document.get("nvme_smart_health_information_log")
    if isinstance(log, dict):
        add_log(readings, own, log, "percentage_used", "available_spare")
    else:
        _ata(readings, own, document)
    return readings.samples


def add_log(readings: Readings, own: str, log: dict[str, Any], used: str, spare: str) -> None:
    """NVMe's health log, of which smartctl and nvme-cli call some fields otherwise."""
    get = {name: _number(value) for name, value in log.items()}.get
    readings.add("fleet_drive_percentage_used_ratio", own, get(used), 0.01)
    readings.add("fleet_drive_available_spare_ratio", own, get(spare), 0.01)
    readings.add("fleet_drive_media_errors_total", own, get("media_errors"))
    readings.add("fleet_drive_unsafe_shutdowns_total", own, get("unsafe_shutdowns"))
    readings.add("fleet_drive_host_read_bytes_total", own, get("data_units_read"), UNITS)
    readings.add("fleet_drive_host_written_bytes_total", own, get("data_units_written"), UNITS)
    minutes = get("warning_temp_time")
    readings.add("fleet_drive_warning_temperature_seconds_total", own, minutes, 60)
    bits = get("critical_warning")
    if bits is not None:
        for place, name in enumerate(WARNINGS):
            warns = int(bits) >> place & 1
            readings.add("fleet_drive_critical_warning", joined(own, bit=name), warns)


def _ata(readings: Readings, own: str, document: dict[str, Any]) -> None:
    """What of SATA drives means the same for all makers."""
    used = _number(_at(document, "endurance_used", "current_percent"))
    readings.add("fleet_drive_percentage_used_ratio", own, used, 0.01)
    spare = _number(_at(document, "spare_available", "current_percent"))
    readings.add("fleet_drive_available_spare_ratio", own, spare, 0.01)
    for each in _at(document, "ata_smart_attributes", "table") or ():
        if isinstance(each, dict) and each.get("id") == _UNCORRECTED:
            readings.add("fleet_drive_media_errors_total", own, _number(_at(each, "raw", "value")))


def _at(document: Any, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _number(value: Any) -> float | None:
    """A number, also one that was too large for JSON and is therefore a text."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | float):
        return value
    try:
        return int(str(value).replace(",", ""))
    except ValueError:
        return None
