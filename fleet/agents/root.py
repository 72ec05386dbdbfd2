"""Root's part of a node: a socket that the agent alone may connect to, and behind it a closed list of verbs.

It runs from a file of its own (tinyfleet-root.pyz) on the system's Python, not from a slot: a version of the agent that
is broken must not take with it what brings the old one back. So this module, and all that are named root_*, import the
standard library and each other only.

A request is one line of JSON, {"verb": …, its fields}; the answer one line, {"done": {…}} or {"refused": why}.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import pwd
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.agents import root_access, root_gpus, root_slots
from fleet.agents.root_logins_unit import LoginsProblem, turn_off, turn_on
from fleet.agents.root_sshd import SshdProblem
from fleet.agents.root_verbs import RESTART, TRIAL_S, Chore, Refusal, Root, Verb

# Every verb there is. A module that adds some has a table of its own, and is joined here.
VERBS: Mapping[str, Verb] = {**root_slots.VERBS, **root_access.VERBS, **root_gpus.VERBS}


def chores() -> list[Chore]:
    """What root looks at without being asked; each is called after every verb, and when it asked to be."""
    return [root_slots.Watch(), root_access.watch]


SOCKET = "/run/tinyfleet-root/socket"
_LONGEST = 1 << 20  # bytes of a request
_PATIENCE_S = 5.0  # how long a request may take to arrive
_AT_ONCE = 8
_log = logging.getLogger(__name__)


class Server:
    """Answers on a socket until it is stopped. Verbs of different lines run side by side."""

    def __init__(
        self, root: Root, path: Path, verbs: Mapping[str, Verb] = VERBS, todo: Sequence[Chore] | None = None
    ) -> None:
        self._root = root
        self._verbs = verbs
        self._chores = chores() if todo is None else list(todo)
        self._lines = {verb.line: threading.Lock() for verb in verbs.values()}
        self._room = threading.Semaphore(_AT_ONCE)
        self._stopped = False
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._path = path
        self._listener = _listen(path, root.agent)

    def run(self) -> None:
        """Answer, and do chores, until `stop`."""
        try:
            while not self._stopped:
                watched: list[Any] = [self._listener, self._woken]
                select.select(watched, [], [], self._do_chores())
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                with contextlib.suppress(BlockingIOError):
                    self._accept()
        finally:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def stop(self) -> None:
        """Make `run` return. May be called from a signal's handler."""
        self._stopped = True
        self._hint()

    def _hint(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b".")

    def _do_chores(self) -> float | None:
        waits = []
        for chore in self._chores:
            try:
                wait = chore(self._root)
            except Exception:  # noqa: BLE001 - one chore that fails must not end the others
                _log.exception("a chore failed")
                wait = 1.0
            if wait is not None:
                waits.append(max(0.0, wait))
        return min(waits, default=None)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if not self._room.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                answer = self._answer(connection)
                connection.settimeout(_PATIENCE_S)
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except OSError as error:
            _log.warning("an answer could not be given: %s", error)
        finally:
            self._room.release()
            self._hint()

    def _answer(self, connection: socket.socket) -> Mapping[str, Any]:
        try:
            _check_peer(connection, self._root.agent)
            return {"done": dict(self.do(_request(connection)))}
        except Refusal as error:
            _log.warning("refused: %s", error)
            return {"refused": str(error)}
        except Exception as error:  # noqa: BLE001 - the top of a thread; whoever asked is told, the log has the rest
            _log.exception("a verb failed")
            return {"refused": f"it failed in root's part: {error or type(error).__name__}"}

    def do(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out one request. Refusal."""
        given = dict(request)
        name = given.pop("verb", None)
        verb = self._verbs.get(name) if isinstance(name, str) else None
        if verb is None:
            raise Refusal(f"there is no verb {str(name)[:80]!r}; there is {', '.join(sorted(self._verbs))}")
        with self._lines[verb.line]:
            return verb.do(self._root, str(name), given)


def _listen(path: Path, owner: int) -> socket.socket:
    """A socket that its owner and root may connect to, and nobody else: mode 0700 from its first moment."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o077)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if os.geteuid() == 0:
        os.chown(path, owner, -1)
    listener.listen(_AT_ONCE)
    listener.setblocking(False)
    return listener


def _check_peer(connection: socket.socket, agent: int) -> None:
    """The mode of the socket says it too; what the kernel says of a peer holds even if somebody opens that up."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid not in (0, agent):
        raise Refusal(f"user {uid} is not the agent's, {agent}")


def _request(connection: socket.socket) -> Mapping[str, Any]:
    deadline = time.monotonic() + _PATIENCE_S
    text = b""
    while not text.endswith(b"\n"):
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except TimeoutError as error:
            raise Refusal("the request did not arrive in time") from error
        if not piece:
            raise Refusal("the request ended before its line did")
        text += piece
        if len(text) > _LONGEST:
            raise Refusal(f"a request is at most {_LONGEST} bytes")
    try:
        request = json.loads(text)
    except ValueError as error:
        raise Refusal("a request is one line of JSON") from error
    if not isinstance(request, dict):
        raise Refusal('a request is an object, {"verb": …}')
    return request


# ------------------------------------------------------------------------------------ command line


def main(arguments: Sequence[str]) -> int:
    """Serve, or do for the installer what it needs: install a release, tell of the slots. 0, or 1 with the reason."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    given = _parser().parse_args(arguments)
    try:
        root = Root(given.root, tuple(given.restart.split()), _uid(given.user), given.trial)
        does = {"serve": _serve, "install": _install, "status": _tell, "logins": _logins}
        answer = does[given.do](root, given)
    except (Refusal, LoginsProblem, SshdProblem) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if answer:
        print(json.dumps(answer))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tinyfleet-root", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/"), help="the machine's root folder")
    parser.add_argument("--user", default="", help="whose agent it is; root when not given")
    parser.add_argument("--restart", default=" ".join(RESTART), help="the command that restarts the agent")
    parser.add_argument("--trial", type=float, default=TRIAL_S, help="seconds in which a new version reports")
    verbs = parser.add_subparsers(dest="do", required=True)
    serve = verbs.add_parser("serve", help="answer on the socket")
    serve.add_argument("--socket", type=Path, default=None)
    install = verbs.add_parser("install", help="install a release and make it the one that runs")
    install.add_argument("--from", dest="source", type=Path, required=True)
    verbs.add_parser("status", help="what is in the slots")
    logins = verbs.add_parser("logins", help="let the fleet give people logins here, or end all of them")
    logins.add_argument("state", choices=("on", "off"))
    return parser


def _uid(user: str) -> int:
    if not user:
        return 0
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise Refusal(f"--user {user}: there is no such user") from error


def _serve(root: Root, given: argparse.Namespace) -> Mapping[str, Any]:
    server = Server(root, given.socket or root.at(SOCKET))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    server.run()
    return {}


def _install(root: Root, given: argparse.Namespace) -> Mapping[str, Any]:
    """The installer restarts the agent itself, when it has put all in place."""
    return root_slots.activate(root, root_slots.stage(root, given.source), restart=False)


def _logins(root: Root, given: argparse.Namespace) -> Mapping[str, Any]:
    if given.state == "on":
        changed = turn_on(root.folder, "")
    else:
        changed = turn_off(root.folder, root_access.Where.from_env(os.environ).below(root.folder))
    return {"changed": [str(path) for path in changed]}


def _tell(root: Root, _: argparse.Namespace) -> Mapping[str, Any]:
    return root_slots.status(root)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
