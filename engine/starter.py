"""A warm single-threaded process that forks others: some measure (engine.measuring), some compile (engine.compiling).

Run as `python -m engine.starter FD` by engine.isolate, FD being a SOCK_SEQPACKET socket: one JSON document a packet.
It forks a process for the socket it is handed and reports every end. It never starts a thread, nor LLVM: a fork with
a lock held would wait for ever. Everything ends when the process that started it does.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Protocol

from engine.compiling import Worker
from engine.measuring import Child
from engine.packets import reply

PR_SET_PDEATHSIG = 1


class Serves(Protocol):
    """What a forked process does."""

    def serve(self) -> None:
        """Answer commands until the other side closes."""


ROLES: dict[str, Callable[[socket.socket], Serves]] = {"measure": Child, "compile": Worker}


def starter(control: socket.socket) -> None:
    """Fork on request until the other side of `control` is gone; then end every child."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the process that searches
    children: set[int] = set()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(control, children)
        if control.fileno() in ready and not _serve(control, children, (wake_read, wake_write)):
            break
    for pid in children:
        _kill_group(pid)


def _serve(control: socket.socket, children: set[int], wakes: tuple[int, int]) -> bool:
    try:
        packet, fds, _, _ = socket.recv_fds(control, 1 << 16, 2)
    except ConnectionResetError:
        packet = b""
    if not packet:
        return False
    message = json.loads(packet)
    if message["do"] == "fork":
        starter_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            for fd in (control.fileno(), *wakes):
                os.close(fd)
            _child_process(fds[0], starter_pid, ROLES[message["role"]])
        children.add(pid)
        for fd in fds:
            os.close(fd)
        reply(control, {"pid": pid})
    elif message["pid"] in children:
        _kill_group(message["pid"])
    return True


def _reap(control: socket.socket, children: set[int]) -> None:
    for pid in list(children):
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            continue
        _kill_group(pid)  # whatever it forked, while its id is still taken
        _, status = os.waitpid(pid, 0)
        children.discard(pid)
        reply(control, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group exists only once the child has come so far
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _child_process(fd: int, starter_pid: int, role: Callable[[socket.socket], Serves]) -> None:
    """Everything after the fork, never to return."""
    status = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGALRM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() == starter_pid:  # else it died before its end could end this child
            role(socket.socket(fileno=fd)).serve()
        status = 0
    finally:
        os._exit(status)


if __name__ == "__main__":
    starter(socket.socket(fileno=int(sys.argv[1])))
