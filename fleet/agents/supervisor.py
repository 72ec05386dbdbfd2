"""The supervisor of one attempt: forks its task, captures what it prints, ends it when it must, leaves nothing behind.

It is a process of its own session, so that it survives the agent and the zygote that forked it; a restarted
agent finds it by the state file. It is the reaper of all that its task starts (a child subreaper), so that a
daemonised process cannot slip away from it. Signals: SIGUSR1 says "look at your files", SIGTERM that the
machine goes down.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fleet.agents.attempts import DATA, LOG, PROGRESS, RESULT, STOP, Assignment, Host, State
from fleet.agents.containers import first, inner
from fleet.agents.durable import write_json
from fleet.agents.hints import hint
from fleet.agents.journal import lease_left
from fleet.agents.keeping import keep
from fleet.agents.last_words import KernelLog
from fleet.agents.logs import STDERR, STDOUT, CappedLog
from fleet.agents.processes import clock, descendants, identify, kill
from fleet.agents.protocol import Outcome
from fleet.agents.reports import heard, pair
from fleet.agents.sealed import Redactor
from fleet.agents.task_process import Execute, TaskProcess, name_process
from fleet.agents.telemetry_pid import telemetry
from fleet.agents.walls import gpu
from fleet.agents.walls.bubblewrap import ENDS, begun, wrapped
from fleet.agents.walls.cell import Cell, Unbuildable
from fleet.agents.walls.policy import Policy, policy
from fleet.agents.walls.room import Room

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 1.0  # how often the lease is looked at
_UNKILLABLE_S = 10.0
_HOST_ENDS_S = 1.0
_HOST_BEGINS_S = 10.0
_REAPER_S = 2.0  # for what a guest's reaper in its host's bubblewrap has to end
_PROGRESS_EVERY_S = 0.05  # what is said faster than honest tasks say it is not written down
# The outcomes that a task may claim for itself; the others are its supervisor's to give.
_TASK_SAYS = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.INVALID, Outcome.INFRA_FAILED})
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Verdict:
    """How an attempt ended, and why."""

    outcome: Outcome
    error: str = ""


def supervise(directory: Path, cell: Cell, execute: Execute, secrets: Iterable[str] = ()) -> None:
    """Run the attempt in `directory` to its end, unless somebody has claimed it already. Call in a fresh fork.

    `cell` may be reserved already, in this process; `secrets` are taken out of its log.
    """
    os.setsid()
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    name_process(f"super {directory.name}")
    assignment = Assignment.load(directory)
    if assignment is None:
        return
    state = State("starting", supervisor=identify(os.getpid()), started=clock())
    if state.claim(directory):
        _Supervisor(directory, assignment, state, cell, list(secrets)).run(execute)


class _Supervisor:
    def __init__(
        self, directory: Path, assignment: Assignment, state: State, cell: Cell, secrets: list[str]
    ) -> None:
        self.directory = directory
        self.assignment = assignment
        self.limits = assignment.limits
        self.deadline = state.started + assignment.attempt.timeout_s
        self.timeout_s = assignment.attempt.timeout_s
        self.state = state
        self.host: Host | None = None
        self.work = directory / "work"
        self.cell = cell
        self.policy = _policy(assignment, directory)
        spared = partial(telemetry, directory.parent.parent)
        self.epilogs = [
            gpu.Epilog(number, gpu.used_bytes(number), spared=spared) for number in self.policy.gpus
        ]
        self.room = Room(directory / "work", self.limits.folder_bytes, self.limits.folder_files)
        self.log = CappedLog(directory / LOG, self.limits.log_bytes)
        self.result: dict[str, Any] | None = None
        self.progress_at = 0.0
        self.pids: set[int] = set()  # of the attempt, as far as is known
        self.ending: Verdict | None = None  # why the task is being ended, once it is
        self.kill_at = 0.0
        self.asked: set[int] = set()  # who has had SIGTERM
        self.began_since_asked = False  # a program
        self.status: int | None = None
        self.going_down = False
        self.outputs: dict[int, str] = {}  # the descriptors that its output comes by → which stream it is
        self.redactors = {stream: Redactor(secrets) for stream in (STDOUT, STDERR)}
        self.grace_s = _grace(assignment)
        self.kernel_log = KernelLog()
        self.voice: socket.socket | None = None
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

    def run(self, execute: Execute) -> None:
        """Fork the task into its walls, watch it to its end, kill what it left, record the verdict."""
        try:
            self._find_host()
            self.cell.reserve()
            self.cell.fit(self.policy, self.work)
        except (LookupError, Unbuildable) as error:
            self.cell.step_out()
            self.cell.demolish()
            outcome = Outcome.INFRA_FAILED if isinstance(error, Unbuildable) else Outcome.FAILED
            self._finish(Verdict(outcome, str(error)))
            return
        self._fork(execute)
        while self.status is None:
            self._sleep()
            self._reap()
            self._watch()
        survivors = self._kill_all()
        while any(self._copy_output(output) for output in list(self.outputs)) or (
            self.voice is not None and self._listen_once()
        ):
            pass  # nobody is left to say more
        self._finish(self._verdict(survivors))
        if not survivors:
            self.cell.demolish()

    def _find_host(self) -> None:
        """In whose walls and folder it runs, when they are not its own."""
        self.host = Host.of(self.directory, self.assignment)
        if self.host is not None:
            self.work = self.host.directory / "work"
            self.policy = _policy(self.host.assignment, self.directory)
            task = self.host.task()
            first = self._first_inside(self.host, task) if self.cell.wraps(self.policy) else 0
            self.cell.visit(self.host.traces(), task if self.policy.container else 0, first)

    def _first_inside(self, host: Host, task: int) -> int:
        """The first process in the host's bubblewrap, once that has begun; 0 where the host was begun without one, by an agent
        that had none. Unbuildable when it does not begin, LookupError when the host has ended."""
        give_up = clock() + _HOST_BEGINS_S
        while not begun(found := first(descendants(task))):
            if not host.runs():
                raise LookupError("the attempt in which it was to run has ended")
            if clock() >= give_up and not wrapped(self.work):
                return 0
            if clock() >= give_up:
                raise Unbuildable(f"its host's bubblewrap has not begun within {_HOST_BEGINS_S:g} s")
            self._attend(0.02)
        return found

    def _fork(self, execute: Execute) -> None:
        output, into = os.pipe()
        errors, errors_into = os.pipe()
        self.outputs = {output: STDOUT, errors: STDERR}
        self.voice, theirs = pair()
        supervisor = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            task = TaskProcess(self.work, self.assignment, self.cell, theirs)
            task.live(supervisor, (into, errors_into), execute)
        os.close(into)
        os.close(errors_into)
        theirs.close()
        for descriptor in self.outputs:
            os.set_blocking(descriptor, False)
        for descriptor in (*self.outputs, self.voice.fileno()):
            self.poll.register(descriptor, select.POLLIN)
        self.pids.add(self.pid)
        self.state = replace(self.state, phase="running", task=identify(self.pid), traces=self.cell.traces)
        self.state.save(self.directory)
        hint(self.directory.parent.parent)
        try:
            self.cell.step_out()
        except OSError as error:
            self.ending = Verdict(
                Outcome.INFRA_FAILED, f"the supervisor cannot leave the control group: {error}"
            )
            self.kill_at = clock()

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
        self._attend(timeout)

    def _attend(self, timeout_s: float) -> None:
        """Wait for a signal, output or words of the task, and take in some of each."""
        for descriptor, _ in self.poll.poll(timeout_s * 1000 + 1):
            if descriptor == self.wake:
                os.read(self.wake, 4096)
            elif descriptor in self.outputs:
                self._copy_output(descriptor)
            else:
                self._listen_once()

    def _listen_once(self) -> bool:
        """Take in one thing that the task says; False when it has said no more."""
        said = None if self.voice is None else heard(self.voice)
        if said is None:
            self._hang_up()
            return False
        if self.result is None:
            self.result = said.get("result")
        if isinstance(pid := said.get("progress", {}).get("pid"), int):
            self.pids.add(pid)
            self.began_since_asked = self.ending is not None
        if "progress" in said and clock() >= self.progress_at:
            self.progress_at = clock() + _PROGRESS_EVERY_S
            write_json(self.directory / PROGRESS, said["progress"], durable=False)
            hint(self.directory.parent.parent)
        return True

    def _hang_up(self) -> None:
        """Nothing more will be said, or nothing is said now though the socket is ready: its last holder has closed it."""
        if self.voice is not None:
            self.poll.unregister(self.voice.fileno())
            self.voice.close()
            self.voice = None

    def _copy_output(self, output: int) -> bool:
        """Copy one chunk to the log; False at the end of the output or when there is none now."""
        try:
            chunk = os.read(output, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self.poll.unregister(output)
            os.close(output)
            stream = self.outputs.pop(output)
            self.log.write(self.redactors[stream].rest(), stream)
            return False
        stream = self.outputs[output]
        self.log.write(self.redactors[stream](chunk), stream)
        return True

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
                self.kill_at = clock() + self.grace_s
                self._ask()
        elif clock() >= self.kill_at:
            self._kill(self.kill_at)
        elif self.began_since_asked:
            self._ask()

    def _ask(self) -> None:
        """SIGTERM, to each once. A program that begins after it was asked for is told too: it was not there to be."""
        fresh = [pid for pid in self._asked() if pid not in self.asked]
        kill(fresh, signal.SIGTERM)
        self.asked.update(fresh)
        self.began_since_asked = False

    def _kill(self, since: float) -> None:
        """Kill all that is below. In the bubblewrap of a host that has its own reaper first, which dies last: what outlives it
        would be the host's."""
        everybody = descendants(os.getpid())
        reaper, *below = inner(everybody) or [0]
        if (
            self.host is None
            or not self.cell.wraps(self.policy)
            or not reaper
            or clock() >= since + _REAPER_S
        ):
            kill(everybody, signal.SIGKILL)
        else:
            kill([reaper], ENDS)
            kill(below, signal.SIGKILL)

    def _asked(self) -> list[int]:
        """Who is told to end: in a container or bubblewrap what runs there, and not what waits for it outside. Before anything
        does, of bubblewrap the task alone: it would leave its child behind, which waits for it."""
        everybody = descendants(os.getpid())
        if self.cell.wraps(self.policy):
            return inner(everybody) or [self.pid]
        return (inner(everybody) if self.policy.container else []) or everybody

    def _reason(self) -> Verdict | None:
        if (self.directory / STOP).exists():
            return Verdict(Outcome.CANCELLED, "stopped at the control plane's request")
        if self.host is not None and not self.host.runs():
            return Verdict(Outcome.FAILED, "the attempt in which it ran has ended")
        if self.going_down:
            return Verdict(Outcome.INFRA_FAILED, "the node is going down (its supervisor got SIGTERM)")
        if clock() >= self.deadline:
            return Verdict(Outcome.TIMED_OUT, f"not finished after its timeout of {self.timeout_s:g} s")
        if lease_left(self.directory.parent.parent) <= 0:
            return Verdict(
                Outcome.INFRA_FAILED, "the lease ran out: the control plane was not heard from in time"
            )
        excess = self.room.excess(lambda: [*self.cell.survivors(), *descendants(os.getpid())])
        return Verdict(Outcome.FAILED, excess) if excess else None

    def _kill_all(self) -> list[int]:
        """Kill every process the task left behind; returns the pids that would not die."""
        give_up = clock() + _UNKILLABLE_S
        self.cell.kill()
        while True:
            children, inside = self._reap(), self.cell.survivors()
            if not (children or inside) or clock() >= give_up:
                break
            # As their reaper this process inherits the orphans, so a look at its descendants sees everything.
            self._kill(give_up - _UNKILLABLE_S)
            self.cell.kill(inside)
            self._attend(0.02)
        return sorted({*inside, *(descendants(os.getpid()) if children else [])})

    def _verdict(self, survivors: list[int]) -> Verdict:
        if survivors:
            pids = ", ".join(map(str, survivors))
            return Verdict(Outcome.DEVICE_WEDGED, f"processes that SIGKILL does not end: {pids}")
        problem = "; ".join(filter(None, map(gpu.Epilog.problem, self.epilogs)))
        wrecks = self.kernel_log.wrecks([gpu.pci_address(number) for number in self.policy.gpus])
        problem = "; ".join(filter(None, (problem, *(f"kernel: {line}" for line in wrecks))))
        if problem:
            return Verdict(Outcome.DEVICE_WEDGED, problem)
        if self.ending is None and self.cell.out_of_memory():
            return Verdict(Outcome.FAILED, "it needed more memory than its limit; the kernel ended it")
        if self.ending is None and not _says_how(self.result) and self._ended_with_host():
            return Verdict(Outcome.FAILED, "the attempt in which it ran has ended, and it with it")
        return self.ending or verdict(self.status or 0, _claimed(self.result))

    def _ended_with_host(self) -> bool:
        """Whether its host has ended, or is about to: it kills its guests before it records that it has."""
        give_up = clock() + _HOST_ENDS_S
        while self.host is not None and self.host.runs() and clock() < give_up:
            self._attend(0.02)
        return self.host is not None and not self.host.runs()

    def _finish(self, end: Verdict) -> None:
        self.log.end_output()
        if self.result is not None:
            write_json(self.directory / RESULT, self.result)
        wanted = getattr(self.assignment.attempt.spec, "artifacts", [])
        kept, dropped = keep(self.directory, self.limits, wanted)
        for line in dropped:
            self.log.note(line)
        end = self._last_words(end)
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

    def _last_words(self, end: Verdict) -> Verdict:
        """What the log and the error say at last of an end that was not the task's own: why, and what the kernel says."""
        if end.outcome is Outcome.SUCCEEDED:
            self.kernel_log.close()
            return end
        if self.result is None or self.ending is not None:
            self.log.note(end.error)
        lines = self.kernel_log.about(self.pids, self.cell.traces)
        for line in lines:
            self.log.note(f"kernel: {line}")
        return replace(end, error="; ".join([end.error, *(f"kernel: {line}" for line in lines[-3:])]))


