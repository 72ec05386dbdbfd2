"""Who the telemetry's process is: it has GPUs open while no attempt does, and is nothing that an attempt left behind.

The agent writes it down in its state folder, which attempts cannot write.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path

from fleet.agents.durable import read_json, write_json
from fleet.agents.processes import Process, alive, identify

FILE = "telemetry.json"


def note(state: Path, pid: int) -> None:
    """This is it now."""
    with contextlib.suppress(ProcessLookupError):
        write_json(state / FILE, asdict(identify(pid)), durable=False)


def telemetry(state: Path) -> frozenset[int]:
    """Its pid, while it lives."""
    try:
        document = read_json(state / FILE)
        process = Process(**document) if document else None
    except (ValueError, TypeError):
        return frozenset()
    return frozenset({process.pid}) if process is not None and alive(process) else frozenset()
