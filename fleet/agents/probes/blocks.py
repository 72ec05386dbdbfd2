"""Drives and arrays as sysfs has them: who they are, how wide their link is, how busy they are. Asks no drive anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, joined, labels

VIRTUAL = "virtio"  # a virtual machine's, which has no health of its own
_NVME = re.compile(r"(nvme\d+)n\d+")
_DISK = re.compile(r"[sv]d[a-z]+|(nvme\d+)n\d+")
_TRANSPORTS = {"s": "sata", "v": VIRTUAL}
_SECTOR = 512
_IO_TICKS = 9  # field of /sys/block/*/stat: milliseconds with requests in flight


class Drive(NamedTuple):
    """One drive, known by its serial: `nvmeN` moves between boots. `device`: for NVMe the controller."""

    device: str
    block: str
    serial: str
    labels: str
    product: str
    firmware: str
    vendor: str
    transport: str
    role: str


class Blocks:
    """One part."""

    name, interval_s, timeout_s, disturbs = "blocks", 10.0, 5.0, False

    def __init__(self, root: Path = Path("/")) -> None:
        self._files = Files(root)

    def parts(self) -> Sequence[str]:
        """The folder of all block devices, if there is a drive or an array in it."""
        names = self._files.names("sys/block")
        return ("sysfs",) if any(_DISK.fullmatch(name) or name.startswith("md") for name in names) else ()

    def read(self, part: str) -> list[Sample]:
        """All drives and arrays."""
        readings = Readings()
        for drive in drives(self._files):
            _drive(readings, self._files, drive)
        for name in self._files.names("sys/block"):
            missing = self._files.number(f"sys/block/{name}/md/degraded")
            if missing is not None:
                readings.add("fleet_raid_array_up", labels(array=name), int(missing == 0))
        return readings.samples


def _drive(readings: Readings, files: Files, drive: Drive) -> None:
    own = drive.labels
    about = joined(
        own,
        vendor=drive.vendor,
        product=drive.product,
        firmware=drive.firmware,
        transport=drive.transport,
        role=drive.role,
    )
    readings.add("fleet_drive_info", about, 1)
    sectors = files.number(f"sys/block/{drive.block}/size")
    readings.add("fleet_drive_capacity_bytes", own, sectors, _SECTOR)
    width = files.number(f"sys/class/nvme/{drive.device}/device/current_link_width")
    readings.add("fleet_drive_link_width", own, width or None)
    counters = (files.said(f"sys/block/{drive.block}/stat") or "").split()
    if len(counters) > _IO_TICKS:
        readings.add("fleet_drive_io_time_seconds_total", own, int(counters[_IO_TICKS]), 1e-3)


def drives(files: Files) -> list[Drive]:
    """All drives; of the namespaces of one NVMe controller the first stands for it."""
    found: dict[str, Drive] = {}
    mounts, raids = _mounted(files), _members(files)
    for block in files.names("sys/block"):
        if not _DISK.fullmatch(block):
            continue
        nvme = _NVME.fullmatch(block)
        device = nvme[1] if nvme else block
        if device not in found:
            found[device] = _look(files, device, block, bool(nvme), _role(block, mounts, raids))
    return list(found.values())


def _look(files: Files, device: str, block: str, nvme: bool, role: str) -> Drive:
    folder = f"sys/class/nvme/{device}" if nvme else f"sys/block/{block}/device"
    serial = files.said(f"{folder}/serial") or files.said(f"sys/block/{block}/wwid") or ""
    firmware = files.said(f"{folder}/firmware_rev") or files.said(f"{folder}/rev") or ""
    return Drive(
        device=device,
        block=block,
        serial=serial,
        labels=labels(device=device, serial=serial),
        product=files.said(f"{folder}/model") or "",
        firmware=firmware,
        vendor=files.said(f"{folder}/vendor") or "",
        transport=(files.said(f"{folder}/transport") or "pcie") if nvme else _TRANSPORTS[block[0]],
        role=role,
    )


def _mounted(files: Files) -> dict[str, str]:
    """Where each block device, or part of one, is mounted."""
    lines = (files.said("proc/self/mounts") or files.said("proc/mounts") or "").splitlines()
    pairs = [line.split()[:2] for line in lines if line.startswith("/dev/")]
    return {device.removeprefix("/dev/"): place for device, place in pairs}


def _members(files: Files) -> set[str]:
    return {
        member
        for name in files.names("sys/block")
        if name.startswith("md")
        for member in files.names(f"sys/block/{name}/slaves")
    }


def _role(block: str, mounts: dict[str, str], raids: set[str]) -> str:
    """system, data, raid or unused."""
    part = re.compile(rf"{block}(p?\d+)?")
    places = {place for device, place in mounts.items() if part.fullmatch(device)}
    if places & {"/", "/boot", "/boot/efi", "/usr", "/var"}:
        return "system"
    if any(part.fullmatch(member) for member in raids):
        return "raid"
    return "data" if places else "unused"
