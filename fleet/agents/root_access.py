"""The part of logins that needs root: render what the fleet wants, end what is over.

access.apply  a whole list of logins: accounts, keys, principals, drop-in; answers how it stands then
access.look   what is in force now; ends what has expired on the way

It runs inside an agent that is root, or in root's part of the node (`fleet.agents.root`) beside an agent that is not.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from fleet.agents.durable import write_bytes
from fleet.agents.root_access_files import (
    Layout,
    by_account,
    drop_in,
    grants_in,
    key_lines,
    keys_in,
    principal_lines,
)
from fleet.agents.root_accounts import AccountProblem, Accounts, Places
from fleet.agents.root_logins import LARGEST, Login, Logins, Standing
from fleet.agents.root_sshd import NotInForce, Sshd, SshdProblem
from fleet.agents.root_verbs import Fields, Refusal, Root, Verb

_KEYGEN_S = 20.0
_WATCHED_S = 60.0  # a closed account is looked at each time for so long, then now and then
_RARELY = 30
_SOON, _LATE = 5, 300  # looks until what could not be done is tried again: the first time, and in the end
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Where:
    """Which sshd, which folder, which accounts, and what contributors connect to."""

    sshd: Sshd = field(default_factory=Sshd)
    folder: Path = Path("/etc/ssh/tinyfleet")
    places: Places = field(default_factory=Places)
    address: str = ""

    @staticmethod
    def from_env(environ: Mapping[str, str]) -> Where:
        """Debian's places, unless TINYFLEET_SSHD, _SSHD_CONFIG, _SSHD_DROP_IN, _SSH_FOLDER, _SSH_HOMES, _SSH_GROUP say otherwise."""
        sshd = Sshd(
            program=Path(environ.get("TINYFLEET_SSHD", Sshd.program)),
            config=Path(environ.get("TINYFLEET_SSHD_CONFIG", Sshd.config)),
            drop_in=Path(environ.get("TINYFLEET_SSHD_DROP_IN", Sshd.drop_in)),
        )
        return Where(
            sshd,
            Path(environ.get("TINYFLEET_SSH_FOLDER", Where.folder)),
            Places(
                group=environ.get("TINYFLEET_SSH_GROUP", Places.group),
                homes=Path(environ.get("TINYFLEET_SSH_HOMES", Places.homes)),
            ),
            environ.get("TINYFLEET_SSH_ADDRESS", "") or socket.gethostname(),
        )

    def below(self, folder: Path) -> Where:
        """The same on a machine whose root is another folder; its accounts are nobody's here."""
        if folder == Path("/"):
            return self

        def at(path: Path) -> Path:
            return folder / path.relative_to("/")

        sshd = Sshd(at(self.sshd.program), at(self.sshd.config), at(self.sshd.drop_in))
        places = replace(self.places, group=f"{self.places.group}-elsewhere", homes=at(self.places.homes))
        return Where(sshd, at(self.folder), places, self.address)


