"""Logins on this node, from the agent's side: what the fleet wants goes to the root part, how it stands goes back.

A thread of its own: making accounts takes tens of milliseconds, and attempts do not wait for them. It looks once a
second, so that a grant ends and its sessions with it although nobody has been heard of.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from fleet.agents.access_spec import AccessReport, AccessSpec
from fleet.agents.root_access import AccessRoot, Where, is_possible
from fleet.agents.root_logins import Logins
from fleet.agents.root_verbs import Refusal
from fleet.agents.rooted import NoRoot, ask, root_socket

_LOOK_S, _RETRY_S, _ASK_S = 1.0, 5.0, 120.0
_LOCK = "/run/tinyfleet-access.lock"
_log = logging.getLogger(__name__)


class Root(Protocol):
    """The part that needs root, in this process or behind a socket."""

    def apply(self, spec: AccessSpec, generation: int = 0) -> AccessReport: ...
    def look(self) -> AccessReport: ...


class Here:
    """The root part inside this process, which is root."""

    def __init__(self, root: AccessRoot) -> None:
        self._root = root

    def apply(self, spec: AccessSpec, generation: int = 0) -> AccessReport:
        """Make it so."""
        done = self._root.apply(Logins.of(spec.model_dump()), generation)
        return AccessReport.model_validate(asdict(done))

    def look(self) -> AccessReport:
        """How it stands."""
        return AccessReport.model_validate(asdict(self._root.look()))


class Beside:
    """Root's part of the node, over its socket. Both calls raise Refusal and NoRoot."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def apply(self, spec: AccessSpec, generation: int = 0) -> AccessReport:
        """Make it so."""
        said = {"logins": spec.model_dump(), "generation": generation}
        return AccessReport.model_validate(ask("access.apply", path=self._path, within_s=_ASK_S, **said))

    def look(self) -> AccessReport:
        """How it stands."""
        return AccessReport.model_validate(ask("access.look", path=self._path, within_s=_ASK_S))


class AccessKeeper:
    """Applies what was told last, and tells what is so. `want` and `report` may be called from any thread."""

    def __init__(self, root: Root, changed: Callable[[], None]) -> None:
        """`changed` is called when there is a new report."""
        self._root, self._changed = root, changed
        self._guard = threading.Lock()
        self._news = threading.Event()
        self._stopping = False
        self._wanted: tuple[int, AccessSpec] | None = None
        self._applied: tuple[int, AccessSpec] | None = None
        self._report: AccessReport | None = None
        self._thread = threading.Thread(target=self._run, name="access", daemon=True)

    def start(self) -> None:
        """Look at how it stands, and go on."""
        self._thread.start()

    def stop(self) -> None:
        """Do nothing more; what is rendered stays."""
        self._stopping = True
        self._news.set()
        self._thread.join(10.0)

    def want(self, generation: int, spec: AccessSpec | None) -> None:
        """The fleet wants this since that generation; None: it has not said anything about logins."""
        if spec is None:
            return
        with self._guard:
            if self._wanted is None or self._wanted[0] < generation:
                self._wanted = (generation, spec)
                self._news.set()

    def report(self) -> AccessReport | None:
        """How it stands, since the last time that it was looked at; None before the first."""
        with self._guard:
            return self._report

    def _run(self) -> None:
        said = ""
        while not self._stopping:
            self._news.clear()
            pause = _LOOK_S
            try:
                self._tell(self._step())
            except (Refusal, NoRoot) as problem:
                if str(problem) != said:
                    _log.warning("logins: %s", problem)
                said, pause = str(problem), _RETRY_S
            except Exception:  # noqa: BLE001 - the top of a thread that must go on
                _log.exception("logins could not be looked after; it is tried again")
                pause = _RETRY_S
            self._news.wait(pause)

    def _step(self) -> AccessReport:
        with self._guard:
            wanted = self._wanted
        if wanted is None or wanted == self._applied:
            return self._root.look()
        if self._applied is not None and wanted[1] == self._applied[1]:
            found = self._root.look().model_copy(update={"generation": wanted[0]})
        else:
            found = self._root.apply(wanted[1], wanted[0])
        self._applied = wanted
        return found

    def _tell(self, found: AccessReport) -> None:
        with self._guard:
            if self._applied is not None:
                found = found.model_copy(update={"generation": self._applied[0]})
            if found == self._report:
                return
            self._report = found
        if found.problem:
            _log.warning("logins: %s", found.problem)
        self._changed()


def keeper(environ: Mapping[str, str], changed: Callable[[], None]) -> AccessKeeper | None:
    """The keeper of logins here, when TINYFLEET_SSH is on; None when it is not, or cannot be, which is logged.

    One agent of a machine has it: accounts and sshd are the machine's.
    """
    if environ.get("TINYFLEET_SSH", "off") != "on":
        return None
    where = Where.from_env(environ)
    root: Root
    if is_possible(where):
        root = Here(AccessRoot(where))
    elif os.geteuid() == 0:
        _log.warning("TINYFLEET_SSH is on, and there is no sshd: apt-get install openssh-server")
        return None
    else:
        root = Beside(root_socket(environ))  # which may come up after the agent
    if not _alone(Path(environ.get("TINYFLEET_SSH_LOCK", _LOCK))):
        _log.warning("another agent of this machine looks after its logins: this one does not")
        return None
    return AccessKeeper(root, changed)


def _alone(path: Path) -> bool:
    """Hold the machine's lock for as long as this process lives; one without the right to it leaves that to the root
    part."""
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return True
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return False
    return True
