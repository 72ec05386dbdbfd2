"""A bare Debian with its own systemd and sshd: brought in over SSH, then people log into it, by root's part as installed."""

from __future__ import annotations

import json
import os
import re
import shlex
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
pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3000)]
PYTHON, MACHINE = "3.11", "x86_64"  # the Debian's
PASSWORD = "canary-7c1e90"


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
            "apt-get -q update && apt-get -q install -y --no-install-recommends openssh-server sudo && "
            f"useradd --create-home --shell /bin/sh --groups sudo ops && echo ops:{PASSWORD} | chpasswd && "
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
        refused_and_cut_off(fleet, bare)
        brought_in(fleet, bare)
        with Client(fleet.url, admin.mint_token("alice").secret) as alice:
            people_log_in(fleet, admin, alice, bare)
            nothing_lingers(admin, alice, bare)
            logins_stay_with_the_next_run_and_end_with_the_agent(fleet, admin, alice, bare)


STEPS = ["root", "system", "packages", "control plane", "agent", "running", "joined"]


def bootstrap(bare: Bare, *options: str) -> list[str]:
    """The operator's command."""
    words = ["node", "bootstrap", "127.0.0.1", "--port", str(bare.port), "--host-key", bare.fingerprint]
    return [*words, "--name", "box1", "--json", *options]


def by_password(bare: Bare, sudo: str = PASSWORD) -> list[str]:
    """As somebody with a password for the login and for sudo, each in a file."""
    for name, secret in (("login-password", PASSWORD), ("sudo-password", sudo)):
        (bare.folder / name).write_text(f"{secret}\n")
    files = ["--password-file", str(bare.folder / "login-password")]
    return ["--user", "ops", *files, "--sudo-password-file", str(bare.folder / "sudo-password")]


def refused_and_cut_off(fleet: Fleet, bare: Bare) -> None:
    """Each failure names its step; what was done before it is not done again."""
    said = refused(fleet, *bootstrap(bare, *by_password(bare, sudo="wrong")))
    assert "root: log in as root, or give --sudo-password-file" in said
    busy_and_half_done(bare)
    cut_off_after(fleet, bare, "system")  # while apt waits for the locks, or works
    said = refused(fleet, *bootstrap(bare, *by_password(bare), "--server", "http://127.0.0.1:9"))
    assert re.search("packages: (was )?done", said)
    assert "the host does not reach http://127.0.0.1:9" in said
    assert bare.box.run("ls /opt; find / -xdev -name '.tinyfleet*'").split() == []
    for step in ("packages", "control plane", "agent", "running"):
        cut_off_after(fleet, bare, step)


# Somebody else's apt has the locks for a while, as on a host that has just booted; another was killed in the middle.
BUSY = """
import fcntl, time
held = [open(f"/var/lib/{name}", "w") for name in ("dpkg/lock-frontend", "dpkg/lock", "apt/lists/lock")]
for each in held:
    fcntl.lockf(each, fcntl.LOCK_EX)
time.sleep(8)
"""


def busy_and_half_done(bare: Bare) -> None:
    """A dpkg that was killed has what it had not written down yet in a folder; apt refuses to go on then."""
    half = "dpkg-query --status adduser >/var/lib/dpkg/updates/0001"
    bare.box.run(f"mkdir -p /var/lib/dpkg/updates && {half}")
    said = bare.box.run("apt-get install -y --no-install-recommends python3-venv", check=False)
    assert "dpkg was interrupted" in said
    bare.box.run(f"setsid python3 -c {shlex.quote(BUSY)} >/dev/null 2>&1 </dev/null &")


def cut_off_after(fleet: Fleet, bare: Bare, step: str) -> None:
    """The operator's machine goes away while the next step is under way; the host is left with whatever has begun."""
    words = bootstrap(bare, "--key", str(bare.key))
    environ = {"TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "fleet.command", *words],
        env={**os.environ, **environ, "COLUMNS": "500", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if line.startswith(f"{step}: ")), "")
        process.kill()
    assert said


def brought_in(fleet: Fleet, bare: Bare) -> None:
    """By one command, with a password and sudo; the second time, with root's key, nothing is left to do."""
    first = states(command(fleet, *bootstrap(bare, *by_password(bare), "--logins")))
    assert list(first) == STEPS
    assert [first[step] for step in STEPS[:5]] == ["was done"] * 4 + ["done"]
    # It was restarted, for the logins, after it had been seen: on a busy machine it may be late again for a moment.
    until(lambda: fleet.node("box1", contact="online"), "the node is in the fleet", 240)
    again = command(fleet, *bootstrap(bare, "--key", str(bare.key), "--logins"))
    assert set(states(again).values()) == {"was done"}
    left = bare.box.run(
        f"find /root /home -name '.tinyfleet*'; grep -rls {PASSWORD} /root /opt /etc/tinyfleet", check=False
    )
    assert left == ""


