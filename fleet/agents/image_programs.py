"""Whether an image has a program, before it is started: the first process of a container could only say that it failed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_MOST_LINKS = 40
_DEFAULT = "/usr/local/bin:/usr/bin:/bin"
# What is no file of the image.
_MOUNTED = ("proc", "sys", "dev", "tmp", "run")


def check(program: str, path: str, files: Path, work: Path) -> None:
    """FileNotFoundError or PermissionError when `program` is not in the image or is none; `path` is the command's PATH."""
    if "/" in program:
        if not program.startswith("/"):
            _judge(work / program, program)
        elif not Path(program).is_relative_to(work) and Path(program).parts[1] not in _MOUNTED:
            _judge(resolved(files, program), program)
        return
    problem: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    for folder in (path or _DEFAULT).split(":"):
        if not folder.startswith("/") or Path(folder).is_relative_to(work):
            return  # one of the attempt's own folders: who knows
        try:
            _judge(resolved(files, f"{folder}/{program}"), program)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            problem = error
            continue
        return
    raise problem


def _judge(path: Path, program: str) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program) from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)


def resolved(root: Path, path: str) -> Path:
    """Where a path of the image lies here: its links lead to places in the image. FileNotFoundError for a ring of them."""
    left, here, links = [part for part in path.split("/") if part], root, 0
    while left:
        part = left.pop(0)
        if part == "..":
            here = here.parent if here != root else root
            continue
        if part == ".":
            continue
        below = here / part
        if not below.is_symlink():
            here = below
            continue
        links += 1
        if links > _MOST_LINKS:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        target = os.readlink(below)
        here = root if target.startswith("/") else here
        left = [each for each in target.split("/") if each] + left
    return here
