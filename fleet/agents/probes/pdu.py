"""Power of a rack's PDU over SNMP. What a number means is the maker's: tenths of amperes, hundredths of kilowatts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fleet.agents.probes import snmp
from fleet.agents.samples import Readings, Sample, labels

METRICS = ("current_amperes", "voltage_volts", "power_watts", "energy_joules_total")
_TIMEOUT_S = 6.0


class Point(NamedTuple):
    """One value of a PDU: where it is, what it is (of METRICS), by what to multiply it, and of which input or outlet it is."""

    oid: str
    metric: str
    scale: float
    input: str


class Outlet(NamedTuple):
    """One PDU, or what of it feeds this node. `source`: of the node's power, when one of its points is that."""

    name: str
    host: str
    community: str
    points: tuple[Point, ...]
    port: int = 161
    node: str = ""  # the input or outlet whose power is this node's


_APC = "1.3.6.1.4.1.318.1.1.26"
# By maker and MIB; measured on none of them here, read from the makers' MIBs.
PROFILES = {
    "apc": (
        Point(f"{_APC}.4.3.1.5.1", "power_watts", 10.0, "input"),  # hundredths of kW
        Point(f"{_APC}.4.3.1.9.1", "energy_joules_total", 360_000.0, "input"),  # tenths of kWh
        *(Point(f"{_APC}.6.3.1.5.{phase}", "current_amperes", 0.1, f"L{phase}") for phase in (1, 2, 3)),
        *(Point(f"{_APC}.6.3.1.6.{phase}", "voltage_volts", 1.0, f"L{phase}") for phase in (1, 2, 3)),
        *(Point(f"{_APC}.6.3.1.7.{phase}", "power_watts", 10.0, f"L{phase}") for phase in (1, 2, 3)),
    ),
}


class Pdu:
    """A part per PDU."""

    name, interval_s, timeout_s, disturbs = "pdu", 30.0, 10.0, False

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        self._outlets = {each.name: each for each in outlets}

    def parts(self) -> Sequence[str]:
        """Names of the PDUs."""
        return tuple(self._outlets)

    def read(self, part: str) -> list[Sample]:
        """Its values. Raises snmp.Silent, also when it has none of them."""
        outlet = self._outlets[part]
        oids = [point.oid for point in outlet.points]
        values = snmp.get(outlet.host, outlet.port, outlet.community, oids, _TIMEOUT_S)
        found = parse(outlet, values)
        if not found:
            raise snmp.Silent(f"{outlet.host}: it has none of the values asked for; is the profile right?")
        return found


def parse(outlet: Outlet, values: dict[str, snmp.Value]) -> list[Sample]:
    """Samples of a PDU's values; -1 is what APC says for what it does not measure. Pure."""
    readings = Readings()
    for point in outlet.points:
        value = values.get(point.oid)
        if isinstance(value, bytes):
            value = int(value) if value.strip().isdigit() else None
        if value is None or value < 0:
            continue
        readings.add(
            f"fleet_pdu_{point.metric}", labels(pdu=outlet.name, input=point.input), value, point.scale
        )
        if point.metric == "power_watts" and point.input == outlet.node:
            readings.add("fleet_node_power_watts", labels(source="pdu"), value, point.scale)
    return readings.samples
