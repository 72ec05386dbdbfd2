"""Logins through the whole: a real server, a real agent, a real sshd, and the command line of a contributor."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.agents.walls.slots import processes_of
from fleet.resources_access import Grant
from tests import login_lab
from tests.login_lab import Lab, gone, in_force
from tests.sshd import uid_of
from tests.whole import ROOT, until

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(300)]
WITHIN_S = 2.0  # what the README promises
TRIES, FUNCTIONS_S = 8, 60.0
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A server, a node with an sshd, and a contributor."""
    with login_lab.opened(tmp_path) as made:
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


def test_the_three_commands_of_the_readme_lead_to_a_shell(lab: Lab) -> None:
    """As they stand there; an administrator approves while the second one waits."""
    block = re.search(r"## A shell on a box\n.*?```text\n(.*?)```", README, re.DOTALL)
    assert block is not None
    keys, access, ssh = (shlex.split(line)[1:] for line in block[1].splitlines())
    folder = lab.home / ".ssh"
    folder.mkdir(mode=0o700)
    key = lab.box.key("id_ed25519").rename(folder / "id_ed25519")
    (lab.box.folder / "clients" / "id_ed25519.pub").rename(folder / "id_ed25519.pub")
    lab.run(*(word.replace("~", str(lab.home)) for word in keys))
    waiting = subprocess.Popen(
        lab.tinyfleet(*access), env=lab.environ(), cwd=lab.home, stdout=subprocess.PIPE, text=True
    )
    with lab.fleet.client() as admin:
        (asked,) = until(lambda: admin.grants("requested").items, "it is asked for")
        lab.box.made.append(asked.account)
        admin.approve_grant(asked.id)
    said, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert f"{asked.account}@127.0.0.1" in said.replace("\n", "")
    done = subprocess.run(
        lab.tinyfleet(*ssh, "-i", str(key), "--", "whoami"),
        env=lab.environ(),
        cwd=lab.home,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout == f"{asked.account}\n", done.stderr


def test_ssh_by_the_nodes_name_needs_a_login_and_trusts_nothing_on_first_use(lab: Lab) -> None:
    key = lab.box.key("alice")

    def ssh(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            lab.tinyfleet("ssh", *words),
            cwd=lab.home,
            env=lab.environ(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    refused = ssh("tiny1")
    assert refused.returncode == 2
    assert "you have no login on tiny1: ask for one with" in refused.stderr
    with lab.alice() as alice:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
    held = lab.granted(key)
    done = ssh("-i", str(key), "tiny1", "--", "whoami")
    assert done.stdout == f"{held.account}\n", done.stderr
    said = lab.run("ssh", "tiny1")["command"]
    assert said[-1].startswith(f"{held.account}@")
    kept = lab.home / ".config" / "tinyfleet" / "nodes" / "tinyfleet-tiny1"
    lines = kept.read_text().splitlines()
    assert lines
    assert all(line.split()[0] == "tinyfleet-tiny1" for line in lines)
    kept.write_text("")  # whoever answers there is somebody that nobody has told of
    first = [said[0], "-F", "none", "-i", str(key), "-o", "BatchMode=yes", *said[1:], "true"]
    done = subprocess.run(first, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 255, "it was trusted"
    assert "Host key verification failed" in done.stderr
    assert kept.read_text() == ""
    other = Path(f"{lab.box.key('rogue')}.pub").read_text().split()[:2]
    kept.write_text(f"tinyfleet-tiny1 {' '.join(other)}\n")
    rogue = subprocess.run(
        [said[0], "-F", "none", "-o", "BatchMode=yes", "-i", str(key), *said[1:], "whoami"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert rogue.returncode == 255
    assert "Host key verification failed" in rogue.stderr


def test_a_login_works_within_two_seconds_of_the_approval(lab: Lab) -> None:
    key = lab.box.key("alice")
    with lab.alice() as alice, lab.fleet.client() as admin:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())

        def once() -> float:
            asked = alice.request_grant("to measure", node="tiny1")
            lab.box.made.append(asked.account)
            assert not lab.box.logs_in(asked.account, key)
            began = tried = time.monotonic()
            admin.approve_grant(asked.id)
            while not lab.box.logs_in(asked.account, key):
                tried = time.monotonic()  # how long ssh itself takes is not what is promised
                assert tried - began < FUNCTIONS_S
            admin.revoke_grant(asked.id, "again")
            until(lambda: gone(admin.grant(asked.id)), "the node has said so")
            return tried - began

        kept(once)


def kept(once: Callable[[], float]) -> None:
    """The promise is kept in one of some tries. Each has to work; how long it takes is the machine's as well, whose cores may
    be busy: what is measured on quiet ones stands in the README (tests/bench/logins.py)."""
    took: list[float] = []
    while not took or took[-1] >= WITHIN_S:
        assert len(took) < TRIES, took
        took.append(once())


def test_a_revoked_login_is_refused_and_its_session_ended_within_two_seconds(lab: Lab) -> None:
    key = lab.box.key("alice")
    with lab.alice() as alice, lab.fleet.client() as admin:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())

        def once() -> float:
            held = lab.granted(key)
            with lab.box.session(held.account, key) as session:
                uid = uid_of(held.account)
                began = time.monotonic()
                admin.revoke_grant(held.id, "it is over")
                session.wait(FUNCTIONS_S)
                took = time.monotonic() - began
            ended = until(lambda: gone(admin.grant(held.id)), "the node has said so")
            assert processes_of(uid) == []
            assert not lab.box.logs_in(held.account, key)
            said = ended.nodes[0].gone_after_s
            assert said is not None
            return max(took, said)

        kept(once)


def test_a_node_that_hears_from_nobody_ends_a_login_at_its_end(lab: Lab) -> None:
    """The server is gone from then on: the agent ends the sessions, sshd refuses the key."""
    key = lab.box.key("alice")
    with lab.alice() as alice:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
        held = lab.granted(key, duration_s=20.0)
    with lab.box.session(held.account, key) as session:
        uid = uid_of(held.account)
        assert lab.fleet.server is not None
        lab.fleet.server.kill()
        assert session.wait(60) == 255
    until(lambda: processes_of(uid) == [], "nothing of it runs")
    assert not lab.box.logs_in(held.account, key)


def test_sshd_ends_a_login_although_no_agent_is_left(lab: Lab) -> None:
    key = lab.box.key("alice")
    with lab.alice() as alice:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
        held = lab.granted(key, duration_s=20.0)
    for process in lab.fleet.agents.values():
        process.kill()
    assert lab.box.logs_in(held.account, key) or over(held)
    until(lambda: not lab.box.logs_in(held.account, key), "sshd refuses the key", 60)


def over(grant: Grant) -> bool:
    """Whether its end has come, on a machine so busy that nothing else did."""
    assert grant.until is not None
    return datetime.now(UTC) >= datetime.fromisoformat(grant.until)


def test_certificates_and_the_nodes_own_are_an_option(lab: Lab) -> None:
    key, own = lab.box.key("alice"), lab.box.key("own")
    with lab.alice() as alice:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
        held = lab.granted(key)
    made = subprocess.run(
        lab.tinyfleet("ca", "ssh", "--data", str(lab.fleet.folder / "data")),
        env=lab.environ(),
        capture_output=True,
    )
    assert made.returncode == 0, made.stderr
    with lab.alice() as alice:
        until(lambda: "@cert-authority" in alice.ssh_hosts().items[0].known_hosts[0], "the node has its own")
    got = lab.run("access", "certificate", str(held.id), "--key", str(key))
    assert got["serial"] == 1
    alone = lab.box.folder / "certificate"
    alone.write_text(lab.box.folder.joinpath("clients", "alice-cert.pub").read_text())
    # Only the authority's line, and only the certificate: neither key is known to the other side by itself.
    with lab.alice() as alice:
        (host,) = alice.ssh_hosts().items
    told = lab.box.folder / "told"
    told.write_text(f"{host.known_hosts[0]}\n")
    options = (f"UserKnownHostsFile={told}", f"HostKeyAlias={host.alias}", f"CertificateFile={alone}")
    until(lambda: lab.box.logs_in(held.account, key, options), "the certificate opens", 60)
    assert not lab.box.logs_in(held.account, own, options[:2])
    with lab.fleet.client() as admin:
        admin.revoke_grant(held.id, "over")
        until(lambda: gone(admin.grant(held.id)), "the node has said so")
    assert not lab.box.logs_in(held.account, key, options)


def test_removing_a_person_ends_their_sessions_on_the_node(lab: Lab) -> None:
    key = lab.box.key("alice")
    with lab.alice() as alice:
        alice.add_ssh_key(Path(f"{key}.pub").read_text())
        held = lab.granted(key)
    with lab.box.session(held.account, key) as session:
        with lab.fleet.client() as admin:
            assert admin.remove_person("alice").grants == 1
        assert session.wait(60) == 255
    assert not lab.box.logs_in(held.account, key)
