"""Commands inside bubblewrap: a view of the files with nothing in it but what is named, and namespaces of their own.

What is named are the paths of the Landlock rules, so that a program finds the files that it may open, and no others. What
bubblewrap cannot raise, Landlock and the filter of calls, `within` raises in it, round itself before it begins the program.
bubblewrap is started before its starter is restricted, for it mounts; what it runs it is told afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fleet.agents.walls import calls, landlock
from fleet.agents.walls.landlock import MAKE_FILE, READ, Rule
from fleet.agents.walls.within import ENDS, LONGEST, Told

# Isolated, without site: it starts in half the time, and reads nothing that a program could have left for it.
_WITHIN = "import sys; sys.path.insert(0, sys.argv[1]); from fleet.agents.walls.within import main; main(*sys.argv[2:])"
# An environment's own may lead there by links that are not seen inside.
_PYTHON = os.path.realpath(sys.executable)
_OURS = str(Path(__file__).resolve().parents[3])
_WRITTEN = MAKE_FILE  # a folder below which files can be made is an attempt's own
_MADE = (Path("/proc"), Path("/dev"))  # bubblewrap's own, not the machine's
# Folders of the attempt's own, and where they are seen as well.
SHM = "tmp/.shm"  # where nothing is looked for
_OWN_PLACES = {"tmp": ("/tmp", "/var/tmp"), SHM: ("/dev/shm",)}
_CREDENTIALS = struct.Struct("=iII")  # pid, uid, gid
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
    landlock: bool = False  # whether it is raised inside
    code: bytes = b""  # the filter of calls that is

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
        named = [rule for rule in self.rules if rule.path not in _MADE and rule.access & READ]
        folders = [rule.path for rule in named if rule.path.is_dir() and not rule.path.is_symlink()]
        for rule in named:
            found += _named(rule, folders)
        if Path("/sys/fs/cgroup").is_dir():
            seen = ["--ro-bind", str(self.group)] if self.group is not None else ["--tmpfs"]
            found += [*seen, "/sys/fs/cgroup"]
        # Last: the folders on the way to what is named are in memory, of which nobody counts how much it takes.
        return [*found, "--remount-ro", "/", "--remount-ro", "/dev", "--chdir", str(self.work)]

    def inside(self) -> list[Rule]:
        """The rules as they are to be inside: its folder for temporary files has more names there."""
        own = [rule.access for rule in self.rules if rule.path == self.work]
        places = [Path(place) for each in _OWN_PLACES.values() for place in each]
        return [*self.rules, *(Rule(place, access) for place in places for access in own)]


def _named(rule: Rule, folders: Sequence[Path]) -> list[str]:
    """One rule's path; of a link what it leads to as well, unless that is in one of the folders."""
    path = str(rule.path)
    try:
        kind = os.stat(path).st_mode
        if rule.path.is_symlink():
            end = rule.path.resolve()
            there = any(end.is_relative_to(folder) for folder in folders)
            return [*([] if there else _named(Rule(end, rule.access), ())), "--symlink", str(end), path]
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

    def __init__(self, view: View, pid: int, door: socket.socket, complaint: int) -> None:
        self._view = view
        self.pid = pid  # of bubblewrap, a child of this process
        self.door = door
        self._complaint = complaint
        self._speaker = 0  # the pid of whoever spoke last

    @staticmethod
    def begin(view: View, marks: Mapping[str, str], host: Sequence[tuple[int, int]] = ()) -> Enclosure:
        """Start it; `marks` is all of its environment. Before Landlock and seccomp, and never as root.

        `host`: the namespaces of one that runs already, (descriptor, kind) each, to be in that one.
        """
        if os.geteuid() == 0:
            raise Unwrapped(errno.EPERM, "bubblewrap is not started as root")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        read, complaint = os.pipe()
        pid = os.fork()
        if pid == 0:
            _execute(view, marks, theirs.fileno(), complaint, host)
        os.close(complaint)
        theirs.close()
        return Enclosure(view, pid, ours, read)

    @property
    def descriptors(self) -> tuple[int, int]:
        """What has to stay open until the end."""
        return self.door.fileno(), self._complaint

    def run(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        streams: tuple[int, int, int] = (0, 1, 2),
    ) -> int:
        """The program's pid, here. OSError when it cannot be executed, Unwrapped when bubblewrap could not begin."""
        view, program_pid = self._view, 0
        told = Told(
            os.fsencode(view.work),
            [os.fsencode(each) for each in argv],
            {os.fsencode(name): os.fsencode(value) for name, value in environ.items()},
            [(os.fsencode(rule.path), rule.access) for rule in view.inside()] if view.landlock else None,
            view.code,
            tcp=not view.network,
        )
        document = os.memfd_create("told", os.MFD_CLOEXEC)
        with os.fdopen(document, "wb") as file:
            file.write(told.written())
            file.flush()
            file.seek(0)
            with contextlib.suppress(OSError):  # it has ended; why is found out below
                socket.send_fds(self.door, [b"run"], [*streams, document])
            said = self._heard()
            if said is not None and said[0] == "program":
                program_pid, said = self._speaker, self._heard()
        if said is None:
            raise self._unwrapped()
        word, rest = said
        if word != "began":
            self._end()
            if word == "errno" and (number := _number(rest)) is not None:
                raise OSError(number, os.strerror(number), argv[0])
            raise Unwrapped(errno.EIO, rest if word == "problem" else "it began nothing")
        return program_pid

    def wait(self) -> int | None:
        """How the program ended: its exit status, or a signal's number as a negative one. None when all was killed, the
        first process too, and nobody is left to say so."""
        said = self._heard()
        self._end()
        if said is None:
            return None
        status = _number(said[1]) if said[0] == "status" else None
        if status is None or not (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            return -int(signal.SIGKILL)  # nonsense, from the program itself
        return os.waitstatus_to_exitcode(status)

    def _end(self) -> None:
        self.door.close()
        os.close(self._complaint)
        os.waitpid(self.pid, 0)

    def _heard(self) -> tuple[str, str] | None:
        """What is said next, its first word and the rest; None at the end."""
        try:
            said, ancillary, _, _ = self.door.recvmsg(LONGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
        except ConnectionResetError:
            return None
        for _, kind, data in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                self._speaker = _CREDENTIALS.unpack(data)[0]
        word, _, rest = said.decode(errors="replace").partition(" ")
        return (word, rest) if said else None

    def _unwrapped(self) -> Unwrapped:
        os.waitpid(self.pid, 0)
        with os.fdopen(self._complaint, "rb") as pipe:
            said = pipe.read(_WORDS).decode(errors="replace").strip()
        return Unwrapped(errno.EIO, said or "bubblewrap ended without a word")


def _number(text: str) -> int | None:
    """What `within` says as a number: of 16 bits, none else has a meaning."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


_KINDS = {
    "mnt": calls.CLONE_NEWNS,
    "pid": calls.CLONE_NEWPID,
    "ipc": calls.CLONE_NEWIPC,
    "uts": calls.CLONE_NEWUTS,
    "cgroup": calls.CLONE_NEWCGROUP,
    "net": calls.CLONE_NEWNET,
}
_OWNER = 0xB701  # ioctl NS_GET_USERNS: the namespace of users to which another namespace belongs


def namespaces(first: int, *, network: bool = False) -> list[tuple[int, int]]:
    """Those of the first process inside a bubblewrap, to be entered in this order. OSError when it is gone. `network`: it has
    that of the machine, which is none of bubblewrap's.

    bubblewrap mounts in one namespace of users and may leave it for another below: whoever enters needs the rights of the
    one to get in, and has to end up in the other.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC
    kinds = [(name, kind) for name, kind in _KINDS.items() if not (network and name == "net")]
    found = [(os.open(f"/proc/{first}/ns/{name}", flags), kind) for name, kind in kinds]
    owner = fcntl.ioctl(found[0][0], _OWNER)
    own = os.open(f"/proc/{first}/ns/user", flags)
    users = [owner] if os.fstat(owner).st_ino == os.fstat(own).st_ino else [owner, own]
    return [(owner, calls.CLONE_NEWUSER), *found, *((each, calls.CLONE_NEWUSER) for each in users[1:])]


def _execute(
    view: View, marks: Mapping[str, str], door: int, complaint: int, host: Sequence[tuple[int, int]]
) -> NoReturn:
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, descriptor in ((0, nothing), (1, nothing), (2, complaint)):
            os.dup2(descriptor, number)
        os.set_inheritable(door, True)
        payload = [_PYTHON, "-I", "-S", "-c", _WITHIN, _OURS, str(door)]
        if host:
            _visit(host)
            _restrict(view)
            os.execve(payload[0], [*payload, "guest"], dict(marks))
        found = program()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no bwrap")
        os.execve(found, [found, *view.options(), "--", *payload], dict(marks))
    except OSError as error:
        os.write(2, str(error).encode())
    finally:
        os._exit(1)


def wrapped(work: Path) -> bool:
    """Whether what runs in this folder was put into bubblewrap, or is being put."""
    return (work / SHM).is_dir()


def begun(pid: int) -> bool:
    """Whether this first process is what bubblewrap was to run: before, it mounts, and has rights that a guest would get."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    return bool(name) and os.path.basename(name) != b"bwrap"


def _visit(host: Sequence[tuple[int, int]]) -> None:
    """Be in these namespaces; only what is forked then is in that of the processes, so this one waits for it."""
    for descriptor, kind in host:
        calls.enter(descriptor, kind)
    if os.geteuid() == 0:
        raise PermissionError(errno.EPERM, "its host is still being put into bubblewrap")
    calls.give_up_capabilities()  # whoever enters a namespace of users has them all
    # Not before: whoever gains rights on the way is not told any more.
    calls.prctl(calls.PR_SET_PDEATHSIG, int(signal.SIGKILL))
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        os._exit(0)
    calls.prctl(calls.PR_SET_PDEATHSIG, int(ENDS))


def _restrict(view: View) -> None:
    """Round a guest's first process before it is executed: where its code lies below /tmp, its host may have put other there."""
    calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    if view.landlock:
        landlock.restrict(landlock.ruleset(view.inside(), tcp=not view.network))
    if view.code:
        calls.filter_calls(view.code)


__all__ = ["ENDS", "SHM", "Enclosure", "Unwrapped", "View", "begun", "namespaces", "program", "wrapped"]
