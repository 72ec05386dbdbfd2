"""Power of the node and its supplies over Redfish, by curl: one call a minute once the chassis is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from fleet.agents.probes.commands import Failed, Run, run
from fleet.agents.samples import Readings, Sample, labels

_CALL_S = 25
_JOULES = 3.6e6  # in a kWh


class Bmc(NamedTuple):
    """Where a BMC is, and how to be let in. `netrc`: a file with its user and password; `ca_file`: who vouches for it."""

    url: str
    netrc: str = ""
    ca_file: str = ""


class Redfish:
    """A part per chassis that has power."""

    name, interval_s, timeout_s, disturbs = "redfish", 60.0, 58.0, True

    def __init__(self, bmc: Bmc, command: Run = run) -> None:
        self._bmc = bmc
        self._chassis: tuple[str, ...] = ()
        self._run = command

    def parts(self) -> Sequence[str]:
        """Paths of the chassis, asked for once. Raises Failed."""
        if self._chassis:
            return self._chassis
        listed = self._get("/redfish/v1/Chassis").get("Members", [])
        self._chassis = tuple(
            str(each["@odata.id"]) for each in listed if isinstance(each, dict) and "@odata.id" in each
        )
        return self._chassis

    def read(self, part: str) -> list[Sample]:
        """The chassis' power. Raises Failed."""
        found = parse(self._get(f"{part}/Power"))
        if not found:
            raise Failed(f"{self._bmc.url}{part}/Power says nothing of power")
        return found

    def _get(self, path: str) -> dict[str, Any]:
        command = ["curl", "--silent", "--show-error", "--fail", "--max-time", str(_CALL_S), "--location"]
        command += ["--max-filesize", "1000000", "--header", "Accept: application/json"]
        command += ["--netrc-file", self._bmc.netrc] if self._bmc.netrc else []
        command += ["--cacert", self._bmc.ca_file] if self._bmc.ca_file else []
        said = self._run((*command, f"{self._bmc.url.rstrip('/')}{path}"), _CALL_S + 2.0)
        if said.status:
            raise Failed(f"Redfish: {said.errors.strip() or f'curl ends with {said.status}'}")
        try:
            document = json.loads(said.output)
        except ValueError as error:
            raise Failed(f"Redfish: {path} is no JSON") from error
        if not isinstance(document, dict):
            raise Failed(f"Redfish: {path} is no object")
        return document


def parse(document: dict[str, Any]) -> list[Sample]:
    """Samples of a Power resource. Makers leave fields out, or null. Pure."""
    readings = Readings()
    for control in _objects(document, "PowerControl"):
        readings.add(
            "fleet_node_power_watts", labels(source="redfish"), _number(control.get("PowerConsumedWatts"))
        )
        metered = control.get("PowerMetrics")
        energy = metered.get("EnergykWh") if isinstance(metered, dict) else None
        readings.add("fleet_node_energy_joules_total", labels(source="redfish"), _number(energy), _JOULES)
    for place, supply in enumerate(_objects(document, "PowerSupplies")):
        state = supply.get("Status")
        if isinstance(state, dict) and state.get("State") in ("Absent", "Disabled"):
            continue
        said = [
            _number(supply.get(name))
            for name in ("PowerInputWatts", "LastPowerOutputWatts", "PowerOutputWatts")
        ]
        watts = next((each for each in said if each is not None), None)
        readings.add("fleet_psu_power_watts", labels(psu=str(supply.get("MemberId", place))), watts)
    return readings.samples


def _objects(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = document.get(name)
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
