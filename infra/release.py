"""Build a release: what the installer installs on a node, with sums that the release key signs.

    python -m infra.release --key release-key

Given the same sources, pins and key the same bytes come out: wheels and archives carry the time of the last commit, lists
are sorted, and ed25519 signs without chance. What nodes need is pinned in infra/agent-pins.txt; --update-pins takes the newest.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "infra" / "agent-pins.txt"
IDENTITY, NAMESPACE = "release@tinyfleet", "tinyfleet-release"
# Of the project's dependencies: what only the control plane imports is not installed on nodes.
SERVER_ONLY = frozenset({"alembic", "fastapi", "paramiko", "sqlalchemy", "uvicorn"})
# What root's part is made of: the standard library and these.
ROOT_PART = (
    "fleet/__init__.py",
    "fleet/agents/__init__.py",
    "fleet/agents/durable.py",
    "fleet/agents/public_keys.py",
    "fleet/agents/walls/__init__.py",
    "fleet/agents/walls/slots.py",
    "fleet/agents/root*.py",
)
ROOT_START = "import sys\n\nfrom fleet.agents.root import main\n\nsys.exit(main(sys.argv[1:]))\n"
_GLIBC = range(17, 40)  # manylinux_2_17 … the newest that there may be wheels for
_EPOCH_OF_ZIP = 315532800  # 1980-01-01: no archive has an earlier time


class Unbuildable(Exception):
    """The release cannot be built; the message says what to change."""


# --------------------------------------------------------------------------------------- what goes in


def project_version(tree: Path = ROOT) -> str:
    """The version in pyproject.toml."""
    return str(tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"])


def requirements(tree: Path = ROOT) -> list[str]:
    """The project's dependencies that a node needs."""
    wanted = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["dependencies"]
    return sorted(each for each in wanted if _name(each) not in SERVER_ONLY)


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0].lower().replace("_", "-")


def commit_time(tree: Path = ROOT) -> int:
    """When the last commit was made, epoch seconds, or SOURCE_DATE_EPOCH: the time that all files of a release carry."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if told:
        return int(told)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=tree, capture_output=True, text=True)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip() else _EPOCH_OF_ZIP


def build_wheel(into: Path, version: str, epoch: int, tree: Path = ROOT) -> Path:
    """The project's own wheel, of this version, from a clean copy of the tree: an old build folder is no part of it."""
    with tempfile.TemporaryDirectory(prefix="tinyfleet-wheel-") as name:
        clean = Path(name) / "tree"
        _copy_sources(tree, clean)
        described = (clean / "pyproject.toml").read_text()
        (clean / "pyproject.toml").write_text(
            re.sub(r'^version = ".*"$', f'version = "{version}"', described, count=1, flags=re.MULTILINE)
        )
        _pip(["wheel", "--no-deps", "--wheel-dir", str(into), str(clean)], SOURCE_DATE_EPOCH=str(epoch))
    (built,) = into.glob("tinyfleet-*.whl")
    return built


def _copy_sources(tree: Path, clean: Path) -> None:
    """The files that are built into a wheel, and no others."""
    wanted = ("api", "dashboards", "engine", "fleet", "infra", "migrations")
    junk = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info")
    for folder in wanted:
        shutil.copytree(tree / folder, clean / folder, ignore=junk)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(tree / file, clean / file)
    for path in (clean, *clean.rglob("*")):  # whatever the umask was that it was checked out with
        path.chmod(0o755 if path.is_dir() else 0o644)


def download(into: Path, python: str, machine: str, update: bool = False) -> list[Path]:
    """The wheels of what a node of this Python ("3.11") and machine ("x86_64") needs, pip among them."""
    tag = f"cp{python.replace('.', '')}"
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
    platforms += [f"manylinux{name}_{machine}" for name in ("1", "2010", "2014")]
    target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    target += [f"--abi={abi}" for abi in (tag, "abi3", "none")] + [f"--platform={each}" for each in platforms]
    pins = [] if update or not PINS.exists() else ["--constraint", str(PINS)]
    folder = into / f"{tag}-{machine}"
    folder.mkdir(parents=True)
    _pip(["download", "--dest", str(folder), *target, *pins, *requirements(), "pip"])
    return sorted(folder.glob("*.whl"))


def _pip(arguments: Sequence[str], **environ: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        command, env={**os.environ, **environ}, capture_output=True, text=True, umask=0o022, check=False
    )
    if done.returncode != 0:
        raise Unbuildable(f"pip {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-1500:]}")


def pinned(wheels: Iterable[Path]) -> str:
    """The versions of these wheels, as pip's constraints."""
    found = sorted({f"{path.name.split('-')[0].lower()}=={path.name.split('-')[1]}" for path in wheels})
    return "".join(f"{each}\n" for each in found)


# ------------------------------------------------------------------------------------- put together


