"""The releases that nodes install, as the control plane keeps them: a folder each, below the data folder.

releases/signers          whose releases are taken, in the form of ssh-keygen; the first one that is added sets it
releases/1.2.0/…          what `make release` built: see fleet/agents/root_release.py

Nodes check signatures themselves. They are checked here too, so that what is not good is found where it can be mended.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.agents.root_release import (
    IDENTITY,
    NAMESPACE,
    SUMS,
    checked_sums,
    copy,
    parsed_sums,
    release_version,
)
from fleet.agents.root_verbs import Refusal, order, version
from fleet.errors import AlreadyExists, InvalidSpec, NotFound

SCRIPT = "install.sh"
SIGNERS = "signers"
_UNSUMMED = (SUMS, f"{SUMS}.sig")
_KEY = re.compile(r"^SIGNER='(ssh-ed25519 [A-Za-z0-9+/=]+)'$", re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """One release: its version, the Pythons and machines that it is for ("cp311-x86_64"), its files and bytes."""

    version: str
    kinds: tuple[str, ...]
    files: int
    bytes: int


def add(source: Path, releases: Path) -> Release:
    """Take in what `make release` built. InvalidSpec says what is wrong with it; AlreadyExists for a version that is
    there with other bytes."""
    try:
        found = release_version(source)
        signers = releases / SIGNERS
        key = _script_key(source)
        releases.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not signers.exists():
            signers.write_text(f'{IDENTITY} namespaces="{NAMESPACE}" {key}\n')
        elif key not in signers.read_text():
            raise InvalidSpec(
                "DIR",
                f"it is signed by another key than the releases before; if that is meant, remove {signers}",
            )
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=releases) as name:
            _copy_whole(source, Path(name) / "release", signers)
            _keep(Path(name) / "release", releases / found)
    except (Refusal, OSError) as error:
        raise InvalidSpec("DIR", f"{source} is no good release: {error}") from error
    return get(releases, found)


def _script_key(source: Path) -> str:
    found = _KEY.search((source / SCRIPT).read_text(encoding="ascii", errors="replace"))
    if found is None:
        raise Refusal(f"its {SCRIPT} names no release key")
    return found[1]


def _copy_whole(source: Path, into: Path, signers: Path) -> None:
    """Copies every file that the sums vouch for, and nothing else."""
    into.mkdir(mode=0o755)
    for name in _UNSUMMED:
        copy(source / name, into / name)
    for name, wanted in checked_sums(into, signers).items():
        found = copy(source / name, into / name)
        if found != wanted:
            raise Refusal(f"{name} is not what {SUMS} vouches for: its sha256 is {found}, not {wanted}")


def _keep(fresh: Path, place: Path) -> None:
    if not place.exists():
        fresh.rename(place)
    elif (place / SUMS).read_bytes() != (fresh / SUMS).read_bytes():
        raise AlreadyExists(
            "release", place.name, "a version is built once: give the new one another version"
        )


def remove(releases: Path, wanted: str) -> None:
    """Forget a release; NotFound."""
    get(releases, wanted)
    shutil.rmtree(releases / wanted)


def listed(releases: Path) -> Sequence[Release]:
    """Every release, the newest first."""
    names = [path.name for path in releases.glob("*") if _is_version(path.name)]
    return [get(releases, name) for name in sorted(names, key=order, reverse=True)]


def newest(releases: Path) -> Release:
    """The newest release; NotFound when there is none."""
    found = listed(releases)
    if not found:
        raise NotFound("release", "of any version (make release, then tinyfleet release add DIR)")
    return found[0]


def get(releases: Path, wanted: str) -> Release:
    """One release; NotFound."""
    if not _is_version(wanted) or not (releases / wanted / SUMS).is_file():
        raise NotFound("release", wanted[:40])
    paths = [path for path in (releases / wanted).iterdir() if path.is_file()]
    kinds = sorted(path.stem for path in paths if path.suffix == ".txt" and path.name.startswith("cp"))
    return Release(wanted, tuple(kinds), len(paths), sum(path.stat().st_size for path in paths))


def file(releases: Path, wanted: str, name: str) -> Path:
    """The path of one of a release's files; NotFound for anything else."""
    get(releases, wanted)
    sums = parsed_sums((releases / wanted / SUMS).read_text(encoding="ascii"))
    if name not in sums and name not in _UNSUMMED:
        raise NotFound("file of a release", name[:200])
    return releases / wanted / name


def _is_version(text: str) -> bool:
    try:
        return bool(version(text))
    except Refusal:
        return False


_ADDRESS = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253})(:\d{1,5})?(/[A-Za-z0-9._/-]*)?")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?")


def check_address(url: str) -> str:
    """An address that may stand in a shell script, as it is. InvalidSpec."""
    if not _ADDRESS.fullmatch(url):
        raise InvalidSpec("server", f"{url[:80]!r} is no http:// or https:// URL of plain letters")
    return url


def script(releases: Path, wanted: str, server: str, authority: str | None) -> str:
    """The installer with this server's address, the version, and the lab's authority in PEM, if there is one."""
    text = file(releases, wanted, SCRIPT).read_text(encoding="ascii")
    if authority is not None and not _PEM.fullmatch(authority):
        raise ValueError("the authority is no certificate in PEM")
    filled = {"@SERVER@": check_address(server), "@VERSION@": wanted, "@CA@": (authority or "").strip()}
    for name, value in filled.items():
        text = text.replace(f"'{name}'", f"'{value}'", 1)
    return text
