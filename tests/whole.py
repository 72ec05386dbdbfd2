"""A real fleet on this machine: the server and its agents as processes of their own, started and killed by tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from engine.toolchain import renderer_of
from fleet.agents.tasks.context import Tasks
from fleet.client import Client
from fleet.resources import Job, Node, Search
from tests.fakes import Fault, FaultKind, FaultyRenderer

ROOT = Path(__file__).parent.parent
Found = TypeVar("Found")
# Short enough that a lost node is noticed within a test, long enough for a machine whose cores are all busy.
TIMINGS = {
    "TINYFLEET_TICK_S": "0.2",
    "TINYFLEET_POLL_S": "1",
    "TINYFLEET_LATE_S": "3",
    "TINYFLEET_UNREACHABLE_S": "4",
    "TINYFLEET_LEASE_S": "5",
    "TINYFLEET_GRACE_S": "1",
}


def until(condition: Callable[[], Found], what: str, within_s: float = 30.0) -> Found:
    """Wait for something that other processes bring about; fails by name at the deadline."""
    deadline = time.monotonic() + within_s
    never = threading.Event()  # other processes offer no handle to wait on
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        never.wait(0.05)
    return found


@dataclass
class Process:
    """A process of the fleet in a group of its own, with its output in a file."""

    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """SIGKILL, to this process alone."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole group."""
        if self.popen.poll() is None:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)


def start(arguments: list[str], log: Path, environ: Mapping[str, str] | None = None) -> Process:
    """Run `python -m …` from the project's root."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(environ or {})},
            start_new_session=True,
        )
    return Process(popen, log)


@dataclass
class Fleet:
    """One server and any number of agents over one temporary folder."""

    folder: Path
    server: Process | None = None
    agents: dict[str, Process] = field(default_factory=dict)
    url: str = ""
    port: int = 0

    def start_server(self) -> None:
        """Start the server; a second start listens on the first one's port, so that agents find it again."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--data", str(self.folder / "data")]
        self.server = start(
            ["api", *options, "--ready-file", str(ready)],
            self.folder / "server.log",
            {**os.environ, **TIMINGS},
        )
        until(lambda: self._alive(self.server) and ready.exists(), "the server listens")
        self.url = json.loads(ready.read_text())["url"]
        self.port = int(self.url.rpartition(":")[2])

    def _alive(self, process: Process | None) -> bool:
        assert process is not None
        assert process.popen.poll() is None, process.log.read_text()
        return True

    @property
    def token(self) -> str:
        """The administrator's token, as the first start left it."""
        return (self.folder / "data" / "admin-token").read_text().strip()

    def client(self) -> Client:
        """An SDK client of the administrator."""
        return Client(self.url, self.token)

    def start_agent(self, name: str, setup: str = "", **environ: str) -> Node:
        """Enrol (the first time) and run a node's agent; returns when the node is ready."""
        state = self.folder / name
        join = self.folder / f"{name}.join"
        with self.client() as client:
            if not join.exists():
                join.write_text(client.join_token().secret)
                join.chmod(0o600)
        options = [
            "--server",
            self.url,
            "--state",
            str(state),
            "--join-token-file",
            str(join),
            "--name",
            name,
        ]
        setup_options = ["--setup", setup] if setup else []
        told = {"TINYFLEET_CONTAINERS": "off"} | environ  # trying whether they run takes a second
        self.agents[name] = start(
            ["fleet.agents", *options, *setup_options], self.folder / f"{name}.log", told
        )
        return until(lambda: self.node(name, contact="online"), f"{name} is online")

    def node(self, name: str, contact: str | None = None) -> Node | None:
        """A node by name, if it is there and in that contact."""
        with self.client() as client:
            found = [node for node in client.nodes().items if node.name == name]
        return found[0] if found and contact in (None, found[0].contact) else None

    def attempt_processes(self, name: str, role: str) -> list[int]:
        """Pids under a node's state folder whose command line or environment shows the role."""
        return [
            pid
            for pid in pids()
            if str(self.folder / name) in command_line(pid) and role in command_line(pid)
        ]

    def wait_job(self, job_id: int, *states: str, within_s: float = 30.0) -> Job:
        """Wait for a job to reach one of the states."""
        with self.client() as client:
            return until(
                lambda: ((job := client.job(job_id)).state in states and job) or None,
                f"job {job_id} is {' or '.join(states)}",
                within_s,
            )

    def wait_search(self, search_id: int, *states: str, within_s: float = 60.0) -> Search:
        """Wait for a search to reach one of the states."""
        with self.client() as client:
            return until(
                lambda: ((search := client.search(search_id)).state in states and search) or None,
                f"search {search_id} is {' or '.join(states)}",
                within_s,
            )

    def stop(self) -> None:
        """End every process of this fleet, supervisors included."""
        for process in (*self.agents.values(), *([self.server] if self.server else [])):
            process.stop()
        for pid in pids():
            if str(self.folder) in command_line(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def logs(self) -> str:
        """Everything the processes printed."""
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.folder.glob("*.log"))
        )


@contextlib.contextmanager
def running_fleet(folder: Path) -> Iterator[Fleet]:
    """A fleet whose server runs; everything ends with the block."""
    fleet = Fleet(folder)
    try:
        fleet.start_server()
        yield fleet
    finally:
        fleet.stop()


def pids() -> list[int]:
    """Every process of the machine but this one."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdigit() and int(path.name) != os.getpid()
    ]


def command_line(pid: int) -> str:
    """A process's arguments; empty when it has gone."""
    try:
        return (
            (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


# Most of what a search proposes first, on machines with 16 or 32 vector registers; the code as written is right.
FAULTS = (
    Fault(FaultKind.SEGFAULT, frozenset({8, 12, 20})),
    Fault(FaultKind.LOOP, frozenset({6, 10})),
    Fault(FaultKind.PAST_END, frozenset({16}), unrolled=True),
    Fault(FaultKind.OFF_BY_ONE_PERCENT, frozenset({3, 24})),
)


def faulty_tasks(tasks: Tasks) -> Tasks:
    """An agent's tasks with a renderer whose code breaks in every way: given to an agent as its setup."""
    return replace(tasks, renderer_factory=lambda target: FaultyRenderer(renderer_of(target), FAULTS))


def gemm(n: int) -> dict[str, Any]:
    """The reference of an n-cubed fp32 matrix product."""
    return {"program": "gemm", "shape": [n, n, n], "dtype": "float32"}
