"""Energy of processors from RAPL's counters: readable by root alone, and they wrap, within the hour under load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, labels

_FOLDER = "sys/class/powercap"


class Rapl:
    """One part: the counters are in the processor. What was counted is since the first reading."""

    name, interval_s, timeout_s, disturbs = "rapl", 1.0, 3.0, False

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self._files = Files(root)
        self._zones: dict[str, tuple[str, str]] = {}
        self._last: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def parts(self) -> Sequence[str]:
        """The packages. OSError when there are counters that this user may not read."""
        zones = [name for name in self._files.names(_FOLDER) if re.fullmatch(r"intel-rapl:\d+(:\d+)?", name)]
        self._zones = {name: self._label(name) for name in zones}
        if zones and self._files.number(f"{_FOLDER}/{zones[0]}/energy_uj") is None:
            raise OSError(f"/{_FOLDER}/{zones[0]}/energy_uj cannot be read: RAPL is root's alone")
        return ("packages",) if zones else ()

    def _label(self, name: str) -> tuple[str, str]:
        said = self._files.said(f"{_FOLDER}/{name}/name") or name
        package = name.split(":")[1]
        return package, "package" if said.startswith("package") else said

    def read(self, part: str) -> list[Sample]:
        """All zones."""
        readings = Readings()
        for name, (package, zone) in self._zones.items():
            now = self._files.number(f"{_FOLDER}/{name}/energy_uj")
            if now is None:
                continue
            span = self._files.number(f"{_FOLDER}/{name}/max_energy_range_uj")
            self._total[name] = self._total.get(name, 0) + since(self._last.get(name, now), now, span)
            self._last[name] = now
            text = labels(package=package, zone=zone)
            readings.add("fleet_cpu_energy_joules_total", text, self._total[name], 1e-6)
        return readings.samples

    def joules(self) -> float | None:
        """Of all packages together, since the first reading."""
        found = [
            self._total[name]
            for name, zone in self._zones.items()
            if zone[1] == "package" and name in self._total
        ]
        return sum(found) * 1e-6 if found else None


def since(before: int, now: int, span: int | None) -> int:
    """What a counter went on by, that begins again at 0 after `span`. Pure."""
    if now >= before:
        return now - before
    return now if span is None else span - before + now
