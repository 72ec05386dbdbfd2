"""Run compiled candidates in a child that may crash, hang or write garbage; this process never loads one.

`Isolate` owns a starter process (engine.measuring) that forks a fresh `Child` when asked: 2 ms. A child that
dies or overruns its deadline raises `Died` with the outcome; the next candidate gets a new child.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.arena import Arena
from engine.errors import DeviceError, EngineError
from engine.outcome import Outcome

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
# What a DeviceError's call begins with when the system cannot load a candidate's code.
LOADING = "load"

Message = dict[str, Any]


class Died(EngineError):
    """The child ended, or was ended, while it ran a candidate."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome
        self.detail = detail


@dataclass(frozen=True)
class Code:
    """A compiled entry point for one shape. Tiles are shared by `threads` threads if `pool` (a library) is given."""

    path: Path
    entry: str
    tiles: int = 1
    threads: int = 1
    pool: Path | None = None
    scratch: int = 0  # bytes of scratch memory for each thread


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

    def child(self) -> Child:
        """A fresh child. The starter is started with the first one, and again should it have died."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = self._fork(theirs)
            except (BrokenPipeError, ConnectionResetError, EOFError):
                self.close()
                pid = self._fork(theirs)
            self._running.add(pid)
        return Child(self, ours, pid)

    def end_of(self, pid: int) -> int:
        """Wait until the starter has reaped the child; its exit code, negative for a signal.

        Children of a starter that died were killed with it.
        """
        stop = time.monotonic() + END_DEADLINE_S
        while pid in self._running and pid not in self._ended:
            try:
                self._note(self._receive(stop, "waiting for a measuring child's end"))
            except EOFError:
                self.close()
        self._running.discard(pid)
        return self._ended.pop(pid, -signal.SIGKILL)

    def kill(self, pid: int) -> None:
        """End the child and everything in its process group."""
        if self._control is None or pid not in self._running:
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(json.dumps({"do": "kill", "pid": pid}).encode())

    def close(self) -> None:
        """End the starter and its children."""
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

    def _fork(self, sock: socket.socket) -> int:
        if self._control is None:
            self._start()
        assert self._control is not None
        socket.send_fds(self._control, [json.dumps({"do": "fork"}).encode()], [sock.fileno()])
        stop = time.monotonic() + START_DEADLINE_S
        while "pid" not in (message := self._receive(stop, "starting a measuring child")):
            self._note(message)
        return int(message["pid"])

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "engine.measuring", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(self.threads),
            )
        self._control = ours

    def _receive(self, stop: float, doing: str) -> Message:
        assert self._control is not None
        packet = _packet(self._control, stop)
        if packet is None:
            raise DeviceError("isolate", f"{doing} took too long")
        if not packet:
            raise EOFError(doing)
        message: Message = json.loads(packet)
        return message

    def _note(self, message: Message) -> None:
        self._ended[message["ended"]] = message["code"]


class Child:
    """One forked process that maps buffers, loads programs and runs them. Not usable after `Died`."""

    def __init__(self, isolate: Isolate, sock: socket.socket, pid: int) -> None:
        self._isolate = isolate
        self._sock = sock
        self._maps: dict[tuple[Arena, bool], list[int]] = {}
        self.pid = pid

    def map(self, arena: Arena, *, private: bool = False) -> list[int]:
        """Map an arena; the addresses of its buffers, output first. Private ones are copies, for timing.

        An arena is mapped once a child; asking again gives the same addresses.
        """
        if (arena, private) in self._maps:
            return self._maps[arena, private]
        regions = [(region.at, region.length) for region in arena.regions]
        reply = self._ask({"do": "map", "regions": regions, "private": private}, fds=[arena.fd])
        starts = reply["addresses"]
        found = [start + region.offset for start, region in zip(starts, arena.regions, strict=True)]
        self._maps[arena, private] = found
        return found

    def prepare(self, key: str, code: Code, buffers: list[int]) -> None:
        """Load a compiled program and bind it to buffers (the addresses that `map` gave)."""
        command: Message = {"do": "prepare", "key": key, "path": str(code.path), "entry": code.entry}
        command |= {"buffers": buffers, "tiles": code.tiles, "scratch": code.scratch}
        if code.pool is not None:
            command |= {"pool": str(code.pool), "threads": code.threads}
        self._ask(command)

    def prepare_numpy(self, key: str, program: str, arena: Arena, buffers: list[int]) -> None:
        """Bind NumPy's version of a named program (engine.measuring.NUMPY) to an arena's buffers."""
        arrays = [
            (address, region.dtype.name, region.shape)
            for address, region in zip(buffers, arena.regions, strict=True)
        ]
        self._ask({"do": "prepare_numpy", "key": key, "program": program, "arrays": arrays})

    def run(
        self,
        key: str,
        *,
        deadline_s: float,
        runs: int = 1,
        budget_s: float = 0.0,
        stop_above_s: float = float("inf"),
    ) -> list[float]:
        """Run a prepared program; the seconds each run took. Died names what went wrong.

        At most `runs` runs, no new one after `budget_s` or after one slower than `stop_above_s`. The deadline
        is for one run; a batch gets its budget on top.
        """
        command = {"do": "run", "key": key, "runs": runs, "budget_s": budget_s}
        deadline_s += budget_s if runs > 1 else 0.0
        reply = self._ask(
            {**command, "stop_above_s": min(stop_above_s, 1e9), "deadline_s": deadline_s}, deadline_s
        )
        return [float(t) for t in reply["times"]]

    def close(self) -> None:
        """End the child."""
        self._sock.close()
        self._isolate.kill(self.pid)
        self._isolate.end_of(self.pid)

    def _ask(
        self, command: Message, deadline_s: float = COMMAND_DEADLINE_S, fds: list[int] | None = None
    ) -> Message:
        stop = time.monotonic() + deadline_s
        try:
            socket.send_fds(self._sock, [json.dumps(command).encode()], fds or [])
            packet = _packet(self._sock, stop)
        except (BrokenPipeError, ConnectionResetError):
            packet = b""
        if packet is None:
            self._sock.close()
            self._isolate.kill(self.pid)
            self._isolate.end_of(self.pid)
            raise Died(Outcome.HUNG, f"still running after {deadline_s:.3g} s; killed")
        if not packet:
            self._sock.close()
            raise _died(self._isolate.end_of(self.pid))
        reply: Message = json.loads(packet)
        if "error" in reply:
            raise DeviceError(
                f"{LOADING if command['do'] == 'prepare' else command['do']} in the child", reply["error"]
            )
        return reply


def _died(code: int) -> Died:
    if code == -signal.SIGALRM:
        return Died(Outcome.HUNG, "ended by its own deadline (SIGALRM)")
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else f"signal {-code}"
        return Died(Outcome.CRASHED, f"killed by {name} ({signal.strsignal(-code)})")
    return Died(Outcome.CRASHED, f"the kernel ended the process with exit status {code}")


def _packet(sock: socket.socket, stop: float) -> bytes | None:
    """The next packet, empty when the other side is gone, None when there is none by `stop` (monotonic)."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while not poll.poll(max(0.0, (stop - time.monotonic()) * 1000)):
        if time.monotonic() >= stop:
            return None
    return sock.recv(1 << 20)


def _environment(threads: int) -> dict[str, str]:
    """This process's environment with BLAS limited and this package importable."""
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
    limits = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **limits, "PYTHONPATH": path}
