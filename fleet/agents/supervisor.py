"""The supervisor of one attempt: forks its task, captures what it prints, ends it when it must, leaves nothing behind.

It is a process of its own session, so that it survives the agent and the zygote that forked it; a restarted
agent finds it by the state file. It is the reaper of all that its task starts (a child subreaper), so that a
daemonised process cannot slip away from it. Signals: SIGUSR1 says "look at your files", SIGTERM that the
machine goes down.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import select
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.agents.attempts import LOG, RESULT, STOP, Assignment, Limits, State
from fleet.agents.durable import read_json
from fleet.agents.hints import hint
from fleet.agents.journal import lease_left
from fleet.agents.processes import MARKER, clock, descendants, identify, kill
from fleet.agents.protocol import Outcome

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NAME = 15
_LOOK_S = 1.0  # how often the lease is looked at
_UNKILLABLE_S = 10.0
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# The outcomes that a task may claim for itself; the others are its supervisor's to give.
_TASK_SAYS = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.INVALID, Outcome.INFRA_FAILED})
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended, and why."""

    outcome: Outcome
    error: str = ""


def supervise(directory: Path, execute: Callable[[Path], None]) -> None:
    """Run the attempt in `directory` to its end, unless somebody has claimed it already. Call in a fresh fork."""
    os.setsid()
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    _name_process(f"super {directory.name}")
    assignment = Assignment.load(directory)
    if assignment is None:
        return
    state = State("starting", supervisor=identify(os.getpid()), started=clock())
    if state.claim(directory):
        _Supervisor(directory, assignment, state).run(execute)


