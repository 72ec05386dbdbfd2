"""The measuring side: a warm single-threaded starter that forks children, and the child that runs candidates.

Run as `python -m engine.measuring FD` by engine.isolate, FD being a SOCK_SEQPACKET socket: one JSON document a
packet. The starter forks a child for the socket it is handed and reports every child's end. The child does
what it is told and judges nothing: it maps memory between guard pages, loads programs, runs and times them.
Both end when the process that started them does.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine.runtime.pool import Pool
from engine.runtime.scratch import pointers_of

PAGE = mmap.PAGESIZE
# Unmapped on both sides of every region: whatever strides past its canaries dies here.
GUARD = 1 << 20
HUGE_PAGE = 2 << 20
PROT_NONE = 0
MAP_FIXED = 0x10
MAP_NORESERVE = 0x4000
PR_SET_PDEATHSIG = 1
# A child ends itself this long after the deadline at which the parent should have ended it.
OWN_DEADLINE_MARGIN_S = 1.0
MAX_RUNS = 2000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

Message = dict[str, Any]
Run = Callable[[], object]

# The named programs as NumPy runs them, into an output that exists already: (output, *inputs).
NUMPY: dict[str, Callable[..., object]] = {
    "gemm": lambda out, a, b: np.matmul(a, b, out=out),
    "reduce": lambda out, a: np.sum(a, axis=1, out=out),
    "copy": lambda out, a: np.copyto(out, a),
    "elementwise": lambda out, a, b: np.maximum(np.add(np.multiply(a, b, out=out), a, out=out), 0, out=out),
}


# ---------------------------------------------------------------------------------------------- starter


def starter(control: socket.socket) -> None:
    """Fork on request until the other side of `control` is gone; then end every child."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the process that searches
    children: set[int] = set()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(control, children)
        if control.fileno() in ready and not _serve(control, children, (wake_read, wake_write)):
            break
    for pid in children:
        _kill_group(pid)


def _serve(control: socket.socket, children: set[int], wakes: tuple[int, int]) -> bool:
    try:
        packet, fds, _, _ = socket.recv_fds(control, 1 << 16, 2)
    except ConnectionResetError:
        packet = b""
    if not packet:
        return False
    message = json.loads(packet)
    if message["do"] == "fork":
        starter_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            for fd in (control.fileno(), *wakes):
                os.close(fd)
            _child_process(fds[0], starter_pid)
        children.add(pid)
        for fd in fds:
            os.close(fd)
        _send(control, {"pid": pid})
    elif message["pid"] in children:
        _kill_group(message["pid"])
    return True


