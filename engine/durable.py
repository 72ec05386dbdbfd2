"""Files that are whole after a power cut, or not there: how everything that must not be lost is written.

Written beside their place, synced, renamed, and the folder synced. A journal's line is appended and synced.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def write(place: Path, content: bytes, *, sync: bool = True) -> None:
    """Make the file at `place` hold `content`: a reader sees the old or the new one, whole, also after a power cut.

    Without `sync` a power cut may leave anything under the name: for content that carries a digest of itself.
    """
    make_folder(place.parent)
    descriptor, scratch = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise
    if sync:
        sync_folder(place.parent)


def append(place: Path, line: bytes, *, sync: bool = True) -> None:
    """Add a line, which ends here. A line that a power cut tore before stays one that cannot be read.

    Without `sync` it reaches the disk with the next synced line of the file.
    """
    new = not place.exists()
    if new:
        make_folder(place.parent)
    journal = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(journal).st_size
        torn = size > 0 and os.pread(journal, 1, size - 1) != b"\n"
        os.write(journal, (b"\n" if torn else b"") + line + b"\n")
        if sync:
            os.fsync(journal)
    finally:
        os.close(journal)
    if new and sync:
        sync_folder(place.parent)


def sync_file(place: Path) -> None:
    """Wait until a file that was written without `sync`, and its name, are on the disk."""
    with place.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(place.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each to stay."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
