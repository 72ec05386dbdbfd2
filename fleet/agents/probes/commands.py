"""Run a tool, for so long and no longer, and take what it says, up to so much."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

LARGEST = 4 << 20
_KILLED_S = 1.0


class Said(NamedTuple):
    """How a tool ended, and what it said."""

    status: int
    output: bytes
    errors: str = ""


class Failed(OSError):
    """A tool that is missing, took too long or said too much."""


class Missing(Failed):
    """A tool that is not installed."""


Run = Callable[[Sequence[str], float], Said]


def run(command: Sequence[str], timeout_s: float) -> Said:
    """What the command says. Raises Failed. It, and what it started, is killed when the time is over; one that cannot
    be killed, because the kernel waits for a device, is left to itself."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise Missing(f"{command[0]} is not installed") from error
    except OSError as error:
        raise Failed(f"{command[0]}: {error.strerror}") from error
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        raise Failed(f"{command[0]} did not answer within {timeout_s:g} s") from None
    if len(output) > LARGEST:
        raise Failed(f"{command[0]} said {len(output)} bytes")
    return Said(process.returncode, output, errors.decode(errors="replace")[-500:])


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_KILLED_S)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
