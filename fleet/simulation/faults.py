"""Faults that a simulated node can have, and how they are written: `KIND[=VALUE]:NODE[:DEVICE]`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What can be wrong. The device is a GPU's number, of `drive-wear` and `drive-gone` a drive's."""

    GPU_LOST = "gpu-lost"  # fell off the bus: XID 79, and the GPU answers no more
    XID = "xid"  # the XID of its value, again and again; 13 unless it is given
    THERMAL = "thermal"  # the hardware holds its clocks down for heat
    POWER_BRAKE = "power-brake"  # the power supply asks for less
    ECC = "ecc"  # uncorrected memory errors
    REMAP = "remap-failed"  # a row of memory could not be replaced
    LINK = "link-degraded"  # fewer PCIe lanes than there are, and errors on the bus
    DRIVE_WEAR = "drive-wear"  # endurance used up fast, spare blocks gone
    DRIVE_GONE = "drive-gone"  # the drive answers no more
    SILENT = "silent"  # the agent says nothing: no sync, no metrics
    NO_METRICS = "no-metrics"  # it syncs and works, and its metrics do not come
    HUNG = "collector-hung"  # one of its probes never comes back
    CLOCK_SKEW = "clock-skew"  # its clock is off by its value in seconds; 20 unless it is given
    METER = "power-mismatch"  # its meter reads less than its parts draw
    IMBALANCE = "phase-imbalance"  # one phase of its PDU carries the most
    LIMIT = "power-limit"  # somebody lowered a GPU's power limit
    DRIVER = "driver-gone"  # no driver has the GPU


OF_A_GPU = frozenset(
    {
        FaultKind.GPU_LOST,
        FaultKind.XID,
        FaultKind.THERMAL,
        FaultKind.POWER_BRAKE,
        FaultKind.ECC,
        FaultKind.REMAP,
        FaultKind.LINK,
        FaultKind.LIMIT,
        FaultKind.DRIVER,
    }
)
OF_A_DRIVE = frozenset({FaultKind.DRIVE_WEAR, FaultKind.DRIVE_GONE})
DEFAULTS = {FaultKind.XID: 13.0, FaultKind.CLOCK_SKEW: 20.0}
_SHAPE = re.compile(r"([a-z-]+)(?:=(-?[0-9.]+))?:([A-Za-z0-9][A-Za-z0-9._-]*)(?::([0-9]+))?")


class BadFault(ValueError):
    """A fault that is not written as one; the message says what it should be."""


@dataclass(frozen=True)
class Fault:
    """One fault of one node; `device` is a number, None for the node itself."""

    kind: FaultKind
    node: str
    device: int | None = None
    value: float = 0.0

    @staticmethod
    def parse(text: str) -> Fault:
        """From `xid=79:sim-003:2`. Raises BadFault."""
        found = _SHAPE.fullmatch(text.strip())
        if found is None:
            raise BadFault(f"{text.strip()!r}: write KIND[=VALUE]:NODE[:DEVICE], such as xid=79:sim-003:2")
        name, value, node, device = found.groups()
        try:
            kind = FaultKind(name)
            number = DEFAULTS.get(kind, 0.0) if value is None else float(value)
        except ValueError as error:
            raise BadFault(f"{text.strip()!r}: the kind is one of {', '.join(FaultKind)}") from error
        if kind in OF_A_GPU | OF_A_DRIVE and device is None:
            device = "0"
        return Fault(kind, node, None if device is None else int(device), number)


def parse_all(text: str) -> tuple[Fault, ...]:
    """The faults of a file: one a line, `#` begins a comment. Raises BadFault with the line's number."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if said:
            try:
                found.append(Fault.parse(said))
            except BadFault as error:
                raise BadFault(f"line {number}: {error}") from error
    return tuple(found)


class Active:
    """The faults of one node, by kind."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._by_kind: dict[FaultKind, list[Fault]] = {}
        for fault in faults:
            self._by_kind.setdefault(fault.kind, []).append(fault)

    def has(self, kind: FaultKind, device: int | None = None) -> bool:
        """Whether the node, or that device of it, has a fault of this kind."""
        return any(device is None or fault.device == device for fault in self._by_kind.get(kind, ()))

    def value(self, kind: FaultKind, device: int | None = None) -> float | None:
        """The value of that fault; None when there is none."""
        for fault in self._by_kind.get(kind, ()):
            if device is None or fault.device == device:
                return fault.value
        return None
