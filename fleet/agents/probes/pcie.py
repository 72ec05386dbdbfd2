"""PCIe as the kernel sees it: errors that it counted (AER), and how wide and fast a device's link is.

With riser cables corrected errors are the best early sign; links slow down when idle, so compare with the maximum under load.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, labels

SEVERITIES = {"correctable": "aer_dev_correctable", "nonfatal": "aer_dev_nonfatal", "fatal": "aer_dev_fatal"}
_GENERATIONS = {"2.5": 1, "5.0": 2, "5": 2, "8.0": 3, "8": 3, "16.0": 4, "32.0": 5, "64.0": 6}  # GT/s
# An AMD card is a switch of its own with the GPU behind it: the link to the slot is that of the switch's upper port.
_AMD = "0x1002"


class Pcie:
    """One part: reading a device's counters asks the kernel, not the device."""

    name, interval_s, timeout_s, disturbs = "pcie", 10.0, 5.0, False

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = Files(root)
        self._watched: list[str] = []

    def parts(self) -> Sequence[str]:
        """The bus; which devices count errors is looked up again at every call."""
        devices = self._files.names("sys/bus/pci/devices")
        name = SEVERITIES["correctable"]
        self._watched = [each for each in devices if self._files.content(_path(each, name)) is not None]
        return ("bus",) if self._watched else ()

    def read(self, part: str) -> list[Sample]:
        """Errors of every device that counts them."""
        readings = Readings()
        for address in self._watched:
            for severity, name in SEVERITIES.items():
                count = total(self._files.said(_path(address, name)) or "")
                text = labels(pci_address=address, severity=severity)
                readings.add("fleet_pci_aer_errors_total", text, count)
        return readings.samples


def _path(address: str, name: str) -> str:
    return f"sys/bus/pci/devices/{address}/{name}"


def total(text: str) -> int | None:
    """All errors of an `aer_dev_*` file: its last line is their sum, `TOTAL_ERR_COR 7`."""
    found = re.search(r"^TOTAL_ERR_\w+ (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else None


def slot(files: Files, device: str) -> str:
    """The folder of the device whose link reaches the slot: the topmost of the same card's own bridges.

    `device`: a folder of sysfs, which may be a link.
    """
    path = files.real(device)
    if path is None:
        return device
    while "/" in path and files.said(f"{path}/vendor") == _AMD:
        above = path.rpartition("/")[0]
        if files.said(f"{above}/vendor") != _AMD or files.said(f"{above}/current_link_width") is None:
            break
        path = above
    return path


def add_link(readings: Readings, own: str, files: Files, device: str) -> None:
    """A GPU's link as it is and as it could be, under the GPU's labels."""
    for name, suffix in (("current", ""), ("max", "_max")):
        width = files.number(f"{device}/{name}_link_width")
        readings.add(f"fleet_gpu_pcie_link_width{suffix}", own, width or None)
        speed = generation(files.said(f"{device}/{name}_link_speed"))
        readings.add(f"fleet_gpu_pcie_link_generation{suffix}", own, speed)


def generation(speed: str | None) -> int | None:
    """PCIe's generation of `16.0 GT/s PCIe`; None for `Unknown`."""
    return _GENERATIONS.get((speed or "").partition(" ")[0])
