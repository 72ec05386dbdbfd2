"""Following a command: its output comes out here as it came out there, and this process ends as it ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import typer
from rich.text import Text

from fleet.cli.connection import EXIT_INTERRUPTED, EXIT_UNREACHABLE, fail, stderr
from fleet.cli.text import printable
from fleet.cli.waiting import AGAIN_S, AWAY_S
from fleet.client import FINISHED, Client, Unreachable
from fleet.client_commands import printed
from fleet.resources import Job, LogPieces

# As `timeout` and container runtimes have them.
EXIT_TIMED_OUT, EXIT_NOT_RUN = 124, 125
_SIGNALLED = 128
_PARKED_S = 2.0  # how long one request is parked: an interrupt is noticed after it at the latest
_CANCELLED_WITHIN_S = 10.0
Found = TypeVar("Found")


class Interrupted(BaseException):
    """SIGINT or SIGTERM came: `number`."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted in here."""

    def on_signal(number: int, _frame: object) -> None:
        raise Interrupted(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, found in before.items():
            signal.signal(number, found)


def follow(client: Client, job: Job, apart: bool) -> Job:
    """Print what the job prints until it has ended; returns it as it then is. An interrupt cancels it.

    `apart`: its stdout is this process's stdout; else all of it goes to stderr, and stdout is for a result.
    """
    try:
        with interruptible():
            begun = until_begun(client, job)
            _print_all(client, begun, apart)
            return patient(client, lambda: client.job(job.id, wait=_PARKED_S))
    except Interrupted as interrupt:
        raise _cancelled(client, job, interrupt.number) from None
    except BrokenPipeError:  # nobody reads any more
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python would try once more at its end
        raise _cancelled(client, job, signal.SIGPIPE) from None


def until_begun(client: Client, job: Job) -> Job:
    """Until it waits no more; what it waits for is said when it changes."""
    said = ""
    began_s = time.monotonic()
    while job.state in ("blocked", "queued", "leased"):
        if job.reason and job.reason != said and time.monotonic() - began_s > 1.0:
            said = job.reason
            stderr().print(Text(f"job {job.id} waits: {printable(said)}", style="dim"), soft_wrap=True)
        job = patient(client, partial(client.job, job.id, 0.5))
    return job


def _print_all(client: Client, job: Job, apart: bool) -> None:
    page = LogPieces(items=[])
    while not page.end:
        page = patient(client, partial(client.log_page, job.id, page, _PARKED_S))
        for piece in printed(page):
            stream = sys.stdout.buffer if apart and piece.stream == "stdout" else sys.stderr.buffer
            stream.write(piece.data)
            stream.flush()


def patient(client: Client, ask: Callable[[], Found]) -> Found:
    """Ask until there is an answer, for as long as a server may be away. Raises Unreachable."""
    gives_up_s = time.monotonic() + AWAY_S
    said = False
    while True:
        try:
            return ask()
        except Unreachable:
            if time.monotonic() >= gives_up_s:
                raise
            if not said:
                stderr().print(Text(f"no answer from {printable(client.base_url)}, trying again…"))
                said = True
        time.sleep(AGAIN_S)


def _cancelled(client: Client, job: Job, number: int) -> typer.Exit:
    """Cancel the job and wait for its end, briefly; a second interrupt does not wait."""
    console = stderr()
    console.print(Text(f"cancelling job {job.id}…", style="dim"))
    code = _SIGNALLED + number if number != signal.SIGINT else EXIT_INTERRUPTED
    ends_s = time.monotonic() + _CANCELLED_WITHIN_S
    try:
        with interruptible():
            found = client.job(job.id)
            if found.state not in FINISHED:
                found = client.cancel_job(job.id)
            while found.state not in FINISHED and time.monotonic() < ends_s:
                found = client.job(job.id, wait=1.0)
        console.print(Text(f"job {found.id} is {found.state}", style="dim"))
    except Interrupted:
        console.print(Text(f"not waited for; see: tinyfleet jobs show {job.id}", style="dim"))
    except Unreachable:
        return fail(f"job {job.id} goes on: the server did not answer", code=EXIT_UNREACHABLE)
    return typer.Exit(code)


def exit_status(job: Job) -> int:
    """What to exit with for a job that has ended: the command's own status, 128 and the number of the signal that killed
    it, 124 when its time was up, 125 when it could not be run at all."""
    result: dict[str, Any] = job.result or {}
    if isinstance(status := result.get("exit_status"), int):
        return status & 0xFF
    if isinstance(name := result.get("signal"), str):
        return _SIGNALLED + _number(name)
    if job.state == "succeeded":
        return 0
    if job.state == "cancelled":
        return _SIGNALLED + signal.SIGTERM
    return EXIT_TIMED_OUT if job.outcome == "timed_out" else EXIT_NOT_RUN


def _number(name: str) -> int:
    try:
        return int(signal.Signals[name])
    except KeyError:
        last = name.rpartition(" ")[2]
        return int(last) if last.isdigit() else int(signal.SIGKILL)
