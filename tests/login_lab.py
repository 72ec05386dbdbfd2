"""A fleet of one node that looks after logins, with a real sshd, and a contributor: for tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.client import Client
from fleet.resources_access import Grant
from tests import sshd
from tests.sshd import Box
from tests.whole import ROOT, Fleet, running_fleet, until


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
            self.tinyfleet(*words, "--json"),
            cwd=self.home,
            env=self.environ(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def tinyfleet(self, *words: str) -> list[str]:
        """The command."""
        return [sys.executable, "-m", "fleet.command", *words]

    def environ(self) -> dict[str, str]:
        """Her environment."""
        known = {"HOME": str(self.home), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return {**known, "TINYFLEET_URL": self.fleet.url}

    def granted(self, key: Path, duration_s: float | None = None) -> Grant:
        """A login of hers that is in force."""
        with self.alice() as alice, self.fleet.client() as admin:
            asked = alice.request_grant("to measure", node="tiny1", duration_s=duration_s)
            self.box.made.append(asked.account)
            admin.approve_grant(asked.id)
            return until(lambda: in_force(alice.grant(asked.id)), "the login is in force")


def in_force(grant: Grant) -> Grant | None:
    """The login, when every node has said that it lets the key in."""
    return grant if grant.nodes and all(place.ssh for place in grant.nodes) else None


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Lab]:
    """A server, a node with an sshd, and a contributor."""
    (folder / "fleet").mkdir()
    with sshd.opened() as box, running_fleet(folder / "fleet") as fleet:
        home = folder / "home"
        config = home / ".config" / "tinyfleet"
        config.mkdir(parents=True)
        with fleet.client() as admin:
            (config / "token").write_text(admin.mint_token("alice").secret)
        made = Lab(box, fleet, home)
        made.start_agent()
        yield made


def gone(grant: Grant) -> Grant | None:
    """The login, once it is revoked."""
    return grant if grant.state == "revoked" else None