def _policy(assignment: Assignment, directory: Path) -> Policy:
    attempt = assignment.attempt
    found = policy(attempt.spec.kind, attempt.device, assignment.limits.ceilings, attempt.gpus)
    data: dict[str, str] = getattr(attempt.spec, "data", {})
    found = replace(
        found,
        network=getattr(attempt.spec, "network", False),
        container=getattr(attempt.spec, "container", None) is not None,
    )
    return replace(
        found, readable=tuple(directory.parent.parent / DATA / address for address in data.values())
    )


def _grace(assignment: Assignment) -> float:
    """From SIGTERM to SIGKILL: what the job asked for, else the node's."""
    asked: float | None = getattr(assignment.attempt.spec, "grace_s", None)
    return assignment.limits.grace_s if asked is None else asked


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


def _says_how(result: dict[str, Any] | None) -> bool:
    """Whether the task has said how its program ended, or that all is well."""
    found = None if result is None else result.get("result")
    told = isinstance(found, dict) and (found.get("exit_status"), found.get("signal")) != (None, None)
    return result is not None and (told or result.get("outcome") == Outcome.SUCCEEDED)


def _claimed(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the task said of its end; None when it did not, or said what is not for it to say."""
    known = result is not None and result.get("outcome") in _TASK_SAYS
    return result if known else None
