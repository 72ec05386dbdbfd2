"""An image of busybox and nothing else, in a store of its own, and the environment in which podman sees it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
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


def image(
    folder: Path, name: str = NAME, fill: Callable[[Path], None] = lambda files: None
) -> dict[str, str]:
    """Make the image, with what `fill` adds to its files; returns `environment(folder)`. The test is skipped where a part is
    missing."""
    need("podman", install="podman")
    need("runc", "crun", install="runc")
    if not Path("/usr/libexec/podman/catatonit").exists() and shutil.which("catatonit") is None:
        missing("catatonit is missing: apt-get install catatonit")
    files = folder / "files"
    busybox = Path(need("busybox", install="busybox"))
    copied(busybox, files, "bin/busybox")
    for applet in (*_APPLETS, *_MORE):
        (files / "bin" / applet).symlink_to("busybox")
    (files / "etc").mkdir()
    (files / "etc" / "image-release").write_text("of the image\n")
    secret = files / "etc" / "closed"
    secret.write_text("closed to others\n")
    secret.chmod(0o600)
    fill(files)
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


def copied(program: Path, files: Path, place: str) -> None:
    """A program at this place of the image, with the libraries that it is linked with."""
    there = files / place.lstrip("/")
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, there)
    copy_libraries(program, files)


def copy_libraries(linked: Path, files: Path) -> None:
    """Those that a program or a library is linked with."""
    said = subprocess.run(["ldd", str(linked)], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+)", said):
        there = files / library.lstrip("/")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, there)
