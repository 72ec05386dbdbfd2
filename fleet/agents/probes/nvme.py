"""`nvme smart-log -o json`: temperatures in Kelvin, and other names than smartctl's. Needs root."""

from __future__ import annotations

import json
from typing import Any

from fleet.agents.probes.commands import Failed, Run
from fleet.agents.probes.smartctl import add_log
from fleet.agents.samples import Readings, Sample, joined

_TIMEOUT_S = 20.0
_ZERO_CELSIUS = 273  # what drives add, without the fraction


def read(run: Run, device: str) -> dict[str, Any]:
    """The health log of /dev/`device`, an NVMe controller. Raises Failed."""
    said = run(("nvme", "smart-log", "-o", "json", f"/dev/{device}"), _TIMEOUT_S)
    try:
        document = json.loads(said.output)
    except ValueError as error:
        raise Failed(f"nvme smart-log of {device}: {said.errors.strip() or 'no JSON'}") from error
    if said.status or not isinstance(document, dict):
        raise Failed(f"nvme smart-log of {device}: exit status {said.status}")
    return document


def samples(own: str, log: dict[str, Any]) -> list[Sample]:
    """A drive's samples under its labels. Pure."""
    readings = Readings()
    warning = log.get("critical_warning")
    if isinstance(warning, dict):  # nvme-cli 2.11 and later: {"value": 0, "available_spare": 0, …}
        log = log | {"critical_warning": warning.get("value")}
    kelvin = log.get("temperature")
    if isinstance(kelvin, int) and kelvin > 0:
        readings.add("fleet_drive_temperature_celsius", own, kelvin - _ZERO_CELSIUS)
    hours = log.get("power_on_hours")
    readings.add("fleet_drive_power_on_seconds_total", own, hours if isinstance(hours, int) else None, 3600)
    used = "percent_used" if "percent_used" in log else "percentage_used"
    add_log(readings, own, log, used, "avail_spare")
    for level in ("1", "2"):
        seconds = log.get(f"thm_temp{level}_total_time")
        if isinstance(seconds, int):
            text = joined(own, level=level)
            readings.add("fleet_drive_thermal_throttle_seconds_total", text, seconds)
    return readings.samples
