"""A machine made of files: the sysfs and procfs of boxes that are not here, as their drivers would fill them."""

from __future__ import annotations

import struct
from pathlib import Path

NAVI = {
    "vendor": "0x1002",
    "class": "0x030000",
    "device": "0x744c",
    "unique_id": "5a3c7b21d94e{index:04x}",
    "gpu_busy_percent": "97",
    "mem_info_vram_total": "25753026560",
    "mem_info_vram_used": "8908738560",
    "pcie_replay_count": "3",
    "current_link_width": "16",
    "max_link_width": "16",
    "current_link_speed": "16.0 GT/s PCIe",
    "max_link_speed": "16.0 GT/s PCIe",
    "aer_dev_correctable": "RxErr 2\nBadTLP 0\nTimeout 5\nTOTAL_ERR_COR 7",
    "aer_dev_nonfatal": "Undefined 0\nTOTAL_ERR_NONFATAL 0",
    "aer_dev_fatal": "Undefined 0\nTOTAL_ERR_FATAL 0",
    "hwmon/hwmon{index}/name": "amdgpu",
    "hwmon/hwmon{index}/power1_average": "155000000",
    "hwmon/hwmon{index}/power1_cap": "300000000",
    "hwmon/hwmon{index}/temp1_input": "50000",
    "hwmon/hwmon{index}/temp1_label": "edge",
    "hwmon/hwmon{index}/temp2_input": "71000",
    "hwmon/hwmon{index}/temp2_label": "junction",
    "hwmon/hwmon{index}/temp3_input": "74000",
    "hwmon/hwmon{index}/temp3_label": "mem",
    "hwmon/hwmon{index}/freq1_input": "2996000000",
    "hwmon/hwmon{index}/freq2_input": "1258000000",
    "hwmon/hwmon{index}/fan1_input": "1755",
    "hwmon/hwmon{index}/fan1_max": "3500",
}


def write(root: Path, files: dict[str, str | bytes]) -> None:
    """Files below a root, with a new line at their end as the kernel has it."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())


def radeon(root: Path, index: int, **changed: str | bytes) -> Path:
    """One Radeon behind its own switch; a file whose name (dots for slashes) is `changed` to "" is left out."""
    address = f"0000:{0x03 + 0x20 * index:02x}:00.0"
    upper = f"0000:{0x01 + 0x20 * index:02x}:00.0"
    card = root / "sys/devices/pci0000:00" / f"0000:00:{index + 1:02x}.1" / upper / address
    files: dict[str, str | bytes] = {"gpu_metrics": metrics_13()}
    files |= {name.format(index=index): text.format(index=index) for name, text in NAVI.items()}
    for name, content in changed.items():
        files[name.replace("__", "/")] = content
    write(card, {name: content for name, content in files.items() if content != ""})
    write(
        card.parent,
        {"vendor": "0x1002", "class": "0x060400", "current_link_width": "8", "max_link_width": "16"},
    )
    write(card.parent, {"current_link_speed": "8.0 GT/s PCIe", "max_link_speed": "16.0 GT/s PCIe"})
    write(card.parent.parent, {"vendor": "0x1022", "class": "0x060400", "current_link_width": "16"})
    (card / "drm" / f"card{index}").mkdir(parents=True)
    (card / "drm" / f"renderD{128 + index}").mkdir()
    link(root / "sys/class/drm" / f"card{index}", card / "drm" / f"card{index}")
    link(card / "drm" / f"card{index}" / "device", card)
    link(root / "sys/bus/pci/devices" / address, card)
    driver = root / "sys/bus/pci/drivers/amdgpu"
    driver.mkdir(parents=True, exist_ok=True)
    link(card / "driver", driver)
    return card


def link(at: Path, to: Path) -> None:
    """A symbolic link, relative as those of sysfs."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(Path(*[".."] * len(at.parent.parts)).joinpath(*to.parts[1:]))


def metrics_13(power: int = 178, throttlers: int = 1 << 36, edge: int = 50) -> bytes:
    """Revision 1.3 as an RX 9060 XT filled it, HBM temperatures being not available there."""
    temperatures = (edge, 73, 74, 49, 45, 48)
    shorts = (*temperatures, 100, 38, 0xFFFF, power)
    body = struct.pack("<HBB10HQQ", 120, 1, 3, *shorts, (1 << 64) - 1, 174959833746794)
    body += struct.pack(
        "<14HI4HII4H",
        3018,
        0xFFFF,
        2517,
        *[25] * 4,
        3018,
        1371,
        1258,
        *[25] * 4,
        0,
        0xFFFF,
        16,
        160,
        0,
        0,
        0,
        *[0xFFFF] * 4,
    )
    return body + struct.pack("<Q4HQ", 0, 797, 894, 1351, 0, throttlers)


def host(root: Path, cpus: int = 2) -> None:
    """The /proc of a small machine."""
    lines = [
        f"cpu{n if n >= 0 else ''} 4705 150 1120 16250 520 0 17 3 0 0".replace("cpu ", "cpu  ")
        for n in range(-1, cpus)
    ]
    write(
        root,
        {
            "proc/stat": "\n".join([*lines, "intr 1", "btime 1764120000"]),
            "proc/meminfo": "MemTotal:       16308544 kB\nMemFree:  1 kB\nMemAvailable:   12000000 kB\nHugePages_Total:       0",
            "proc/loadavg": "0.42 0.30 0.20 1/234 5678",
            "proc/net/dev": "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 1000 10 0 0 0 0 0 0 2000 20 0 0 0 0 0 0\nveth1: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0",
            "proc/diskstats": " 259 0 nvme0n1 100 0 2048 5 200 0 4096 9 0 77 14 0 0 0 0\n 259 1 nvme0n1p1 1 0 8 0 0 0 0 0 0 0 0\n   7 0 loop0 1 0 8 0 0 0 0 0 0 0 0 0 0 0",
            "proc/pressure/io": "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=1",
        },
    )
