"""Which GPU an attempt sees is which device nodes it can open; and whether one is free again after an attempt."""

from __future__ import annotations

import ctypes
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

# Every CUDA process opens these beside its GPU's own node.
_NVIDIA_SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_SLACK_BYTES = 64 << 20


def nodes(number: int, devices: Path = Path("/dev")) -> list[Path]:
    """The device nodes of one GPU, those that are there: NVIDIA's by its minor number, AMD's by its render node."""
    wanted = [devices / f"nvidia{number}", *(devices / name for name in _NVIDIA_SHARED)]
    wanted += [devices / "kfd", devices / "dri" / f"renderD{128 + number}"]
    return [path for path in wanted if path.exists()]


def own_nodes(number: int, devices: Path = Path("/dev")) -> list[Path]:
    """Those of its nodes that no other GPU has."""
    wanted = (devices / f"nvidia{number}", devices / "dri" / f"renderD{128 + number}")
    return [path for path in wanted if path.exists()]


def present(devices: Path = Path("/dev")) -> list[int]:
    """Numbers of the NVIDIA GPUs that have a node here."""
    names = os.listdir(devices) if devices.is_dir() else []
    return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"nvidia(\d+)", name)))


def holders(paths: Iterable[Path]) -> list[int]:
    """Pids of the processes that have one of these device nodes open, as far as this user may see."""
    wanted = {(about.st_rdev, stat.S_IFMT(about.st_mode)) for about in map(os.stat, paths)}
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _holds(int(name), wanted)]


def _holds(pid: int, wanted: set[tuple[int, int]]) -> bool:
    try:
        opened = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # gone, or another user's
        return False
    for descriptor in opened:
        try:
            about = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if stat.S_ISCHR(about.st_mode) and (about.st_rdev, stat.S_IFMT(about.st_mode)) in wanted:
            return True
    return False


class _Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_uint64), ("free", ctypes.c_uint64), ("used", ctypes.c_uint64))


def used_bytes(number: int) -> int | None:
    """Memory in use on the NVIDIA GPU of this minor number, as its driver says; None where there is none to ask."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2():
        return None
    try:
        return _used(nvml, number)
    finally:
        nvml.nvmlShutdown()


def _used(nvml: ctypes.CDLL, number: int) -> int | None:
    count, minor, handle, memory = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_void_p(), _Memory()
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return None
    for index in range(count.value):
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        if nvml.nvmlDeviceGetMinorNumber(handle, ctypes.byref(minor)) or minor.value != number:
            continue
        return None if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) else int(memory.used)
    return None


@dataclass(frozen=True)
class Epilog:
    """What a GPU must pass after an attempt before the next one has it; a problem means quarantine."""

    number: int
    baseline_bytes: int | None = None
    known_answer: Callable[[int], bool] | None = None

    def problem(self) -> str:
        """What is wrong with it, in words; empty for nothing. Call it when the attempt's processes are dead."""
        held = holders(own_nodes(self.number))
        if held:
            return f"gpu{self.number} is held by processes {', '.join(map(str, held))}"
        used = used_bytes(self.number)
        if used is not None and self.baseline_bytes is not None and used > self.baseline_bytes + _SLACK_BYTES:
            return f"gpu{self.number} has {used} bytes in use, {self.baseline_bytes} before the attempt"
        if self.known_answer is not None and not self.known_answer(self.number):
            return f"gpu{self.number} gives a wrong answer to a known question"
        return ""


def memory_of_machine() -> int:
    """Bytes of memory here."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
