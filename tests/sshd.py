"""A real sshd on a port of its own, with accounts of its own, for tests that log in. As root only; one at a time.

sshd wants the folders above its files to be root's and writable by nobody else, so that they lie below /run.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fleet.agents.public_keys import parse
from fleet.agents.root_access import Where
from fleet.agents.root_accounts import Accounts, Places
from fleet.agents.root_logins import FIRST_UID, Login
from fleet.agents.root_sshd import Sshd
from fleet.agents.walls.slots import processes_of, sweep
from tests.parts import need
from tests.whole import command_line, until

GROUP = "tinyfleet-test"
FAR = 4_000_000_000.0  # epoch seconds, long after any test
_PREFIX = "tinyfleet-test-"


@dataclass
class Box:
    """One machine with an sshd: its files, its port, and the keys of its owner."""

    folder: Path
    port: int
    made: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.folder / "sshd_config"

    @property
    def where(self) -> Where:
        """Where an agent finds all of it."""
        sshd = Sshd(config=self.config, drop_in=self.folder / "sshd_config.d" / "40-tinyfleet.conf")
        places = Places(group=GROUP, homes=self.folder / "homes")
        return Where(sshd, self.folder / "tinyfleet", places, "127.0.0.1")

    @property
    def environ(self) -> dict[str, str]:
        """The same for an agent in a process of its own."""
        return {
            "TINYFLEET_SSH": "on",
            "TINYFLEET_SSHD_CONFIG": str(self.config),
            "TINYFLEET_SSHD_DROP_IN": str(self.where.sshd.drop_in),
            "TINYFLEET_SSH_FOLDER": str(self.where.folder),
            "TINYFLEET_SSH_HOMES": str(self.folder / "homes"),
            "TINYFLEET_SSH_GROUP": GROUP,
            "TINYFLEET_SSH_ADDRESS": "127.0.0.1",
            "TINYFLEET_SSH_LOCK": str(self.folder / "lock"),
        }

    @property
    def known_hosts(self) -> Path:
        """What a client knows of this machine."""
        path = self.folder / "known_hosts"
        key = (self.folder / "host_key.pub").read_text().split()
        path.write_text(f"[127.0.0.1]:{self.port} {key[0]} {key[1]}\n")
        return path

    def key(self, name: str, *options: str) -> Path:
        """A new key pair; the path of the private half."""
        path = self.folder / "clients" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-N", "", "-f", str(path), *(options or ("-t", "ed25519"))], check=True
        )
        return path

    def ssh(
        self, account: str, key: Path, *command: str, options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command by ssh: rc 255 when the login was refused."""
        return subprocess.run(
            self.command(account, key, *command, options=options),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def command(self, account: str, key: Path, *command: str, options: Sequence[str] = ()) -> list[str]:
        """The command line of a login that asks nothing, trusts nothing new, and uses this key alone."""
        fixed = ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "ConnectTimeout=30"]
        fixed += [
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "IdentityAgent=none",
        ]
        given = [part for option in (*options, *fixed) for part in ("-o", option)]
        return [
            "ssh",
            "-F",
            "none",
            "-i",
            str(key),
            "-p",
            str(self.port),
            *given,
            f"{account}@127.0.0.1",
            *command,
        ]

    def logs_in(self, account: str, key: Path, options: Sequence[str] = ()) -> bool:
        """Whether a login works now."""
        done = self.ssh(account, key, "echo in as $USER", options=options)
        assert done.returncode in (0, 255), (done.stdout, done.stderr)
        return done.stdout == f"in as {account}\n"

    @contextlib.contextmanager
    def session(
        self, account: str, key: Path, options: Sequence[str] = (), quiet: bool = False
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A session that sleeps; it has begun, and no login before it is taken for it. Killed at the end."""
        command = self.command(account, key, "sleep 600", options=options)
        said = subprocess.DEVNULL if quiet else None
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=said) as session:
            try:
                until(lambda: sleeping(account), "the session runs")
                yield session
            finally:
                session.kill()

    def grant(self, name: str, key: Path, number: int = 1, until: float = FAR) -> Login:
        """A grant as the fleet would send it; its account is removed after the test."""
        account = f"tf-{name}"
        self.made.append(account)
        line = parse(key.with_name(f"{key.name}.pub").read_text()).line
        return Login(grant_id=number, account=account, uid=FIRST_UID + 20_000 + number, key=line, until=until)

    def start(self) -> None:
        """Start the daemon."""
        subprocess.run(["/usr/sbin/sshd", "-f", str(self.config), "-E", str(self.folder / "log")], check=True)
        until(lambda: self.listens(), "sshd listens")

    def listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """End the daemon and every account that was made."""
        clear(self.folder)
        for name in {*self.made, *_members()}:
            remove_account(name)
        subprocess.run(["groupdel", GROUP], capture_output=True, check=False)


def uid_of(account: str) -> int:
    """An account's uid; 0 while there is none."""
    done = subprocess.run(["id", "-u", account], capture_output=True, text=True)
    return int(done.stdout or 0)


def sleeping(account: str) -> bool:
    """Whether `sleep` runs in a session of this account."""
    uid = uid_of(account)
    return uid > 0 and any(command_line(pid).startswith("sleep ") for pid in processes_of(uid))


def clear(folder: Path) -> None:
    """End the sshd of a folder, and take the folder away."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        if Path(f"/proc/{pid}/exe").resolve().name.startswith("sshd"):
            os.kill(pid, 9)
    shutil.rmtree(folder, ignore_errors=True)


def _members() -> list[str]:
    try:
        return grp.getgrnam(GROUP).gr_mem
    except KeyError:
        return []


def remove_account(name: str) -> None:
    """Take a test's account away, with all that runs as it or would."""
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:
        return
    sweep(uid)
    for path in Accounts().schedules(name, uid):
        path.unlink(missing_ok=True)
    subprocess.run(["userdel", "--force", "--remove", name], capture_output=True, check=False)


def _clear_what_was_left() -> None:
    """A test that was killed could not tidy up."""
    for folder in Path("/run").glob(f"{_PREFIX}*/"):
        clear(folder)
    for name in _members():
        remove_account(name)


@contextlib.contextmanager
def opened() -> Iterator[Box]:
    """A machine with its sshd running; the test is skipped by name where it cannot be."""
    need("/usr/sbin/sshd", install="openssh-server")
    need("/usr/sbin/useradd", install="passwd")
    if os.geteuid() != 0:
        pytest.skip("accounts are made by root only: run the suite as root for this test")
    with Path("/run/tinyfleet-test.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # accounts are the machine's: one test at a time has them
        _clear_what_was_left()
        box = _made(Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/run")))
        try:
            box.start()
            yield box
        finally:
            box.stop()


def _made(folder: Path) -> Box:
    folder.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as free:
        box = Box(folder, free.getsockname()[1])
    (folder / "sshd_config.d").mkdir(mode=0o755)
    (folder / "admin").mkdir(mode=0o755)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key")], check=True
    )
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    admin = box.key("admin")
    shutil.copy(admin.with_name("admin.pub"), folder / "admin" / "root")
    box.config.write_text(
        f"Include {folder}/sshd_config.d/*.conf\n"
        f"Port {box.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\n"
        # As Debian has it, and the owner's own way in beside it.
        f"AuthorizedKeysFile .ssh/authorized_keys {folder}/admin/%u\n"
        "UsePAM yes\nPermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n"
        "PasswordAuthentication no\nPermitUserRC yes\nMaxStartups 100\nPerSourceMaxStartups none\n"
    )
    return box