def refused(fleet: Fleet, *words: str) -> str:
    """What a command says that is refused, in one line."""
    environ = {"TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fleet.command", *words],
        env={**os.environ, **environ, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, f"{words}: {done.stdout}{done.stderr}"
    return " ".join(done.stderr.split())


def states(printed: str) -> dict[str, Any]:
    """What became of each step."""
    return {each["step"]: each["state"] for each in json.loads(printed)["steps"]}


def people_log_in(fleet: Fleet, admin: Client, alice: Client, bare: Bare) -> None:
    """The agent is no root, and root's part is as closed as logins allow."""
    program = "/opt/tinyfleet/current/bin/tinyfleet"
    bare.box.run(f"{program} node logins on --address 127.0.0.1 && systemctl daemon-reload")
    bare.box.run("systemctl restart tinyfleet-root tinyfleet-agent")
    until(
        lambda: [host for host in admin.ssh_hosts().items if host.address == "127.0.0.1"],
        "it is reached",
        120,
    )
    (host,) = admin.ssh_hosts().items
    assert (host.port, host.problem) == (bare.port, "")
    (bare.folder / "known").write_text("\n".join(host.known_hosts) + "\n")
    alice.add_ssh_key(made_key(bare.folder / "alice").with_name("alice.pub").read_text())
    grant_id, line = let_in(admin, alice, bare)
    done = bare.ssh(line, bare.folder / "alice", bare.folder / "known")
    assert done.stdout == "tf-alice\n", done.stderr
    out(alice, grant_id)
    assert bare.ssh(line, bare.folder / "alice", bare.folder / "known").returncode == 255


def let_in(admin: Client, alice: Client, bare: Bare) -> tuple[int, str]:
    """A login that is in force, and its command."""
    asked = alice.request_grant("to measure", node="box1")
    admin.approve_grant(asked.id)
    line = until(lambda: alice.grant(asked.id).nodes[0].ssh, problem_of(alice, asked.id, bare), 60)
    return asked.id, line


def out(client: Client, grant_id: int) -> None:
    """Revoked, and the node has said so."""
    client.revoke_grant(grant_id, "measured")
    until(lambda: client.grant(grant_id).state == "revoked", "the node says that it is gone", 60)


def nothing_lingers(admin: Client, alice: Client, bare: Bare) -> None:
    """What logind was told, and what a session left running, end with the login."""
    grant_id, line = let_in(admin, alice, bare)
    bare.box.run("loginctl enable-linger tf-alice")
    assert bare.box.run("ls /var/lib/systemd/linger").strip() == "tf-alice"
    as_alice = ["setpriv", "--reuid=tf-alice", "--regid=tf-alice", "--clear-groups"]
    # Root's part runs since before there was a folder of cron's.
    bare.box.run(
        "apt-get -q install -y --no-install-recommends cron", DEBIAN_FRONTEND="noninteractive", check=False
    )
    assert bare.box.run("ls /usr/bin/crontab", check=False).strip() == "/usr/bin/crontab"
    bare.box.run("echo '* * * * * true' | crontab -u tf-alice -")
    left = ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 </dev/null &"]
    bare.box.run(shlex.join([*as_alice, *left]))
    until(lambda: "sleep" in running(bare), "something of hers runs")
    out(alice, grant_id)
    assert running(bare) == ""
    assert bare.box.run("ls /var/lib/systemd/linger /var/spool/cron/crontabs").split() == [
        "/var/lib/systemd/linger:",
        "/var/spool/cron/crontabs:",
    ]
    assert bare.ssh(line, bare.folder / "alice", bare.folder / "known").returncode == 255


def running(bare: Bare) -> str:
    """The names of what runs as alice."""
    look = "for p in /proc/[0-9]*; do test $(stat -c %U $p) = tf-alice && cat $p/comm; done 2>/dev/null; true"
    return bare.box.run(look)


def logins_stay_with_the_next_run_and_end_with_the_agent(
    fleet: Fleet, admin: Client, alice: Client, bare: Bare
) -> None:
    """The installer's next run leaves them as they are; uninstalled, nobody is in, and root still is."""
    again = bare.box.run(f"curl -fsSL {fleet.url}/install.sh | sh -s -- --name box1")
    assert "nothing to change" in again
    _, line = let_in(admin, alice, bare)
    key, known = bare.folder / "alice", bare.folder / "known"
    assert bare.ssh(line, key, known).stdout == "tf-alice\n"
    bare.box.run(f"curl -fsSL {fleet.url}/install.sh | sh -s -- --uninstall --purge")
    assert running(bare) == ""
    assert bare.ssh(line, key, known).returncode == 255
    assert bare.ssh(line.replace("tf-alice@", "root@"), bare.key, known).stdout == "root\n"
    left = bare.box.run(
        "find /etc /opt /usr /var -xdev -iname '*tinyfleet*'; getent passwd tinyfleet", check=False
    )
    assert left == ""


def problem_of(client: Client, grant_id: int, bare: Bare) -> str:
    """What to say when it does not come."""
    log = bare.box.run("journalctl --no-pager -n 40 -u tinyfleet-root -u tinyfleet-agent", check=False)
    return f"the login is in force: {client.grant(grant_id).nodes}\n{log}"
