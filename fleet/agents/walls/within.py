"""The first process inside bubblewrap. Raises what bubblewrap cannot, round itself too, and runs one program.

It is told on its socket what to run, with the descriptors of the program's streams; it says whether the program began, and
with which wait status it ended, in words with a space between: "program", "began" or "errno N" or "problem TEXT", "status N".
As the first process it collects orphans, and all that is left dies with it. The program runs as the same user and may, where
there is no Landlock, make it do and say anything: so it has no more rights, and whoever listens believes it no more than the
program.

Every command waits for this to be imported. So it does without what is slow to import, in itself or by what it imports in
its turn: dataclasses, json, pathlib, re, typing (together 20 ms of 27).
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence

from fleet.agents.walls import calls, landlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LONGEST = 4096  # bytes of what is said; what is told lies in a file
ENDS = signal.SIGUSR1  # tells a guest's first process to end all that is below it, and itself
_STREAMS = 3
# Python ignores these, and its children would.
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT)


class Told:
    """What to run. `rules`: Landlock's, paths and what may be done there, or None without it; `code`: the filter of calls."""

    def __init__(
        self,
        cwd: bytes,
        argv: list[bytes],
        environ: Mapping[bytes, bytes],
        rules: Sequence[tuple[bytes, int]] | None,
        code: bytes = b"",
        tcp: bool = True,
    ) -> None:
        self.cwd, self.argv, self.environ = cwd, argv, environ
        self.rules, self.code, self.tcp = rules, code, tcp

    def written(self) -> bytes:
        """Fields with a NUL between, lists after their length. ValueError where one has a NUL in it."""
        environ = [part for pair in self.environ.items() for part in pair]
        rules = [part for path, access in self.rules or () for part in (path, b"%d" % access)]
        fields = [self.cwd, self.code.hex().encode(), b"%d" % self.tcp, b"%d" % (self.rules is not None)]
        for part in (self.argv, environ, rules):
            fields += [b"%d" % len(part), *part]
        if any(b"\0" in field for field in fields):
            raise ValueError("a NUL in a program's arguments, environment or paths")
        return b"\0".join(fields)

    @staticmethod
    def read(document: bytes) -> Told:
        """What `written` wrote."""
        fields = iter(document.split(b"\0"))
        cwd, code, tcp, restricted = (next(fields) for _ in range(4))
        argv, environ, rules = ([next(fields) for _ in range(int(next(fields)))] for _ in range(3))
        return Told(
            cwd,
            argv,
            dict(zip(environ[::2], environ[1::2], strict=True)),
            list(zip(rules[::2], map(int, rules[1::2]), strict=True)) if int(restricted) else None,
            bytes.fromhex(code.decode()),
            bool(int(tcp)),
        )


def main(descriptor: str, role: str = "first") -> None:
    """Run what is told on this socket, once; nothing when nobody tells anything.

    A guest comes into one that runs already: it is the reaper of what its program starts, and ends all of it at last. Were it
    killed before, what it leaves would be its host's.
    """
    door = socket.socket(fileno=int(descriptor))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Python's own handler would make it one that its program can end
    if role == "guest":
        calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(ENDS, _end)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # for its program, which has its own
    _, descriptors, _, _ = socket.recv_fds(door, LONGEST, _STREAMS + 1)
    if not descriptors:
        return
    *streams, document = descriptors
    with os.fdopen(document, "rb") as file:
        told = Told.read(file.read())
    try:
        ruleset = _restricted(told, role)
    except OSError as error:
        door.send(f"problem walls could not be raised: {error}".encode())
        return
    read, write = os.pipe()  # closed when the program is executed
    pid = os.fork()
    if pid == 0:
        _become(door, told, streams, write, ruleset)
    os.close(write)
    for stream in streams:
        os.close(stream)
    with os.fdopen(read, "rb") as pipe:
        failed = pipe.read()
    door.send(failed or b"began")
    status = _awaited(pid)
    if role == "guest":
        _end_all()
    if not failed:
        door.send(b"status %d" % status)


def _awaited(pid: int) -> int:
    """The wait status of this child; orphans are collected on the way."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status


def _end(*_: object) -> None:
    _end_all()
    os._exit(0)


def _end_all() -> None:
    """Kill what the program has left behind; orphans become children of this process, which has no others. Again and again,
    without waiting for anybody: some fork faster than they die."""
    while left := _children():
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


def _children() -> list[str]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


def _become(door: socket.socket, told: Told, streams: list[int], failed: int, ruleset: int) -> NoReturn:
    try:
        door.send(b"program")  # the kernel tells with it whose word it is: the pid, as it is out there
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        if ruleset >= 0:  # below the first process's: which it can then neither trace nor signal
            landlock.restrict(ruleset)
        os.set_inheritable(failed, False)
        os.closerange(_STREAMS, failed)
        os.closerange(failed + 1, 1 << 16)
        for each in _RESTORED:
            signal.signal(each, signal.SIG_DFL)
        os.setsid()  # else it is of the session of whoever began bubblewrap, out there
        os.chdir(told.cwd)
        os.execvpe(told.argv[0], told.argv, told.environ)
    except OSError as error:
        os.write(failed, b"errno %d" % (error.errno or 0))
    except BaseException as error:  # noqa: BLE001 - the top of a process
        os.write(failed, f"problem {type(error).__name__}: {error}"[:1000].encode())
    finally:
        os._exit(1)


def _restricted(told: Told, role: str) -> int:
    """Landlock and seccomp round this process and all that it starts; a guest has come with both. The rules, once more for
    its program; -1 without. OSError."""
    calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    ruleset = landlock.ruleset_of(told.rules, tcp=told.tcp) if told.rules is not None else -1
    if role == "first":
        if ruleset >= 0:
            landlock.restrict(ruleset)
        if told.code:
            calls.filter_calls(told.code)
    return ruleset
