"""The health of drives: smartctl, else nvme-cli, else as much as the kernel knows. Once a minute at most, a child each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleet.agents.probes import nvme, smartctl
from fleet.agents.probes.blocks import VIRTUAL, Drive, drives
from fleet.agents.probes.commands import Failed, Run, run
from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample


class Drives:
    """A part per drive that was ever seen here; one that is gone is down."""

    name, interval_s, timeout_s, disturbs = "drives", 60.0, 50.0, True

    def __init__(self, root: Path = Path("/"), command: Run = run) -> None:
        self._files = Files(root)
        self._run = command
        self._known: dict[str, Drive] = {}
        self._here: set[str] = set()

    def parts(self) -> Sequence[str]:
        """Drives, by serial where they have one."""
        all_here = drives(self._files)
        here = {each.serial or each.device: each for each in all_here if each.transport != VIRTUAL}
        self._known |= here
        self._here = set(here)
        return tuple(self._known)

    def read(self, part: str) -> list[Sample]:
        """What the best of the tools says."""
        drive = self._known[part]
        state = self._files.said(f"sys/class/nvme/{drive.device}/state")
        if part not in self._here or state in ("dead", "deleting"):
            return _up(drive, up=False)
        try:
            return smartctl.samples(drive.labels, smartctl.read(self._run, drive.device))
        except Failed as failure:
            problem = failure
        if drive.device.startswith("nvme"):
            try:
                log = nvme.read(self._run, drive.device)
                return nvme.samples(drive.labels, log) + _up(drive, up=True)
            except Failed as failure:
                problem = failure
        if state == "live":  # nobody may ask it, but the kernel talks to it
            return _up(drive, up=True)
        raise problem


def _up(drive: Drive, *, up: bool) -> list[Sample]:
    readings = Readings()
    readings.add("fleet_drive_up", drive.labels, int(up))
    return readings.samples
