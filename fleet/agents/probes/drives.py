"""The health of drives: smartctl, else nvme-cli, else as much as the kernel knows. Once a minute at most, a child each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleet.agents.probes import nvme, smartctl
from fleet.agents.probes.blocks import VIRTUAL, Drive, drives
from fleet.agents.probes.commands import Failed, Missing, Run, run
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
        self._turns: dict[str, int] = {}  # which tool is next, by drive

    def parts(self) -> Sequence[str]:
        """Drives, by serial where they have one."""
        all_here = drives(self._files)
        here = {each.serial or each.device: each for each in all_here if each.transport != VIRTUAL}
        self._known |= here
        self._here = set(here)
        return tuple(self._known)

    def read(self, part: str) -> list[Sample]:
        """What the best of the tools says that answers. Only one is started: another has its turn at the next call."""
        drive = self._known[part]
        state = self._files.said(f"sys/class/nvme/{drive.device}/state")
        if part not in self._here or state in ("dead", "deleting"):
            return _up(drive, up=False)
        tools = [_smartctl, _nvme] if drive.device.startswith("nvme") else [_smartctl]
        turn = self._turns.get(part, 0) % len(tools)
        problems: list[Failed] = []
        for tool in tools[turn:] + tools[:turn]:
            try:
                return tool(self._run, drive)
            except Missing as missing:
                problems.append(missing)
            except Failed as failed:
                problems.append(failed)
                self._turns[part] = turn + 1
                break
        if state == "live":  # nobody may ask it, but the kernel talks to it
            return _up(drive, up=True)
        raise problems[-1]


def _smartctl(command: Run, drive: Drive) -> list[Sample]:
    return smartctl.samples(drive.labels, smartctl.read(command, drive.device))


def _nvme(command: Run, drive: Drive) -> list[Sample]:
    return nvme.samples(drive.labels, nvme.read(command, drive.device)) + _up(drive, up=True)


def _up(drive: Drive, *, up: bool) -> list[Sample]:
    readings = Readings()
    readings.add("fleet_drive_up", drive.labels, int(up))
    return readings.samples
