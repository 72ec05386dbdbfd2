"""The GPUs of this machine as devices that jobs can ask for: `python -m fleet.agents.gpu_devices` prints them as JSON.

In a process of its own: a vendor's library that hangs or crashes costs the agent nothing. A GPU without a kernel driver is
a device too, for a driver in user space can have it; of it only the bus is known.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fleet.agents.probes.files import Files
from fleet.agents.probes.gpus import Gpu, look
from fleet.agents.probes.nvml import Session, Unavailable
from fleet.agents.protocol import DeviceReport


class Known(NamedTuple):
    """What a GPU says of itself, or its kernel driver of it."""

    number: str
    model: str
    arch: str
    memory_bytes: int


def devices(bus: Sequence[Gpu], known: Mapping[str, Known]) -> list[DeviceReport]:
    """A device for each GPU of the bus; `known` is by PCI address. Its name has the vendor's number, as jobs give it to
    the vendor's library."""
    found = []
    for gpu in bus:
        told = known.get(gpu.pci_address, Known(gpu.gpu, "", "", 0))
        found.append(
            DeviceReport(
                name=f"gpu{told.number}",
                kind="gpu",
                model=told.model[:200] or f"{gpu.vendor} GPU at {gpu.pci_address}",
                arch=told.arch[:400],
                memory_bytes=told.memory_bytes,
                vendor=gpu.vendor,
                driver=gpu.driver or gpu.state,
            )
        )
    names = {device.name for device in found}
    if len(names) < len(found):  # two vendors number from 0: then the bus's order counts
        found = [device.model_copy(update={"name": f"gpu{number}"}) for number, device in enumerate(found)]
    return found


def nvidia(session: Session) -> dict[str, Known]:
    """What NVML says of each GPU, by PCI address; nothing where there is no NVML."""
    found: dict[str, Known] = {}
    try:
        for index, part in enumerate(session.look()):
            device = session.devices[part]
            memory = session.ask("nvmlDeviceGetMemoryInfo", device.handle)
            version = session.ask("nvmlDeviceGetCudaComputeCapability", device.handle)
            name: Any = session.ask("nvmlDeviceGetName", device.handle) or ""
            found[device.pci_address] = Known(
                str(index),
                name.decode(errors="replace") if isinstance(name, bytes) else str(name),
                f"sm_{version[0]}{version[1]}" if version else "",
                int(memory.total) if memory is not None else 0,
            )
    except (Unavailable, OSError):
        return found
    return found


def amd(root: Path, bus: Sequence[Gpu]) -> dict[str, Known]:
    """What amdgpu says in sysfs: memory by PCI address, the architecture by KFD's topology."""
    versions = _gfx_versions(root / "sys/class/kfd/kfd/topology/nodes")
    found = {}
    for number, gpu in enumerate(each for each in bus if each.driver == "amdgpu"):
        device = root / "sys/bus/pci/devices" / gpu.pci_address
        memory = _number(device / "mem_info_vram_total")
        domain, bus_number, rest = gpu.pci_address.split(":")
        slot, function = rest.split(".")
        location = int(bus_number, 16) << 8 | int(slot, 16) << 3 | int(function, 16)
        found[gpu.pci_address] = Known(str(number), "", versions.get((int(domain, 16), location), ""), memory)
    return found


def _gfx_versions(nodes: Path) -> dict[tuple[int, int], str]:
    """By (PCI domain, location): gfx and the version in hex digits, as the compilers write it."""
    found = {}
    for node in sorted(nodes.iterdir()) if nodes.is_dir() else ():
        try:
            lines = (node / "properties").read_text().splitlines()
        except OSError:
            continue
        said = dict(line.split(maxsplit=1) for line in lines if " " in line)
        version = int(said.get("gfx_target_version", 0))
        if version:
            major, minor, step = version // 10_000, version // 100 % 100, version % 100
            where = int(said.get("domain", 0)), int(said.get("location_id", 0))
            found[where] = f"gfx{major}{minor:x}{step:x}"
    return found


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def here(root: Path = Path("/")) -> list[DeviceReport]:
    """The GPUs of this machine."""
    return devices(*_seen(root))


def addresses(root: Path = Path("/")) -> dict[str, dict[str, str]]:
    """Where each of them is on the bus, by its name: {"vendor", "pci_address"}."""
    bus, known = _seen(root)
    return {
        device.name: {"vendor": gpu.vendor, "pci_address": gpu.pci_address}
        for device, gpu in zip(devices(bus, known), bus, strict=True)
    }


def _seen(root: Path) -> tuple[Sequence[Gpu], dict[str, Known]]:
    bus = look(Files(root))
    known = amd(root, bus)
    if any(gpu.driver == "nvidia" for gpu in bus):
        known |= nvidia(Session())
    return bus, known


if __name__ == "__main__":
    if "--addresses" in sys.argv[1:]:
        print(json.dumps(addresses()))
    else:
        print(json.dumps([device.model_dump(mode="json") for device in here()]))
