"""How much room an attempt takes on the disk, looked at while it runs: whoever takes too much is ended before it is full.

The folder is the attempt's own, so nothing in it is believed: links are not followed, a folder is opened below the one
that it was seen in, and one that is too deep to follow counts as too many files. A file that was deleted and is held open
still fills the disk: those of the attempt's processes are counted as well. A quota of the file system would be exact, but
wants a mount option that few have.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

FILES = 200_000  # counted in 0.4 s
_DEEPEST = 200  # each level is an open descriptor here
_LOOK_S = 1.0
_SHARE = 20.0  # looking takes at most a twentieth of the time
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Excess(Exception):
    """More than it may have; says what."""


class Room:
    """What one attempt may take: bytes on the disk below its folder (0: half of what is free now), and files."""

    def __init__(
        self,
        folder: Path,
        most_bytes: int = 0,
        most_files: int = FILES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._most_bytes = most_bytes or shutil.disk_usage(folder).free // 2
        self._most_files = most_files
        self._next = clock() + _LOOK_S

    def excess(self, pids: Callable[[], Iterable[int]]) -> str:
        """What it has too much of, in words; empty when nothing, and when it was looked at a moment ago.

        `pids` are the processes inside, as far as the walls can tell.
        """
        started = self._clock()
        if started < self._next:
            return ""
        try:
            _Count(self._most_bytes, self._most_files).take(self._folder, pids())
        except Excess as excess:
            return str(excess)
        finally:
            ended = self._clock()
            self._next = ended + max(_LOOK_S, _SHARE * (ended - started))
        return ""


class _Count:
    def __init__(self, most_bytes: int, most_files: int) -> None:
        self.most_bytes = most_bytes
        self.most_files = most_files
        self.bytes = 0
        self.files = 0
        self.seen: set[tuple[int, int]] = set()  # of files with several names, or none

    def take(self, folder: Path, pids: Iterable[int]) -> None:
        for pid in pids:
            self._take_deleted(pid)
        stack: list[tuple[int, list[str]]] = []
        try:
            self._enter(os.open(folder, _FOLDER), stack)
            while stack:
                here, names = stack[-1]
                if not names:
                    os.close(here)
                    stack.pop()
                elif len(stack) >= _DEEPEST:
                    raise Excess(f"its folders are nested more than {_DEEPEST} deep")
                else:
                    self._descend(here, names.pop(), stack)
        except FileNotFoundError:
            return  # the whole folder is gone
        finally:
            for here, _ in stack:
                os.close(here)

    def _descend(self, here: int, name: str, stack: list[tuple[int, list[str]]]) -> None:
        try:
            below = os.open(name, _FOLDER, dir_fd=here)
        except OSError:  # gone, a link by now, or closed to this user
            return
        self._enter(below, stack)

    def _enter(self, folder: int, stack: list[tuple[int, list[str]]]) -> None:
        names: list[str] = []
        stack.append((folder, names))
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    about = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                self._add(about)
                if stat.S_ISDIR(about.st_mode):
                    names.append(entry.name)

    def _take_deleted(self, pid: int) -> None:
        try:
            opened = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            return
        for number in opened:
            try:
                about = os.stat(f"/proc/{pid}/fd/{number}")
            except OSError:
                continue
            if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                self._add(about)

    def _add(self, about: os.stat_result) -> None:
        if about.st_nlink != 1 and not stat.S_ISDIR(about.st_mode):
            if (about.st_dev, about.st_ino) in self.seen:
                return
            self.seen.add((about.st_dev, about.st_ino))
        self.files += 1
        self.bytes += about.st_blocks * 512
        if self.bytes > self.most_bytes:
            raise Excess(f"its files take more than {self.most_bytes} bytes of the disk")
        if self.files > self.most_files:
            raise Excess(f"it has more than {self.most_files} files")
