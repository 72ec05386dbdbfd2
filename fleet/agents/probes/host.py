"""The machine itself, from /proc: processors, memory, pressure, network, disks. No names of programs, no users."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fleet.agents.probes.files import Files
from fleet.agents.samples import Readings, Sample, labels

_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_TICKS = float(os.sysconf("SC_CLK_TCK"))
_SECTOR = 512  # what /proc/diskstats counts in, whatever the drive's own is
# Interfaces and devices that only repeat what others count, or that come and go with attempts.
_LEAVE_INTERFACES = re.compile(r"lo$|veth|docker|br-|virbr|cni|flannel|tap|tun")
_LEAVE_DISKS = re.compile(r"(loop|ram|zram|fd|sr|dm-)\d*|.*[a-z]\d+p\d+|[shv]d[a-z]+\d+")


class Host:
    """One part, which is in memory: nothing of it waits for a device but the filesystem of the state directory."""

    name, interval_s, timeout_s, disturbs = "host", 10.0, 5.0, False

    def __init__(self, root: Path = Path("/"), state: Path | None = None) -> None:
        self._files = Files(root)
        self._state = state

    def parts(self) -> Sequence[str]:
        """The host, and its filesystem, which may hang by itself."""
        return ("host",) if self._state is None else ("host", "filesystem")

    def read(self, part: str) -> list[Sample]:
        """What is so now."""
        if part == "filesystem":
            return self._filesystem()
        texts = {name: self._files.said(f"proc/{name}") or "" for name in _PARSERS}
        for resource in ("cpu", "memory", "io"):
            texts[f"pressure/{resource}"] = self._files.said(f"proc/pressure/{resource}") or ""
        return parse(texts)

    def _filesystem(self) -> list[Sample]:
        found, readings = os.statvfs(self._state or "/"), Readings()
        text = labels(mountpoint="state")
        readings.add("fleet_node_filesystem_size_bytes", text, found.f_blocks * found.f_frsize)
        readings.add("fleet_node_filesystem_available_bytes", text, found.f_bavail * found.f_frsize)
        return readings.samples


def parse(texts: dict[str, str]) -> list[Sample]:
    """Samples of the files of /proc by name; one that is not there is empty."""
    readings = Readings()
    for name, text in texts.items():
        if name.startswith("pressure/"):
            _pressure(readings, name.removeprefix("pressure/"), text)
        else:
            _PARSERS[name](readings, text)
    return readings.samples


def _stat(readings: Readings, text: str) -> None:
    cpus = 0
    for line in text.splitlines():
        words = line.split()
        if words[0] == "cpu":
            for mode, ticks in zip(_MODES, words[1:], strict=False):
                readings.add("fleet_node_cpu_seconds_total", labels(mode=mode), int(ticks) / _TICKS)
        elif words[0].startswith("cpu"):
            cpus += 1
        elif words[0] == "btime":
            readings.add("fleet_node_boot_timestamp_seconds", "", int(words[1]))
    readings.add("fleet_node_cpus", "", cpus or None)


def _meminfo(readings: Readings, text: str) -> None:
    values = {line.partition(":")[0]: line.split()[1] for line in text.splitlines() if ":" in line}
    for key, name in (("MemTotal", "total"), ("MemAvailable", "available")):
        if key in values:
            readings.add(f"fleet_node_memory_{name}_bytes", "", int(values[key]) * 1024)


def _loadavg(readings: Readings, text: str) -> None:
    if text:
        readings.add("fleet_node_load1", "", float(text.split()[0]))


def _network(readings: Readings, text: str) -> None:
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) >= 9 and not _LEAVE_INTERFACES.match(name.strip()):
            text = labels(interface=name.strip())
            readings.add("fleet_node_network_receive_bytes_total", text, int(words[0]))
            readings.add("fleet_node_network_transmit_bytes_total", text, int(words[8]))


def _diskstats(readings: Readings, text: str) -> None:
    for line in text.splitlines():
        words = line.split()
        if len(words) < 14 or _LEAVE_DISKS.fullmatch(words[2]):
            continue
        text = labels(device=words[2])
        readings.add("fleet_node_disk_read_bytes_total", text, int(words[5]) * _SECTOR)
        readings.add("fleet_node_disk_written_bytes_total", text, int(words[9]) * _SECTOR)


def _pressure(readings: Readings, resource: str, text: str) -> None:
    found = re.search(r"^some .*total=(\d+)", text, re.MULTILINE)
    if found:
        name = "fleet_node_pressure_stalled_seconds_total"
        readings.add(name, labels(resource=resource), int(found[1]), 1e-6)


_PARSERS = {
    "stat": _stat,
    "meminfo": _meminfo,
    "loadavg": _loadavg,
    "net/dev": _network,
    "diskstats": _diskstats,
}
