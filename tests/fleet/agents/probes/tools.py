"""Tools whose output was recorded, and the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.agents.probes.commands import Missing, Said

RECORDED = Path(__file__).parents[3] / "recorded"


def recorded(name: str) -> bytes:
    """The content of a record."""
    return (RECORDED / name).read_bytes()


class Tools:
    """A command runner: says what belongs to the first of the beginnings that a command has. Others are not installed."""

    def __init__(self, by_beginning: Mapping[str, tuple[int, bytes]]) -> None:
        self.by_beginning = by_beginning
        self.ran: list[str] = []

    def __call__(self, command: Sequence[str], timeout_s: float) -> Said:
        line = " ".join(command)
        self.ran.append(line)
        for beginning, (status, output) in self.by_beginning.items():
            if line.startswith(beginning):
                return Said(status, output, "" if output else "it says why")
        raise Missing(f"{command[0]} is not installed")
