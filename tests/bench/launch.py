"""What starting a kernel costs: from Python, in a replayed list, on two threads; and a small training step.

`python -m tests.bench.launch`. The first table stands beside a C loop that calls the same compiled functions on the
same buffers; rounds are interleaved, and each figure is the best of them, in nanoseconds a kernel. The second is whole
calls of functions replayed by engine.jit, Python's part included: a chain of small kernels, and a step of a two-layer
network (forward, backward, SGD) beside the same step written in NumPy. The third is a forward pass of batches of 1 to
BATCH rows by one plan of a leading size, beside a plan for each size and NumPy.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine import compiler, jit
from engine import dtype as dt
from engine.autograd import no_grad
from engine.build import const, elementwise, param
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind
from engine.runtime.cpu import empty
from engine.runtime.llvm import LlvmRuntime, detect
from engine.runtime.pool import Call, Calls
from engine.runtime.ring import RING
from engine.sizes import Var
from engine.target import detect as detect_c
from engine.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
LOOP = """
typedef void kernel_function(void *const *buffers, long first, long last);
void loop(kernel_function *const *functions, void *const *const *buffers, long count, long tiles) {
  for (long i = 0; i < count; i++) functions[i](buffers[i], 0, tiles);
}
"""
KERNELS = 512  # of a list; the next one reads what one has written
ELEMENTS = 16
ROUNDS = 30
SIZES = ((32, 64, 64, 10), (256, 512, 512, 10))  # rows, features, hidden, classes
BATCH, SHOWN = 64, (1, 2, 4, 8, 16, 32, 48, 64)
RATE = 0.01
REACH_NS = 2000


def best(runs: dict[str, tuple[Callable[[], object], int]], rounds: int = ROUNDS) -> dict[str, float]:
    """For each name the best of its rounds, in seconds for each of the calls that one run counts for; interleaved."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, (run, calls) in runs.items():
            begun = perf_counter()
            run()
            found[name] = min(found[name], (perf_counter() - begun) / calls)
    return found


class Chain:
    """KERNELS kernels `x + 1`, each a function of its own, in a chain of buffers."""

    def __init__(self, runtime: LlvmRuntime, directory: Path, tiles: int) -> None:
        x = param(0, (ELEMENTS,), dt.float32)
        schedule = (Opt(OptKind.THREAD, "out", 0, tiles),) if tiles > 1 else ()
        made = runtime.prepare(Kernel(elementwise(Op.ADD, x, const(1, dt.float32, (ELEMENTS,)))), schedule)
        self.program, self.tiles, self.workers = made.program, made.tiles, runtime.workers
        self._arrays = [empty((ELEMENTS,), np.dtype(np.float32)) for _ in range(KERNELS + 1)]
        self._arrays[0][...] = 0
        self._addresses = (ctypes.c_void_p * (KERNELS + 1))(*(array.ctypes.data for array in self._arrays))
        calls = [Call(self.program.function, (n + 1, n), 0, self.tiles) for n in range(KERNELS)]
        self._calls = Calls(calls)
        self._prepare_c(directory)

    def _prepare_c(self, directory: Path) -> None:
        address = ctypes.cast(self.program.function, ctypes.c_void_p).value
        self._functions = (ctypes.c_void_p * KERNELS)(*[address] * KERNELS)
        pairs = [(self._addresses[n + 1], self._addresses[n]) for n in range(KERNELS)]
        self._pairs = [(ctypes.c_void_p * 2)(*pair) for pair in pairs]
        self._buffers = (ctypes.c_void_p * KERNELS)(*map(ctypes.addressof, self._pairs))
        self._loop = ctypes.CDLL(str(compiler.compile(LOOP, detect_c(), directory))).loop
        self._loop.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long)

    def in_c(self) -> None:
        """By a C loop, on this thread."""
        self._loop(self._functions, self._buffers, KERNELS, self.tiles)

    def in_a_list(self, threads: int = 1) -> None:
        """As engine.jit replays it."""
        self.workers.replay(self._calls, self._addresses, threads, RING)

    def by_ctypes(self) -> None:
        """Each function by ctypes, its pointers at hand."""
        function = self.program.function
        for pointers in self._pairs:
            function(pointers, 0, 1)

    def by_programs(self) -> None:
        """Each by `Program.run`, which makes the pointers."""
        addresses = self._addresses
        for n in range(KERNELS):
            self.program.run((addresses[n + 1], addresses[n]))

    def check(self) -> None:
        """Did the last run compute what it should?"""
        assert (self._arrays[-1] == KERNELS).all(), "the kernels did not all run"
        self._arrays[-1][...] = 0


