"""The warm starter: a process that has everything imported and forks a supervisor for each attempt it is asked for.

An attempt starts in milliseconds, not in the second that a fresh interpreter with NumPy takes; one supervisor is forked
before it is asked for. It has one thread, because a fork copies only the forking one. It ends when the agent's end of
its socket closes; the supervisors do not.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import select
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.errors import EngineError
from engine.toolchain import detect
from fleet.agents.attempts import Assignment
from fleet.agents.execution import execute
from fleet.agents.processes import identify
from fleet.agents.protocol import AttemptSpec
from fleet.agents.reports import Voice
from fleet.agents.sealed import unseal
from fleet.agents.spare import Spare
from fleet.agents.supervisor import supervise
from fleet.agents.tasks import burnin, command, confirm, expand, kernel, measure, noop
from fleet.agents.tasks.context import Task, Tasks
from fleet.agents.walls import calls
from fleet.agents.walls.cell import Cell, Unbuildable
from fleet.agents.walls.groups import prefix_of, remove_empty
from fleet.agents.walls.machine import Survey, enter_namespaces, needed, survey
from fleet.agents.walls.ways import open_ways

_REAP_EVERY_S = 1.0
_SPARE_AFTER_S = 0.05  # an attempt that starts now has the cores first
_SAMPLE = """{"attempt_id": 1, "job_id": 1, "fence": 1, "spec": {"kind": "noop"}, "device": "cpu", "exclusive": false,
 "timeout_s": 1.0}"""


def own_tasks() -> Tasks:
    """What this version of the agent can do."""
    by_kind: dict[str, Task] = {
        "noop": noop.run,
        "kernel": kernel.run,
        "expand": expand.run,
        "measure": measure.run,
        "confirm": confirm.run,
        "command": command.run,
        "burnin": burnin.run,
    }
    return Tasks(by_kind)


def changed(tasks: Tasks, setup: str) -> Tasks:
    """`tasks` after the function named as module:function has had its say. For tests: faulty renderers, odd tasks."""
    module, _, function = setup.partition(":")
    change: Callable[[Tasks], Tasks] = getattr(importlib.import_module(module), function)
    return change(tasks)


def serve(channel: socket.socket, supervision: Supervision) -> None:
    """Have a fork supervise each attempt directory that is named on `channel`, until it closes."""
    gc.collect()
    gc.freeze()  # what is imported is never collected, so that forks keep sharing its memory

    def alone() -> Cell:
        channel.close()
        return supervision.begin()

    spare = Spare(alone, supervision.supervise, supervision.undo)
    while True:
        ready, _, _ = select.select([channel], [], [], _REAP_EVERY_S if spare.waits else _SPARE_AFTER_S)
        _reap()
        if not ready:
            spare.fork()
            continue
        word, descriptors, _, _ = socket.recv_fds(channel, 256, 1)
        if not word:
            return
        sealed = descriptors[0] if descriptors else -1
        if not spare.hand(word.decode(), sealed):
            spare.fork()
            spare.hand(word.decode(), sealed)
        for descriptor in descriptors:  # never looked into: this process is what all attempts are forked from
            os.close(descriptor)


@dataclass(frozen=True)
class Supervision:
    """What a fork of the zygote does, first without an attempt and then with one."""

    state: Path
    tasks: Tasks
    walls: Survey

    def begin(self) -> Cell:
        """What can be done ahead; and touch what an attempt's first steps touch, which copies it."""
        cell = Cell(self.walls, prefix_of(self.state))
        with contextlib.suppress(Unbuildable):  # tried again, and said, when there is an attempt
            cell.reserve()
        AttemptSpec.model_validate_json(_SAMPLE)
        identify(os.getpid())
        return cell

    def undo(self, cell: Cell) -> None:
        """There will be no attempt."""
        cell.step_out()
        cell.demolish()

    def supervise(self, cell: Cell, name: str, sealed: int = -1) -> None:
        """The attempt of this name, in a cell that was begun here, with the descriptor that holds its secrets."""
        try:
            secrets = unseal(sealed)
            execution = _Execution(self.tasks, self.state / "cache", secrets)
            supervise(self.state / "attempts" / name, cell, execution, secrets.values())
        except Exception:  # noqa: BLE001 - the top of a process; the agent finds it dead and says so
            traceback.print_exc()
            os._exit(1)


@dataclass(frozen=True)
class _Execution:
    """What a task's process does once it is inside its walls."""

    tasks: Tasks
    cache: Path  # of the node, for attempts that have no walls
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __call__(self, assignment: Assignment, work: Path, cell: Cell, voice: Voice) -> None:
        """An attempt that is shut in makes its own cache: what others load must not be its to write."""
        cache = work / "cache" if cell.shut else self.cache
        execute(assignment, self.tasks, work, cache, voice, self.secrets, cell.enclosure)


def _reap() -> None:
    """Collect supervisors that have ended; those of a zygote that died go to init."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def main(arguments: list[str]) -> None:
    """Serve on an inherited socket."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agents.zygote", description=__doc__)
    parser.add_argument(
        "--socket", type=int, required=True, help="inherited descriptor of a SOCK_SEQPACKET pair"
    )
    parser.add_argument("--state", type=Path, required=True, help="the agent's state directory")
    parser.add_argument("--setup", default="", help="module:function that changes the tasks (tests)")
    parser.add_argument("--walls", default="all", help="which walls are meant")
    parser.add_argument("--job-network", action="store_true", help="commands may ask for the network")
    options = parser.parse_args(arguments)
    tasks = changed(own_tasks(), options.setup) if options.setup else own_tasks()
    (options.state / "cache").mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(EngineError):  # without a compiler each attempt that needs one says so itself
        detect()  # remembered, so that no attempt has to ask the compiler for its version
    supervision = Supervision(options.state, tasks, raised(options.state, options.walls, options.job_network))
    serve(socket.socket(fileno=options.socket), supervision)


def raised(state: Path, text: str, network: bool = False) -> Survey:
    """The walls of this node; those that all attempts share are raised round this process, for its forks."""
    walls = survey(state, text)
    if network:
        walls = replace(walls, network=os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
    if walls.has("uid"):
        for folder in (state, state / "attempts"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)  # to be passed through; what is in it is readable by the agent's user alone
        open_ways(needed(state))
    if walls.parent_group is not None:
        remove_empty(walls.parent_group, prefix_of(state))
    enter_namespaces(walls, state)
    calls.prctl(
        calls.PR_SET_DUMPABLE, 0
    )  # nor are its supervisors to be looked into by attempts of the same user
    return walls


if __name__ == "__main__":
    main(sys.argv[1:])