class AccessRoot:
    """Renders what it is told. May be called from several threads: one at a time gets in."""

    def __init__(self, where: Where, clock: Callable[[], float] = time.time) -> None:
        self._where, self._clock = where, clock
        self._layout = Layout(where.folder)
        self._accounts = Accounts(where.places)
        self._guard = threading.Lock()
        self._spec = self._kept()
        self._generation = 0
        self._problems: list[str] = []
        self._in_force: dict[int, float] = {}  # until when, epoch seconds
        self._facts: Standing | None = None
        self._closed_at: dict[str, float] = {}
        self._looks = 0
        self._again = _SOON  # looks until then, when there is a problem
        self._pause = _SOON
        self._version = (0, 0)
        with contextlib.suppress(SshdProblem, OSError):
            self._version = where.sshd.version()

    def apply(self, spec: Logins, generation: int = 0) -> Standing:
        """Make it so: who is not listed is out, and has no process left, when this returns."""
        with self._guard:
            self._spec = spec
            self._keep(spec)
            self._pause = self._again = _SOON
            self._render()
            self._generation, self._facts = generation, None
            return self._report()

    def look(self) -> Standing:
        """End what has expired since the last time, and what has come back to life; then say how it stands."""
        with self._guard:
            now = self._clock()
            over = any(until <= now for until in self._in_force.values())
            if over or self._revived() or self._is_to_be_tried_again():
                self._render()
            return self._report()

    def _is_to_be_tried_again(self) -> bool:
        """What could not be done, a file that somebody had locked or an sshd that somebody has mended since, is tried
        again soon, then less and less often."""
        if not self._problems:
            self._pause = self._again = _SOON
            return False
        self._again -= 1
        if self._again > 0:
            return False
        self._pause = self._again = min(2 * self._pause, _LATE)
        return True

    def _revived(self) -> bool:
        """Closed accounts with a process or a cron job again: looked for often at first, then rarely."""
        self._looks += 1
        if self._looks % (10 * _RARELY) == 0:
            self._facts = None  # host keys and ports change, if seldom
        now = self._clock()
        for name, uid in self._accounts.ours().items():
            recent = now - self._closed_at.get(name, 0.0) < _WATCHED_S
            if not recent and self._looks % _RARELY != 1:
                continue
            if not self._accounts.is_open(name) and self._accounts.has_leftovers(name, uid):
                _log.warning("the closed account %s had something running: it is ended", name)
                return True
        return False

    # ------------------------------------------------------------------------------------- rendering

    def _render(self) -> None:
        """Everything anew from the spec and the clock: doing it twice changes nothing."""
        wanted = by_account(grant for grant in self._spec.grants if grant.until > self._clock())
        self._problems = []
        self._close(name for name in self._accounts.ours() if name not in wanted)
        if self._spec == Logins() and not self._layout.folder.exists():
            self._in_force = {}  # nobody was ever let in: sshd is left as it is
            return
        opened = self._open_all(wanted)
        try:
            self._write_files(opened)
            self._where.sshd.install(drop_in(self._usable(), self._layout, self._where.places.group))
            for account in list(opened)[:1]:
                self._where.sshd.check_holds_for(account, self._where.places.group, self._layout.keys)
        except (SshdProblem, OSError) as problem:
            self._problems.append(str(problem))
            if isinstance(problem, NotInForce) or not self._where.sshd.drop_in.exists():
                self._close(opened)  # else the account's own authorized_keys would count
                opened = {}
        self._in_force = {grant.grant_id: grant.until for grants in opened.values() for grant in grants}

    def _close(self, names: Iterable[str]) -> None:
        """The key goes first, then the account, then the sessions: nobody comes in between."""
        ours = self._accounts.ours()
        for name in [each for each in names if each in ours]:
            self._set_aside(name)
            for folder in (self._layout.keys, self._layout.principals):
                (folder / name).unlink(missing_ok=True)
            try:
                if self._accounts.is_open(name) or self._accounts.has_leftovers(name, ours[name]):
                    killed = self._accounts.close(name, ours[name])
                    self._closed_at[name] = self._clock()
                    _log.info("%s is closed; %d of its processes were ended", name, killed)
                self._forget(name)
            except AccountProblem as problem:
                self._problems.append(str(problem))

    def _set_aside(self, name: str) -> None:
        """Remember what an account was open for, until it is known that nothing of that is left."""
        taken = {path.name for path in self._aside(name)}
        number = next(n for n in range(len(taken) + 1) if f"{name}.{n}" not in taken)
        try:
            self._layout.closing.mkdir(mode=0o755, exist_ok=True)
            os.link(self._layout.keys / name, self._layout.closing / f"{name}.{number}")
        except FileNotFoundError:
            return  # nobody was let in
        except OSError as problem:
            self._problems.append(f"{self._layout.closing}: {problem.strerror}")  # the key goes all the same

    def _aside(self, name: str = "*") -> list[Path]:
        return sorted(self._layout.closing.glob(f"{name}.*"))

    def _forget(self, name: str) -> None:
        for path in self._aside(name):
            path.unlink()

    def _not_gone(self) -> set[int]:
        """Grants whose keys are out and that may have a session still: the fleet must not be told that they are gone."""
        return {each for path in self._aside() for each in grants_in(path.read_text(encoding="utf-8"))}

    def _open_all(self, wanted: Mapping[str, list[Login]]) -> dict[str, list[Login]]:
        opened = {}
        for name, grants in wanted.items():
            try:
                if len({grant.uid for grant in grants}) > 1:
                    self._problems.append(f"{name} is wanted with two uids")
                    continue
                self._accounts.open(name, grants[0].uid, max(grant.until for grant in grants))
                opened[name] = grants
            except AccountProblem as problem:
                self._problems.append(str(problem))
                if self._accounts.ours().get(name) == grants[0].uid and self._accounts.is_open(name):
                    opened[name] = grants  # open as it is; it is tried again
        return opened

    def _usable(self) -> Logins:
        """The spec without what has not been written: a drop-in names no file that is not there."""
        return self._spec if self._layout.revoked.exists() else replace(self._spec, revoked=None)

    def _write_files(self, opened: Mapping[str, list[Login]]) -> None:
        layout = self._layout
        for folder in (layout.folder, layout.keys, layout.principals, layout.closing):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)  # whatever the umask: sshd reads the keys as the one who logs in
        for name, grants in opened.items():
            if _keys_of(layout.keys / name) - {grant.key for grant in grants}:
                self._set_aside(name)
            self._write(layout.keys / name, key_lines(grants, self._version))
            self._write(layout.principals / name, principal_lines(grants, self._version))
            if self._aside(name):
                self._end_sessions(name, grants[0].uid)
        for folder in (layout.keys, layout.principals):
            for path in folder.iterdir():
                if path.name not in opened:
                    path.unlink()
        if self._spec.user_ca:
            self._write(self._layout.user_ca, self._spec.user_ca + "\n")
        if self._spec.host_certificate:
            self._write(self._layout.host_certificate, self._spec.host_certificate + "\n")
        self._write_revoked()

    def _end_sessions(self, name: str, uid: int) -> None:
        """Somebody keeps one key and loses another: which of them opened a session is not known."""
        try:
            self._accounts.end_sessions(name, uid)
            self._forget(name)
        except AccountProblem as problem:
            self._problems.append(str(problem))

    def _write_revoked(self) -> None:
        """A list that cannot be read would lock everybody out: the one before stays then."""
        if self._spec.revoked is None:
            return
        try:
            content = base64.b64decode(self._spec.revoked, validate=True)
        except binascii.Error:
            self._problems.append("the key revocation list is not base64: the one before stays")
            return
        if self._layout.revoked.exists() and self._layout.revoked.read_bytes() == content:
            return
        aside = self._layout.folder / ".revoked.new"
        write_bytes(aside, content, mode=0o644)
        known = subprocess.run(
            ["ssh-keygen", "-Q", "-l", "-f", str(aside)], capture_output=True, timeout=_KEYGEN_S, check=False
        )
        if not content or known.returncode:
            aside.unlink()
            self._problems.append("the key revocation list is cut off or none: the one before stays")
            return
        aside.replace(self._layout.revoked)

    def _write(self, path: Path, text: str) -> None:
        try:
            if path.read_text(encoding="utf-8") == text:
                return
        except FileNotFoundError:
            pass
        write_bytes(path, text.encode(), mode=0o644, durable=True)

    # ---------------------------------------------------------------------------------- what is told

    def _kept(self) -> Logins:
        try:
            return Logins.of(json.loads(self._layout.spec.read_bytes()))
        except (OSError, ValueError, Refusal):
            return Logins()

    def _keep(self, spec: Logins) -> None:
        if spec != Logins() or self._layout.folder.exists():
            self._layout.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_bytes(self._layout.spec, json.dumps(spec.document()).encode(), mode=0o600, durable=True)

    def _report(self) -> Standing:
        if self._facts is None:
            self._facts = self._ask_sshd()
        problems = [*self._problems, *([self._facts.problem] if self._facts.problem else [])]
        return replace(
            self._facts,
            generation=self._generation,
            grants=sorted({*self._in_force, *self._not_gone()}),
            problem="; ".join(problems)[:2000],
        )

    def _ask_sshd(self) -> Standing:
        """How this node is reached, and its host keys."""
        sshd = self._where.sshd
        certified = self._layout.host_certificate.exists() and sshd.drop_in.exists()
        try:
            return Standing(
                address=self._where.address, port=sshd.port(), host_keys=sshd.host_keys(), certified=certified
            )
        except (SshdProblem, OSError, subprocess.SubprocessError) as problem:
            return Standing(address=self._where.address, problem=str(problem)[:2000])


