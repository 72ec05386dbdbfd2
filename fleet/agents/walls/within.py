"""The first process inside bubblewrap. Raises what bubblewrap cannot, and runs one program.

It is told on its socket what to run, with the descriptors of the program's streams; it says whether the program began, and
with which wait status it ended. As the first process it collects orphans, and all that is left dies with it. The program
runs as the same user and may make it say anything: whoever listens believes it no more than the program.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any, NoReturn

from fleet.agents.walls import calls, landlock, seccomp

LONGEST = 4096  # bytes of what is said; what is told lies in a file
_STREAMS = 3
# Python ignores these, and its children would.
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM)


def main(descriptor: str, role: str = "first") -> None:
    """Run what is told on this socket, once; nothing when nobody tells anything.

    A guest comes into one that runs already: it is the reaper of what its program starts, and ends all of it at last.
    """
    door = socket.socket(fileno=int(descriptor))
    if role == "guest":
        calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # for its program, which has its own
    _, descriptors, _, _ = socket.recv_fds(door, LONGEST, _STREAMS + 1)
    if not descriptors:
        return
    *streams, document = descriptors
    with os.fdopen(document, "rb") as file:
        told = json.loads(file.read())
    read, write = os.pipe()  # closed when the program is executed
    pid = os.fork()
    if pid == 0:
        _become(door, told, streams, write)
    os.close(write)
    for stream in streams:
        os.close(stream)
    with os.fdopen(read, "rb") as pipe:
        failed = pipe.read()
    door.send(failed if failed else json.dumps({"began": True}).encode())
    status = _awaited(pid)
    if role == "guest":
        _end_all()
    if not failed:
        door.send(json.dumps({"status": status}).encode())


def _awaited(pid: int) -> int:
    """The wait status of this child; orphans are collected on the way."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return status


def _end_all() -> None:
    """Kill what the program has left behind; orphans become children of this process, which has no others."""
    while left := Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)
        for pid in left:
            os.waitpid(int(pid), 0)


def _become(door: socket.socket, told: dict[str, Any], streams: list[int], failed: int) -> NoReturn:
    try:
        door.send(
            b'{"program": true}'
        )  # the kernel tells with it whose word it is: the pid, as it is out there
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.set_inheritable(failed, False)
        os.closerange(_STREAMS, failed)
        os.closerange(failed + 1, 1 << 16)
        for each in _RESTORED:
            signal.signal(each, signal.SIG_DFL)
        os.chdir(told["cwd"])
        _restrict(told)
        os.execvpe(told["argv"][0], told["argv"], told["env"])
    except OSError as error:
        os.write(failed, json.dumps({"errno": error.errno}).encode())
    except BaseException as error:  # noqa: BLE001 - the top of a process
        os.write(failed, json.dumps({"problem": f"{type(error).__name__}: {error}"[:1000]}).encode())
    finally:
        os._exit(1)


def _restrict(told: dict[str, Any]) -> None:
    """Landlock and seccomp, for the program and all that it starts. OSError."""
    calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
    if told["rules"] is not None:
        rules = [landlock.Rule(Path(path), access) for path, access in told["rules"]]
        landlock.restrict(landlock.ruleset(rules, tcp=told["tcp"]))
    if told["filter"]:
        seccomp.install(base64.b64decode(told["filter"]))
