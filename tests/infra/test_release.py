"""Building a release: the same bytes each time, complete, and signed by the key that is named."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from fleet.agents.root_release import checked_sums, wheels
from infra import release
from tests import releases
from tests.parts import missing, need


@pytest.fixture(autouse=True)
def _ssh_keygen() -> None:
    need("ssh-keygen", install="openssh-client")


def contents(folder: Path) -> dict[str, str]:
    """Name → digest of what is in a folder."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_release_put_together_again_is_the_same_to_the_byte(tmp_path: Path) -> None:
    key = tmp_path / "key"
    first = contents(releases.small_release(tmp_path / "one", "1.0.0", key))
    before = os.umask(0o077)
    try:
        second = contents(releases.small_release(tmp_path / "two", "1.0.0", key))
    finally:
        os.umask(before)
    assert first == second


def test_every_file_of_a_release_is_vouched_for(tmp_path: Path) -> None:
    made = releases.small_release(tmp_path, "1.0.0", tmp_path / "key")
    sums = checked_sums(made, releases.signers(tmp_path / "signers", tmp_path / "key"))
    assert contents(made).keys() - sums.keys() == {"SHA256SUMS", "SHA256SUMS.sig"}
    assert set(wheels(made)) <= sums.keys()
    assert {
        "install.sh",
        "tinyfleet-agent.service",
        "tinyfleet-root.service",
        "tinyfleet-root.pyz",
    } <= sums.keys()
    assert release.public_key(tmp_path / "key") in (made / "install.sh").read_text()


def test_the_release_key_is_its_owners_alone(tmp_path: Path) -> None:
    release.make_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0


def test_what_only_the_control_plane_needs_is_not_for_nodes() -> None:
    wanted = " ".join(release.requirements())
    assert "httpx" in wanted
    assert "numpy" in wanted
    assert [each for each in release.SERVER_ONLY if each in wanted] == []


def test_everything_a_node_needs_is_pinned() -> None:
    pins = {line.split("==")[0] for line in release.PINS.read_text().splitlines()}
    wanted = {
        each.split(">")[0].split("=")[0].strip().lower().replace("-", "_") for each in release.requirements()
    }
    assert {each.replace("-", "_") for each in pins} >= wanted | {"pip"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_projects_own_wheel_is_the_same_to_the_byte_wherever_it_is_built(tmp_path: Path) -> None:
    built = []
    for place, umask in (("one", 0o022), ("two/deeper", 0o077)):
        before = os.umask(umask)
        try:
            built.append(release.build_wheel(tmp_path / place, "7.8.9", 1_700_000_000))
        except release.Unbuildable as error:
            missing(f"no wheel can be built here: {error}")
        finally:
            os.umask(before)
    assert built[0].name == "tinyfleet-7.8.9-py3-none-any.whl"
    assert contents(built[0].parent) == contents(built[1].parent)
    with zipfile.ZipFile(built[0]) as archive:
        names = archive.namelist()
    assert {"fleet/agents/root.py", "engine/runtime/pool.c"} & set(names)
    assert [name for name in names if name.startswith("tests/")] == []


def test_the_command_line_names_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no key")
    command = [releases.PYTHON, "-m", "infra.release", "--key", tmp_path / "key", "--into", tmp_path]
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/nowhere"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=release.ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