def _keys_of(path: Path) -> set[str]:
    """The keys that an account's file names, each TYPE BASE64."""
    try:
        return keys_in(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return set()


def is_possible(where: Where) -> bool:
    """Whether this process can do it: it is root, and there is an sshd."""
    return os.geteuid() == 0 and where.sshd.present


# ---------------------------------------------------------------------------------------- root's part


@cache
def _part(_: Root) -> AccessRoot:
    return AccessRoot(Where.from_env(os.environ))


def _apply(root: Root, fields: Fields) -> Mapping[str, Any]:
    return asdict(_part(root).apply(fields["logins"], fields["generation"]))


def _look(root: Root, _: Fields) -> Mapping[str, Any]:
    return asdict(_part(root).look())


def _generation(value: object) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise Refusal("a whole number, not negative")
    return value


VERBS: Mapping[str, Verb] = {
    "access.apply": Verb(_apply, "access", {"logins": Logins.of, "generation": _generation}),
    "access.look": Verb(_look, "access"),
}


def watch(root: Root) -> float | None:
    """Root's chore: what has expired ends within a second, with or without an agent. Nothing before the first login."""
    if not Where.from_env(os.environ).folder.exists() or not is_possible(Where.from_env(os.environ)):
        return None
    _part(root).look()
    return 1.0
