"""An image of busybox and nothing else, in a store of its own, and the environment in which podman sees it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.parts import missing, need

NAME = "localhost/tinyfleet/busybox:1"
_APPLETS = (
    "cat",
    "chmod",
    "cut",
    "date",
    "dd",
    "env",
    "grep",
    "head",
    "id",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "ps",
)
_MORE = ("sh", "sleep", "test", "touch", "true", "wc", "mount", "unshare", "setsid", "nohup")


def environment(folder: Path) -> dict[str, str]:
    """What tells podman to look for images below this folder."""
    conf = folder / "storage.conf"
    lines = ["[storage]", 'driver = "vfs"', f'graphroot = "{folder}/store"', f'runroot = "{folder}/run"']
    conf.write_text("\n".join(lines) + "\n")
    return {"CONTAINERS_STORAGE_CONF": str(conf)}


def image(folder: Path, name: str = NAME) -> dict[str, str]:
    """Make the image; returns `environment(folder)`. The test is skipped where a part is missing."""
    need("podman", install="podman")
    need("runc", "crun", install="runc")
    if not Path("/usr/libexec/podman/catatonit").exists() and shutil.which("catatonit") is None:
        missing("catatonit is missing: apt-get install catatonit")
    files = folder / "files"
    busybox = Path(need("busybox", install="busybox"))
    _copied(busybox, files)
    (files / "etc").mkdir()
    (files / "etc" / "image-release").write_text("of the image\n")
    secret = files / "etc" / "closed"
    secret.write_text("closed to others\n")
    secret.chmod(0o600)
    archive = folder / "files.tar"
    subprocess.run(["tar", "-C", str(files), "-cf", str(archive), "."], check=True)
    environ = environment(folder)
    changes = ["--change", "ENV OF_IMAGE=yes", "--change", 'ENTRYPOINT ["/bin/false"]']
    subprocess.run(
        ["podman", "import", *changes, str(archive), name],
        env=os.environ | environ,
        check=True,
        capture_output=True,
    )
    return environ


def _copied(program: Path, files: Path) -> None:
    """A program with the libraries that it is linked with, and its other names."""
    (files / "bin").mkdir(parents=True)
    shutil.copy(program, files / "bin" / "busybox")
    linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+)", linked):
        there = files / library.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, there)
    for applet in (*_APPLETS, *_MORE):
        (files / "bin" / applet).symlink_to("busybox")
