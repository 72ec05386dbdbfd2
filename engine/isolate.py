"""Run compiled candidates in a child that may crash, hang or write garbage; this process never loads one.

`Isolate` owns a starter process (engine.starter) that forks a fresh `Child` when asked: 2 ms. A child that
dies or overruns its deadline raises `Died` with the outcome; the next candidate gets a new child. What compiles
candidates is forked by the same starter, and ended in the same ways.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import TracebackType

from engine.arena import Arena
from engine.errors import DeviceError, EngineError
from engine.outcome import Outcome
from engine.packets import Message, packet_by, send
from engine.timing import Runs

# Every BLAS and OpenMP that NumPy may have been built with.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
START_DEADLINE_S = 30.0
COMMAND_DEADLINE_S = 10.0
END_DEADLINE_S = 10.0
# A process that gets no core has this much longer than its deadline.
STARVED_FACTOR = 5.0
# What a DeviceError's call begins with when the system cannot load a candidate's code.
LOADING = "load"


class Died(EngineError):
    """The child ended, or was ended, while it ran a candidate."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome
        self.detail = detail


@dataclass(frozen=True)
class Combine:
    """The second phase of a kernel, and bytes of memory between both."""

    entry: str
    tiles: int
    partials: int


@dataclass(frozen=True)
class Code:
    """A compiled entry point for one shape. Tiles are shared by `threads` threads: of `pool` (a library), else Python's.

    `combine` is its second phase, if it has one: see `engine.pipeline.Rendered`.
    """

    path: Path
    entry: str
    tiles: int = 1
    threads: int = 1
    pool: Path | None = None
    scratch: int = 0  # bytes of scratch memory for each thread
    combine: Combine | None = None


@dataclass(frozen=True)
class Deadline:
    """How long one run may take: max(floor, factor × expected) + grace for a busy machine; seconds."""

    floor_s: float = 0.05
    factor: float = 20.0
    grace_s: float = 1.0

    def seconds(self, expected_s: float) -> float:
        """The deadline of a run expected to take `expected_s`."""
        return max(self.floor_s, self.factor * expected_s) + self.grace_s


