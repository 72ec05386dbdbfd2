"""Small releases that are installed for real: one wheel with one command, and the pip that Python brings."""

from __future__ import annotations

import ensurepip
import hashlib
import shutil
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

from fleet.agents.root_release import wheel_list
from infra import release

EPOCH = 1_700_000_000
# What the agent of a small release does: it says which version it is, and where its settings are.
AGENT = """import os, sys
from importlib import metadata

def main():
    print(metadata.version("tinyfleet"), *sys.argv[1:])
"""


def bundled_pip() -> Path:
    """The wheel of pip that comes with Python, or that the distribution keeps beside it."""
    places = [Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels")]
    found = [path for place in places for path in sorted(place.glob("pip-*.whl"))]
    assert found, "this Python comes without pip: apt-get install python3-venv"
    return found[0]


def small_wheel(folder: Path, version: str, program: str = AGENT) -> Path:
    """A wheel called tinyfleet with the command `tinyfleet`."""
    info = f"tinyfleet-{version}.dist-info"
    files = {
        "tinyfleet_small.py": program,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinyfleet\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntinyfleet = tinyfleet_small:main\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text)}\n" for name, text in files.items())
    path = folder / f"tinyfleet-{version}-py3-none-any.whl"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def _digest(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def small_release(folder: Path, version: str, key: Path, program: str = AGENT) -> Path:
    """A release of this version in folder/version, signed by `key`, which is made when it is not there."""
    if not key.exists():
        release.make_key(key)
    wheels = [small_wheel(folder / "wheels", version, program), bundled_pip()]
    kind = wheel_list().removesuffix(".txt")
    return release.assemble(folder / version, version, {kind: wheels}, key, EPOCH)


def signers(path: Path, key: Path) -> Path:
    """An allowed-signers file with the key, as the installer leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{release.IDENTITY} namespaces="{release.NAMESPACE}" {release.public_key(key)}\n')
    return path


def resign(folder: Path, key: Path) -> None:
    """Make sums of what is there now, and sign them."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if not path.name.startswith("SHA256SUMS")
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))
    release.sign(folder / "SHA256SUMS", key)


def copied(folder: Path, into: Path) -> Path:
    """A release's folder again, to be tampered with."""
    return Path(shutil.copytree(folder, into))


PYTHON = sys.executable
