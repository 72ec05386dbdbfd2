"""What to do next: desired attempts and those here give the ones to start, stop and forget. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fleet.agents.protocol import AttemptSpec, Desired


@dataclass(frozen=True)
class Local:
    """An attempt as it stands here. `new`: told, and no process has claimed it yet."""

    attempt_id: int
    fence: int
    phase: Literal["new", "starting", "running", "exited"]
    device: str
    exclusive: bool = False
    stopping: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """Which attempt under which fence."""
        return self.attempt_id, self.fence


@dataclass(frozen=True)
class Plan:
    """Three disjoint lists. Starting what is already being started does nothing."""

    start: tuple[AttemptSpec, ...] = ()
    stop: tuple[Local, ...] = ()
    forget: tuple[Local, ...] = ()


def plan(desired: Desired, local: Sequence[Local]) -> Plan:
    """Start what is desired and not here, stop what is here and not desired, forget what the server has recorded.

    An attempt waits while one that is being stopped still holds its device and either is exclusive: nothing
    may run beside a measurement, not even for its last two seconds.
    """
    wanted = {(spec.attempt_id, spec.fence): spec for spec in desired.attempts}
    here = {item.key: item for item in local}
    leaving = [item for item in local if item.key not in wanted and item.phase != "exited"]
    return Plan(
        start=tuple(
            spec
            for key, spec in wanted.items()
            if _startable(here.get(key), spec, desired.settled) and not _blocked(spec, leaving)
        ),
        stop=tuple(item for item in leaving if not item.stopping),
        forget=tuple(
            item
            for item in local
            if item.phase == "exited" and item.attempt_id in desired.settled and item.key not in wanted
        ),
    )


def _startable(here: Local | None, spec: AttemptSpec, settled: Iterable[int]) -> bool:
    return (here is None or here.phase == "new") and spec.attempt_id not in settled


def _blocked(spec: AttemptSpec, leaving: Iterable[Local]) -> bool:
    return any(
        item.device == spec.device and (item.exclusive or spec.exclusive) and item.phase != "new"
        for item in leaving
    )
