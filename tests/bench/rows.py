"""Softmax, log softmax, layer norm and RMS norm of rows, each one kernel: of the rate of copying, and of PyTorch.

`python -m tests.bench.rows [--columns 1024] [--mib 1024] [--threads 1,2]`; with a Python that has PyTorch (that of
`make peers`) also against it, its outputs preallocated where it can. Rounds are interleaved and each figure is the
best of them; the copy is the best of NumPy's and of the engine's, in memory as large as theirs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from engine import dtype as dt
from engine.build import param
from engine.kernel import Kernel
from engine.order import fresh_buffer, order
from engine.picks import pick
from engine.runtime.cpu import Prepared, empty
from engine.runtime.interp import evaluate_rows
from engine.runtime.llvm import LlvmRuntime, detect
from engine.simplify import simplify_all
from engine.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
EPSILON = 1e-5
ROUNDS = 7
CHECKED = 16  # rows


def tensor(*shape: int) -> Tensor:
    """A tensor that nothing has computed yet."""
    return Tensor._of(fresh_buffer(shape, dt.float32), "CPU")


def kernels(rows: int, columns: int) -> dict[str, Kernel]:
    """Each as the order of its graph gives it: one kernel."""
    x, w, b = tensor(rows, columns), tensor(columns), tensor(columns)
    wanted = {
        "softmax": x.softmax(),
        "log softmax": x.log_softmax(),
        "layer norm": x.layer_norm((columns,), w, b, EPSILON),
        "RMS norm": x.rms_norm((columns,), w, EPSILON),
    }
    found = {}
    for name, result in wanted.items():
        (step,) = order(simplify_all([result.node]))
        found[name] = step.kernel
    return found


def peers(x: Array, w: Array, b: Array, out: Array, threads: int) -> dict[str, Callable[[], object]]:
    """PyTorch's, into `out` where it takes one; none without PyTorch."""
    if find_spec("torch") is None:
        return {}
    torch = import_module("torch")
    torch.set_num_threads(threads)
    x_, w_, b_, out_ = (torch.from_numpy(array) for array in (x, w, b, out))
    shape, mean, rstd = w.shape, torch.empty(len(x), 1), torch.empty(len(x), 1)
    layer_norm = torch.ops.aten.native_layer_norm.out
    return {
        "softmax": lambda: torch.softmax(x_, 1, out=out_),
        "log softmax": lambda: torch.log_softmax(x_, 1, out=out_),
        "layer norm": lambda: layer_norm(x_, shape, w_, b_, EPSILON, out0=out_, out1=mean, out2=rstd),
        "RMS norm": lambda: torch.nn.functional.rms_norm(x_, shape, w_, EPSILON),
    }


def inputs_of(kernel: Kernel, x: Array, w: Array, b: Array) -> list[Array]:
    """By shape: x, and the vectors in the order of their slots."""
    vectors = iter((w, b))
    return [x if node.arg[1] == x.shape else next(vectors) for node in kernel.params]


def check(name: str, kernel: Kernel, prepared: Prepared, inputs: list[Array], out: Array) -> None:
    """The first and last rows are what the definition says."""
    out.fill(np.nan)
    prepared.into(out, inputs)
    for start, stop in ((0, CHECKED), (len(out) - CHECKED, len(out))):
        wanted = evaluate_rows(kernel, inputs, start, stop)
        np.testing.assert_allclose(out[start:stop], wanted, rtol=1e-4, atol=1e-5, err_msg=name)


def measure(columns: int, mib: int, threads: int, table: Table) -> None:
    """All of them on so many threads."""
    rows = (mib << 20) // (4 * columns)
    x, out = empty((rows, columns), np.dtype(np.float32)), empty((rows, columns), np.dtype(np.float32))
    np.random.default_rng(0).standard_normal(out=x, dtype=np.float32)
    w, b = np.linspace(0.5, 1.5, columns, dtype=np.float32), np.linspace(-1, 1, columns, dtype=np.float32)
    runtime = LlvmRuntime(detect())
    copy = Kernel(param(0, (rows, columns), dt.float32))
    ours = kernels(rows, columns)
    prepared = {
        name: runtime.prepare(kernel, pick(kernel, runtime.target, threads), threads)
        for name, kernel in ({"copy": copy} | ours).items()
    }
    runs: dict[str, Callable[[], object]] = {"NumPy's copy": lambda: np.copyto(out, x)}
    for name, made in prepared.items():
        inputs = inputs_of(made.kernel, x, w, b)
        check(name, made.kernel, made, inputs, out)
        runs[name] = lambda made=made, inputs=inputs: made.into(out, inputs)  # type: ignore[misc]
    theirs = peers(x, w, b, out, threads)
    best = interleaved(runs | {f"PyTorch's {name}": run for name, run in theirs.items()})
    copied = min(best["NumPy's copy"], best["copy"])
    for name in ours:
        peer = best.get(f"PyTorch's {name}")
        ratio = "–" if peer is None else f"{peer / best[name]:.2f}×"
        rate = 2 * x.nbytes / best[name] / 1e9
        table.add_row(name, str(threads), f"{rate:.1f}", f"{copied / best[name]:.2f}×", ratio)
    table.add_section()


def interleaved(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds, the best of each one's rounds."""
    found = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            begun = perf_counter()
            run()
            found[name] = min(found[name], perf_counter() - begun)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    title = f"float32 rows of {options.columns}, {options.mib} MiB in and as much out"
    table = Table("one kernel", "threads", "GB/s", "of the copy rate", "of PyTorch", title=title)
    for threads in map(int, options.threads.split(",")):
        measure(options.columns, options.mib, threads, table)
    Console().print(table)


if __name__ == "__main__":
    main()
