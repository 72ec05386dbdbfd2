"""Commands inside bubblewrap: a view of the files with nothing in it but what is named, and namespaces of their own.

What is named are the paths of the Landlock rules, so that a program finds the files that it may open, and no others. What
bubblewrap cannot raise, Landlock and the filter of calls, `within` raises in it, the last thing before the program.
bubblewrap is started before its starter is restricted, for it mounts; what it runs it is told afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fleet.agents.walls.landlock import MAKE_FILE, READ, Rule
from fleet.agents.walls.within import LONGEST

# Isolated, without site: it starts in half the time, and reads nothing that a program could have left for it.
_WITHIN = "import sys; sys.path.insert(0, sys.argv[1]); from fleet.agents.walls.within import main; main(int(sys.argv[2]))"
_OURS = str(Path(__file__).resolve().parents[3])
_WRITTEN = MAKE_FILE  # a folder below which files can be made is an attempt's own
_MADE = (Path("/proc"), Path("/dev"))  # bubblewrap's own, not the machine's
# Folders of the attempt's own, and where they are seen as well.
_OWN_PLACES = {"tmp": ("/tmp", "/var/tmp"), "shm": ("/dev/shm",)}
_WORDS = 2000  # bytes of bubblewrap's complaint that are read


class Unwrapped(OSError):
    """bubblewrap did not begin; the message is its own."""


@dataclass(frozen=True)
class View:
    """What is seen inside. `rules` say which paths there are; `work` is the attempt's own folder."""

    rules: tuple[Rule, ...]
    work: Path
    network: bool = False  # that of the starter, else none
    group: Path | None = None  # the attempt's control group, seen as the root of all

    def options(self) -> list[str]:
        """bubblewrap's. Paths that are not here are left out; links stay links."""
        shared = ["--share-net"] if self.network else []
        found = [
            "--unshare-all",
            *shared,
            "--die-with-parent",
            "--as-pid-1",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
        ]
        # First: what is named may lie below them, and is then mounted over an empty folder that bubblewrap makes there.
        for name, places in _OWN_PLACES.items():
            found += [part for place in places for part in ("--bind", str(self.work / name), place)]
        for rule in self.rules:
            if rule.path not in _MADE and rule.access & READ:
                found += _named(rule)
        if Path("/sys/fs/cgroup").is_dir():
            seen = ["--ro-bind", str(self.group)] if self.group is not None else ["--tmpfs"]
            found += [*seen, "/sys/fs/cgroup"]
        return [*found, "--chdir", str(self.work)]

    def inside(self) -> list[Rule]:
        """The rules as they are to be inside: its folder for temporary files has more names there."""
        own = [rule.access for rule in self.rules if rule.path == self.work]
        places = [Path(place) for each in _OWN_PLACES.values() for place in each]
        return [*self.rules, *(Rule(place, access) for place in places for access in own)]


def _named(rule: Rule) -> list[str]:
    path = str(rule.path)
    try:
        if rule.path.is_symlink():
            return ["--symlink", os.readlink(path), path]
        kind = os.stat(path).st_mode
    except OSError:  # not here, or not ours to see
        return []
    if stat.S_ISCHR(kind):
        own = rule.path.parent == _MADE[1] and rule.path.name in ("null", "zero", "full", "random", "urandom")
        return [] if own else ["--dev-bind", path, path]
    return ["--bind" if rule.access & _WRITTEN else "--ro-bind", path, path]


def program() -> str | None:
    """Where bubblewrap is."""
    return shutil.which("bwrap")


class Enclosure:
    """One bubblewrap, in which one program is run."""

    def __init__(self, pid: int, door: socket.socket, complaint: int) -> None:
        self.pid = pid  # of bubblewrap, a child of this process
        self.door = door
        self._complaint = complaint

    @staticmethod
    def begin(view: View, marks: Mapping[str, str]) -> Enclosure:
        """Start it; `marks` is all of its environment. Before Landlock and seccomp, and never as root."""
        if os.geteuid() == 0:
            raise Unwrapped(errno.EPERM, "bubblewrap is not started as root")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        read, complaint = os.pipe()
        pid = os.fork()
        if pid == 0:
            _execute(view, marks, theirs.fileno(), complaint)
        os.close(complaint)
        theirs.close()
        return Enclosure(pid, ours, read)

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        view: View,
        *,
        landlock: bool = False,
        code: bytes = b"",
        streams: tuple[int, int, int] = (0, 1, 2),
    ) -> int:
        """The program's pid, here. OSError when it cannot be executed, Unwrapped when bubblewrap could not begin."""
        told = {
            "argv": list(argv),
            "env": dict(environ),
            "cwd": str(view.work),
            "rules": [(str(rule.path), rule.access) for rule in view.inside()] if landlock else None,
            "tcp": not view.network,
            "filter": base64.b64encode(code).decode(),
        }
        document = os.memfd_create("told", os.MFD_CLOEXEC)
        with os.fdopen(document, "wb") as file:
            file.write(json.dumps(told).encode())
            file.flush()
            file.seek(0)
            with contextlib.suppress(OSError):  # it has ended; why is found out below
                socket.send_fds(self.door, [b"run"], [*streams, document])
            said = self._heard()
        if said is None:
            raise self._unwrapped()
        if said.get("began") is not True:
            self._end()
            if isinstance(number := said.get("errno"), int):
                raise OSError(number, os.strerror(number), argv[0])
            raise Unwrapped(errno.EIO, str(said.get("problem", "it began nothing")))
        return self._pid_of_program()

    def wait(self) -> int:
        """How the program ended: its exit status, or a signal's number as a negative one. It ends bubblewrap too."""
        said = self._heard()
        self._end()
        status = (said or {}).get("status")
        if not isinstance(status, int) or not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            return -9  # all was killed, its first process too
        return os.waitstatus_to_exitcode(status)

    def _end(self) -> None:
        self.door.close()
        os.close(self._complaint)
        os.waitpid(self.pid, 0)

    def _heard(self) -> dict[str, Any] | None:
        """What is said next; None at the end."""
        try:
            word = self.door.recv(LONGEST)
        except ConnectionResetError:
            return None
        try:
            said = json.loads(word) if word else None
        except ValueError:
            return {}
        return said if isinstance(said, dict) or said is None else {}

    def _pid_of_program(self) -> int:
        """The child of the first process inside; 0 when it has ended already."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            first = _children(self.pid)[0]
            return _children(first)[0]
        return 0

    def _unwrapped(self) -> Unwrapped:
        os.waitpid(self.pid, 0)
        with os.fdopen(self._complaint, "rb") as pipe:
            said = pipe.read(_WORDS).decode(errors="replace").strip()
        return Unwrapped(errno.EIO, said or "bubblewrap ended without a word")


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _execute(view: View, marks: Mapping[str, str], door: int, complaint: int) -> NoReturn:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, descriptor in ((0, nothing), (1, nothing), (2, complaint)):
            os.dup2(descriptor, number)
        os.set_inheritable(door, True)
        found = program()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no bwrap")
        payload = [sys.executable, "-I", "-S", "-c", _WITHIN, _OURS, str(door)]
        os.execve(found, [found, *view.options(), "--", *payload], dict(marks))
    except OSError as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(1)


__all__ = ["Enclosure", "Unwrapped", "View", "program"]
