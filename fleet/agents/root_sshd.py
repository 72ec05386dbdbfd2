"""This machine's sshd: ask it what it would do, change its drop-in, and take that back when it is broken.

The drop-in is put in place only while `sshd -t` accepts the whole configuration and what holds for root (ports, keys,
methods: everything that `sshd -T` says) is word for word what it was; after the reload it has to answer. Otherwise
the file that was there before is put back, so that whoever owns the machine still gets in.
"""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fleet.agents.durable import write_bytes
from fleet.agents.public_keys import KeyRefused, parse

_ASK_S, _ANSWER_S, _LOOK_S = 20.0, 10.0, 0.05
_ADMIN = "root"
_NOT_THE_ADMINS = ("hostcertificate",)  # the one line of the drop-in that is about everybody


class SshdProblem(Exception):
    """sshd refuses, does not answer, or would do something else than it should; the message says what to do."""


class NotInForce(SshdProblem):
    """The drop-in is in its place and sshd goes by something else."""


@dataclass(frozen=True)
class Sshd:
    """One sshd by its program, its configuration, and the drop-in that is ours."""

    program: Path = Path("/usr/sbin/sshd")
    config: Path = Path("/etc/ssh/sshd_config")
    drop_in: Path = Path("/etc/ssh/sshd_config.d/40-tinyfleet.conf")

    @property
    def present(self) -> bool:
        """Whether there is one at all."""
        return self.program.exists() and self.config.exists()

    def version(self) -> tuple[int, int]:
        """OpenSSH's version; (0, 0) for one that does not say it."""
        # An older one does not know -V, complains, and says its version with that.
        done = subprocess.run(
            [self.program, "-V"], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
        found = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stderr + done.stdout)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def effective(self, user: str = _ADMIN) -> dict[str, list[str]]:
        """What holds for a user, by option: the values in their order. Raises SshdProblem."""
        who = f"user={user},host=localhost,addr=127.0.0.1"
        text = self._ask("-T", "-C", who)
        found: dict[str, list[str]] = {}
        for line in text.splitlines():
            option, _, value = line.partition(" ")
            found.setdefault(option.lower(), []).append(value)
        return found

    def _ask(self, *arguments: str) -> str:
        command = [str(self.program), *arguments, "-f", str(self.config)]
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it separates privileges; a unit makes it
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
        if done.returncode:
            raise SshdProblem(f"sshd {arguments[0]}: {_last_line(done.stderr)}")
        return done.stdout

    def host_keys(self) -> list[str]:
        """The public host keys that are good enough to be trusted, each TYPE BASE64. Raises SshdProblem."""
        lines = []
        for name in self.effective().get("hostkey", []):
            try:
                lines.append(parse(Path(f"{name}.pub").read_text(encoding="utf-8")).line)
            except (OSError, UnicodeDecodeError, KeyRefused):
                continue  # one that is weak or has no public file is not vouched for
        return lines

    def port(self) -> int:
        """The first port that it listens on. Raises SshdProblem."""
        return int(self.effective().get("port", ["22"])[0])

    def install(self, text: str) -> bool:
        """Put the drop-in in place and reload; whether it had to be. Raises SshdProblem, with all as it was before."""
        before = _read(self.drop_in)
        if before == text:
            return False
        admins = self._admins()  # broken already: nothing of ours is added to it
        self._write(text)
        try:
            self._check(admins)
        except SshdProblem:
            self._put_back(before)  # the daemon has not read it
            raise
        try:
            self.reload()
        except SshdProblem:
            self._put_back(before)
            self._revive()
            raise
        return True

    def remove(self) -> bool:
        """Take the drop-in away and reload; whether there was one."""
        if not self.drop_in.exists():
            return False
        self.drop_in.unlink()
        self.reload()
        return True

    def check_holds_for(self, account: str, group: str, keys: Path) -> None:
        """SshdProblem unless an account is let in by our files alone: another Match may have been there first."""
        found = self.effective(account)
        expected = f"{keys}/%u"
        said = found.get("authorizedkeysfile", [""])[0]
        if said != expected:
            raise NotInForce(
                f"the drop-in does not hold for {account}: sshd reads {said or 'nothing'} instead of {expected}. "
                f"{self.config} has to begin with: Include {self.drop_in.parent}/*.conf"
            )
        groups = (group, account)  # the account's own has its name
        for option, subjects in (("users", (account,)), ("groups", groups)):
            allowed, denied = (
                " ".join(found.get(f"{word}{option}", [])).split() for word in ("allow", "deny")
            )
            if allowed and not _matched(allowed, subjects):
                raise NotInForce(f"allow{option} of {self.config} leaves {subjects[0]} out: add it there")
            if _matched(denied, subjects):
                raise NotInForce(f"deny{option} of {self.config} keeps {subjects[0]} out: take it out there")

    def _admins(self) -> dict[str, list[str]]:
        try:
            self._ask("-t")
            found = self.effective()
        except SshdProblem as problem:
            raise SshdProblem(
                f"the configuration is broken without us, and is left alone: {problem}"
            ) from None
        return {option: values for option, values in found.items() if option not in _NOT_THE_ADMINS}

    def _check(self, admins: dict[str, list[str]]) -> None:
        self._ask("-t")
        now = {option: values for option, values in self.effective().items() if option not in _NOT_THE_ADMINS}
        changed = sorted(
            option for option in admins.keys() | now.keys() if admins.get(option) != now.get(option)
        )
        if changed:
            raise SshdProblem(
                f"the drop-in would change {', '.join(changed)} for {_ADMIN}: it was taken back"
            )

    def _write(self, text: str) -> None:
        self.drop_in.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_bytes(self.drop_in, text.encode(), mode=0o644, durable=True)

    def _put_back(self, before: str | None) -> None:
        if before is None:
            self.drop_in.unlink(missing_ok=True)
        else:
            self._write(before)

    def reload(self) -> None:
        """Let the daemon read its files anew; sessions go on. Raises SshdProblem when it does not answer after that."""
        pid, file = self._daemon(), self._pid_file()
        if pid is None:
            return  # none runs by itself: each connection starts one, which reads the files
        before = _stamp(file)
        os.kill(pid, signal.SIGHUP)
        # It starts itself anew and writes the file anew: until then the answer would be the old one's.
        if not _soon(lambda: _stamp(file) not in (None, before)) or not self._answers():
            raise SshdProblem("sshd does not answer after the reload: the drop-in was taken back")

    def _revive(self) -> None:
        """With the files as they were: a daemon that has gone down comes back, another one reads them again."""
        if self._daemon() is None or not self._answers():
            self._start()
            self._answers()
        else:
            self.reload()

    def _daemon(self) -> int | None:
        """The pid of the sshd that listens; None when none runs."""
        try:
            pid = int(self._pid_file().read_text())
            program = Path(f"/proc/{pid}/exe").resolve().name
        except (OSError, ValueError):
            return None
        return pid if program.startswith("sshd") else None

    def _pid_file(self) -> Path:
        return Path(self.effective().get("pidfile", ["/run/sshd.pid"])[0])

    def _start(self) -> None:
        if Path("/run/systemd/system").is_dir():
            for unit in ("ssh.service", "sshd.service"):
                if (
                    subprocess.run(
                        ["systemctl", "restart", unit], capture_output=True, check=False
                    ).returncode
                    == 0
                ):
                    return
        subprocess.run([self.program, "-f", self.config], capture_output=True, timeout=_ASK_S, check=False)

    def _answers(self) -> bool:
        """Whether it greets within some seconds."""
        addresses = list(_addresses(self.effective().get("listenaddress", [])))
        return _soon(lambda: any(_greets(host, port) for host, port in addresses))


