"""The installer: in three shells, cut off anywhere, and as shellcheck sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import release
from tests import releases
from tests.parts import need

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "infra" / "install.sh"
SHELLS = {"dash": "dash", "bash": "bash", "busybox": "busybox sh"}
LAST = 200  # bytes, after each of which it is cut off; before them after every third


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small releases: two good ones, and one for each thing that can be wrong with one."""
    need("ssh-keygen", install="openssh-client")
    folder = tmp_path_factory.mktemp("releases")
    key, stranger = folder / "key", folder / "stranger-key"
    release.make_key(stranger)
    for number in ("1.0.0", "1.1.0"):
        releases.small_release(folder, number, key)
    for name, spoil in _SPOILED.items():
        spoil(releases.copied(folder / "1.0.0", folder / name), key, stranger)
    return folder


def _larger(folder: Path, key: Path, stranger: Path) -> None:
    with (folder / "tinyfleet-1.0.0-py3-none-any.whl").open("ab") as file:
        file.write(b"x")


def _unsigned(folder: Path, key: Path, stranger: Path) -> None:
    with (folder / "SHA256SUMS").open("a") as file:
        file.write(f"{'0' * 64}  extra\n")


def _stranger(folder: Path, key: Path, stranger: Path) -> None:
    releases.resign(folder, stranger)


def _purpose(folder: Path, key: Path, stranger: Path) -> None:
    (folder / "SHA256SUMS.sig").unlink()
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "git", folder / "SHA256SUMS"]
    subprocess.run(sign, check=True, capture_output=True)


def _foreign(folder: Path, key: Path, stranger: Path) -> None:
    (listed,) = folder.glob("cp3*.txt")
    listed.rename(folder / "cp38-pdp11.txt")
    releases.resign(folder, key)


def _older(folder: Path, key: Path, stranger: Path) -> None:
    """As good as the others, with another root part and another unit."""
    part, unit = folder / "tinyfleet-root.pyz", folder / "tinyfleet-agent.service"
    part.write_bytes(b"#!/usr/bin/python3\n" + part.read_bytes())
    unit.write_text(unit.read_text() + "# older\n")
    releases.resign(folder, key)


_SPOILED: dict[str, Callable[[Path, Path, Path], None]] = {
    "larger": _larger,
    "unsigned": _unsigned,
    "stranger": _stranger,
    "purpose": _purpose,
    "foreign": _foreign,
    "older": _older,
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_installer_does_in_every_shell_what_its_bats_tests_say(made: Path, shell: str) -> None:
    bats = need("bats", install="bats")
    need(shell, install=shell)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the Python that the releases are for
    environ = {**os.environ, "PATH": path, "RELEASES": str(made), "TEST_SH": SHELLS[shell]}
    done = subprocess.run([bats, HERE / "install.bats"], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"1..{(HERE / 'install.bats').read_text().count('@test ')}" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("shell", SHELLS)
def test_an_installer_that_was_cut_off_does_nothing(shell: str, made: Path, tmp_path: Path) -> None:
    """Whole, this one would leave a mark: it is run as one that shows its help, which is output. So does one that lacks its last
    newline alone: nothing of what is to be done is missing there."""
    need(shell, install=shell)
    script = (made / "1.0.0" / "install.sh").read_bytes()
    ends = [*range(0, len(script) - LAST, 3), *range(len(script) - LAST, len(script) - 1)]
    command = [*SHELLS[shell].split(), "-s", "--", "--help"]
    wrong = [end for end in ends if _ran(command, script[:end], tmp_path)]
    assert wrong == []
    assert script.endswith(b"\n}\n")
    assert [_ran(command, whole, tmp_path) for whole in (script, script[:-1])] == [True, True]


def _ran(command: list[str], script: bytes, folder: Path) -> bool:
    """Whether anything of the script was carried out. What a shell says of a script that ends too early is no act."""
    environ = {
        "PATH": os.environ["PATH"],
        "TINYFLEET_INSTALL_ROOT": str(folder / "root"),
        "TMPDIR": str(folder),
    }
    done = subprocess.run(command, input=script, capture_output=True, env=environ, cwd=folder, check=False)
    # bash shows the line that it could not read: "bash: line 32: `say() { printf 'tinyfleet: …"
    acts = [line for line in done.stderr.splitlines() if not re.match(rb"\w+: (line )?\d+: ", line)]
    return (
        any(b"tinyfleet:" in line or b"options:" in line for line in acts)
        or done.stdout != b""
        or any(folder.iterdir())
    )


def test_shellcheck_finds_nothing_in_the_installer_or_its_tests() -> None:
    shellcheck = need("shellcheck", install="shellcheck")
    for file in (SCRIPT, HERE / "install.bats"):
        done = subprocess.run([shellcheck, file], capture_output=True, text=True, check=False)
        assert done.stdout == ""


def test_the_installer_is_one_block_with_nothing_after_it() -> None:
    text = SCRIPT.read_text()
    before, _, block = text.partition("\n{\n")
    assert all(line.startswith("#") for line in before.splitlines())
    assert block.endswith("\nexit 0\n}\n")
