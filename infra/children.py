"""Processes that must not outlive this one: started in their own groups, and found again wherever they went.

A child may leave its group (an agent's supervisors do, so that they survive the agent). This process therefore
becomes the reaper of its orphaned descendants, and ends by walking down its own process tree until it is empty.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 4.0
KILLED_S = 10.0
STEP_S = 0.05


def adopt_orphans() -> None:
    """Make descendants whose parent ends our children (Linux). Raises OSError where that is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) was refused")


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; what it prints goes to the file `log`."""
    with log.open("wb") as file:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )


def descendants(root: int) -> list[int]:
    """Process ids below `root`, parents before children. Processes that end meanwhile are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found.extend(below)
        queue.extend(below)
    return found


def _parent(entry: Path) -> int | None:
    try:
        stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])  # the name in brackets may hold anything


def stop_all(grace_s: float = GRACE_S) -> None:
    """End every descendant: SIGTERM first, SIGKILL after `grace_s`. Returns when none is left.

    What does not even end on SIGKILL within KILLED_S (it hangs in the kernel) is left behind.
    """
    deadline = time.monotonic() + grace_s
    _signal_all(signal.SIGTERM)
    while _living() and time.monotonic() < deadline:
        time.sleep(STEP_S)
    while _living() and time.monotonic() < deadline + KILLED_S:
        _signal_all(signal.SIGKILL)
        time.sleep(STEP_S)


def _signal_all(number: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _living() -> list[int]:
    """Descendants that run, after those that have ended were reaped."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    return descendants(os.getpid())