def _matched(patterns: Sequence[str], subjects: Iterable[str]) -> bool:
    """Whether one of these is meant, by ssh_config's patterns: of USER@HOST the user, whatever the host; one after ! is not."""
    names = [each.partition("@")[0] for each in patterns]

    def meant(subject: str) -> bool:
        refused = any(fnmatchcase(subject, each[1:]) for each in names if each.startswith("!"))
        return not refused and any(fnmatchcase(subject, each) for each in names)

    return any(meant(subject) for subject in subjects)


def _soon(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within some seconds."""
    pause = threading.Event()
    for _ in range(int(_ANSWER_S / _LOOK_S)):
        if condition():
            return True
        pause.wait(_LOOK_S)
    return False


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells a file from the one that is written in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _addresses(listening: Iterable[str]) -> Iterable[tuple[str, int]]:
    """Where to knock from here, of `ADDRESS:PORT` and `[ADDRESS]:PORT`; any address stands for loopback."""
    for each in listening:
        host, _, port = each.rpartition(":")
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
        loopback = "127.0.0.1" if address.version == 4 else "::1"
        yield loopback if address.is_unspecified else str(address), int(port)


def _greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2.0) as connection:
            connection.settimeout(2.0)
            return connection.recv(8).startswith(b"SSH-")
    except OSError:
        return False


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason was given")[:400]
