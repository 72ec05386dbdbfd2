"""How an attack is tried: in a fork of its own, inside an attempt, doing no harm should it succeed.

An attack is a function of a Target. It returns what it got when it went through; any exception, and any end of its process,
means that it was stopped. What is only opened and not written, sent as signal 0 or set to what it was, harms nobody.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.agents.walls import calls

_libc = ctypes.CDLL(None, use_errno=True)
_DEADLINE_S = 20


@dataclass(frozen=True)
class Target:
    """What is attacked: paths, pids and addresses that the test knows and an attacker might guess."""

    work: Path  # the attempt's own folder
    state: Path  # the agent's
    other: Path  # another attempt's working folder
    agent: int
    zygote: int
    supervisor: int
    port: int  # somebody listens on TCP at loopback
    unix: str  # and at this path
    abstract: str  # and under this abstract name
    segment: int  # another attempt has shared memory under this number

    @staticmethod
    def of(document: dict[str, Any], work: Path) -> Target:
        paths = {name: Path(document[name]) for name in ("state", "other")}
        return Target(**{**document, **paths, "work": work, "supervisor": os.getppid()})


Attack = Callable[[Target], object]


class Stopped(Exception):
    """An attack that found out by itself that it got nowhere."""


def tried(attack: Attack, target: Target) -> dict[str, str]:
    """{"verdict": "stopped" or "through", "how": …}."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        # The task's handler would answer for the wrong process.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(_DEADLINE_S)
        os.write(write, json.dumps(_said(attack, target)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if said:
        verdict: dict[str, str] = json.loads(said)
        return verdict
    ended = f"killed by {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "it ended"
    return {"verdict": "stopped", "how": ended}


def _said(attack: Attack, target: Target) -> dict[str, str]:
    try:
        return {"verdict": "through", "how": ascii(attack(target))[:200]}
    except OSError as error:
        return {"verdict": "stopped", "how": errno.errorcode.get(error.errno or 0, str(error))}
    except Exception as error:  # noqa: BLE001 - the top of a process
        return {"verdict": "stopped", "how": f"{type(error).__name__}: {error}"[:200]}


def call(x86_64: int | None, aarch64: int | None, *arguments: Any) -> int:
    """A system call by its numbers. OSError when it fails; Stopped where there is no such call."""
    number = (x86_64, aarch64)[calls.column() or 0]
    if number is None:
        raise Stopped("no such call on this processor")
    return calls.call(number, *(ctypes.c_long(item) if isinstance(item, int) else item for item in arguments))


def refused_only(error: OSError) -> str:
    """For calls given nonsense: any complaint but one of permission means that they would have been carried out."""
    if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        raise error
    return f"got as far as {errno.errorcode[error.errno or 0]}"


def permitted(x86_64: int | None, aarch64: int | None, *arguments: Any) -> str:
    """Whether a call with arguments that cannot work is refused for what they are, or for being made at all."""
    try:
        return f"answered {call(x86_64, aarch64, *arguments)}"
    except OSError as error:
        return refused_only(error)
