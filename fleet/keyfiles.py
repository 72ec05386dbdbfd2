"""Files that hold a secret: mode 0600 from the first byte on, whole or not there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fleet.errors import InvalidSpec


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner reads, in one step, in place of one that is there."""
    _fresh(path, content).replace(path)


def _fresh(path: Path, content: str) -> Path:
    """The content on the disk beside its place, under a name that no other thread uses."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return fresh


def read_private(path: Path) -> str:
    """What such a file holds. Raises InvalidSpec when others may read it; FileNotFoundError."""
    if path.stat().st_mode & 0o077:
        raise InvalidSpec(str(path), "others may read this key: chmod 600 it, and replace it if they have")
    return path.read_text(encoding="utf-8")


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """The file's content; made at the first start."""
    try:
        return read_private(path)
    except FileNotFoundError:
        fresh = _fresh(path, make())
        with suppress(
            FileExistsError
        ):  # whoever is first has made it: what that one sealed must open for all
            os.link(fresh, path)
        fresh.unlink()
        return read_private(path)
