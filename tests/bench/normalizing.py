"""softmax, layernorm and RMSNorm of rows of 1024: what engine.jit records, against PyTorch with out= and a copy.

`python -m tests.bench.normalizing [--rows 32768] [--threads 1,2] [--seconds 1]`. The kernels are those that the Tensor API
and engine.jit make, with the schedules that the device gives them; they run on memory that is there, as the peers do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import randbits
from typing import Any

import numpy as np
from rich.table import Table

from engine import jit
from engine.picks import pick
from engine.plan import Plan
from engine.runtime.cpu import empty
from engine.shapes import shape_of
from engine.tensor import Tensor
from tests.bench import loops, peers
from tests.bench.contest import Array, Engine, aligned, check
from tests.bench.racing import Ratio, Run, Times, in_process, race, shown, verdict

WIDTH = 1024
EPS = 1e-5
TORCH_REACH, COPY_REACH = 1.0, 0.5
PASSES_BIND = (
    "two or three passes over each row in the second-level cache, with functions, where a copy has one"
)
COPIES = ("plain", "stream", "memcpy")
PIECES, LOOKED_AT = 64, 8  # every LOOKED_AT-th of PIECES of the rows is compared with the definition


@dataclass(frozen=True)
class Work:
    """A function of x (rows, WIDTH) and perhaps a weight and a bias (WIDTH): ours, by definition, and PyTorch's ways."""

    name: str
    tensors: Callable[..., Tensor]
    wanted: Callable[..., Array]
    torch: Callable[[Any, Any, Any, Any], dict[str, Run]]  # (out, x, weight, bias) → calls by name
    inputs: int


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    found: Array = powers / powers.sum(-1, keepdims=True)
    return found


def _layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    apart = x - x.mean(-1, keepdims=True)
    found: Array = apart / np.sqrt((apart**2).mean(-1, keepdims=True) + EPS) * weight + bias
    return found


def _rms_norm(x: Array, weight: Array) -> Array:
    found: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight
    return found


def _torch_softmax(out: Any, x: Any, weight: Any, bias: Any) -> dict[str, Run]:
    return {"softmax out=": lambda: peers.torch().softmax(x, -1, out=out)}


def _torch_layer_norm(out: Any, x: Any, weight: Any, bias: Any) -> dict[str, Run]:
    """The usual one, which makes a new array, and one that writes into `out`: it copies there what it has made."""
    torch = peers.torch()
    mean, deviation = (torch.empty(len(x), 1) for _ in range(2))
    operation = torch.ops.aten.native_layer_norm.out
    return {
        "layer_norm": lambda: out.set_(torch.nn.functional.layer_norm(x, (WIDTH,), weight, bias, EPS)),
        "native_layer_norm out=": lambda: operation(
            x, [WIDTH], weight, bias, EPS, out0=out, out1=mean, out2=deviation
        ),
    }


def _torch_rms_norm(out: Any, x: Any, weight: Any, bias: Any) -> dict[str, Run]:
    """It has none with out=: its own, which makes a new array, and a composition that does not."""
    torch = peers.torch()
    square, norm = torch.empty_like(x), torch.empty(len(x), 1)

    def composed() -> None:
        torch.mul(x, x, out=square)
        torch.mean(square, -1, keepdim=True, out=norm)
        torch.mul(x, norm.add_(EPS).rsqrt_(), out=out)
        out.mul_(weight)

    return {
        "rms_norm": lambda: out.set_(torch.nn.functional.rms_norm(x, (WIDTH,), weight, EPS)),
        "composed out=": composed,
    }


WORKS = (
    Work("softmax", lambda x: x.softmax(-1), _softmax, _torch_softmax, 1),
    Work("layernorm", lambda x, w, b: x.layer_norm((WIDTH,), w, b), _layer_norm, _torch_layer_norm, 3),
    Work("RMSNorm", lambda x, w: x.rms_norm((WIDTH,), w, EPS), _rms_norm, _torch_rms_norm, 2),
)


def recorded(work: Work, inputs: Sequence[Array]) -> Plan:
    """What engine.jit records of the work on the device CPU."""
    traced = jit(work.tensors)
    tensors = [Tensor(array, device="CPU") for array in inputs]
    for _ in range(2):
        traced(*tensors)
    (plan,) = traced.plans
    return plan


def on_memory(plan: Plan, engine: Engine, out: Array, inputs: Sequence[Array]) -> Run:
    """The plan's kernels, scheduled as the device does, one after the other: from `inputs` into `out`."""
    memories: dict[int, Array] = dict(plan.constants)
    for each in plan.inputs:
        assert isinstance(each.place, int), "only arguments are read"
        memories[each.slot] = inputs[each.place]
    (result,) = plan.outputs
    runs: list[Run] = []
    for launch in plan.launches:
        kernel = launch.kernel
        shape = shape_of(kernel.output)
        memories[launch.output] = (
            out.reshape(shape) if launch.output == result.slot else empty(shape, kernel.dtype.numpy)
        )
        schedule = pick(kernel, engine.target, engine.threads)
        runs.append(
            engine.run(kernel, schedule, memories[launch.output], [memories[slot] for slot in launch.inputs])
        )

    def run() -> None:
        for each in runs:
            each()

    return runs[0] if len(runs) == 1 else run


