"""Which GPU an attempt sees is which device nodes it can open; and whether one is free again after an attempt."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.agents.walls import known_answer, nvml

Answer = dict[str, Any]

# Every CUDA process opens these beside its GPU's own node.
_NVIDIA_SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
_SLACK_BYTES = 64 << 20
_ANSWER_S = 30.0  # a first context on a GPU whose driver just came up takes seconds
_UNKILLABLE_S = 2.0


def nodes(number: int, devices: Path = Path("/dev")) -> list[Path]:
    """The device nodes of one GPU, those that are there: NVIDIA's by its minor number, AMD's by its render node."""
    wanted = [devices / f"nvidia{number}", *(devices / name for name in _NVIDIA_SHARED)]
    wanted += [devices / "kfd", devices / "dri" / f"renderD{128 + number}"]
    return [path for path in wanted if path.exists()]


def own_nodes(number: int, devices: Path = Path("/dev")) -> list[Path]:
    """Those of its nodes that no other GPU has."""
    wanted = (devices / f"nvidia{number}", devices / "dri" / f"renderD{128 + number}")
    return [path for path in wanted if path.exists()]


def pci_address(number: int, root: Path = Path("/proc/driver/nvidia/gpus")) -> str:
    """Where the NVIDIA GPU of this minor number sits, "0000:9b:00.0"; empty when its driver does not say."""
    for place in sorted(root.glob("*")):
        with contextlib.suppress(OSError):
            if re.search(rf"^Device Minor:\s*{number}\s*$", (place / "information").read_text(), re.M):
                return place.name
    return ""


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


def examine(number: int) -> Answer:
    """What the GPU's driver says of it, and whether it still computes; in a process that ends afterwards."""
    return {"used": nvml.used_bytes(number), "problem": known_answer.problem(number)}


def used_bytes(number: int) -> int | None:
    """Memory in use on it, asked in a child; None where there is no driver to ask, or it does not say."""
    used = asked(lambda: {"used": nvml.used_bytes(number)}).get("used")
    return used if isinstance(used, int) else None


def asked(question: Callable[[], Answer], within_s: float = _ANSWER_S) -> Answer:
    """What the question returns in a child of this process, or {"problem"}: a driver that hangs takes only the child.

    For a process of one thread. A child that not even SIGKILL ends (it waits inside the driver) is left behind.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, json.dumps(question()).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        said = _read_until(read, time.monotonic() + within_s)
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
    ended = _reaped(pid, time.monotonic() + _UNKILLABLE_S)
    if said is None or not ended:
        state = "" if ended else ", and SIGKILL does not end the process that asks"
        return {"problem": f"no answer within {within_s:g} s{state}"}
    try:
        return dict(json.loads(said))
    except ValueError:
        return {"problem": "the process that asked it crashed"}


def _read_until(descriptor: int, give_up: float) -> bytes | None:
    """All that comes before the end of the pipe; None when time runs out before it."""
    said = b""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN | select.POLLHUP)
    while (left := give_up - time.monotonic()) > 0:
        if ready.poll(left * 1000):
            piece = os.read(descriptor, 65536)
            if not piece:
                return said
            said += piece
    return None


def _reaped(pid: int, give_up: float) -> bool:
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.005)
    return True


@dataclass(frozen=True)
class Epilog:
    """What a GPU must pass after an attempt before the next one has it; a problem means quarantine."""

    number: int
    baseline_bytes: int | None = None
    question: Callable[[int], Answer] = examine
    within_s: float = _ANSWER_S
    spared: Callable[[], frozenset[int]] = frozenset  # pids that may hold it: who measures it
    devices: Path = Path("/dev")

    def problem(self) -> str:
        """What is wrong with it, in words; empty for nothing. Call it when the attempt's processes are dead."""
        spared = self.spared()
        held = [pid for pid in holders(own_nodes(self.number, self.devices)) if pid not in spared]
        if held:
            return f"gpu{self.number} is held by processes {', '.join(map(str, held))}"
        found = asked(lambda: self.question(self.number), self.within_s)
        if found.get("problem"):
            return f"gpu{self.number}: {found['problem']}"
        used = found.get("used")
        if (
            isinstance(used, int)
            and self.baseline_bytes is not None
            and used > self.baseline_bytes + _SLACK_BYTES
        ):
            return f"gpu{self.number} has {used} bytes in use, {self.baseline_bytes} before the attempt"
        return ""


def memory_of_machine() -> int:
    """Bytes of memory here."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