class _Supervisor:
    def __init__(self, directory: Path, assignment: Assignment, state: State) -> None:
        self.directory = directory
        self.limits = assignment.limits
        self.deadline = state.started + assignment.attempt.timeout_s
        self.timeout_s = assignment.attempt.timeout_s
        self.state = state
        self.log = CappedLog(directory / LOG, self.limits.log_bytes)
        self.ending: Verdict | None = None  # why the task is being ended, once it is
        self.kill_at = 0.0
        self.status: int | None = None
        self.going_down = False
        self.output = -1
        self.poll = select.poll()
        self.wake = self._listen()

    def _listen(self) -> int:
        """A descriptor that becomes readable at every signal."""
        wake, on_signal = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(on_signal, False)
        signal.set_wakeup_fd(on_signal, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.poll.register(wake, select.POLLIN)
        return wake

    def _terminate(self, *_: object) -> None:
        self.going_down = True

    def run(self, execute: Callable[[Path], None]) -> None:
        """Fork the task, watch it to its end, kill what it left, record the verdict."""
        self._fork(execute)
        while self.status is None:
            self._sleep()
            self._reap()
            self._watch()
        survivors = self._kill_all()
        self._finish(self._verdict(survivors))

    def _fork(self, execute: Callable[[Path], None]) -> None:
        self.output, into = os.pipe()
        os.set_blocking(self.output, False)
        supervisor = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            become_task(self.directory, supervisor, into, execute)
        os.close(into)
        self.poll.register(self.output, select.POLLIN)
        self.state = replace(self.state, phase="running", task=identify(self.pid))
        self.state.save(self.directory)
        hint(self.directory.parent.parent)

    def _sleep(self) -> None:
        """Until output, a signal or the next deadline; output is copied on the way."""
        now = clock()
        until = (
            self.kill_at
            if self.ending
            else min(self.deadline, now + lease_left(self.directory.parent.parent))
        )
        timeout = min(_LOOK_S, max(0.0, until - now))
        if self.ending and now >= self.kill_at:
            timeout = 0.02
        for descriptor, _ in self.poll.poll(timeout * 1000 + 1):
            if descriptor == self.wake:
                os.read(self.wake, 4096)
            else:
                self._copy_output()

    def _copy_output(self) -> bool:
        """Copy one chunk to the log; False at the end of the output or when there is none now."""
        try:
            chunk = os.read(self.output, 65536) if self.output >= 0 else b""
        except BlockingIOError:
            return False
        if not chunk and self.output >= 0:
            self.poll.unregister(self.output)
            os.close(self.output)
            self.output = -1
        self.log.write(chunk)
        return bool(chunk)

    def _reap(self) -> bool:
        """Collect all that has ended; False when no child is left at all."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = status

    def _watch(self) -> None:
        """Ask the task to end once there is a reason, and stop asking after the grace."""
        if self.status is not None:
            return
        if self.ending is None:
            self.ending = self._reason()
            if self.ending is not None:
                self.kill_at = clock() + self.limits.grace_s
                kill(descendants(os.getpid()), signal.SIGTERM)
        elif clock() >= self.kill_at:
            kill(descendants(os.getpid()), signal.SIGKILL)

    def _reason(self) -> Verdict | None:
        if (self.directory / STOP).exists():
            return Verdict(Outcome.CANCELLED, "stopped at the control plane's request")
        if self.going_down:
            return Verdict(Outcome.INFRA_FAILED, "the node is going down (its supervisor got SIGTERM)")
        if clock() >= self.deadline:
            return Verdict(Outcome.TIMED_OUT, f"not finished after its timeout of {self.timeout_s:g} s")
        if lease_left(self.directory.parent.parent) <= 0:
            return Verdict(
                Outcome.INFRA_FAILED, "the lease ran out: the control plane was not heard from in time"
            )
        return None

    def _kill_all(self) -> list[int]:
        """Kill every process the task left behind; returns the pids that would not die."""
        give_up = clock() + _UNKILLABLE_S
        while self._reap() and clock() < give_up:
            # As their reaper this process inherits the orphans, so a look at its descendants sees everything.
            kill(descendants(os.getpid()), signal.SIGKILL)
            for descriptor, _ in self.poll.poll(20):
                if descriptor == self.wake:
                    os.read(self.wake, 4096)
                else:
                    self._copy_output()
        return descendants(os.getpid()) if self._reap() else []

    def _verdict(self, survivors: list[int]) -> Verdict:
        if survivors:
            pids = ", ".join(map(str, survivors))
            return Verdict(Outcome.DEVICE_WEDGED, f"processes that SIGKILL does not end: {pids}")
        return self.ending or verdict(self.status or 0, _recorded_result(self.directory))

    def _finish(self, end: Verdict) -> None:
        while self._copy_output():
            pass
        kept, dropped = artifacts(self.directory / "work" / "artifacts", self.limits)
        for line in dropped:
            self.log.note(line)
        self.log.close()
        replace(
            self.state,
            phase="exited",
            elapsed_s=clock() - self.state.started,
            outcome=end.outcome,
            error=end.error,
            artifacts=tuple(kept),
        ).save(self.directory)
        hint(self.directory.parent.parent)


def become_task(directory: Path, supervisor: int, output: int, execute: Callable[[Path], None]) -> None:
    """In the fork: be the task's process. Never returns; dies with its supervisor."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _end_task)
        os.setsid()
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() == supervisor:  # else it died before the line above
            _redirect(output)
            _enter(directory)
            execute(directory)
            status = 0
    finally:
        os._exit(status)


def _end_task(number: int, _frame: object) -> None:
    """Leave the task by an exception, so that it can write down that it was ended and did not die; once."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def _name_process(name: str) -> None:
    """As ps -o comm shows it: at most 15 characters."""
    _libc.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def _redirect(output: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, number in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    # Line by line, so that a task that is killed has not printed in vain.
    sys.stdout = os.fdopen(1, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _enter(directory: Path) -> None:
    _name_process(f"task {directory.name}")
    # Should memory run out, the task goes and not those who must report it.
    Path("/proc/self/oom_score_adj").write_text("500")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    temporary = directory / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    os.environ.update({MARKER: str(directory), "TMPDIR": str(temporary)})
    os.chdir(directory / "work")


def verdict(status: int, result: dict[str, Any] | None) -> Verdict:
    """From a task's wait status and the result it wrote, when nobody ended it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        why = " (by somebody else, or for want of memory)" if number == signal.SIGKILL else ""
        return Verdict(Outcome.FAILED, f"killed by {_signal_name(number)}{why}")
    if os.WEXITSTATUS(status) != 0 or result is None:
        return Verdict(
            Outcome.FAILED,
            f"ended with exit status {os.WEXITSTATUS(status)} and no result; see the end of its log",
        )
    return Verdict(Outcome(result["outcome"]), str(result.get("error", "")))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _recorded_result(directory: Path) -> dict[str, Any] | None:
    """What the task recorded; None when it did not, or not in full."""
    try:
        result = read_json(directory / RESULT)
    except ValueError:
        return None
    known = isinstance(result, dict) and result.get("outcome") in _TASK_SAYS
    return result if known else None


def artifacts(directory: Path, limits: Limits) -> tuple[list[str], list[str]]:
    """Names of the files to keep, and a line for each that is not: wrong name, not a plain file, over the limits."""
    kept: list[str] = []
    dropped: list[str] = []
    room = limits.artifact_bytes
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name) if directory.is_dir() else ():
        about = entry.stat(follow_symlinks=False)
        problem = _artifact_problem(entry.name, about, room, len(kept) >= limits.artifact_count)
        if problem:
            dropped.append(f"artifact {entry.name!r} is not kept: {problem}")
        else:
            kept.append(entry.name)
            room -= about.st_size
    return kept, dropped


def _artifact_problem(name: str, about: os.stat_result, room: int, full: bool) -> str:
    if not stat.S_ISREG(about.st_mode):
        return "not a plain file"
    if not _ARTIFACT_NAME.fullmatch(name):
        return "its name is not 1 to 63 of letters, digits, '.', '_' and '-'"
    if full:
        return "there are too many"
    return f"only {room} bytes are left of the limit" if about.st_size > room else ""


class CappedLog:
    """A log file with a limit; what is over it is dropped, and a line says so."""

    def __init__(self, path: Path, limit: int) -> None:
        self._file = path.open("ab", buffering=0)
        self._room = limit
        self._limit = limit
        self._dropped = 0

    def write(self, chunk: bytes) -> None:
        """Append what fits; the first byte that does not leaves the mark."""
        fits = chunk[: self._room]
        self._file.write(fits)
        self._room -= len(fits)
        if len(chunk) > len(fits) and not self._dropped:
            self.note(f"output cut here: over the limit of {self._limit} bytes")
        self._dropped += len(chunk) - len(fits)

    def note(self, line: str) -> None:
        """A line of our own, whatever the limit."""
        self._file.write(f"\n[tinyfleet: {line}]\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        """To the disk, with the number of bytes that were dropped."""
        if self._dropped:
            self.note(f"{self._dropped} bytes of output were dropped")
        os.fsync(self._file.fileno())
        self._file.close()
