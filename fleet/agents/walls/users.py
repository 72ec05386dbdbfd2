"""A namespace of users in which an attempt's own user is root: what podman needs, and would make itself where it may.

Inside another namespace of users, as the one round all attempts of an agent that is not root, it does not manage to. In it
podman's own files lie in memory, under a short name (it takes no long one), and are seen by nobody outside.
"""

from __future__ import annotations

import os
from pathlib import Path

from fleet.agents.walls import calls

# Folders that every system has and no program needs.
_PLACES = ("/mnt", "/media", "/srv")
_ROOM = "size=64m,mode=0700"


def place(state: Path) -> Path:
    """Where podman's files are, in an attempt's own view of the files. LookupError where there is no place for them."""
    found = (Path(each) for each in _PLACES if os.path.isdir(each) and not state.is_relative_to(each))
    for path in found:
        return path
    raise LookupError(f"none of the folders {', '.join(_PLACES)} is here, or the state folder is in it")


def enter_users(state: Path, task: int = 0) -> None:
    """Be root of a new one, with mounts of its own; or of that of `task`, a process of the same user. OSError."""
    if task:
        for kind, flag in (("user", calls.CLONE_NEWUSER), ("mnt", calls.CLONE_NEWNS)):
            with open(f"/proc/{task}/ns/{kind}", "rb") as namespace:
                calls.enter(namespace.fileno(), flag)
        return
    uid, gid = os.getuid(), os.getgid()
    calls.unshare(calls.CLONE_NEWUSER | calls.CLONE_NEWNS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    calls.mount(
        "tmpfs", str(place(state)), kind="tmpfs", flags=calls.MS_NOSUID | calls.MS_NODEV, options=_ROOM
    )
