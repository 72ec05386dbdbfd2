"""`tinyfleet node doctor`: what this machine has as a node, what it lacks, and what to do about it."""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

from fleet.agents.doctor_probes import examine_probes
from fleet.agents.findings import Finding as Finding
from fleet.agents.inventory import cores, cpu_device, memory_bytes, probe_containers, probe_walls
from fleet.agents.posture_probes import examine_posture
from fleet.agents.protocol import DeviceReport

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
        *(wall_finding(wall) for wall in probe_walls(state)),
        _containers(),
        *examine_probes(_existing(state)),
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


def wall_finding(wall: dict[str, str]) -> Finding:
    """What there is to say of one wall round attempts."""
    if wall["state"] == "up":
        return Finding(f"wall {wall['name']}", "ok", wall["detail"])
    return Finding(f"wall {wall['name']}", "weak", f"{wall['state']}: {wall['detail']}", wall["fix"])


def _containers() -> Finding:
    """Tried in a folder of its own: a machine that is only looked at is left as it was."""
    with tempfile.TemporaryDirectory() as state:
        found = probe_containers(Path(state))
    if found["works"]:
        return Finding("containers", "ok", "podman runs them, for commands that ask for an image")
    fix = "for commands in containers: apt-get install podman crun catatonit"
    return Finding("containers", "weak", found["detail"], fix)


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
