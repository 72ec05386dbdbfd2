"""A user of its own for every attempt at a time: uids that nobody has, taken by a lock and swept before and after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# Between the users of people and services and those that systemd and containers hand out.
FIRST, COUNT = 70000, 1024
LOCKS = Path("/run/tinyfleet/slots")
_LOOKS = 200


class NoSlot(Exception):
    """Every uid is taken."""


@dataclass(frozen=True)
class Slot:
    """A uid, also used as a gid, that is this process's while `held` is open."""

    uid: int
    held: int

    @staticmethod
    def take(folder: Path = LOCKS) -> Slot:
        """The first free one, swept. NoSlot, OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for uid in range(FIRST, FIRST + COUNT):
            with contextlib.suppress(NoSlot):
                slot = Slot.lock(uid, folder)
                if os.fstat(slot.held).st_size:  # whoever had it last has not said that nobody is left
                    sweep(uid)
                os.pwrite(slot.held, b"taken", 0)
                return slot
        raise NoSlot(f"all {COUNT} users for attempts are taken")

    @staticmethod
    def lock(uid: int, folder: Path = LOCKS) -> Slot:
        """This very one. A lock ends with whoever holds it, whatever ends them. NoSlot when it is taken; OSError."""
        held = os.open(folder / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            raise NoSlot(f"user {uid} is taken") from error
        return Slot(uid, held)

    def clear(self) -> None:
        """As `sweep`, without a fork: one process after the other, until a look finds none, for some looks."""
        for _ in range(_LOOKS):
            found = processes_of(self.uid)
            if not found:
                return
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def release(self, *, empty: bool = False) -> None:
        """Another attempt may have it; it need not be swept for that when it is known to be `empty`."""
        if empty:
            os.ftruncate(self.held, 0)
        os.close(self.held)


def inhabitant(users: Iterable[tuple[str, int]]) -> str | None:
    """The name of somebody who has one of these uids: whose processes a sweep would kill. Of (name, uid) pairs."""
    return next((name for name, uid in users if FIRST <= uid < FIRST + COUNT), None)


def sweep(uid: int) -> None:
    """Kill every process of a slot's user at once: as that user, to whom "everybody" is its own. As root only."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def processes_of(uid: int) -> list[int]:
    """Pids of a user's processes, but for zombies."""
    return [pid for pid in _pids() if _owner(pid) == uid]


def threads_of(uid: int) -> int:
    """How many threads a user's processes have, zombies counted as one: what the kernel holds against their limit."""
    found = [_status(pid) for pid in _pids()]
    return sum(int(fields["Threads"]) for fields in found if fields and _uid(fields) == uid)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _owner(pid: int) -> int:
    fields = _status(pid)
    return -1 if not fields or fields["State"].split()[0] in "ZX" else _uid(fields)


def _uid(fields: Mapping[str, str]) -> int:
    return int(fields["Uid"].split()[0])


def _status(pid: int) -> dict[str, str]:
    """What the kernel says of a process by name; nothing when it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in lines if ":" in line)
