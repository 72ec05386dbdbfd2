"""The attempt's own process, forked by its supervisor: on its way into its walls, and in them."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from fleet.agents.attempts import Assignment
from fleet.agents.processes import MARKER
from fleet.agents.protocol import Outcome
from fleet.agents.reports import Voice
from fleet.agents.walls import calls
from fleet.agents.walls.cell import Cell

# What a task does inside its cell: of its assignment, in its working folder, with a voice.
Execute = Callable[[Assignment, Path, Cell, Voice], None]


class TaskProcess:
    """In the fork: the attempt's own process, on its way into its walls."""

    def __init__(self, work: Path, assignment: Assignment, cell: Cell, sock: socket.socket) -> None:
        self._work = work
        self._assignment = assignment
        self._cell = cell
        self._sock = sock
        self._voice = Voice(sock)

    def live(self, supervisor: int, outputs: tuple[int, int], execute: Execute) -> NoReturn:
        """Do what is assigned. Never returns; dies with its supervisor."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, _end_task)
            os.setsid()
            self._settle_in()
            if self._entered(supervisor, outputs):
                execute(self._assignment, self._work, self._cell, self._voice)
            status = 0  # what went wrong on the way has been said
        finally:
            os._exit(status)

    def _settle_in(self) -> None:
        """What takes the rights of the agent's user and what belongs to it: the files of this process in /proc."""
        name_process(f"task {self._work.parent.name}")
        calls.prctl(calls.PR_SET_DUMPABLE, 1)
        # Should memory run out, the task goes and not those who must report it.
        Path("/proc/self/oom_score_adj").write_text("500")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ.update({MARKER: str(self._work.parent), "TMPDIR": str(self._work / "tmp")})
        os.environ.update({"HOME": str(self._work), "XDG_CACHE_HOME": str(self._work / "cache")})
        os.chdir(self._work)

    def _entered(self, supervisor: int, outputs: tuple[int, int]) -> bool:
        try:
            self._cell.give(outputs)
            self._cell.enter(supervisor)
        except OSError as error:
            why = f"a wall could not be raised round the attempt: {error}"
            outcome = Outcome.FAILED if self._cell.guest else Outcome.INFRA_FAILED
            self._voice.result({"outcome": outcome, "error": why})
            return False
        enclosure = self._cell.enclosure
        _redirect(outputs, [self._sock.fileno(), *(enclosure.descriptors if enclosure else ())])
        return True


def _end_task(number: int, _frame: object) -> None:
    """Leave the task by an exception, so that it can write down that it was ended and did not die; once."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def name_process(name: str) -> None:
    """As ps -o comm shows it: at most 15 characters."""
    kept = ctypes.create_string_buffer(name.encode()[:15])
    calls.prctl(calls.PR_SET_NAME, ctypes.addressof(kept))


def _redirect(outputs: tuple[int, int], kept: Iterable[int]) -> None:
    """Nothing of the supervisor's stays open but the pipes that take the output and what is kept, to speak through."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (outputs[0], 1), (outputs[1], 2)):
        os.dup2(descriptor, number)
    after = 3
    for descriptor in sorted(kept):
        os.closerange(after, descriptor)
        after = descriptor + 1
    os.closerange(after, 1 << 20)
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    # Line by line, so that a task that is killed has not printed in vain.
    sys.stdout = os.fdopen(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
