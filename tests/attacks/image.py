"""An image with Python and the attacks in it, and jobs that attack from a container of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests import containers
from tests.parts import need

ROOT = Path(__file__).resolve().parents[2]
NAME = "localhost/tinyfleet/attacks:1"
PYTHON = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}"))
_LEFT_OUT = (
    "site-packages",
    "dist-packages",
    "test",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
    "__pycache__",
)
_OURS = ("tests/attacks", "fleet/agents/walls", "fleet/agents/__init__.py")
_TREE = "attacks"
NATIVE = "native-attacks"


def image(folder: Path) -> dict[str, str]:
    """Make the image; returns the environment in which podman sees it. The test is skipped where a part is missing."""
    return containers.image(folder, NAME, _fill)


def _fill(files: Path) -> None:
    library = Path(
        sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix})
    )
    there = files / str(library).lstrip("/")
    shutil.copytree(
        library, there, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT, "config-*", "*.a")
    )
    containers.copied(Path(PYTHON), files, PYTHON)
    for extension in there.glob("lib-dynload/_ctypes*.so"):
        containers.copy_libraries(extension, files)
    for name in _OURS:
        source, target = ROOT / name, files / _TREE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (files / _TREE / "fleet" / "__init__.py").touch()
    compiler = need("cc", "gcc", "clang", install="gcc")
    source = Path(__file__).with_name("native.c")
    subprocess.run([compiler, "-O1", "-o", files / "bin" / NATIVE, source], check=True)


def spec(document: dict[str, Any], names: Iterable[str], **fields: Any) -> dict[str, Any]:
    """A job that attacks from a container, one after the other. `fields`: of the command."""
    return {
        "kind": "command",
        "container": NAME,
        "argv": [PYTHON, "-m", "tests.attacks.contained", json.dumps(document), *names],
        "env": {"PYTHONPATH": f"/{_TREE}", "PYTHONDONTWRITEBYTECODE": "1"},
        **fields,
    }