class Isolate:
    """The starter process and the children it forks. Close it, or use it as a context manager.

    `threads` is what NumPy's BLAS may use in the children; kernels get theirs with each program.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._running: set[int] = set()
        self._ended: dict[int, int] = {}
        self._lock = RLock()  # compiling processes are asked for by several threads

    def start(self) -> None:
        """Start the starter, and do not wait for it: it will be ready the sooner."""
        with self._lock:
            if self._control is None:
                self._start()

    def child(self) -> Child:
        """A fresh child. The starter is started with the first one, and again should it have died."""
        return Child(self, *self._forked("measure"))

    def compiler(self) -> CompilerProcess:
        """A fresh process that compiles."""
        return CompilerProcess(self, *self._forked("compile"))

    def _forked(self, role: str) -> tuple[socket.socket, int]:
        """The socket and the id of a process that does what `role` (of engine.starter) names."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            try:
                pid = self._fork(theirs, role)
            except (BrokenPipeError, ConnectionResetError, EOFError):
                self.close()
                pid = self._fork(theirs, role)
            self._running.add(pid)
        return ours, pid

    def end_of(self, pid: int) -> int:
        """Wait until the starter has reaped the child; its exit code, negative for a signal.

        Children of a starter that died were killed with it.
        """
        stop = time.monotonic() + END_DEADLINE_S
        with self._lock:
            while pid in self._running and pid not in self._ended:
                try:
                    self._note(self._receive(stop, "waiting for a child's end"))
                except EOFError:
                    self.close()
            self._running.discard(pid)
            return self._ended.pop(pid, -signal.SIGKILL)

    def kill(self, pid: int) -> None:
        """End the child and everything in its process group."""
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if self._control is not None and pid in self._running:
                send(self._control, {"do": "kill", "pid": pid})

    def close(self) -> None:
        """End the starter and its children."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(END_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self._running.clear()
        self._ended.clear()

    def __enter__(self) -> Isolate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fork(self, sock: socket.socket, role: str) -> int:
        if self._control is None:
            self._start()
        assert self._control is not None
        send(self._control, {"do": "fork", "role": role}, [sock.fileno()])
        stop = time.monotonic() + START_DEADLINE_S
        while "pid" not in (message := self._receive(stop, "starting a child")):
            self._note(message)
        return int(message["pid"])

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "engine.starter", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(self.threads),
            )
        self._control = ours

    def _receive(self, stop: float, doing: str) -> Message:
        assert self._control is not None
        packet = packet_by(self._control, stop)
        if packet is None:
            raise DeviceError("isolate", f"{doing} took too long")
        if not packet:
            raise EOFError(doing)
        message: Message = json.loads(packet)
        return message

    def _note(self, message: Message) -> None:
        self._ended[message["ended"]] = message["code"]


class Forked:
    """One process that the starter has forked. Not usable after `Died`."""

    def __init__(self, isolate: Isolate, sock: socket.socket, pid: int) -> None:
        self._isolate = isolate
        self._sock = sock
        self.pid = pid

    def close(self) -> None:
        """End the process."""
        self._sock.close()
        self._isolate.kill(self.pid)
        self._isolate.end_of(self.pid)

    def ask(
        self, command: Message, deadline_s: float = COMMAND_DEADLINE_S, fds: list[int] | None = None
    ) -> Message:
        """The answer to a command. Died when there is none in time, and the process is then ended.

        The deadline is one of CPU time on a machine with other work; STARVED_FACTOR times as long is always too long.
        """
        began, used = time.monotonic(), cpu_s(self.pid)
        try:
            send(self._sock, command, fds)
            packet = packet_by(self._sock, began + deadline_s)
            while packet is None:
                waited, used_since = time.monotonic() - began, cpu_s(self.pid) - used
                if used_since >= deadline_s or waited >= STARVED_FACTOR * deadline_s:
                    self.close()
                    raise Died(
                        Outcome.HUNG, f"still running after {waited:.3g} s, {used_since:.2g} s of CPU; killed"
                    )
                # it had to wait for a core, which says nothing against it
                packet = packet_by(self._sock, time.monotonic() + max(0.01, deadline_s - used_since))
        except (BrokenPipeError, ConnectionResetError):
            packet = b""
        if not packet:
            self._sock.close()
            raise _died(self._isolate.end_of(self.pid))
        reply: Message = json.loads(packet)
        if "error" in reply:
            raise DeviceError(
                f"{LOADING if command['do'] == 'prepare' else command['do']} in the child", reply["error"]
            )
        return reply


class CompilerProcess(Forked):
    """A process that compiles (engine.compiling says what it can be asked)."""


class Child(Forked):
    """A process that maps buffers, loads programs and runs them."""

    def __init__(self, isolate: Isolate, sock: socket.socket, pid: int) -> None:
        super().__init__(isolate, sock, pid)
        self._maps: dict[tuple[Arena, bool], list[int]] = {}

    def map(self, arena: Arena, *, private: bool = False) -> list[int]:
        """Map an arena; the addresses of its buffers, output first. Private ones are copies, for timing.

        An arena is mapped once a child; asking again gives the same addresses.
        """
        if (arena, private) in self._maps:
            return self._maps[arena, private]
        regions = [(region.at, region.length) for region in arena.regions]
        reply = self.ask({"do": "map", "regions": regions, "private": private}, fds=[arena.fd])
        starts = reply["addresses"]
        found = [start + region.offset for start, region in zip(starts, arena.regions, strict=True)]
        self._maps[arena, private] = found
        return found

    def prepare(self, key: str, code: Code, buffers: list[int]) -> None:
        """Load a compiled program and bind it to buffers (the addresses that `map` gave)."""
        command: Message = {"do": "prepare", "key": key, "path": str(code.path), "entry": code.entry}
        command |= {"buffers": buffers, "tiles": code.tiles, "scratch": code.scratch}
        command |= {"pool": str(code.pool or ""), "threads": code.threads}
        if code.combine is not None:
            command["combine"] = [code.combine.entry, code.combine.tiles, code.combine.partials]
        self.ask(command)

    def prepare_numpy(self, key: str, program: str, arena: Arena, buffers: list[int]) -> None:
        """Bind NumPy's version of a named program (engine.measuring.NUMPY) to an arena's buffers."""
        arrays = [
            (address, region.dtype.name, region.shape)
            for address, region in zip(buffers, arena.regions, strict=True)
        ]
        command = {"do": "prepare_numpy", "key": key, "program": program, "arrays": arrays}
        self.ask({**command, "threads": self._isolate.threads})

    def run(
        self,
        key: str,
        *,
        deadline_s: float,
        runs: int = 1,
        budget_s: float = 0.0,
        stop_above_s: float = float("inf"),
    ) -> Runs:
        """Run a prepared program; the seconds each run took, and which had a core all the time. Died says what went wrong.

        At most `runs` runs, no new one after `budget_s` or after one slower than `stop_above_s`. The deadline
        is for one run; a batch gets its budget on top.
        """
        command = {"do": "run", "key": key, "runs": runs, "budget_s": budget_s}
        deadline_s += budget_s if runs > 1 else 0.0
        reply = self.ask(
            {**command, "stop_above_s": min(stop_above_s, 1e9), "deadline_s": STARVED_FACTOR * deadline_s},
            deadline_s,
        )
        disturbed = set(reply["disturbed"])
        calm = (t for number, t in enumerate(reply["times"]) if number not in disturbed)
        return Runs(tuple(reply["times"]), tuple(calm))


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, its threads' included; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _died(code: int) -> Died:
    if code == -signal.SIGALRM:
        return Died(Outcome.HUNG, "ended by its own deadline (SIGALRM)")
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else f"signal {-code}"
        return Died(Outcome.CRASHED, f"killed by {name} ({signal.strsignal(-code)})")
    return Died(Outcome.CRASHED, f"the kernel ended the process with exit status {code}")


def _environment(threads: int) -> dict[str, str]:
    """This process's environment with BLAS limited and this package importable."""
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    limits = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **limits, "PYTHONPATH": path}
