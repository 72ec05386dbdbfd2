"""Contributors' accounts on this machine: made, opened, closed; what they left behind is ended. As root only.

An account is ours when it is in the group, its name begins with the prefix and its uid lies in the range: nobody
else's is ever touched. Nothing is remembered: who is open is read from the machine.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.agents.root_logins import ACCOUNT_PREFIX, FIRST_UID, GROUP, LAST_UID
from fleet.agents.walls.slots import processes_of, sweep

_DAY_S = 86_400.0
_TOOL_S, _LOGIND_S = 30.0, 5.0
_QUIET_LOOKS, _LOOKS, _LOOK_S = 4, 100, 0.03
_NO_SHELL = "/usr/sbin/nologin"
_SSHD_TITLE = re.compile(rb"sshd(?:-session)?: ([^ @\[]+)[ @\[]")


class AccountProblem(Exception):
    """An account cannot be made or changed; the message says why and what to do."""


@dataclass(frozen=True)
class Places:
    """Where what a person leaves behind lies; a test has its own."""

    group: str = GROUP
    homes: Path = Path("/home")
    shell: str = "/bin/bash"
    crontabs: Sequence[Path] = (Path("/var/spool/cron/crontabs"), Path("/var/spool/cron"))
    at_jobs: Sequence[Path] = (Path("/var/spool/cron/atjobs"), Path("/var/spool/at"))
    linger: Path = Path("/var/lib/systemd/linger")


class Accounts:
    """The accounts of contributors. Used by one thread at a time."""

    def __init__(self, places: Places | None = None) -> None:
        self._places = places or Places()

    def ours(self) -> dict[str, int]:
        """Every contributor's account by name, with its uid, open or not."""
        try:
            members = grp.getgrnam(self._places.group).gr_mem
        except KeyError:
            return {}
        found = {}
        for name in members:
            with contextlib.suppress(KeyError):
                found[name] = pwd.getpwnam(name).pw_uid
        return {name: uid for name, uid in found.items() if _is_ours(name, uid)}

    def is_open(self, name: str) -> bool:
        """Whether it could be logged into."""
        try:
            return pwd.getpwnam(name).pw_shell != _NO_SHELL
        except KeyError:
            return False

    def open(self, name: str, uid: int, until: float) -> None:
        """Make the account, or open it again. Raises AccountProblem for one that is somebody else's.

        The day after `until` is its last: cron and at keep that, should nobody be there to end it.
        """
        last_day = str(int(until // _DAY_S) + 2)
        if self._exists(name, uid):
            if not self.is_open(name) or _last_day(name) != last_day:
                _run(
                    "usermod",
                    "--shell",
                    self._places.shell,
                    "--expiredate",
                    last_day,
                    "--password",
                    "*",
                    name,
                )
            return
        if shutil.which("groupadd") is None:
            raise AccountProblem("there is no groupadd here: apt-get install passwd")
        _run("groupadd", "--force", "--system", self._places.group)
        if not self._places.homes.exists():
            self._places.homes.mkdir(parents=True)
            self._places.homes.chmod(0o755)
        home = str(self._places.homes / name)
        options = [
            "--uid",
            str(uid),
            "--user-group",
            "--groups",
            self._places.group,
            "--home-dir",
            home,
            "--create-home",
        ]
        options += [
            "--shell",
            self._places.shell,
            "--expiredate",
            last_day,
            "--password",
            "*",
            "--no-log-init",
        ]
        _run("useradd", *options, "--comment", "tinyfleet contributor", "--key", "HOME_MODE=0700", name)

    def _exists(self, name: str, uid: int) -> bool:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            with contextlib.suppress(KeyError):
                other = pwd.getpwuid(uid).pw_name
                raise AccountProblem(
                    f"uid {uid} is {other}'s here, and not {name}'s: give {other} another"
                ) from None
            return False
        if found.pw_uid != uid or self.ours().get(name) != uid:
            raise AccountProblem(
                f"the account {name} (uid {found.pw_uid}) was not made by the fleet, which wants uid {uid}: "
                "rename or remove it"
            )
        return True

    def close(self, name: str, uid: int) -> int:
        """Lock the account and end all that is its own: processes, cron, at, linger. Returns how many processes were
        killed. The home stays. Raises AccountProblem when something lives on, or the account could not be locked: a
        full disk, or somebody who edits /etc/passwd, keeps no session alive."""
        if not _is_ours(name, uid):
            raise AccountProblem(f"{name} (uid {uid}) is no contributor's account: left alone")
        killed = self._strike(name, uid)  # locking may take a while
        unlocked: AccountProblem | None = None
        if self.is_open(name):
            try:
                _run("usermod", "--lock", "--expiredate", "1", "--shell", _NO_SHELL, name)
            except AccountProblem as problem:
                unlocked = problem
        self._forget_schedules(name, uid)
        killed += self._kill(name, uid)
        left = self._forget_schedules(name, uid)  # what was killed last may have written one more
        if left:
            raise AccountProblem(f"{', '.join(left)}: remove it by hand, it would start something for {name}")
        if unlocked is not None:
            raise unlocked
        return killed

    def has_leftovers(self, name: str, uid: int) -> bool:
        """Whether a closed account has come back to life."""
        return bool(processes_of(uid)) or any(True for _ in self.schedules(name, uid))

    def end_sessions(self, name: str, uid: int) -> int:
        """Kill the person's processes, and leave the account as it is."""
        return self._kill(name, uid) if _is_ours(name, uid) else 0

    def _kill(self, name: str, uid: int) -> int:
        """Until several looks in a row find none: a login that was half done when its key went may still come."""
        killed = quiet = 0
        pause = threading.Event()
        for _ in range(_LOOKS):
            found = self._strike(name, uid)
            killed += found
            quiet = 0 if found else quiet + 1
            if quiet >= _QUIET_LOOKS:
                return killed
            pause.wait(_LOOK_S)
        raise AccountProblem(f"processes of {name} do not end: {processes_of(uid)[:8]}; look at them with ps")

    def _strike(self, name: str, uid: int) -> int:
        """Kill what there is now; returns how many processes that were."""
        found = processes_of(uid) + _half_logged_in(name)
        if found:
            sweep(uid)
            _kill_each(_half_logged_in(name))
        return len(found)

    def schedules(self, name: str, uid: int) -> Iterable[Path]:
        """Files by which cron, at or a lingering session would start something for the account."""
        for folder in (*self._places.crontabs, self._places.linger):
            path = folder / name
            if path.is_file() or path.is_symlink():
                yield path
        for folder in self._places.at_jobs:
            with contextlib.suppress(OSError):
                yield from (
                    path for path in folder.iterdir() if path.is_file() and path.lstat().st_uid == uid
                )

    def _forget_schedules(self, name: str, uid: int) -> list[str]:
        """Remove them; those that cannot be, with the reason."""
        if Path("/run/systemd/system").is_dir():
            for verb in ("disable-linger", "terminate-user"):
                with contextlib.suppress(subprocess.TimeoutExpired):  # the files go all the same
                    subprocess.run(
                        ["loginctl", verb, name], capture_output=True, timeout=_LOGIND_S, check=False
                    )
        left = []
        for path in self.schedules(name, uid):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                left.append(f"{path} ({error.strerror})")
        for folder in self._places.crontabs:
            with contextlib.suppress(OSError):
                os.utime(folder)  # cron looks at the folder's time to know that something changed
        return left


def _is_ours(name: str, uid: int) -> bool:
    return name.startswith(ACCOUNT_PREFIX) and FIRST_UID <= uid <= LAST_UID


def _last_day(name: str) -> str:
    """The day (since the epoch) on which the account ends, as its line in /etc/shadow has it."""
    for line in Path("/etc/shadow").read_text(encoding="utf-8").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return fields[7]
    return ""


def _run(program: str, *arguments: str) -> None:
    """One of the tools that edit /etc/passwd; they lock it against each other, and wait for some seconds at most."""
    command = [program, *arguments]
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_S, env=environ, check=False
        )
    except subprocess.TimeoutExpired:
        raise AccountProblem(f"{program} {arguments[-1]}: it did not end within {_TOOL_S:.0f} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise AccountProblem(f"{program} {arguments[-1]}: {said}")


def _half_logged_in(name: str) -> list[int]:
    """Root's own processes of sshd that serve this account: one that has let it in may be about to start its shell."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            title = Path(f"/proc/{entry}/cmdline").read_bytes()
            said = _SSHD_TITLE.match(title)
            if said is None or said[1] != name.encode() or os.stat(f"/proc/{entry}").st_uid != 0:
                continue
            if Path(f"/proc/{entry}/exe").resolve().name.startswith("sshd"):
                found.append(int(entry))
        except OSError:
            continue
    return found


def _kill_each(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
