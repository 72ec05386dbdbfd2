"""A far end and real agent processes; whatever they start is gone after the test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.agents.attempts import State
from fleet.agents.processes import alive, clock, kill, leftovers
from fleet.agents.walls.groups import parent_group, prefix_of, remove_empty
from tests.fleet.agents.far_end import DEADLINE_S, JOIN_TOKEN, FarEnd

ROOT = Path(__file__).parents[3]


class AgentProcess:
    """One agent as a process of its own."""

    def __init__(self, far_end: FarEnd, state: Path, setup: str, environment: dict[str, str]) -> None:
        self.state = state
        self.output = state.parent / f"{state.name}.log"
        command = [sys.executable, "-m", "fleet.agents", "agent", "--server", far_end.url]
        command += ["--state", str(state), "--name", "tiny1", "--setup", setup]
        # The zygote looks for the tests' tasks where Python looks, not where it was started.
        # Trying whether containers run takes a second.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TINYFLEET_CONTAINERS": "off"} | environment
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)

    def end(self, number: signal.Signals) -> int:
        """Signal the agent and wait until it is gone; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def directory(self, attempt_id: int, fence: int = 1) -> Path:
        return self.state / "attempts" / f"{attempt_id}-{fence}"

    def attempt(self, attempt_id: int, fence: int = 1) -> State:
        """What the attempt's supervisor has recorded."""
        found = State.load(self.directory(attempt_id, fence))
        assert found is not None
        return found

    def kill_supervisor(self, attempt_id: int) -> None:
        """SIGKILL, and wait until it is gone."""
        supervisor = self.attempt(attempt_id).supervisor
        assert supervisor is not None
        os.kill(supervisor.pid, signal.SIGKILL)
        until(lambda: not alive(supervisor))


def until(condition: Callable[[], bool]) -> None:
    """Until a real process has made `condition` true; fails the test after the deadline."""
    deadline = clock() + DEADLINE_S
    while not condition():
        assert clock() < deadline, condition
        select.select([], [], [], 0.01)


def seen_from_here(folder: Path) -> list[int]:
    """The pids that processes of an attempt have left as names of files, NAME-PID, whatever namespace they counted in."""
    said = sorted(int(path.name.rpartition("-")[2]) for path in folder.iterdir())
    marked = leftovers(f"{folder.parents[1]}", set())
    inner = {pid: _innermost(pid) for pid in marked}
    return [next((pid for pid, number in inner.items() if number == each), each) for each in said]


def _innermost(pid: int) -> int:
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
    return 0


def gone(pid: int) -> bool:
    """Whether no process has this pid, or only its zombie is left."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text[text.rindex(")") + 2] in "ZX"


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    end = FarEnd().open()
    yield end
    end.close()


Start = Callable[..., AgentProcess]


class Node(NamedTuple):
    """A far end and the one agent that it knows, shared by the tests that leave both as they found them."""

    far_end: FarEnd
    agent: AgentProcess


@pytest.fixture
def start_agent(tmp_path: Path) -> Iterator[Start]:
    """Start an agent; a second one with the same state directory carries on where the first was."""
    yield from _starter(tmp_path / "state")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """An agent at work for all tests of a module."""
    far_end = FarEnd().open()
    for start in _starter(tmp_path_factory.mktemp("node") / "state"):
        yield Node(far_end, start(far_end))
    far_end.close()


def _starter(state: Path) -> Iterator[Start]:
    started: list[AgentProcess] = []

    def start(
        far_end: FarEnd,
        setup: str = "tests.fleet.agents.odd_tasks:install",
        telemetry: str = "off",
        **environ: str,
    ) -> AgentProcess:
        environment = {"TINYFLEET_JOIN_TOKEN": JOIN_TOKEN, "TINYFLEET_TELEMETRY": telemetry, **environ}
        started.append(AgentProcess(far_end, state, setup, environment))
        return started[-1]

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.end(signal.SIGKILL)
    family = f"{state}/attempts/"
    kill(leftovers(family, set()), signal.SIGKILL)
    until(lambda: not leftovers(family, set()))
    parent = parent_group()
    if parent is not None:
        remove_empty(parent, prefix_of(state))
