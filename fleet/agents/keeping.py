"""What an attempt leaves that is worth keeping: its artifacts, within limits of count and bytes.

The attempt is dead when this looks, but all that it left is still its word: names, links, sizes, whole folders. So what is
kept is opened without following a link, judged by what was opened, and moved to where no attempt can write.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from fleet.agents.attempts import KEPT, Limits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOKED_AT = 4096  # entries of the folder; whoever makes more has lost count, not we
_NOTED = 32


def keep(directory: Path, limits: Limits) -> tuple[list[str], list[str]]:
    """Move what is kept to the attempt's KEPT; its names, and a line for each that is not kept (not for every one)."""
    try:
        folder = os.open(directory / "work" / "artifacts", _FOLDER)
    except OSError:  # none, or no folder
        return [], []
    try:
        kept, dropped = judged(folder, limits)
        destination = directory / KEPT
        destination.mkdir(mode=0o700, exist_ok=True)
        for name in kept:
            os.replace(name, destination / name, src_dir_fd=folder)
            _make_ours(destination / name)
    finally:
        os.close(folder)
    return kept, _noted(dropped)


def _make_ours(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    path.chmod(0o600)


def _noted(lines: list[str]) -> list[str]:
    more = len(lines) - _NOTED
    return lines if more <= 0 else [*lines[:_NOTED], f"{more} more artifacts are not kept"]


def judged(folder: int, limits: Limits) -> tuple[list[str], list[str]]:
    """Names of the files to keep, and why each other is not: its name, not a plain file, over the limits."""
    kept: list[str] = []
    dropped: list[str] = []
    room = limits.artifact_bytes
    for name, about in sorted(_entries(folder)):
        problem = _problem(name, about, room, len(kept) >= limits.artifact_count)
        if problem:
            dropped.append(f"artifact {name!r} is not kept: {problem}")
        else:
            kept.append(name)
            room -= about.st_size
    return kept, dropped


def _entries(folder: int) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in islice(entries, _LOOKED_AT):
            yield entry.name, entry.stat(follow_symlinks=False)


def _problem(name: str, about: os.stat_result, room: int, full: bool) -> str:
    if not stat.S_ISREG(about.st_mode):
        return "not a plain file"
    if about.st_nlink != 1:
        return "it has other names"
    if not _NAME.fullmatch(name):
        return "its name is not 1 to 63 of letters, digits, '.', '_' and '-'"
    if full:
        return "there are too many"
    # What counts is what would be read of it: a hole in a file is as long as if it were full.
    return f"only {room} bytes are left of the limit" if about.st_size > room else ""
