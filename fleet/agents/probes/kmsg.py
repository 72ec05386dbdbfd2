"""XIDs from the kernel's log: a GPU that fell off the bus tells nobody else. All that was logged since the boot counts."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.agents.probes.nvml import pci_address
from fleet.agents.samples import Sample
from fleet.agents.xids import Xids

_RECORD = 8192
_MOST = 100_000  # records in one look
_XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")


class Line(NamedTuple):
    """One XID that was logged. `at`: seconds of the kernel's clock, since the boot."""

    pci_address: str
    xid: int
    at: float


class Kmsg:
    """One part. Reading takes what is new and never waits."""

    name, interval_s, timeout_s, disturbs = "kmsg", 5.0, 5.0, False

    def __init__(
        self,
        xids: Xids,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = root / "dev" / "kmsg"
        self._xids = xids
        self._clock = clock
        self._wall = wall
        self._descriptor = -1
        self._rest = b""

    def parts(self) -> Sequence[str]:
        """The log. OSError when this user may not read it."""
        if self._descriptor < 0 and self._path.exists():
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return ("log",) if self._descriptor >= 0 else ()

    def read(self, part: str) -> list[Sample]:
        """Count the XIDs since the last call; the samples are those of `xids`."""
        boot = self._wall() - self._clock()
        for _ in range(_MOST):
            try:
                record = os.read(self._descriptor, _RECORD)
            except BlockingIOError:
                break
            except BrokenPipeError:  # records were overwritten before they were read
                continue
            if not record:
                break
            *lines, self._rest = (self._rest + record).split(b"\n")
            for line in lines:
                found = parse(line.decode(errors="replace"))
                if found is not None:
                    self._xids.saw("kmsg", found.pci_address, found.xid, boot + found.at)
        return []


def parse(record: str) -> Line | None:
    """The XID in a record of /dev/kmsg, `6,1234,5123456789,-;NVRM: Xid (PCI:0000:9b:00): 79, …`. Pure."""
    head, separator, text = record.partition(";")
    found = _XID.search(text) if separator else None
    if found is None:
        return None
    fields = head.split(",")
    micros = fields[2] if len(fields) > 2 and fields[2].isdigit() else "0"
    address = found[1] if "." in found[1] else f"{found[1]}.0"
    return Line(pci_address(address), int(found[2]), int(micros) * 1e-6)
