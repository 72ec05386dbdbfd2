"""Measuring the peaks: kernels of the engine's own, scheduled by hand, timed by the ring like all others.

Each is run again and again and its fastest run counts: what disturbs only slows down. All data is random, and starts
at whole cache lines. The knee of the last-level cache is measured, not believed: guests report whole sockets' caches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np

from engine import dtype as dt
from engine.build import elementwise, expand, param, permute, reduce, reshape
from engine.device.cpu import Cpu
from engine.device.protocol import Array
from engine.dtype import DType
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.options import Options, current
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.profile.peaks import Peaks
from engine.profile.recording import record
from engine.runtime.cpu import Prepared, empty
from engine.shapes import Shape, shape_of
from engine.target import Target, processor_target

MiB = 1 << 20
DRAM_BYTES = 1 << 30
STEPS = 8
Advance = Callable[[int, str], None]  # (steps done of STEPS, what comes next)


def _silent(done: int, what: str) -> None:
    """Tells nobody."""


def measure(
    threads: int, advance: Advance = _silent, options: Options | None = None, dram_bytes: int = DRAM_BYTES
) -> Peaks:
    """The peaks on `threads` threads: some ten seconds, and 1.5 GiB of memory (less where there is less).

    Arrays that are to come from DRAM are of `dram_bytes`, or four times the knee of the last level, if that is more.
    """
    machine = _Machine(threads, options or current(), dram_bytes)
    others: list[int] = []

    def step(done: int, what: str) -> None:
        others.append(_running() - 1)
        advance(done, what)

    step(0, "multiply-adds of float32")
    float32 = machine.alu_rate(dt.float32)
    step(1, "multiply-adds of float64")
    float64 = machine.alu_rate(dt.float64)
    step(2, "loads from the first-level cache")
    sram = max(machine.load_rate(machine.cache("l1d", 32 << 10) * share // 8) for share in (3, 4, 5))
    step(3, "loads from the second-level cache")
    l2 = machine.load_rate(machine.cache("l2", 512 << 10) // 2)
    step(4, "where the last-level cache ends")
    source = _random(machine.dram_bytes(0))
    knee = machine.knee(source)
    step(5, "reading memory")
    size = machine.dram_bytes(knee)
    if size > source.nbytes:
        del source  # before there is another one
        source = _random(size)
    read = machine.read_rate(source)
    step(6, "copying memory")
    copied = machine.copy_rate(source)
    step(7, "a launch")
    launch = machine.launch_s()
    step(8, "")
    wanted = round(max(0.0, sum(others) / len(others)), 1)
    return Peaks(threads, read, copied, sram, l2, float32, float64, knee, size, launch, wanted)


class _Machine:
    """Kernels for a number of threads, and how fast they run."""

    def __init__(self, threads: int, options: Options, dram_bytes: int) -> None:
        self._threads = threads
        self._least = dram_bytes
        self._target: Target = processor_target()
        self._device = Cpu("LLVM", replace(options, threads=threads, debug=0))

    def cache(self, name: str, usual: int) -> int:
        """Bytes of a core's own cache; `usual` where the system does not say."""
        return self._target.cache_bytes(name) or usual

    def alu_rate(self, dtype: DType) -> float:
        """Operations a second of a batch of small products whose operands stay in the first-level cache."""
        lanes = self._lanes(dtype)
        rows, vectors = (8, 3) if self._target.features.vector_registers >= 32 else (4, 2)
        batch, m, n, k = 64 * self._threads, 4 * rows, lanes * vectors, 128
        a = expand(reshape(param(0, (m, k), dtype), (1, m, 1, k)), (batch, m, n, k))
        b = expand(reshape(permute(param(1, (k, n), dtype), (1, 0)), (1, 1, n, k)), (batch, m, n, k))
        product = reduce(Op.ADD, elementwise(Op.MUL, a, b), (3,))
        tile = (_opt("VEC", 2, lanes), _opt("UPCAST", 2, vectors), _opt("UPCAST", 1, rows))
        return 2.0 * batch * m * n * k / self._seconds(product, (*tile, *self._thread()), runs=200)

    def load_rate(self, size: int) -> float:
        """Bytes loaded a second, on all threads, from an array of about `size`, read again and again."""
        groups = 4 * self._threads if self._threads > 1 else 1
        return self._load_rate(_random(size), 32 * MiB, groups, self._thread(), runs=12)

    def _load_rate(self, source: Array, total: int, groups: int, threads: Schedule, runs: int) -> float:
        """The rate at which each of `groups` reads `source` until `total` is read.

        Sums of products: one load for each multiply-add, and accumulators enough to hide its latency.
        """
        lanes = self._lanes(dt.float32)
        vectors = 16 if self._target.features.vector_registers >= 32 else 8
        columns = lanes * vectors
        rows = source.size // columns
        times = max(1, total // (4 * rows * columns))
        shape = (groups, columns, times, rows)
        a = expand(
            reshape(permute(param(0, (rows, columns), dt.float32), (1, 0)), (1, columns, 1, rows)), shape
        )
        b = expand(reshape(param(1, (groups, times), dt.float32), (groups, 1, times, 1)), shape)
        sums = reduce(Op.ADD, elementwise(Op.MUL, a, b), (2, 3))
        inputs = [source[: rows * columns].reshape(rows, columns), _random_array((groups, times), dt.float32)]
        schedule = (_opt("VEC", 1, lanes), _opt("UPCAST", 1, vectors), *threads)
        return 4.0 * groups * times * rows * columns / self._run(sums, schedule, inputs, runs)

    def knee(self, source: Array) -> int:
        """The largest part of `source`, in doublings of the second level, that one thread reads nearer to the cache's
        rate than to that of the whole; where no more than the second level is faster, that."""
        second = self.cache("l2", 512 << 10)
        sizes = [second << n for n in range(1, 16) if second << n <= source.nbytes // 4]
        parts = [source[: size // 4] for size in sizes]
        passes = [[self._load_rate(part, 0, 1, (), 3) for part in (*parts, source)] for _ in range(2)]
        *rates, slowest = map(max, *passes)
        fastest = max(rates, default=0.0)
        held = [size for size, rate in zip(sizes, rates, strict=True) if rate > sqrt(fastest * slowest)]
        return max(held) if fastest > 1.2 * slowest else second

    def dram_bytes(self, knee: int) -> int:
        """How long arrays must be to come from DRAM; less where memory is short."""
        return max(MiB, min(max(self._least, 4 * knee), available_bytes() // 4) // MiB * MiB)

    def read_rate(self, source: Array) -> float:
        """Bytes read a second by sums over rows of `source`."""
        rows = 1024
        values = param(0, (rows, source.size // rows), dt.float32)
        lanes = self._lanes(dt.float32)
        best = 0.0
        for together in (4, 8):
            schedule = (Opt(OptKind.VEC, "r0", 0, lanes), _opt("UPCAST", 0, together), *self._thread())
            inputs = [source[: source.size // rows * rows].reshape(rows, -1)]
            best = max(best, source.nbytes / self._run(reduce(Op.ADD, values, (1,)), schedule, inputs, 5))
        return best

    def copy_rate(self, source: Array) -> float:
        """Bytes read and written a second by a copy of one half of `source` over another array, cached or streamed."""
        half = source[: source.size // 2].reshape(1024, -1)
        lanes = self._lanes(dt.float32)
        best = 0.0
        for tile in ((), (_opt("UPCAST", 1, 4),), (_opt("STREAM", 0, 0),)):
            schedule = (_opt("VEC", 1, lanes), *tile, *self._thread())
            best = max(
                best, 2.0 * half.nbytes / self._run(param(0, half.shape, dt.float32), schedule, [half], 4)
            )
        return best

    def launch_s(self) -> float:
        """Seconds from the end of one run of a kernel of one element to the end of the next."""
        kernel = Kernel(elementwise(Op.ADD, param(0, (1,), dt.float32), param(0, (1,), dt.float32)))
        inputs = [_random(4)]
        with record() as events:
            for _ in range(1000):
                self._device.run(kernel, inputs)
        ends = [event.end_ns for event in events]
        return float(np.median(np.diff(ends))) / 1e9

    # ------------------------------------------------------------------------------------------ running

    def _seconds(self, output: UOp, schedule: Schedule, runs: int) -> float:
        """The fastest run on random inputs."""
        kernel = Kernel(output)
        inputs = [_random_array(node.arg[1], node.dtype) for node in kernel.params]
        return self._run(output, schedule, inputs, runs)

    def _run(self, output: UOp, schedule: Schedule, inputs: Sequence[Array], runs: int) -> float:
        prepared: Prepared = self._device.prepare(Kernel(output), schedule)
        memory = empty(shape_of(output), output.dtype.numpy)
        memory.fill(0)
        with record() as events:
            for _ in range(runs):
                prepared.into(memory, inputs)
        return min(event.seconds for event in events if event.subject is prepared.subject)

    def _thread(self) -> Schedule:
        """The outermost axis shared by the threads, in more parts than threads: one may be disturbed."""
        parts = 4 * self._threads
        return (_opt("THREAD", 0, parts),) if self._threads > 1 else ()

    def _lanes(self, dtype: DType) -> int:
        return max(2, self._target.features.vector_bytes // dtype.itemsize)


def _running() -> int:
    """Threads that run or want to, of all processes; this one's is among them."""
    try:
        return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return 1


def available_bytes() -> int:
    """Memory that this process may still take: what is free, or what its control group leaves."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) << 10
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return free  # there is no control group, or no limit
    return max(0, min(free, limit - used + int(kept.get("inactive_file", 0))))


def _opt(kind: str, axis: int, amount: int, type_: RangeType | None = None) -> Opt:
    return Opt(OptKind(kind), "out", axis, amount, type_)


def _random(size: int) -> Array:
    """About `size` bytes of random float32: 16 MiB of them, again and again."""
    return _random_array((max(1, size // 4),), dt.float32)


def _random_array(shape: Shape, dtype: DType) -> Array:
    array = empty(shape, dtype.numpy)
    flat = array.reshape(-1)
    block = np.random.default_rng(0).standard_normal(min(flat.size, 4 * MiB), np.float32).astype(dtype.numpy)
    for start in range(0, flat.size, block.size):
        part = flat[start : start + block.size]
        part[:] = block[: part.size]
    return array
