"""What an attempt leaves that is worth keeping: its artifacts, within limits of count and bytes.

What lies in artifacts/ is kept under its path there, and what a command's patterns name under its path in the working folder.
The attempt is dead when this looks, but all that it left is still its word: names, links, sizes, whole folders. So what is
kept is reached without following a link, judged by what was opened, and moved to where no attempt can write.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.agents.attempts import KEPT, Limits
from fleet.agents.globs import matches

_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}"
_NAME = re.compile(rf"{_PLAIN}(/{_PLAIN}){{0,15}}")
_LONGEST_NAME = 255
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOKED_AT = 16_384  # entries of all folders; whoever makes more has lost count, not we
_DEEPEST = 16
_NOTED = 32
OWN = "artifacts"
# What the agent put there, or what programs leave for themselves.
_NOT_LOOKED_AT = frozenset({"blobs", "cache", "data", "tmp", OWN})


@dataclass
class _Harvest:
    """What was found so far, and how many entries may still be looked at."""

    limits: Limits
    kept: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    room: int = 0
    looks: int = _LOOKED_AT

    def judge(self, name: str, about: os.stat_result) -> bool:
        """Whether the file is to be kept under this name; why not is noted."""
        full = len(self.kept) >= self.limits.artifact_count
        problem = "there is one of this name" if name in self.kept else _problem(name, about, self.room, full)
        if problem:
            self.dropped.append(f"artifact {name!r} is not kept: {problem}")
        return not problem


def keep(directory: Path, limits: Limits, patterns: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Move what is kept to the attempt's KEPT; its names, and a line for each that is not kept (not for every one)."""
    harvest = _Harvest(limits, room=limits.artifact_bytes)
    try:
        work = os.open(directory / "work", _FOLDER)
    except OSError:  # none, or no folder
        return [], []
    try:
        _gather(harvest, directory / KEPT, work, patterns)
    finally:
        os.close(work)
    return harvest.kept, _noted(harvest.dropped)


def _gather(harvest: _Harvest, destination: Path, work: int, patterns: Sequence[str]) -> None:
    try:
        own = os.open(OWN, _FOLDER, dir_fd=work)
    except OSError:
        own = -1
    if own >= 0:
        for folder, path, about in _files(own, "", harvest, frozenset()):
            _move(harvest, destination, folder, path, about)
        os.close(own)
    missing = set(patterns)
    if not patterns:
        return
    for folder, path, about in _files(work, "", harvest, _NOT_LOOKED_AT):
        meant = {pattern for pattern in patterns if matches(pattern, path)}
        missing -= meant
        if meant:
            _move(harvest, destination, folder, path, about)
    harvest.dropped += [
        f"no artifact matches {pattern!r}" for pattern in patterns if pattern in missing and not _own(pattern)
    ]
    if harvest.looks <= 0:
        harvest.dropped.append(f"artifacts were looked for among the first {_LOOKED_AT} files only")


def _own(pattern: str) -> bool:
    """What lies in artifacts/ is kept anyway."""
    return pattern.partition("/")[0] == OWN


def _files(
    folder: int, above: str, harvest: _Harvest, left_out: frozenset[str], depth: int = 0
) -> Iterator[tuple[int, str, os.stat_result]]:
    """All that is no folder below `folder` (a descriptor): the folder that it is in, its path, and what it is."""
    for name, about in sorted(_entries(folder, harvest)):
        path = f"{above}{name}"
        if not stat.S_ISDIR(about.st_mode):
            yield folder, path, about
        elif name not in left_out and depth < _DEEPEST:
            try:
                inside = os.open(name, _FOLDER, dir_fd=folder)
            except OSError:  # shut, or no folder any more
                continue
            try:
                yield from _files(inside, f"{path}/", harvest, frozenset(), depth + 1)
            finally:
                os.close(inside)


def _entries(folder: int, harvest: _Harvest) -> list[tuple[str, os.stat_result]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if harvest.looks <= 0:
                break
            harvest.looks -= 1
            found.append((entry.name, entry.stat(follow_symlinks=False)))
    return found


def _move(harvest: _Harvest, destination: Path, folder: int, path: str, about: os.stat_result) -> None:
    if not harvest.judge(path, about):
        return
    kept = destination / path
    for missing in reversed([*kept.relative_to(destination).parents]):
        (destination / missing).mkdir(mode=0o700, exist_ok=True)
    os.replace(path.rpartition("/")[2], kept, src_dir_fd=folder)
    _make_ours(kept)
    harvest.kept.append(path)
    harvest.room -= about.st_size


def _make_ours(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    path.chmod(0o600)


def _noted(lines: list[str]) -> list[str]:
    more = len(lines) - _NOTED
    return lines if more <= 0 else [*lines[:_NOTED], f"{more} more artifacts are not kept"]


def _problem(name: str, about: os.stat_result, room: int, full: bool) -> str:
    if not stat.S_ISREG(about.st_mode):
        return "not a plain file"
    if about.st_nlink != 1:
        return "it has other names"
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        return (
            "its name is not of letters, digits, '.', '_' and '-', beginning with no '.' or '-', 63 to a part"
        )
    if full:
        return "there are too many"
    # What counts is what would be read of it: a hole in a file is as long as if it were full.
    return f"only {room} bytes are left of the limit" if about.st_size > room else ""
