"""Logins through the whole: a real server, a real agent, a real sshd, and the command line of a contributor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.walls.slots import processes_of
from fleet.client import Client
from fleet.resources_access import Grant
from tests import sshd
from tests.sshd import Box
from tests.whole import ROOT, Fleet, running_fleet, until

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(300)]
WITHIN_S = 2.0  # what the README promises


@dataclass
class Lab:
    """A fleet of one node that looks after logins, and a contributor with a token of hers."""

    box: Box
    fleet: Fleet
    home: Path

    def start_agent(self) -> None:
        """The node's agent, with this machine's sshd."""
        os.environ.update(self.box.environ)
        try:
            self.fleet.start_agent("tiny1")
        finally:
            for name in self.box.environ:
                del os.environ[name]
        until(self.reached, "the node has said how it is reached")

    def reached(self) -> bool:
        with self.fleet.client() as client:
            return bool(client.ssh_hosts().items)

    def alice(self) -> Client:
        """The contributor's client."""
        return Client(self.fleet.url, (self.home / ".config" / "tinyfleet" / "token").read_text())

    def run(self, *words: str) -> Any:
        """A command of hers."""
        done = subprocess.run(
            [sys.executable, "-m", "fleet.command", *words, "--json"],
            cwd=self.home,
            env={
                "HOME": str(self.home),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "TINYFLEET_URL": self.fleet.url,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def granted(self, key: Path) -> Grant:
        """A login of hers that is in force."""
        with self.alice() as alice, self.fleet.client() as admin:
            asked = alice.request_grant("to measure", node="tiny1")
            self.box.made.append(asked.account)
            admin.approve_grant(asked.id)
            return until(lambda: in_force(alice.grant(asked.id)), "the login is in force")


def in_force(grant: Grant) -> Grant | None:
    """The login, when every node has said that it lets the key in."""
    return grant if grant.nodes and all(place.ssh for place in grant.nodes) else None


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A server, a node with an sshd, and a contributor."""
    (tmp_path / "fleet").mkdir()
    with sshd.opened() as box, running_fleet(tmp_path / "fleet") as fleet:
        home = tmp_path / "home"
        config = home / ".config" / "tinyfleet"
        config.mkdir(parents=True)
        with fleet.client() as admin:
            (config / "token").write_text(admin.mint_token("alice").secret)
        made = Lab(box, fleet, home)
        made.start_agent()
        yield made


def test_a_contributor_comes_in_by_three_commands(lab: Lab) -> None:
    key = lab.box.key("alice")
    kept = lab.run("keys", "add", f"{key}.pub")
    assert kept["type"] == "ssh-ed25519"
    asked = lab.run("access", "request", "--node", "tiny1", "--days", "2", "--reason", "to measure")
    lab.box.made.append(asked["account"])
    with lab.fleet.client() as admin:
        admin.approve_grant(asked["id"])
        shown = until(lambda: in_force(admin.grant(asked["id"])), "the login is in force")
    lab.run("access", "show", str(asked["id"]))  # writes the nodes' host keys
    command = shown.nodes[0].ssh.replace("~/", f"{lab.home}/").split()
    done = subprocess.run(
        [command[0], "-F", "none", "-i", str(key), "-o", "BatchMode=yes", *command[1:], "whoami"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == f"{asked['account']}\n", done.stderr
    assert lab.fleet.node("tiny1").trust == "shared"


def test_a_login_works_within_two_seconds_of_the_approval(lab: Lab) -> None:
    key = lab.box.key("alice")
    with lab.alice() as alice, lab.fleet.client() as admin:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
        asked = alice.request_grant("to measure", node="tiny1")
        lab.box.made.append(asked.account)
        began = time.monotonic()
        admin.approve_grant(asked.id)
        while not lab.box.logs_in(asked.account, key):
            assert time.monotonic() - began < WITHIN_S
        assert time.monotonic() - began < WITHIN_S


def test_a_revoked_login_is_refused_and_its_session_ended_within_two_seconds(lab: Lab) -> None:
    key = lab.box.key("alice")
    with lab.alice() as alice, lab.fleet.client() as admin:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
        held = lab.granted(key)
        session = subprocess.Popen(lab.box.command(held.account, key, "sleep 600"), stdin=subprocess.DEVNULL)
        uid = until(lambda: uid_of(held.account), "the account is there")
        until(lambda: processes_of(uid), "the session runs")
        began = time.monotonic()
        admin.revoke_grant(held.id, "it is over")
        session.wait(WITHIN_S)
        assert time.monotonic() - began < WITHIN_S
        assert not lab.box.logs_in(held.account, key)
        ended = until(lambda: gone(admin.grant(held.id)), "the node has said so")
        assert ended.nodes[0].gone_after_s < WITHIN_S
        assert processes_of(uid) == []


def uid_of(account: str) -> int:
    """An account's uid; 0 while there is none."""
    done = subprocess.run(["id", "-u", account], capture_output=True, text=True)
    return int(done.stdout or 0)


def gone(grant: Grant) -> Grant | None:
    """The login, once it is revoked."""
    return grant if grant.state == "revoked" else None
