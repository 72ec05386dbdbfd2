"""Processes by identity. A pid alone is reused, so every record pairs it with the process's start time."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

# Set in the environment of the zygote to the folder of the attempts, in that of an attempt to its own folder.
MARKER = "TINYFLEET_ATTEMPT"


def clock() -> float:
    """Seconds since boot, suspended time included; the same for every process of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def kernel_boot() -> str:
    """Which boot of this machine it is; pids and `clock` values of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Process:
    """One process of this boot: its pid, and its start time in clock ticks since boot."""

    pid: int
    started: int


@dataclass(frozen=True)
class _Stat:
    pid: int
    state: str
    parent: int
    started: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")  # its name may be any bytes
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, spaces and parentheses included: cut at the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(pid, fields[0], int(fields[1]), int(fields[19]))


def _everything() -> list[_Stat]:
    stats = [_stat(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [stat for stat in stats if stat is not None and stat.state not in "ZX"]


def identify(pid: int) -> Process:
    """The identity of a living process. ProcessLookupError when there is none."""
    stat = _stat(pid)
    if stat is None:
        raise ProcessLookupError(pid)
    return Process(pid, stat.started)


def alive(process: Process) -> bool:
    """Whether this very process still runs; a zombie and a reused pid do not count."""
    stat = _stat(process.pid)
    return stat is not None and stat.started == process.started and stat.state not in "ZX"


def send(process: Process, number: signal.Signals) -> bool:
    """Signal this very process; False when it is gone. The pid cannot be reused between check and signal."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not alive(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def descendants(root: int) -> list[int]:
    """Pids of all living descendants of `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for stat in _everything():
        children.setdefault(stat.parent, []).append(stat.pid)
    found, queue = [], [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def leftovers(family: str, roots: set[int]) -> list[int]:
    """Pids marked as of this family that neither are nor descend from one of the living `roots`.

    A process that was forked carries the environment of what forked it, one that was executed its own; both are
    marked unless somebody meant to hide.
    """
    everything = {stat.pid: stat for stat in _everything()}
    return [pid for pid in everything if not _below(pid, roots, everything) and _marked(pid, family)]


def _below(pid: int, roots: set[int], everything: dict[int, _Stat]) -> bool:
    while pid in everything and pid not in roots:
        pid = everything[pid].parent
    return pid in roots


def _marked(pid: int, family: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # gone, or another user's
        return False
    return f"\0{MARKER}={family}".encode() in b"\0" + environment


def kill(pids: list[int], number: signal.Signals) -> None:
    """Signal each pid that is still there and ours to signal."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
