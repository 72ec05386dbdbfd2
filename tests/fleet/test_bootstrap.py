"""A bare host is brought in over SSH: a real sshd, the real installer with a small release, a real control plane.

The host is this machine; the installer puts everything below a folder (its own option for that), so that systemd and
what the fleet then sees are not part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet import command
from fleet.bootstrap import Step, Wanted, bootstrap, steps
from fleet.errors import InvalidSpec, NotPermitted
from fleet.settings import Settings
from fleet.ssh import Login, connect
from tests import releases, sshd
from tests.serving import Served, serving
from tests.sshd import Box

pytest.importorskip("paramiko", reason="pip install -e .[bootstrap]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def box() -> Iterator[Box]:
    """A host with a real sshd."""
    with sshd.opened() as made:
        yield made


@pytest.fixture
def served(settings: Settings, admin_token: str, tmp_path: Path) -> Iterator[Served]:
    """A control plane with a release."""
    releases.small_release(settings.releases, "1.0.0", tmp_path / "release-key")
    with serving(settings, admin_token) as found:
        yield found


def fingerprint(box: Box) -> str:
    """Of the host's key, as its console shows it."""
    listed = ["ssh-keygen", "-lf", str(box.folder / "host_key.pub")]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()[1]


def run(served: Served, box: Box, root: Path, *options: str) -> Any:
    """The command, as an operator gives it."""
    words = ["node", "bootstrap", "127.0.0.1", "--port", str(box.port), "--name", "bare", "--root", str(root)]
    words += ["--key", str(box.folder / "clients" / "admin"), *options, "--json"]
    environ = {"TINYFLEET_URL": served.url, "TINYFLEET_TOKEN": served.token, "HOME": str(box.folder)}
    return CliRunner().invoke(command.app, words, env=environ)


def test_a_host_is_brought_in_and_the_second_time_nothing_is_left_to_do(
    served: Served, box: Box, tmp_path: Path
) -> None:
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    first = run(served, box, root, "--host-key", fingerprint(box))
    assert first.exit_code == 0, first.output
    done = {each["step"]: each["state"] for each in json.loads(first.stdout)["steps"]}
    assert list(done) == ["root", "system", "packages", "control plane", "agent"]
    assert done["agent"] == "done"
    agent = root / "opt" / "tinyfleet" / "current" / "bin" / "tinyfleet"
    assert subprocess.run([agent], capture_output=True, text=True).stdout.strip() == "1.0.0"
    assert f"TINYFLEET_URL={served.url}" in (root / "etc" / "tinyfleet" / "agent.env").read_text()
    token = root / "etc" / "tinyfleet" / "join-token"
    assert token.read_text().startswith("tfj_")
    assert token.stat().st_mode & 0o077 == 0
    assert [path.name for path in Path("/root").glob(".tinyfleet-*")] == []
    again = run(served, box, root, "--host-key", fingerprint(box))
    assert {each["state"] for each in json.loads(again.stdout)["steps"]} == {"was done"}


def test_what_was_cut_off_is_taken_up_where_it_was(served: Served, box: Box, tmp_path: Path) -> None:
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    assert run(served, box, root, "--host-key", fingerprint(box)).exit_code == 0
    (root / "etc" / "tinyfleet" / "join-token").unlink()  # and it has not joined
    again = run(served, box, root, "--host-key", fingerprint(box))
    done = {each["step"]: each["state"] for each in json.loads(again.stdout)["steps"]}
    assert done["agent"] == "done"


def test_a_join_token_that_has_lain_there_for_an_hour_is_made_anew(
    served: Served, box: Box, tmp_path: Path
) -> None:
    """It was cut off before the host joined, and is taken up the next day."""
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    assert run(served, box, root, "--host-key", fingerprint(box)).exit_code == 0
    token = root / "etc" / "tinyfleet" / "join-token"
    before = token.read_text()
    os.utime(token, (0, 0))
    again = run(served, box, root, "--host-key", fingerprint(box))
    done = {each["step"]: each["state"] for each in json.loads(again.stdout)["steps"]}
    assert done["agent"] == "done"
    assert token.read_text() != before


def test_without_its_key_the_host_is_not_talked_to_and_what_it_shows_is_said(
    served: Served, box: Box, tmp_path: Path
) -> None:
    asked = run(served, box, tmp_path)
    assert asked.exit_code == 3
    assert fingerprint(box) in asked.stderr.replace("\n", "")
    assert "look at it on its own console" in asked.stderr.replace("\n", " ").lower()


def test_another_host_at_the_same_address_is_refused_before_anything_is_sent(
    served: Served, box: Box, tmp_path: Path
) -> None:
    other = "SHA256:" + "A" * 43
    refused = run(served, box, tmp_path, "--host-key", other)
    assert refused.exit_code == 3
    assert "this is another host" in refused.stderr
    assert (
        list(tmp_path.iterdir())
        == [tmp_path / "release-key", tmp_path / "release-key.pub", tmp_path / "data"]
        or not (tmp_path / "opt").exists()
    )


def test_a_key_that_the_host_does_not_know_is_refused(box: Box) -> None:
    with pytest.raises(NotPermitted, match="refuses root"):
        connect("127.0.0.1", box.port, fingerprint(box), Login(key_file=box.key("stranger")))


@pytest.mark.parametrize("address", ["a..b", "x" * 300, "\0", "", "-oProxyCommand=true"])
def test_what_is_no_host_is_said(address: str) -> None:
    with pytest.raises(InvalidSpec, match="does not answer"):
        connect(address, 9, "SHA256:" + "A" * 43, Login(password="x"))


def wanted(server: str = "http://127.0.0.1:9") -> Wanted:
    """What nothing can be made of: nobody is at that address."""
    return Wanted(server, "bare", b"", lambda: "", lambda _: False, root="/nonexistent")


def test_a_step_that_cannot_be_done_names_itself_and_the_fix(box: Box) -> None:
    with (
        connect(
            "127.0.0.1", box.port, fingerprint(box), Login(key_file=box.folder / "clients" / "admin")
        ) as host,
        pytest.raises(InvalidSpec, match=r"the host does not reach http://127\.0\.0\.1:9") as caught,
    ):
        list(bootstrap(host, wanted()))
    assert caught.value.field == "control plane"


def test_a_secret_goes_by_stdin_and_a_file_is_whole_or_not_there(box: Box) -> None:
    login = Login(key_file=box.folder / "clients" / "admin")
    with connect("127.0.0.1", box.port, fingerprint(box), login) as host:
        path = box.folder / "put"
        host.put(str(path), b"secret\n", 0o640)
        assert path.read_bytes() == b"secret\n"
        assert path.stat().st_mode & 0o777 == 0o640
        shown = host.run("cat; ps -o args= -p $PPID; exit 7", stdin=b"canary")
        assert (shown.status, shown.output.count("canary")) == (7, 1)
        with pytest.raises(NotPermitted, match="could not be written"):
            host.put("/nonexistent/x", b"")


def test_every_step_states_its_check_and_its_fix() -> None:
    found = steps(Wanted("https://fleet", "bare", b"", lambda: "", lambda _: True))
    assert [step.name for step in found] == [
        "root",
        "system",
        "packages",
        "control plane",
        "agent",
        "running",
        "joined",
    ]
    assert all(isinstance(step, Step) and step.fix and (step.check or step.said) for step in found)
