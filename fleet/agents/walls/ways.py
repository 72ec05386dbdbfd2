"""The way of a slot's user to Python, to our code and to the attempts, where a folder on it is closed to strangers.

Python below root's home, or attempts below a private temporary folder: then the zygote gets a mount namespace in which
an empty folder lies over the closed one, with nothing in it but the way to what is needed. Paths stay what they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fleet.agents.walls import calls

_ENTER = 0o001


def closed(paths: Iterable[Path]) -> Path | None:
    """The first folder on the way to one of these that a stranger may not enter. Their own modes do not count."""
    for path in paths:
        for place in reversed(path.parents):
            try:
                if not os.stat(place).st_mode & _ENTER:
                    return place
            except FileNotFoundError:
                break
    return None


def open_ways(paths: Sequence[Path]) -> None:
    """Make every one of these folders reachable for other users, for this process and its forks only. OSError.

    Call it in a process of one thread, as root. Where nothing is closed it does nothing.
    """
    if closed(paths) is None:
        return
    calls.unshare(calls.CLONE_NEWNS)
    calls.mount("none", "/", flags=calls.MS_REC | calls.MS_PRIVATE)
    os.chdir("/")
    for _ in range(len(paths) * 2):
        place = closed(paths)
        if place is None:
            return
        if place in paths:
            raise PermissionError(13, f"another user may not enter {place}")
        _lay_over(place, [path for path in paths if path.is_relative_to(place)])


def _lay_over(place: Path, paths: Sequence[Path]) -> None:
    outermost = [
        path for path in paths if not any(path != other and path.is_relative_to(other) for other in paths)
    ]
    held = [
        (path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in dict.fromkeys(outermost) if path.is_dir()
    ]
    calls.mount(
        "tmpfs", str(place), kind="tmpfs", flags=calls.MS_NOSUID | calls.MS_NODEV, options="mode=0711,size=1m"
    )
    for path, descriptor in held:
        path.mkdir(mode=0o755, parents=True)
        calls.mount(f"/proc/self/fd/{descriptor}", str(path), flags=calls.MS_BIND | calls.MS_REC)
        os.close(descriptor)
