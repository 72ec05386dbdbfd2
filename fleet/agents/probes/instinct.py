"""AMD's Instinct accelerators: amdsmi, else amd-smi, for what sysfs does not have of them. Radeons need neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.agents.probes import amd_smi, amdsmi
from fleet.agents.probes.amdgpu import cards
from fleet.agents.probes.commands import Failed, Run, run
from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, joined, labels


class Instinct:
    """One part for all: either tool tells of all at once, in a child."""

    name, interval_s, timeout_s, disturbs = "instinct", 60.0, 65.0, True

    def __init__(self, root: Path = Path("/"), command: Run = run) -> None:
        self._root = root
        self._run = command

    def parts(self) -> Sequence[str]:
        """All, if there is one."""
        return ("all",) if amd_smi.accelerators(self._root) else ()

    def read(self, part: str) -> list[Sample]:
        """What the better of the tools says. Raises Failed."""
        try:
            source, documents = "amdsmi", amdsmi.read(self._run)
        except Failed:
            source, documents = "amd-smi", amd_smi.read(self._run)
        known = {card.pci_address: card.labels for card in cards(Files(self._root)).values()}
        return [sample for each in documents for sample in _gpu(each, known, source)]


def _gpu(document: Mapping[str, Any], known: Mapping[str, str], source: str) -> list[Sample]:
    """A GPU's samples; one that sysfs shows too has its labels from there, and only what is more."""
    address = str(document.get("bdf") or "").lower()
    found = amd_smi.facts(document)
    if address in known:
        return amd_smi.samples(known[address], found)
    own = labels(gpu=str(document.get("gpu", "")), uuid=str(document.get("uuid") or address))
    readings = Readings()
    about = {
        "vendor": "amd",
        "product": "Instinct",
        "pci_address": address,
        "serial": "",
        "driver_version": "",
    }
    readings.add("fleet_gpu_info", joined(own, **about, source=source), 1)
    return readings.samples + amd_smi.samples(own, found)
