"""`tinyfleet node doctor`: what this machine has as a node, what it lacks, and what to do about it."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from pathlib import Path

from fleet.agents.findings import Finding as Finding
from fleet.agents.inventory import cores, cpu_device, memory_bytes
from fleet.agents.posture_probes import examine_posture
from fleet.agents.protocol import DeviceReport

_LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
_LANDLOCK_VERSION = 1
_ENOUGH_DISK = 5 << 30
_ENOUGH_SHM = 64 << 20


def examine(state: Path) -> list[Finding]:
    """Everything there is to say about this machine; `state` is where the agent would keep its files."""
    return [
        device_finding(cpu_device()),
        _compiler(),
        _python(),
        _memory(),
        _disk("disk", _existing(state), _ENOUGH_DISK, "free some space or choose another --state"),
        _disk("/dev/shm", Path("/dev/shm"), _ENOUGH_SHM, "mount a tmpfs there"),
        _cgroup(Path("/sys/fs/cgroup")),
        _landlock(),
        *examine_posture(state),
    ]


def usable(findings: list[Finding]) -> bool:
    """Whether the node has a device on which anything can run."""
    return all(finding.verdict != "missing" for finding in findings)


def device_finding(device: DeviceReport) -> Finding:
    """What there is to say of the CPU."""
    if device.problem:
        return Finding("device cpu", "missing", device.problem, "see the message; reinstall if it is no help")
    return Finding("device cpu", "ok", f"{device.model}, {device.slots} slots, {device.arch}")


def _compiler() -> Finding:
    """LLVM compiles kernels; the pool that shares them among threads is C, and Python's threads stand in for it."""
    found = [path for path in (shutil.which("clang"), shutil.which("gcc")) if path]
    if not found:
        slower = "neither clang nor gcc: kernels on several threads are slower"
        return Finding("compiler", "weak", slower, "apt-get install clang, or your system's like")
    return Finding("compiler", "ok", ", ".join(found))


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()}, {cores()} cores usable")


def _memory() -> Finding:
    return Finding("memory", "ok", _size(memory_bytes(Path("/proc/meminfo").read_text())))


def _disk(subject: str, path: Path, enough: int, fix: str) -> Finding:
    if not path.is_dir():
        return Finding(subject, "weak", f"{path} is not there", fix)
    free = shutil.disk_usage(path).free
    found = f"{_size(free)} free at {path}"
    return Finding(subject, "ok", found) if free >= enough else Finding(subject, "weak", found, fix)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _cgroup(root: Path) -> Finding:
    if (root / "cgroup.controllers").exists():
        return Finding("cgroup", "ok", f"version 2 at {root}")
    if (root / "unified" / "cgroup.controllers").exists():
        return Finding("cgroup", "weak", "hybrid: version 2 without controllers", _UNIFIED)
    return Finding("cgroup", "weak", "version 1 or none", _UNIFIED)


_UNIFIED = "boot with systemd.unified_cgroup_hierarchy=1; without it memory limits cannot be set for attempts"


def _landlock() -> Finding:
    version = landlock_abi()
    if version < 1:
        return Finding("landlock", "weak", "not in this kernel", "a kernel from 5.13 on, with lsm=landlock")
    return Finding("landlock", "ok", f"ABI {version}")


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 where there is none."""
    if os.uname().sysname != "Linux":
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION)
    )
    return max(0, int(version))


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
