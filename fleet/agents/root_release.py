"""A release in a folder: sums that the release key has signed, and files that the sums vouch for.

SHA256SUMS       a line each: hex sha256, two spaces, name
SHA256SUMS.sig   its signature by ssh-keygen -Y, in the namespace tinyfleet-release
VERSION          what it is
cp311-x86_64.txt for each Python and machine: the wheels to install, as pip's requirements with hashes
*.whl            the agent and what it needs, and the pip that installs them
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from fleet.agents.root_verbs import Refusal, version

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
IDENTITY, NAMESPACE = "release@tinyfleet", "tinyfleet-release"
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._+-]{0,199})")
_LARGEST = 512 << 20
_PIECE = 1 << 20
_PATIENCE_S = 20.0


def fetched(source: Path, into: Path, signers: Path) -> str:
    """Copy from `source`, which others can write to, what this machine needs of a release; returns its version.

    Nothing but the copies is believed: their sums' signature is checked first, then each file as it is copied. Refusal
    says what is wrong. `signers` is an allowed-signers file of ssh-keygen.
    """
    for name in (SUMS, SIGNATURE):
        copy(source / name, into / name, largest=1 << 20)
    sums = checked_sums(into, signers)
    for name in ("VERSION", wheel_list()):
        _copy_summed(source, into, name, sums)
    for name in wheels(into):
        _copy_summed(source, into, name, sums)
    return release_version(into)


def checked_sums(folder: Path, signers: Path) -> Mapping[str, str]:
    """Name → hex sha256 of a folder's release, after the signature of its sums was checked. Refusal."""
    if not signers.is_file():
        raise Refusal(f"{signers} is not there: it says who may sign a release; run the installer again")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", IDENTITY, "-n", NAMESPACE]
    content = (folder / SUMS).read_bytes()
    done = subprocess.run(
        [*command, "-s", str(folder / SIGNATURE)],
        input=content,
        capture_output=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        raise Refusal(f"the signature of {SUMS} is not good: {said[-300:]}")
    return parsed_sums(content.decode("ascii", errors="replace"))


def parsed_sums(text: str) -> Mapping[str, str]:
    """Name → hex sha256. Refusal for a line that is none, and for a name that is there twice."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise Refusal(f"{SUMS} has a line that is none, or a name twice: {line[:120]!r}")
        found[match[2]] = match[1]
    return found


def release_version(folder: Path) -> str:
    """What a release says it is. Refusal when that is no version."""
    return version((folder / "VERSION").read_text(encoding="ascii", errors="replace").strip())


def wheel_list() -> str:
    """The name of the list for this Python and this machine."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}.txt"


def wheels(folder: Path) -> list[str]:
    """The wheels of the list for this Python and machine, in its order."""
    lines = (folder / wheel_list()).read_text(encoding="ascii").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def installer(names: Iterable[str]) -> str:
    """The wheel among these that is pip. Refusal when there is none."""
    for name in names:
        if name.startswith("pip-"):
            return name
    raise Refusal(f"{wheel_list()} lists no pip: the release cannot be installed")


def _copy_summed(source: Path, into: Path, name: str, sums: Mapping[str, str]) -> None:
    if name not in sums:
        where = f"this release is not for Python {platform.python_version()} on {platform.machine()}"
        raise Refusal(where if name == wheel_list() else f"{SUMS} does not vouch for {name}")
    found = copy(source / name, into / name)
    if found != sums[name]:
        raise Refusal(f"{name} is not what {SUMS} vouches for: its sha256 is {found}, not {sums[name]}")


def copy(source: Path, into: Path, largest: int = _LARGEST) -> str:
    """Copy a plain file, which is no link; returns its hex sha256. Refusal."""
    digest, size = hashlib.sha256(), 0
    try:
        # A folder of somebody else's may hold a pipe that never ends, or a link to what only root may read.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file, into.open("xb") as out:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refusal(f"{source} is no plain file")
            while piece := file.read(_PIECE):
                size += len(piece)
                if size > largest:
                    raise Refusal(f"{source} is larger than {largest} bytes")
                digest.update(piece)
                out.write(piece)
    except OSError as error:
        raise Refusal(f"{source} cannot be copied: {error.strerror}") from error
    return digest.hexdigest()
