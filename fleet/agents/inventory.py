"""What this node has: from /proc, and from the engine's own description of its devices, asked for in a child."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from fleet.agents.protocol import DeviceReport, Inventory, WallReport, canonical_hash
from fleet.agents.starter import task_environment
from fleet.agents.updates import updatable

log = logging.getLogger(__name__)
_PROBE_S = 60.0
CONTAINERS = "containers"  # a feature, as commands ask for it


def inventory(state: Path, walls: str = "all", network: bool = False, containers: bool = False) -> Inventory:
    """Look at this machine. Takes about a second: the engine and the walls are tried in processes of their own.

    `network`: commands that ask for it may have it. `containers`: it is tried whether they run.
    """
    stand = probe_walls(state, walls)
    return Inventory(
        hostname=socket.gethostname()[:253],
        agent_version=metadata.version("tinyfleet"),
        cores=cores(),
        memory_bytes=memory_bytes(Path("/proc/meminfo").read_text()),
        os=_os_name()[:200],
        devices=[cpu_device(), *gpu_devices()],
        walls=[
            WallReport(name=wall["name"], state=wall["state"], detail=wall["detail"][:400]) for wall in stand
        ],
        features=[
            *([CONTAINERS] if containers and probe_containers(state, walls)["works"] else []),
            *(["network"] if network and _can_lend_network(stand) else []),
        ],
        updatable=updatable(),
    )


def _can_lend_network(stand: list[dict[str, str]]) -> bool:
    """An attempt goes back into the machine's network from one of its own: that takes root, unless it never left."""
    left = any(wall["name"] == "namespaces" and wall["state"] in ("up", "partial") for wall in stand)
    return os.geteuid() == 0 or not left


def probe_walls(state: Path, walls: str = "all") -> list[dict[str, str]]:
    """The walls that stand here, each {name, state, detail, fix}. None can be said to when the trial itself fails.

    They are tried by forking, which only a process of one thread may do.
    """
    command = [sys.executable, "-m", "fleet.agents.walls", "--state", str(state), "--walls", walls]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_S, env=task_environment(), check=True
        )
        found: list[dict[str, str]] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()[-300:]
        return [{"name": "all", "state": "missing", "detail": f"they could not be tried: {said}", "fix": ""}]
    return found


def probe_containers(state: Path, walls: str = "all") -> dict[str, Any]:
    """Whether a container runs here, by running one: {works, detail}. In a process of its own, as the walls are tried."""
    if shutil.which("podman") is None:
        return {"works": False, "detail": "there is no podman"}
    command = [sys.executable, "-m", "fleet.agents.container_trial", "--state", str(state), "--walls", walls]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_S, env=task_environment(), check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()[-300:]
        found = {"works": False, "detail": f"it could not be tried: {said}"}
    if not found["works"]:
        log.warning("containers do not run here: %s", found["detail"])
    return found


def gpu_devices(
    command: tuple[str, ...] = (sys.executable, "-m", "fleet.agents.gpu_devices"),
) -> list[DeviceReport]:
    """The GPUs; none where they cannot be asked for: a node is worth having for its CPU."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PROBE_S, env=task_environment(), check=True
        )
        return [DeviceReport.model_validate(each) for each in json.loads(done.stdout)]
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip()[-300:]
        log.warning("the GPUs could not be looked at: %s", said)
        return []


def cpu_device() -> DeviceReport:
    """The device that every node has. `problem` says why nothing can be compiled for it, when that is so."""
    model = cpu_model(Path("/proc/cpuinfo").read_text())
    try:
        target = probe_target()
    except ProbeFailed as failure:
        return _device(model, platform.machine(), {}, str(failure)[:2000])
    return _device(model, str(target["arch"]), target, "")


def _device(model: str, arch: str, target: dict[str, Any], problem: str) -> DeviceReport:
    return DeviceReport(
        name="cpu",
        kind="cpu",
        model=model[:200],
        arch=arch[:400],
        target_id=canonical_hash(target) if target else None,
        target=target,
        slots=cores(),
        memory_bytes=memory_bytes(Path("/proc/meminfo").read_text()),
        problem=problem,
    )


class ProbeFailed(Exception):
    """The engine could not describe a device; the message holds what it printed."""


def probe_target(
    command: tuple[str, ...] = (sys.executable, "-m", "engine", "target", "--json"),
) -> dict[str, Any]:
    """The engine's description of the CPU and its compiler."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_S,
            env=task_environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed(f"the engine did not describe the CPU within {_PROBE_S:g} s") from error
    if done.returncode != 0:
        raise ProbeFailed((done.stderr or done.stdout).strip()[-1900:] or f"exit status {done.returncode}")
    try:
        target = json.loads(done.stdout)
    except ValueError as error:
        raise ProbeFailed(
            f"the engine's description of the CPU is not JSON: {done.stdout[:500]!r}"
        ) from error
    if not isinstance(target, dict) or "arch" not in target:
        raise ProbeFailed(f"the engine's description of the CPU has no arch: {done.stdout[:500]!r}")
    _check_id(target)
    return target


def _check_id(target: dict[str, Any]) -> None:
    """Results are filed under the engine's id of a target, and looked up under ours."""
    claimed = target.pop("id", None)
    if claimed is not None and claimed != canonical_hash(target):
        raise ProbeFailed(f"the engine calls this target {claimed}, the protocol {canonical_hash(target)}")


def cores() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_model(cpuinfo: str) -> str:
    """The processor's name as /proc/cpuinfo has it; ARM machines have none there."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.machine()


def memory_bytes(meminfo: str) -> int:
    """All of the machine's memory."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _os_name() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        name = "Linux"
    return f"{name}, {platform.release()}"
