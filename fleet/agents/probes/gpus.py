"""GPUs as the PCI bus shows them, with or without a driver: which are there, and who has them.

A GPU whose kernel driver is not loaded is silent to every vendor's tool, and works all the same under a driver that is a
user's process. Silence is therefore a state here, not a zero.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, labels

State = Literal["kernel", "userspace", "none"]
STATES: tuple[State, ...] = ("kernel", "userspace", "none")
_VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
_CLASSES = ("0x0300", "0x0302", "0x0380", "0x1200")  # VGA, 3D, other displays, accelerators
_KERNEL = frozenset({"nvidia", "amdgpu", "nouveau", "radeon"})
ANSWERING = frozenset({"nvidia", "amdgpu"})  # kernel drivers through which a GPU can be asked
_PASSED_ON = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio"})


class Gpu(NamedTuple):
    """One GPU of the bus, numbered in the bus's order."""

    gpu: str
    pci_address: str
    vendor: str
    driver: str
    state: State


class Gpus:
    """Cheap but for the search for user-space drivers, which looks at every process when a GPU has no driver."""

    name, interval_s, timeout_s, disturbs = "gpus", 10.0, 5.0, False

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._most = 0
        self.found: tuple[Gpu, ...] = ()

    def parts(self) -> Sequence[str]:
        """The bus."""
        return ("pci",)

    def read(self, part: str) -> list[Sample]:
        """Which GPUs are there, in which state; `found` has them too."""
        self.found = look(Files(self._root))
        self._most = max(self._most, len(self.found))
        readings = Readings()
        # One that a user's process drives is there, and not expected to answer.
        elsewhere = sum(gpu.state == "userspace" for gpu in self.found)
        readings.add("fleet_gpus_expected", "", self._most - elsewhere)
        return readings.samples


def states(found: Sequence[Gpu], known: Mapping[str, str]) -> list[Sample]:
    """The driver's state of each; `known` has the labels of those that have said who they are, by PCI address."""
    readings = Readings()
    for gpu in found:
        own = known.get(gpu.pci_address) or labels(gpu=gpu.gpu, uuid="")
        readings.state("fleet_gpu_driver_state", own, "state", STATES, gpu.state)
    return readings.samples


def look(files: Files) -> tuple[Gpu, ...]:
    """The GPUs of the bus."""
    found: list[Gpu] = []
    for address in files.names("sys/bus/pci/devices"):
        device = f"sys/bus/pci/devices/{address}"
        vendor = _VENDORS.get(files.said(f"{device}/vendor") or "")
        if vendor is None or not (files.said(f"{device}/class") or "").startswith(_CLASSES):
            continue
        driver = files.target(f"{device}/driver") or ""
        found.append(Gpu(str(len(found)), address, vendor, driver, _state(files, address, driver)))
    files.close()
    return tuple(found)


def _state(files: Files, address: str, driver: str) -> State:
    if driver in _KERNEL:
        return "kernel"
    if driver in _PASSED_ON or _mapped(files.root, address):
        return "userspace"
    return "none"


def _mapped(root: Path, address: str) -> bool:
    """Whether a process has the device's memory mapped, as far as this user may see."""
    wanted = re.compile(rf"/{re.escape(address)}/resource\d")
    for pid in os.listdir(root / "proc") if (root / "proc").is_dir() else ():
        if pid.isdigit():
            try:
                if wanted.search((root / "proc" / pid / "maps").read_text(errors="replace")):
                    return True
            except OSError:  # gone, or another user's
                continue
    return False
