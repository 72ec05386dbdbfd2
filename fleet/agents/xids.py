"""XIDs, the faults that an NVIDIA driver tells, counted from all who tell them."""

from __future__ import annotations

import threading

from fleet.agents.samples import Readings, Sample, joined, labels


class Xids:
    """Counts by GPU and XID. The driver's events and the kernel's log tell the same faults: the larger count is right.

    A GPU that fell off the bus is told of by the log alone.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[tuple[str, int], dict[str, int]] = {}
        self._last: dict[tuple[str, int], float] = {}

    def saw(self, source: str, pci_address: str, xid: int, at: float) -> None:
        """One XID of the GPU at this address; `at` in epoch seconds."""
        with self._guard:
            by_source = self._counts.setdefault((pci_address, xid), {})
            by_source[source] = by_source.get(source, 0) + 1
            self._last[pci_address, xid] = max(at, self._last.get((pci_address, xid), 0.0))

    def samples(self, known: dict[str, str]) -> list[Sample]:
        """Samples; `known` has the labels of GPUs by PCI address, of which others are shown by their address."""
        readings = Readings()
        with self._guard:
            for (address, xid), counts in self._counts.items():
                own = known.get(address) or labels(gpu="", uuid=address)
                text = joined(own, xid=str(xid))
                readings.add("fleet_gpu_xid_errors_total", text, max(counts.values()))
                readings.add("fleet_gpu_xid_last_timestamp_seconds", text, self._last[address, xid])
        return readings.samples