def contest(
    work: Work, inputs: Sequence[Array], engine: Engine, made: loops.Loops | None, seconds: float
) -> tuple[int, dict[str, Times]]:
    """How many kernels the engine makes of it, and everybody's times; all but the copies checked before."""
    x = inputs[0]
    peers.limit(engine.threads)
    out = aligned(np.zeros_like(x))
    plan = recorded(work, inputs[: work.inputs])
    runs: dict[str, tuple[Run, Callable[[], Array]]] = {
        "engine": (on_memory(plan, engine, out, inputs), lambda: out)
    }
    if peers.torch() is not None:
        of = peers.torch().from_numpy
        result = of(aligned(out))
        for name, run in work.torch(result, *map(of, inputs)).items():
            runs[f"PyTorch {name}"] = run, result.numpy
    for name, (run, found) in runs.items():
        found().fill(np.nan)
        run()
        _check(work, name, found(), inputs)
    racers = [in_process(name, run, engine.threads) for name, (run, _) in runs.items()]
    copies = (
        {} if made is None else {n: made.call(f"copy_{n}", engine.threads, out, [x], x.size) for n in COPIES}
    )
    copies = copies or {"NumPy": lambda: np.copyto(out, x)}
    racers += [in_process(f"copy {name}", run, engine.threads) for name, run in copies.items()]
    return len(plan.launches), race(racers, seconds)


def _check(work: Work, who: str, got: Array, inputs: Sequence[Array]) -> None:
    x, *others = (array.astype(np.float64) if array.ndim == 1 else array for array in inputs[: work.inputs])
    assert not np.isnan(got.sum()), f"{who} left gaps in {work.name}"
    pieces = list(zip(np.array_split(got, PIECES), np.array_split(x, PIECES), strict=True))
    for ours, theirs in (*pieces[::LOOKED_AT], pieces[-1]):
        check(f"{work.name} by {who}", ours, work.wanted(theirs.astype(np.float64), *others), 64)


def fastest(times: dict[str, Times], kind: str) -> tuple[str, Times] | None:
    """The one with the best median of those whose name begins with `kind`."""
    found = {name: each for name, each in times.items() if name.startswith(kind)}
    name = min(found, key=lambda each: found[each].median_s, default=None)
    return None if name is None else (name.removeprefix(kind).strip(), found[name])


def add_row(
    table: Table, work: Work, threads: int, kernels: int, times: dict[str, Times], nbytes: int
) -> None:
    """The row of one contest; bytes are those of the input and of the output."""
    ours, torch, copy = times["engine"], fastest(times, "PyTorch"), fastest(times, "copy")
    assert copy is not None
    rates = f"{nbytes / ours.median_s / 1e9:.1f} / {nbytes / ours.best_s / 1e9:.1f}"
    against = Ratio.of(ours, copy[1])
    row = [work.name, str(threads), f"{kernels}{' ✓' if kernels == 1 else ''}", rates]
    row += [str(against), copy[0], verdict(against, COPY_REACH, PASSES_BIND)]
    if torch is None:
        row += ["missing"]
    else:
        found = Ratio.of(ours, torch[1])
        row += [str(found), torch[0], verdict(found, TORCH_REACH, PASSES_BIND)]
    table.add_row(*row)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1 << 15)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    options = parser.parse_args(arguments)
    seed = randbits(31)
    generator = np.random.default_rng(seed)
    shapes = (options.rows, WIDTH), (WIDTH,), (WIDTH,)
    inputs = [aligned(generator.standard_normal(shape, np.float32)) for shape in shapes]
    columns = (
        "work",
        "threads",
        "kernels",
        "GB/s",
        "of a copy",
        "which is",
        "reach",
        "of PyTorch",
        "which is",
        "reach",
    )
    table = Table(*columns, title=f"{options.rows} rows of {WIDTH}; medians / bests")
    with tempfile.TemporaryDirectory() as folder:
        made = loops.found(Path(folder))
        with shown(table, f"seed {seed}", peers.described()):
            for threads in map(int, options.threads.split(",")):
                os.environ["THREADS"] = str(threads)
                engine = Engine(Path(folder), threads)
                for work in WORKS:
                    kernels, times = contest(work, inputs, engine, made, options.seconds)
                    add_row(table, work, threads, kernels, times, 2 * inputs[0].nbytes)


if __name__ == "__main__":
    main()
