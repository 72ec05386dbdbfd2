"""Power of the node as its BMC measures it: `ipmitool dcmi power reading`. Some BMCs take most of a minute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fleet.agents.probes.commands import Failed, Run, run
from fleet.agents.samples import Readings, Sample, labels

_TIMEOUT_S = 58.0


class Ipmi:
    """One part, where the kernel shows a BMC, or where `remote` says how to reach one (arguments of ipmitool)."""

    name, interval_s, timeout_s, disturbs = "ipmi", 60.0, 60.0, True

    def __init__(self, root: Path = Path("/"), command: Run = run, remote: Sequence[str] = ()) -> None:
        self._root = root
        self._run = command
        self._remote = tuple(remote)

    def parts(self) -> Sequence[str]:
        """The BMC."""
        places = ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")
        return ("dcmi",) if self._remote or any((self._root / place).exists() for place in places) else ()

    def read(self, part: str) -> list[Sample]:
        """Its power now. OSError when it does not measure, or does not answer."""
        said = self._run(("ipmitool", *self._remote, "dcmi", "power", "reading"), _TIMEOUT_S)
        found = parse(said.output.decode(errors="replace"))
        if not found:
            raise Failed(f"ipmitool: {said.errors.strip() or 'this BMC measures no power'}")
        return found


def parse(text: str) -> list[Sample]:
    """Samples of ipmitool's text; none when the reading is not activated, which shows as 0 Watts. Pure."""
    readings = Readings()
    found = re.search(r"Instantaneous power reading:\s+(\d+) Watts", text)
    if found and re.search(r"Power reading state is:\s+activated", text):
        readings.add("fleet_node_power_watts", labels(source="ipmi"), int(found[1]))
    return readings.samples