def launches(directory: Path) -> Table:
    """The first table."""
    runtime = LlvmRuntime(detect(), directory)
    one, two = Chain(runtime, directory, 1), Chain(runtime, directory, 2)
    runs: dict[str, Callable[[], object]] = {
        "C loop": one.in_c,
        "replayed list": one.in_a_list,
        "ctypes, pointers at hand": one.by_ctypes,
        "Program.run": one.by_programs,
        "replayed list, 2 tiles on 1 thread": two.in_a_list,
        "replayed list, 2 tiles on 2 threads": lambda: two.in_a_list(2),
    }
    for name, run in runs.items():
        run()
        (two if "2 tiles" in name else one).check()
    found = best({name: (run, KERNELS) for name, run in runs.items()})
    table = Table("launch", "ns a kernel", "of the C loop", title=f"one kernel of {ELEMENTS} float32")
    for name, seconds in found.items():
        word = "✓" if seconds * 1e9 <= REACH_NS else "missed: waking a thread"
        reach = f", ≤ {REACH_NS} {word}" if "list" in name else ""
        table.add_row(name, f"{seconds * 1e9:.1f}{reach}", f"{seconds / found['C loop']:.1f}×")
    return table


class Network:
    """x → relu(x·first + bias)·second, trained on squared error: by the engine, and in NumPy."""

    def __init__(self, rows: int, features: int, hidden: int, classes: int) -> None:
        rng = np.random.default_rng(0)
        shapes = ((features, hidden), (hidden,), (hidden, classes))
        self.arrays = [0.1 * rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
        self.x, self.y = (rng.standard_normal((rows, n), dtype=np.float32) for n in (features, classes))
        self.weights = [Tensor(array, requires_grad=True) for array in self.arrays]
        self.inputs = Tensor(self.x), Tensor(self.y)
        self.step = jit(self._step)

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        for weight in self.weights:
            weight.grad = None
        first, bias, second = self.weights
        loss = (((x @ first + bias).relu() @ second - y) ** 2).mean()
        loss.backward()
        with no_grad():
            for weight in self.weights:
                weight.assign(weight - weight.grad * RATE)
        return loss

    def by_engine(self) -> float:
        """One step; the loss before it."""
        return self.step(*self.inputs).item()

    def by_numpy(self) -> float:
        """The same."""
        first, bias, second = self.arrays
        before = self.x @ first + bias
        after = np.maximum(before, 0)
        error = after @ second - self.y
        back = error * np.float32(2 / error.size)
        hidden = back @ second.T * (before > 0)
        gradients = (self.x.T @ hidden, hidden.sum(0), after.T @ back)
        for weight, gradient in zip(self.arrays, gradients, strict=True):
            weight -= np.float32(RATE) * gradient
        return float((error * error).mean())


class Steps:
    """x + 1, as often as there are KERNELS: by the engine, each a kernel of its own, and in NumPy."""

    def __init__(self) -> None:
        self.x = np.zeros(ELEMENTS, np.float32)
        self.input = Tensor(self.x)
        self.step = jit(self._step)

    def _step(self, x: Tensor) -> Tensor:
        for _ in range(KERNELS):
            x = (x + 1).contiguous()
        return x

    def by_engine(self) -> float:
        """One element of the result."""
        return float(self.step(self.input).numpy()[0])

    def by_numpy(self) -> float:
        """The same, in two arrays that are there."""
        x, one = self.x.copy(), np.float32(1)
        for _ in range(KERNELS):
            np.add(x, one, out=x)
        return float(x[0])


class Batches:
    """relu(x·first + bias)·second for batches of all sizes: by one plan, by a plan for each size, and in NumPy."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        self._network = Network(BATCH, features, hidden, classes)
        self.one = jit(self._forward, leading={"x": Var("n", 1, BATCH)})
        self.each = jit(self._forward)
        self.inputs = {size: Tensor(self._network.x[:size]) for size in range(1, BATCH + 1)}
        self._arrays = {size: self._network.x[:size].copy() for size in self.inputs}

    def _forward(self, x: Tensor) -> Tensor:
        first, bias, second = self._network.weights
        return ((x @ first + bias).relu() @ second).detach()

    def by_numpy(self, size: int) -> Array:
        """The same."""
        first, bias, second = self._network.arrays
        found: Array = np.maximum(self._arrays[size] @ first + bias, 0) @ second
        return found

    def check(self) -> None:
        """Record, and compare all sizes."""
        for size, x in self.inputs.items():
            for function in (self.one, self.each):
                found = [function(x).numpy() for _ in range(3)][-1]
                np.testing.assert_allclose(found, self.by_numpy(size), rtol=1e-3, atol=1e-4)
        assert len(self.one.plans) == 1

    def compare(self, size: int) -> dict[str, float]:
        """Seconds a call, by name."""
        x = self.inputs[size]
        return best(
            {
                "one": (lambda: self.one(x), 1),
                "each": (lambda: self.each(x), 1),
                "numpy": (lambda: self.by_numpy(size), 1),
            },
            ROUNDS,
        )


def batches() -> Table:
    """The third table."""
    title = f"one plan for batches of 1 to {BATCH} rows, forward pass"
    columns = ("one plan µs", "plan a size µs", "NumPy µs", "plan a size / one plan", "NumPy / one plan")
    table = Table("network", "rows", *columns, title=title)
    for _, *layers in SIZES:
        work = Batches(*layers)
        work.check()
        ratios = []
        for size in work.inputs:
            found = work.compare(size)
            ratios.append((found["each"] / found["one"], found["numpy"] / found["one"]))
            if size in SHOWN:
                shown = [f"{found[name] * 1e6:.1f}" for name in ("one", "each", "numpy")]
                table.add_row(
                    " × ".join(map(str, layers)), str(size), *shown, *map("{:.2f}×".format, ratios[-1])
                )
        means = np.exp(np.log(ratios).mean(0))
        table.add_row(" × ".join(map(str, layers)), "all, mean", "", "", "", *map("{:.2f}×".format, means))
    return table


def calls() -> Table:
    """The second table. DEV, THREADS and PIN are the engine's; NumPy's threads are those of its BLAS."""
    table = Table(
        "whole call",
        "kernels",
        "engine.jit µs",
        "µs a kernel",
        "NumPy µs",
        "NumPy / engine.jit",
        title="engine.jit",
    )
    _add_call(table, f"x + 1 of {ELEMENTS} float32", Steps())
    for sizes in SIZES:
        _add_call(table, "training step, " + " × ".join(map(str, sizes)), Network(*sizes))
    return table


def _add_call(table: Table, name: str, work: Network | Steps) -> None:
    results = [(work.by_engine(), work.by_numpy()) for _ in range(5)]
    np.testing.assert_allclose(*zip(*results, strict=True), rtol=1e-3)
    found = best({"engine": (work.by_engine, 1), "numpy": (work.by_numpy, 1)}, 20 * ROUNDS)
    us, numpy_us = found["engine"] * 1e6, found["numpy"] * 1e6
    (plan,) = work.step.plans
    kernels = len(plan.launches)
    shown = (f"{us:.0f}", f"{us / kernels:.2f}", f"{numpy_us:.0f}", f"{numpy_us / us:.2f}×")
    table.add_row(name, str(kernels), *shown)


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        Console().print(launches(Path(folder)))
    Console().print(calls())
    Console().print(batches())


if __name__ == "__main__":
    main()
