"""By what an attempt can be found from outside, and ended, when its supervisor is dead. What the agent itself needs of walls."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from fleet.agents.walls.groups import Group
from fleet.agents.walls.slots import NoSlot, Slot

_KILLED_S = 0.5


@dataclass(frozen=True)
class Traces:
    """By which what is left of an attempt can be found when its supervisor is dead."""

    uid: int | None = None
    group: str | None = None


def end_all(traces: Traces) -> None:
    """Kill what is left of an attempt whose supervisor is dead. Forks nothing: the agent has threads."""
    group = None if traces.group is None else Group(Path(traces.group))
    if group is not None:
        group.kill()
    with contextlib.suppress(NoSlot, OSError):
        slot = None if traces.uid is None else Slot.lock(traces.uid)
        if slot is not None:  # else it is another attempt's by now, which has swept it
            slot.clear()
            slot.release()
    if group is not None and group.wait_empty(_KILLED_S):
        group.remove()
