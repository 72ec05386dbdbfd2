"""A bare Debian with its own systemd and sshd: brought in over SSH, then people log into it, by root's part as installed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.client import Client
from infra import release
from tests import debian
from tests.parts import missing, need
from tests.whole import ROOT, Fleet, running_fleet, until

pytest.importorskip("paramiko", reason="pip install -e .[bootstrap]")
pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(1500)]
PYTHON, MACHINE = "3.11", "x86_64"  # the Debian's


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A server on loopback, which is the Debian's too, with a real release of this tree."""
    need("ssh-keygen", install="openssh-client")
    key, built = tmp_path / "key", tmp_path / "release"
    release.make_key(key)
    make = ["--python", PYTHON, "--machine", MACHINE, "--key", str(key), "--into", str(built)]
    if release.main([*make, "--version", "1.0.0"]):
        missing("no release can be built here: see above")
    (tmp_path / "fleet").mkdir()
    with running_fleet(tmp_path / "fleet") as running:
        command(running, "release", "add", str(built / "1.0.0"))
        yield running


def command(fleet: Fleet, *words: str) -> str:
    """The operator's command, beside the running server."""
    environ = {"TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fleet.command", *words],
        env={**os.environ, **environ, "TINYFLEET_DATA": str(fleet.folder / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Bare:
    """The Debian with an sshd on a port of its own, and root's key."""

    def __init__(self, box: debian.Machine, folder: Path) -> None:
        self.box, self.folder = box, folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.key = made_key(folder / "root-key")
        said = box.run(
            "apt-get -q update && apt-get -q install -y --no-install-recommends openssh-server && "
            f"printf 'Port {self.port}\nListenAddress 127.0.0.1\n' >/etc/ssh/sshd_config.d/00-port.conf && "
            "mkdir -p -m 700 /root/.ssh && systemctl restart ssh",
            check=False,
            DEBIAN_FRONTEND="noninteractive",
        )
        if "Setting up openssh-server" not in said:
            missing(f"no openssh-server can be installed in the Debian: {said[-400:]}")
        keys = box.root / "root" / ".ssh" / "authorized_keys"
        keys.write_text(self.key.with_name("root-key.pub").read_text())
        keys.chmod(0o600)
        until(lambda: self.greets(), "its sshd answers", 30)

    def greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as opened:
                return opened.recv(4) == b"SSH-"
        except OSError:
            return False

    @property
    def fingerprint(self) -> str:
        """As its console shows it."""
        return self.box.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]

    def ssh(self, line: str, key: Path, known: Path) -> subprocess.CompletedProcess[str]:
        """The command that the fleet gave, with this key and the host keys that it told."""
        words = line.replace("~/.config/tinyfleet/known_hosts", str(known)).split()
        options = ["-F", "none", "-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        return subprocess.run(
            [words[0], *options, *words[1:], "whoami"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )


def made_key(path: Path) -> Path:
    """A new key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def test_a_bare_debian_becomes_a_node_and_people_log_in(fleet: Fleet, tmp_path: Path) -> None:
    with debian.machine(tmp_path) as box, fleet.client() as admin:
        bare = Bare(box, tmp_path)
        brought_in(fleet, bare)
        people_log_in(fleet, admin, bare)


def brought_in(fleet: Fleet, bare: Bare) -> None:
    """By one command; the second time nothing is left to do."""
    words = ["node", "bootstrap", "127.0.0.1", "--port", str(bare.port), "--host-key", bare.fingerprint]
    words += ["--key", str(bare.key), "--name", "box1", "--json"]
    first = states(command(fleet, *words))
    assert list(first) == ["root", "system", "packages", "control plane", "agent", "running", "joined"]
    assert first["agent"] == "done"
    assert fleet.node("box1", contact="online") is not None
    assert set(states(command(fleet, *words)).values()) == {"was done"}


def states(printed: str) -> dict[str, Any]:
    """What became of each step."""
    return {each["step"]: each["state"] for each in json.loads(printed)["steps"]}


def people_log_in(fleet: Fleet, admin: Client, bare: Bare) -> None:
    """The agent is no root, and root's part is as closed as logins allow."""
    program = "/opt/tinyfleet/current/bin/tinyfleet"
    bare.box.run(f"{program} node logins on --address 127.0.0.1 && systemctl daemon-reload")
    bare.box.run("systemctl restart tinyfleet-root tinyfleet-agent")
    until(lambda: admin.ssh_hosts().items, "the node says how it is reached", 120)
    (host,) = admin.ssh_hosts().items
    assert (host.port, host.problem) == (bare.port, "")
    known, key = bare.folder / "known", made_key(bare.folder / "alice")
    known.write_text("\n".join(host.known_hosts) + "\n")
    with Client(fleet.url, admin.mint_token("alice").secret) as alice:
        alice.add_ssh_key(key.with_name("alice.pub").read_text())
        asked = alice.request_grant("to measure", node="box1")
        admin.approve_grant(asked.id)
        line = until(lambda: alice.grant(asked.id).nodes[0].ssh, problem_of(alice, asked.id, bare), 60)
        done = bare.ssh(line, key, known)
        assert done.stdout == "tf-alice\n", done.stderr
        alice.revoke_grant(asked.id, "measured")
        until(lambda: alice.grant(asked.id).state == "revoked", "the node says that it is gone", 60)
        assert bare.ssh(line, key, known).returncode == 255


def problem_of(client: Client, grant_id: int, bare: Bare) -> str:
    """What to say when it does not come."""
    log = bare.box.run("journalctl --no-pager -n 40 -u tinyfleet-root -u tinyfleet-agent", check=False)
    return f"the login is in force: {client.grant(grant_id).nodes}\n{log}"
