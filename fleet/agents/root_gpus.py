"""Reset a GPU by its maker's own tool, as root; refused while any process has the GPU open.

nvidia-smi --gpu-reset -i ADDRESS             NVIDIA
amd-smi reset --gpureset --gpu ADDRESS        AMD
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.agents.root_verbs import Fields, Refusal, Root, Verb

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_TOOL_S = 90.0
# Where Debian and the makers' own installers put them; root's PATH is not asked.
_LETS_GO = "nvidia-persistenced"[:15]  # as /proc has it; the tool has it let go
_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/rocm/bin")


def address(value: object) -> str:
    """A field's check: a PCI address such as 0000:1b:00.0."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise Refusal("give a PCI address such as 0000:1b:00.0")
    return value


def vendor(value: object) -> str:
    """A field's check: whose GPU it is."""
    if value not in ("nvidia", "amd"):
        raise Refusal("give nvidia or amd: there is a tool for no other")
    return str(value)


def reset_gpu(root: Root, fields: Fields) -> Mapping[str, Any]:
    """Reset it. Refusal while it is in use, without the tool, or with the tool's own words."""
    at, maker = fields["pci_address"], fields["vendor"]
    if not root.at(f"/sys/bus/pci/devices/{at}").is_dir():
        raise Refusal(f"there is no device {at} on the bus: it fell off; reboot the node")
    if users := [each for each in holders(root, at) if each[1] != _LETS_GO]:
        names = ", ".join(f"{name} ({pid})" for pid, name in users)
        raise Refusal(f"it is in use by {names}: end that first")
    _run(root, _command(maker, at))
    return {"reset": at}


def _command(maker: str, at: str) -> tuple[str, ...]:
    if maker == "nvidia":
        return ("nvidia-smi", "--gpu-reset", "-i", at)
    return ("amd-smi", "reset", "--gpureset", "--gpu", at)


def _run(root: Root, command: tuple[str, ...]) -> None:
    places = (root.at(f"{folder}/{command[0]}") for folder in _FOLDERS)
    program = next((path for path in places if path.exists()), None)
    if program is None:
        raise Refusal(f"{command[0]} is not installed here")
    try:
        done = subprocess.run(
            (str(program), *command[1:]), capture_output=True, text=True, errors="replace", timeout=_TOOL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refusal(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-500:]
        raise Refusal(f"{command[0]} says: {said or f'exit status {done.returncode}'}")


def holders(root: Root, at: str) -> list[tuple[int, str]]:
    """The processes that have one of the GPU's own device nodes open, each with its name."""
    wanted = {_identity(path) for path in nodes(root, at)} - {None}
    if not wanted:
        return []
    proc = root.at("/proc")
    found = []
    for name in sorted(os.listdir(proc)):
        if name.isdigit() and any(_identity(link) in wanted for link in _open_files(proc / name)):
            found.append((int(name), _name(proc / name)))
    return found


def _open_files(process: Path) -> list[Path]:
    try:
        return [process / "fd" / each for each in os.listdir(process / "fd")]
    except OSError:  # gone
        return []


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "?"


def nodes(root: Root, at: str) -> list[Path]:
    """The GPU's own nodes in /dev: NVIDIA's by its minor number, else its render node."""
    found = [
        root.at(f"/dev/dri/{path.name}")
        for path in root.at(f"/sys/bus/pci/devices/{at}/drm").glob("renderD*")
    ]
    about = root.at(f"/proc/driver/nvidia/gpus/{at}/information")
    if about.exists() and (minor := re.search(r"Device Minor:\s*(\d+)", about.read_text())):
        found.append(root.at(f"/dev/nvidia{minor[1]}"))
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    """What a path is: a device by its number, anything else (in a test's machine) by its inode."""
    try:
        about = os.stat(path)
    except OSError:
        return None
    if stat.S_ISCHR(about.st_mode):
        return (0, about.st_rdev)
    return (about.st_dev + 1, about.st_ino)


VERBS: Mapping[str, Verb] = {
    "gpu.reset": Verb(reset_gpu, "gpus", {"pci_address": address, "vendor": vendor}),
}