def _reap(control: socket.socket, children: set[int]) -> None:
    for pid in list(children):
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            continue
        _kill_group(pid)  # whatever it forked, while its id is still taken
        _, status = os.waitpid(pid, 0)
        children.discard(pid)
        _send(control, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group exists only once the child has come so far
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _send(sock: socket.socket, message: Message) -> None:
    try:
        sock.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        return  # the other side is gone: its end is read as an empty packet


# ------------------------------------------------------------------------------------------------ child


def _child_process(fd: int, starter_pid: int) -> None:
    """Everything after the fork, never to return."""
    status = 1
    try:
        os.setpgid(0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGALRM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() == starter_pid:  # else it died before its end could end this child
            Child(socket.socket(fileno=fd)).serve()
        status = 0
    finally:
        os._exit(status)


class Child:
    """Runs what it is told to, one command at a time: map, prepare, run."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.programs: dict[str, Run] = {}

    def serve(self) -> None:
        """Answer commands until the other side closes."""
        while True:
            packet, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 1)
            if not packet:
                return
            command = json.loads(packet)
            try:
                reply = getattr(self, f"_{command.pop('do')}")(fds, **command)
            except (OSError, AttributeError, ValueError) as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
            for fd in fds:
                os.close(fd)
            _send(self.sock, reply)

    def _map(self, fds: list[int], regions: list[tuple[int, int]], private: bool) -> Message:
        """Map (offset, length) regions of the file handed over; private ones are copies in huge pages."""
        place = _map_private if private else _map_shared
        return {"addresses": [place(fds[0], at, length) for at, length in regions]}

    def _prepare(
        self, _: list[int], key: str, path: str, entry: str, buffers: list[int], tiles: int, **others: Any
    ) -> Message:
        """Load a compiled program and bind it to its buffers (addresses; the output's first).

        With `pool` (the worker pool's library) and `threads`, its tiles are shared by that many threads; `scratch` is
        how many bytes of scratch memory each needs.
        """
        self.programs[key] = _bind(path, entry, buffers, tiles, **others)
        return {}

    def _prepare_numpy(
        self, _: list[int], key: str, program: str, arrays: list[tuple[int, str, list[int]]]
    ) -> Message:
        """Bind NumPy's version of a named program to arrays given as (address, dtype, shape)."""
        bound = [_array_at(*array) for array in arrays]
        self.programs[key] = lambda: NUMPY[program](*bound)
        return {}

    def _run(
        self, _: list[int], key: str, runs: int, budget_s: float, stop_above_s: float, deadline_s: float
    ) -> Message:
        """Up to `runs` timed runs, for `budget_s`, no more once one takes over `stop_above_s`; in seconds."""
        signal.setitimer(signal.ITIMER_REAL, deadline_s + OWN_DEADLINE_MARGIN_S)
        program = self.programs[key]
        times: list[float] = []
        began = time.monotonic()
        while len(times) < min(runs, MAX_RUNS):
            start = time.perf_counter()
            program()
            stop = time.perf_counter()
            times.append(stop - start)
            if stop - start > stop_above_s or time.monotonic() - began >= budget_s:
                break
        signal.setitimer(signal.ITIMER_REAL, 0)
        return {"times": times}


def _bind(
    path: str, entry: str, buffers: list[int], tiles: int, pool: str = "", threads: int = 1, scratch: int = 0
) -> Run:
    function = getattr(ctypes.CDLL(path), entry)
    function.restype = None
    function.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    pointers = pointers_of(buffers, scratch)
    if scratch:  # NaN: what is read before it was written shows
        ctypes.memset(pointers[len(buffers)], 0xFF, scratch)
    if not pool or threads == 1 or tiles == 1:
        return lambda: function(pointers, 0, tiles)
    share = Pool(Path(pool)).share
    return lambda: share(function, pointers, scratch, tiles, threads)


def _array_at(address: int, dtype: str, shape: list[int]) -> np.ndarray:
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_char * count).from_address(address)).cast("B")
    return np.ndarray(shape, dtype, memory)


def _mmap(address: int | None, length: int, protection: int, flags: int, fd: int = -1, at: int = 0) -> int:
    found: int = _libc.mmap(address, length, protection, flags, fd, at)
    if found == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"mmap of {length} bytes: {os.strerror(number)}")
    return found


def _reserve(length: int, alignment: int) -> int:
    """Address space for a region with nothing round it, the region's start aligned."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    start = _mmap(None, length + 2 * GUARD + alignment, PROT_NONE, private)
    return -(-(start + GUARD) // alignment) * alignment


def _map_shared(fd: int, at: int, length: int) -> int:
    place = _reserve(length, PAGE)
    return _mmap(place, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | MAP_FIXED, fd, at)


def _map_private(fd: int, at: int, length: int) -> int:
    """A copy in anonymous memory, on huge pages where the system gives them, as large arrays usually are."""
    place = _reserve(length, HUGE_PAGE if length >= HUGE_PAGE else PAGE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
    _mmap(place, length, mmap.PROT_READ | mmap.PROT_WRITE, flags)
    _libc.madvise(place, length, mmap.MADV_HUGEPAGE)
    with mmap.mmap(fd, at + length, mmap.MAP_SHARED, mmap.PROT_READ) as shared:
        ctypes.memmove(place, shared[at : at + length], length)
    return place


if __name__ == "__main__":
    starter(socket.socket(fileno=int(sys.argv[1])))
