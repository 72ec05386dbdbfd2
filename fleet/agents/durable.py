"""JSON files that are either whole or absent, whatever crashes: written aside, synced, then renamed or linked."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write_json(path: Path, document: Any, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` with `document` in one step. `durable=False` skips fsync: for what a reboot voids anyway."""
    aside = _write_aside(path, json.dumps(document).encode(), mode, durable)
    os.replace(aside, path)
    if durable:
        _sync_directory(path.parent)


def write_bytes(path: Path, content: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace `path` with `content` in one step."""
    os.replace(_write_aside(path, content, mode, durable), path)


def create_json(path: Path, document: Any, *, mode: int = 0o600, durable: bool = True) -> bool:
    """Create `path` whole, or return False when somebody else already has: of two racers exactly one wins.

    With `durable=False` it may be empty after a power cut.
    """
    aside = _write_aside(path, json.dumps(document).encode(), mode, durable)
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink()
    if durable:
        _sync_directory(path.parent)
    return True


def read_json(path: Path) -> Any:
    """The document at `path`, or None when there is none."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _write_aside(path: Path, content: bytes, mode: int, durable: bool) -> Path:
    # Named by process and thread, so that no two writers share one.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        if durable:
            os.fsync(descriptor)
    return aside


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
