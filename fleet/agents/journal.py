"""What this node was told and who it is, on disk: identity, sequence, lease. One agent per state directory.

lock             held while an agent runs here
identity.json    node id, name and server; the key is in node.key (0600)
sequence.json    how many times the agent has started, and the highest sequence number it may have used
lease.json       until when this node may work without hearing from the control plane
desired.json     the last desired state that was applied
hint             a FIFO: a byte in it means "look now" and nothing else
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.agents.durable import read_json, write_json
from fleet.agents.processes import clock, kernel_boot
from fleet.agents.protocol import Desired

LEASE = "lease.json"
# Numbers are reserved on disk in blocks, so that a sync does not wait for the disk.
_BLOCK = 4096


class AlreadyRunning(Exception):
    """Another agent holds the state directory."""


class Unusable(Exception):
    """The state directory cannot be made, read or written."""


@dataclass(frozen=True)
class Identity:
    """Who this node is to the control plane."""

    node_id: int
    name: str
    server: str


class Journal:
    """The node's memory. `next_sequence` and `renew` may be called from several threads.

    Raises AlreadyRunning, and Unusable with the reason.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self._guard = threading.Lock()
        self._lease_from = 0.0
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._hold = _lock(state / "lock")
            self.boot_id, self._sequence = self._begin()
        except OSError as error:
            raise Unusable(
                f"{state} cannot be used: {error.strerror}; give a folder that you can write to"
            ) from error
        self._reserved = self._sequence

    def _begin(self) -> tuple[str, int]:
        """A boot id that sorts after all earlier ones, and the last sequence number that may be spent."""
        recorded = read_json(self.state / "sequence.json") or {"boots": 0, "reserved": 0}
        self._boots = int(recorded["boots"]) + 1
        # On disk before the first use, so that two starts can never share a boot id.
        self._record(int(recorded["reserved"]))
        return f"{self._boots:010d}-{secrets.token_hex(8)}", int(recorded["reserved"])

    def _record(self, reserved: int) -> None:
        write_json(self.state / "sequence.json", {"boots": self._boots, "reserved": reserved})

    def next_sequence(self) -> int:
        """A number greater than every one before it, in this start of the agent and all earlier ones."""
        with self._guard:
            if self._sequence == self._reserved:
                self._record(self._reserved + _BLOCK)
                self._reserved += _BLOCK
            self._sequence += 1
            return self._sequence

    def identity(self) -> Identity | None:
        """Who this node is; None before it has enrolled. Unusable when an earlier version of the agent wrote it."""
        return identity_in(self.state)

    def enrolled(self, identity: Identity) -> None:
        """Remember who this node is."""
        write_json(self.state / "identity.json", asdict(identity))

    def renew(self, sent: float, lease_s: float) -> None:
        """A sync that left at `sent` (seconds of `processes.clock`) was answered: work on for `lease_s` from then."""
        with self._guard:
            if sent < self._lease_from:
                return  # an answer overtaken by a later one
            self._lease_from = sent
            lease = {"boot": kernel_boot(), "deadline": sent + lease_s}
            # A reboot voids it, so it need not survive one.
            write_json(self.state / LEASE, lease, durable=False)

    def told(self, desired: Desired) -> None:
        """Remember the desired state that is being applied."""
        write_json(self.state / "desired.json", desired.model_dump(mode="json", by_alias=True))

    def close(self) -> None:
        """Let another agent have the directory."""
        os.close(self._hold)


def identity_in(state: Path) -> Identity | None:
    """Who the node of this state folder is; None before it has enrolled. May be asked beside a running agent."""
    recorded = read_json(state / "identity.json")
    if recorded is not None and "token" in recorded:
        raise Unusable(
            f"{state} is of an earlier version, whose node token is accepted no more: retire the node at the "
            "server, remove this folder, and join again with a new join token"
        )
    return None if recorded is None else Identity(**recorded)


def lease_left(state: Path) -> float:
    """Seconds of lease left, read by supervisors too; negative when it has lapsed, is unreadable or of another boot."""
    lease = read_json(state / LEASE)
    if lease is None or lease["boot"] != kernel_boot():
        return -1.0
    return float(lease["deadline"]) - clock()


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyRunning(f"{path.parent}: another agent runs with this state directory") from error
    return descriptor
