"""Control groups, version 2: everything that an attempt starts in one place, killed at once, with limits where delegated.

Where only version 1 is mounted there is no cgroup.kill; then the supervisor, as the reaper of all orphans, does it alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
from dataclasses import dataclass
from pathlib import Path

_LEAF = (
    "agent"  # with DelegateSubgroup=agent a unit's own processes are in here, and its group is ours to divide
)
CONTROLLERS = ("memory", "pids")


def mount_of(mountinfo: str) -> Path | None:
    """Where version 2 is mounted, of /proc/self/mountinfo's text."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            return Path(before.split()[4])
    return None


def own_of(cgroup: str) -> str | None:
    """This process's group of version 2, of /proc/self/cgroup's text."""
    for line in cgroup.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").removesuffix(" (deleted)")
    return None


def own_group() -> Path | None:
    """The group that this process is in; None where there is none."""
    mount = mount_of(Path("/proc/self/mountinfo").read_text())
    own = own_of(Path("/proc/self/cgroup").read_text())
    return None if mount is None or own is None else mount / own.lstrip("/")


def parent_group() -> Path | None:
    """The group in which those of attempts can be made; None where there is none."""
    here = own_group()
    return here.parent if here is not None and here.name == _LEAF else here


def delegated(parent: Path) -> tuple[str, ...]:
    """The controllers that the groups of attempts have, switched on if need and permission be."""
    switch = parent / "cgroup.subtree_control"
    for name in CONTROLLERS:
        with contextlib.suppress(OSError):  # not available, or processes are in the group itself
            switch.write_text(f"+{name}")
    try:
        on = switch.read_text().split()
    except OSError:
        return ()
    return tuple(name for name in CONTROLLERS if name in on)


@dataclass(frozen=True)
class Group:
    """One attempt's group."""

    path: Path

    @staticmethod
    def make(parent: Path, name: str) -> Group:
        """A new one; one of this name that an earlier attempt left is emptied and used. OSError when it cannot be."""
        group = Group(parent / name)
        try:
            group.path.mkdir()
        except FileExistsError:
            group.kill()
        return group

    def limit(self, memory_bytes: int, processes: int) -> None:
        """As far as the controllers are there."""
        for name, value in (("memory.max", memory_bytes), ("memory.swap.max", 0), ("pids.max", processes)):
            with contextlib.suppress(OSError):
                (self.path / name).write_text(str(value))

    def join(self) -> None:
        """This process moves in."""
        (self.path / "cgroup.procs").write_text("0")

    def members(self) -> list[int]:
        """Pids of the processes in it."""
        try:
            return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def kill(self) -> None:
        """End all of its processes, those that fork meanwhile too."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")

    def out_of_memory(self) -> int:
        """How many of its processes the kernel has ended for want of memory within the limit."""
        try:
            lines = (self.path / "memory.events").read_text().split()
        except OSError:
            return 0
        return int(lines[lines.index("oom_kill") + 1]) if "oom_kill" in lines else 0

    def wait_empty(self, timeout_s: float) -> bool:
        """Whether all its processes are gone within so long."""
        try:
            events = os.open(self.path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            poll = select.poll()
            poll.register(events, select.POLLPRI)
            for _ in range(2):
                if b"populated 0" in os.pread(events, 4096, 0):
                    return True
                poll.poll(timeout_s * 1000)
            return b"populated 0" in os.pread(events, 4096, 0)
        finally:
            os.close(events)

    def remove(self) -> None:
        """It must be empty; one that is not stays, and is emptied by the next attempt of its name."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def prefix_of(state: Path) -> str:
    """What the names of the groups of an agent's attempts begin with: agents of one machine may share a parent."""
    return f"tinyfleet-{hashlib.sha256(str(state).encode()).hexdigest()[:8]}-"


def remove_empty(parent: Path, prefix: str) -> None:
    """Groups that were left when supervisors were killed; the system keeps those in which something runs."""
    for path in parent.glob(f"{prefix}*"):
        Group(path).remove()