def assemble(into: Path, version: str, lists: dict[str, list[Path]], key: Path, epoch: int) -> Path:
    """A release's folder, signed. `lists`: "cp311-x86_64" → the wheels that a node of that kind installs."""
    if into.exists():
        shutil.rmtree(into)
    into.mkdir(parents=True)
    (into / "VERSION").write_text(version + "\n")
    for name, wheels in lists.items():
        lines = []
        for wheel in sorted(wheels, key=lambda path: path.name):
            shutil.copyfile(wheel, into / wheel.name)
            lines.append(f"{wheel.name} --hash=sha256:{_sha256(wheel)}\n")
        (into / f"{name}.txt").write_text("".join(lines))
    archive_root_part(into / "tinyfleet-root.pyz", epoch)
    for unit in sorted((ROOT / "infra" / "systemd").glob("tinyfleet-*.service")):
        shutil.copyfile(unit, into / unit.name)
    script = (ROOT / "infra" / "install.sh").read_text()
    (into / "install.sh").write_text(script.replace("@SIGNER@", public_key(key)))
    sums = [f"{_sha256(path)}  {path.name}\n" for path in sorted(into.iterdir())]
    (into / "SHA256SUMS").write_text("".join(sums))
    sign(into / "SHA256SUMS", key)
    for path in into.iterdir():
        path.chmod(0o644)
        os.utime(path, (epoch, epoch))
    return into


def archive_root_part(path: Path, epoch: int, tree: Path = ROOT) -> None:
    """Root's part in one file that Python runs, the same bytes each time."""
    files = sorted({found for pattern in ROOT_PART for found in tree.glob(pattern)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [
            ("__main__.py", ROOT_START),
            *((file.relative_to(tree).as_posix(), file.read_text()) for file in files),
        ]:
            archive.writestr(_entry(name, epoch), content)


def _entry(name: str, epoch: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.gmtime(max(epoch, _EPOCH_OF_ZIP))[:6])
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, wherever it is built
    return entry


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ------------------------------------------------------------------------------------------ the key


def make_key(key: Path) -> None:
    """A release key, readable by its owner alone. Keep it off the control plane: who has it can install on every node."""
    key.parent.mkdir(parents=True, exist_ok=True)
    _ssh_keygen(["-q", "-t", "ed25519", "-N", "", "-C", IDENTITY, "-f", str(key)])


def public_key(key: Path) -> str:
    """The public half as an allowed-signers file has it: type and key."""
    path = Path(f"{key}.pub")
    if not path.is_file():
        raise Unbuildable(f"--key {key}: {path} is not there; without --key a new one is made")
    return " ".join(path.read_text().split()[:2])


def sign(file: Path, key: Path) -> None:
    """Put the signature beside the file, as FILE.sig."""
    Path(f"{file}.sig").unlink(missing_ok=True)
    _ssh_keygen(["-q", "-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(file)])


def _ssh_keygen(arguments: Sequence[str]) -> None:
    try:
        done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unbuildable("ssh-keygen is missing: apt-get install openssh-client") from error
    if done.returncode != 0:
        raise Unbuildable(f"ssh-keygen: {done.stderr.strip()}")


# ------------------------------------------------------------------------------------ command line


def main(arguments: Sequence[str]) -> int:
    """Build, and say where it is and what to do with it."""
    parser = argparse.ArgumentParser(prog="python -m infra.release", description=__doc__.splitlines()[0])
    parser.add_argument("--into", type=Path, default=ROOT / "dist" / "release")
    parser.add_argument("--key", type=Path, default=ROOT / "dist" / "release-key")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--python", nargs="+", default=[here], help="Pythons of nodes")
    parser.add_argument("--machine", nargs="+", default=[platform.machine()], help="machines of nodes")
    parser.add_argument("--version", default=project_version(), help="pyproject.toml's, unless it is a trial")
    parser.add_argument("--update-pins", action="store_true", help="take the newest of what is pinned")
    given = parser.parse_args(arguments)
    try:
        made = release(given)
    except Unbuildable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in made.iterdir())
    print(
        f"{made}: {len(list(made.iterdir()))} files, {size / 1e6:.1f} MB, signed by {public_key(given.key)}"
    )
    print(f"on the control plane: tinyfleet release add {made}")
    return 0


def release(given: argparse.Namespace) -> Path:
    """Build what the command line asks for; returns the release's folder."""
    if not given.key.exists():
        make_key(given.key)
        print(f"a new release key is in {given.key}: keep it, and keep it off the control plane")
    epoch = commit_time()
    with tempfile.TemporaryDirectory(prefix="tinyfleet-release-") as name:
        work = Path(name)
        own = build_wheel(work / "own", given.version, epoch)
        kinds = [(python, machine) for python in given.python for machine in given.machine]
        found = {kind: download(work, *kind, update=given.update_pins) for kind in kinds}
        if given.update_pins:
            PINS.write_text(pinned(wheel for wheels in found.values() for wheel in wheels))
        lists = {
            f"cp{python.replace('.', '')}-{machine}": [own, *found[python, machine]]
            for python, machine in kinds
        }
        return assemble(given.into / given.version, given.version, lists, given.key, epoch)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
