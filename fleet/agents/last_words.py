"""What the kernel says of an attempt: that memory ran out, that a program faulted, that a GPU gave up.

/dev/kmsg is read from where it was when the attempt began, by the supervisor; where it may not be read there are no lines.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable

from fleet.agents.walls.traces import Traces

_MOST = 12
_LONGEST = 300
_RECORD = 8192
# Of whatever process: a GPU that fell off the bus names none.
_DRIVERS = re.compile(
    r"\bNVRM: Xid|\bnvidia\b.*error|\bamdgpu\b.*(fault|reset|timeout|hang)|\bgpu hang\b", re.I
)
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
# XIDs that NVIDIA's catalogue answers with a reset or a repair: stopped processing, uncorrectable memory errors, failed
# remapping, NVLink, off the bus, uncontained errors, a security fault, the GSP, and failed initialisation.
_WRECKS = frozenset({46, 48, 62, 64, 74, 79, 95, 110, 119, 120, 136, 140, 143})
_MEMORY = re.compile(r"oom-kill:|Out of memory|Memory cgroup out of memory|Killed process", re.I)


class KernelLog:
    """The kernel's messages from now on."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._file, 0, os.SEEK_END)
        except OSError:  # none here, or not for us
            self._file = -1
        self._seen: list[str] = []

    def wrecks(self, addresses: Collection[str]) -> list[str]:
        """Lines since then by which a GPU at one of these PCI addresses has to be reset before it is of use again."""
        return wrecking(self._lines(), addresses)

    def about(self, pids: Collection[int], traces: Traces) -> list[str]:
        """Lines since then that concern these processes, the attempt's user or group, or a GPU; then it is closed."""
        try:
            return concerning(self._lines(), pids, traces)
        finally:
            self.close()

    def close(self) -> None:
        """Read no more."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _lines(self) -> list[str]:
        found = self._seen
        while self._file >= 0:
            try:
                record = os.read(self._file, _RECORD)
            except BrokenPipeError:  # some were overwritten before they were read
                continue
            except OSError:
                break
            if not record:
                break
            found.append(message(record))
        return found


def message(record: bytes) -> str:
    """The text of one record: "6,3624,39335953139,-;text" and lines of details."""
    head, _, rest = record.decode(errors="backslashreplace").partition(";")
    return (rest or head).partition("\n")[0]


def wrecking(lines: Iterable[str], addresses: Collection[str]) -> list[str]:
    """Those of the lines, cut to a modest length. What a program does wrong (13, 31, 43, 45) wrecks nothing."""
    found = [(line, _XID.match(line)) for line in lines]
    ours = {_slot(address) for address in addresses if address}
    return [
        line[:_LONGEST]
        for line, xid in found
        if xid is not None and int(xid[2]) in _WRECKS and _slot(xid[1]) in ours
    ]


def _slot(address: str) -> tuple[int, str]:
    """Domain, and bus and device, of a PCI address: its domain has four digits or eight, its function may be missing."""
    domain, _, rest = address.lower().partition(".")[0].partition(":")
    return (int(domain, 16), rest) if rest.count(":") == 1 else (0, f"{domain}:{rest}")


def concerning(lines: Iterable[str], pids: Collection[int], traces: Traces) -> list[str]:
    """Those of the lines that are about the attempt, the last ones, cut to a modest length."""
    marks = [f"[{pid}]" for pid in pids]
    owners = [f"pid={pid}," for pid in pids] + [f"process {pid} " for pid in pids]
    if traces.uid is not None:
        owners += [f"uid={traces.uid}", f"UID:{traces.uid} "]
    if traces.group is not None:
        owners.append(os.path.basename(traces.group))
    found = [line for line in lines if _concerns(f"{line} ", marks, owners)]
    return [line[:_LONGEST] for line in found[-_MOST:]]


def _concerns(line: str, marks: list[str], owners: list[str]) -> bool:
    if any(mark in line for mark in marks) or _DRIVERS.search(line):
        return True
    return bool(_MEMORY.search(line)) and any(owner in line for owner in owners)
