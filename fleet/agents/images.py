"""The images of a node, unpacked for its attempts: a folder for each, by the image's id, and those not used for longest go.

Which image a name means is asked anew for every attempt: a tag moves. The images are those of the agent's own user, as
`podman images` lists them for it; what is not there is pulled where the operator said so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.agents.containers import ABOUT, FILES
from fleet.agents.durable import write_json
from fleet.agents.starter import task_environment

IMAGES = "images"  # beside the attempts
_ID = re.compile(r"[0-9a-f]{12,64}")
_ASK_S = 60.0
_PULL_S = 3600.0


class NoImage(Exception):
    """The image cannot be had here; says why, and what to do."""


@dataclass(frozen=True)
class Images:
    """The images below the agent's state folder."""

    state: Path
    most_bytes: int
    pulls: bool = False

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.state / IMAGES

    def fetch(self, name: str, wanted: Collection[Path]) -> Path:
        """The folder of the image that `name` means now, unpacked if it was not; `wanted` are folders that stay. NoImage."""
        about = self._about(name)
        found = self.folder / str(about["Id"]).removeprefix("sha256:")
        if not _ID.fullmatch(found.name):
            raise NoImage(f"podman calls the image {name} {found.name[:80]!r}")
        if not (found / ABOUT).exists():
            self._unpack(name, found, about)
        os.utime(found)
        self._make_room({*wanted, found})
        return found

    def _about(self, name: str) -> dict[str, Any]:
        known = _podman(["image", "inspect", name], _ASK_S)
        if known.returncode and self.pulls:
            pulled = _podman(["pull", "--quiet", name], _PULL_S)
            if pulled.returncode:
                raise NoImage(f"image {name} cannot be pulled: {_last(pulled.stderr)}")
            known = _podman(["image", "inspect", name], _ASK_S)
        if known.returncode:
            raise NoImage(
                f"image {name} is not on this node ({_last(known.stderr)}): its operator brings it there with podman pull or "
                "podman load, as the agent's user, or starts the agent with --pull-images"
            )
        found: list[dict[str, Any]] = json.loads(known.stdout)
        return found[0]

    def _unpack(self, name: str, place: Path, about: dict[str, Any]) -> None:
        self.folder.mkdir(mode=0o711, exist_ok=True)
        self.folder.chmod(0o711)
        for broken in self.folder.glob(".*"):  # of an agent that ended meanwhile; this thread alone unpacks
            shutil.rmtree(broken, ignore_errors=True)
        new = self.folder / f".{place.name[:12]}-{uuid.uuid4().hex[:8]}"
        (new / FILES).mkdir(parents=True)
        new.chmod(0o755)
        (new / FILES).chmod(0o755)
        try:
            self._export(name, place.name, new / FILES)
            env = (about.get("Config") or {}).get("Env") or []
            write_json(new / ABOUT, {"name": name, "env": env, "bytes": size_of(new)}, mode=0o644)
            new.rename(place)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _export(self, name: str, image: str, files: Path) -> None:
        """Through a container that never runs: what podman would show a container of the image, whatever its layers."""
        container = f"tinyfleet-{uuid.uuid4().hex[:12]}"
        made = _podman(
            ["create", "--pull", "never", "--name", container, "--network", "none", image, "none"], _ASK_S
        )
        if made.returncode:
            raise NoImage(f"image {name} cannot be opened: {_last(made.stderr)}")
        try:
            self._pour(name, container, files)
        finally:
            _podman(["rm", "--force", container], _ASK_S)

    def _pour(self, name: str, container: str, files: Path) -> None:
        unpack = [sys.executable, "-P", "-m", "fleet.agents.unpacking", str(files), str(self.most_bytes)]
        environ = task_environment()
        with subprocess.Popen(
            ["podman", "export", container],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            start_new_session=True,
        ) as export:
            done = subprocess.run(
                [*unpack, str(self.state)],
                stdin=export.stdout,
                stderr=subprocess.PIPE,
                env=environ,
                check=False,
                timeout=_PULL_S,
            )
            assert export.stdout is not None
            export.stdout.close()
            if done.returncode:  # podman's parts wait for each other when nobody reads
                os.killpg(export.pid, signal.SIGKILL)
        if done.returncode or export.returncode:
            why = _last(done.stderr.decode(errors="replace")) or f"podman export: {export.returncode}"
            raise NoImage(f"image {name} cannot be unpacked: {why}")

    def _make_room(self, wanted: Collection[Path]) -> None:
        """Let those go that were used longest ago, until the rest has room."""
        kept = sorted(self.folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
        taken = 0
        for path in kept:
            taken += json.loads((path / ABOUT).read_bytes())["bytes"]
            if taken > self.most_bytes and path not in wanted:
                gone = path.with_name(f".{path.name}")
                path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of the plain files below."""
    return sum(
        os.lstat(os.path.join(where, name)).st_size for where, _, names in os.walk(folder) for name in names
    )


def _podman(arguments: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """NoImage when it cannot be run, or not to its end."""
    try:
        return subprocess.run(
            ["podman", *arguments],
            env=task_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NoImage(f"podman {arguments[0]} took longer than {timeout_s:g} s") from error
    except OSError as error:
        raise NoImage(f"podman cannot be run: {error.strerror}") from error


def _last(said: str) -> str:
    """The last line of what a program said."""
    return next((line for line in reversed(said.splitlines()) if line.strip()), "")[-400:]
