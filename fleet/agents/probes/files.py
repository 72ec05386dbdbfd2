"""Read small files of sysfs and procfs, often: each is opened once and read again from its beginning."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_LARGEST = 64 * 1024


class Files:
    """The files below `root`, which tests choose. One that is not there, or cannot be read now, is None.

    Not for several threads at once. `close` when done; a file that fails is opened again the next time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, int] = {}

    def content(self, path: str) -> bytes | None:
        """All of a file, up to 64 KiB."""
        descriptor = self._open.get(path, -1)
        try:
            if descriptor < 0:
                self._open[path] = descriptor = os.open(
                    f"{self.root}/{path}" if path[0] != "/" else path, os.O_RDONLY | os.O_CLOEXEC
                )
            return os.pread(descriptor, _LARGEST, 0)
        except OSError:
            self._forget(path)
            return None

    def said(self, path: str) -> str | None:
        """As text without the white space round it; None also when empty."""
        found = self.content(path)
        return (found.decode("utf-8", "replace").strip() or None) if found else None

    def number(self, path: str) -> int | None:
        """As a whole number, decimal; None for anything else."""
        try:
            return int(self.content(path) or b"")
        except ValueError:
            return None

    def names(self, path: str) -> list[str]:
        """What is in a folder, sorted as people count; empty when there is none."""
        try:
            return sorted(os.listdir(f"{self.root}/{path}"), key=_counting)
        except OSError:
            return []

    def target(self, path: str) -> str | None:
        """The last part of where a symbolic link leads."""
        try:
            return os.path.basename(os.readlink(f"{self.root}/{path}"))
        except OSError:
            return None

    def real(self, path: str) -> str | None:
        """A path with its links followed, below the root as before; None when it is not there."""
        found = os.path.realpath(f"{self.root}/{path}")
        inside = found.removeprefix(f"{os.path.realpath(self.root)}".rstrip("/") + "/")
        return inside if os.path.exists(found) else None

    def close(self) -> None:
        """Close all."""
        for path in list(self._open):
            self._forget(path)

    def _forget(self, path: str) -> None:
        descriptor = self._open.pop(path, -1)
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _counting(name: str) -> tuple[str, int, str]:
    """card10 after card9."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0), name
