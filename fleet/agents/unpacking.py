"""Unpack an image's files: `python -m fleet.agents.unpacking FOLDER MOST_BYTES STATE < files.tar`.

What is in the archive is of strangers. This process shuts itself into the folder before it reads any of it: as root it
changes its root, otherwise by Landlock. Devices are left out, files belong to whoever unpacks, nothing is setuid, and all of it can
be read by everybody: an attempt's user is nobody to the image.
"""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path

from fleet.agents.walls import calls, landlock

# Where something is mounted: what is there must be there before, for nobody can add to an image.
_FOLDERS = ("proc", "sys", "dev", "tmp", "run", "etc", "var/tmp")
_PLAIN = ("etc/hosts", "etc/resolv.conf", "etc/hostname")


class TooLarge(Exception):
    """More bytes than there is room for."""


def shut_in(folder: Path) -> Path:
    """Write nowhere else from now on; returns the folder's name from inside. OSError where neither way is open."""
    if os.geteuid() == 0:
        os.chroot(folder)
        os.chdir("/")
        return Path("/")
    calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    everything = landlock.READ | landlock.LIST
    rules = [landlock.Rule(Path("/"), everything), landlock.Rule(folder, landlock.OWN)]
    landlock.restrict(landlock.ruleset(rules))
    return folder


class _Sieve:
    """What of the archive is unpacked, and as what."""

    def __init__(self, most_bytes: int) -> None:
        self.room = most_bytes

    def __call__(self, member: tarfile.TarInfo) -> bool:
        """Whether it is unpacked; what it is unpacked as stands in it then. TooLarge."""
        self.room -= member.size
        if self.room < 0:
            raise TooLarge
        name = os.path.normpath("/" + member.name).lstrip("/")
        if member.isdev() or not name:
            return False
        member.name, member.uname, member.gname = name, "", ""
        member.uid = member.gid = 0
        member.mode = 0o755 if member.isdir() or member.mode & 0o111 else 0o644
        return True


def unpack(root: Path, most_bytes: int, state: str) -> None:
    """The archive on stdin into `root`, and the places of mounts. TooLarge, OSError, tarfile.TarError."""
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|*") as archive:
        # Debian 12's Python has no filters yet; later ones would refuse links that an image may have.
        archive.extraction_filter = lambda member, _: member
        sieve = _Sieve(most_bytes)
        for member in archive:
            if sieve(member):
                archive.extract(member, root)
    for folder in (*_FOLDERS, state.lstrip("/")):
        place(root, folder)
    for name in _PLAIN:
        path = root / name
        if path.is_symlink():
            path.unlink()
        path.touch(mode=0o644)
    mounts = root / "etc" / "mtab"
    if not os.path.lexists(mounts):
        mounts.symlink_to("/proc/mounts")


def place(root: Path, folder: str) -> None:
    """A folder below the root, made unless it is there, as something else or behind a link too."""
    here = root
    for part in Path(folder).parts:
        here = here / part
        if not here.is_symlink() and not here.is_dir():
            here.mkdir(mode=0o755)


def main(arguments: list[str]) -> None:
    """Ends with a line on stderr and status 1 for what cannot be unpacked."""
    folder, most_bytes, state = arguments
    os.umask(0o022)
    try:
        unpack(shut_in(Path(folder)), int(most_bytes), state)
    except TooLarge:
        sys.exit(f"its files are more than {most_bytes} bytes (TINYFLEET_IMAGE_BYTES)")
    except (OSError, tarfile.TarError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
