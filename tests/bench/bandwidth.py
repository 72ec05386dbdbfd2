"""What memory binds: the model's picks against the best of several loops in C, and against PyTorch with out=.

`python -m tests.bench.bandwidth [--bytes 1073741824] [--threads 1,2] [--seconds 1] [--only copy,sum]`. Arrays are of 1 GiB
where memory allows. Where there is no C compiler NumPy stands in for the loops.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import randbits
from typing import Any

import numpy as np
from rich.table import Table

from engine import dtype as dt
from engine.build import const, elementwise, expand, param, reduce, reshape
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.picks import picks
from engine.profile.calibration import available_bytes
from engine.runtime.cpu import empty
from tests.bench import loops, peers
from tests.bench.contest import Engine, check
from tests.bench.racing import Ratio, Run, Times, in_process, race, shown, verdict

Array = np.ndarray[Any, np.dtype[Any]]
GiB = 1 << 30
WIDTH = 1 << 14  # of the matrix
LOOPS_REACH, TORCH_REACH = 0.95, 1.0
MEMORY_BINDS = "memory, and how many places at a time are read"
# Outputs are looked at in so many pieces of so many elements: the first, the last, and others at random.
PIECES, PIECE = 24, 1 << 20


@dataclass(frozen=True)
class Streaming:
    """Work on arrays `a` and `b` of n elements: by a kernel, by loops (name_…), by PyTorch, by NumPy, by definition.

    `wanted` gets pieces of the inputs in float64. `moved` is how many arrays of n elements go through memory.
    """

    name: str
    moved: int
    loops: tuple[str, ...]
    output: Callable[[int], UOp]
    wanted: Callable[..., Array]
    torch: Callable[..., object]
    numpy: Callable[..., object]
    terms: int = 0  # of each sum, 0 where results are exact


def _a(n: int) -> UOp:
    return param(0, (n,), dt.float32)


def _b(n: int) -> UOp:
    return param(1, (n,), dt.float32)


def _fused(n: int) -> UOp:
    both = elementwise(Op.ADD, elementwise(Op.MUL, _a(n), _b(n)), _a(n))
    return elementwise(Op.MAX, both, const(0, dt.float32, (n,)))


def _matvec(n: int) -> UOp:
    rows = n // WIDTH
    matrix = param(0, (rows, WIDTH), dt.float32)
    vector = expand(reshape(param(1, (WIDTH,), dt.float32), (1, WIDTH)), (rows, WIDTH))
    return reduce(Op.ADD, elementwise(Op.MUL, matrix, vector), (1,))


def _torch_fused(out: Any, a: Any, b: Any) -> object:
    return peers.torch().addcmul(a, a, b, out=out).relu_()


def _numpy_fused(out: Array, a: Array, b: Array) -> object:
    return np.maximum(np.add(np.multiply(a, b, out=out), a, out=out), 0, out=out)


WORKS = (
    Streaming(
        "copy",
        2,
        ("plain", "stream", "memcpy"),
        _a,
        lambda a, b: a,
        lambda out, a, b: out.copy_(a),
        lambda out, a, b: np.copyto(out, a),
    ),
    Streaming(
        "add",
        3,
        ("plain", "stream"),
        lambda n: elementwise(Op.ADD, _a(n), _b(n)),
        lambda a, b: (a + b).astype(np.float32),
        lambda out, a, b: peers.torch().add(a, b, out=out),
        lambda out, a, b: np.add(a, b, out=out),
    ),
    Streaming(
        "fused",
        3,
        ("plain", "stream"),
        _fused,
        lambda a, b: np.maximum(a * b + a, 0),
        _torch_fused,
        _numpy_fused,
        terms=16,
    ),
    Streaming(
        "matvec",
        1,
        ("plain", "rows"),
        _matvec,
        lambda a, b: a @ b,
        lambda out, a, b: peers.torch().mv(a, b, out=out),
        lambda out, a, b: np.matmul(a, b, out=out),
        terms=WIDTH,
    ),
    # last: it makes the array one of whole numbers, whose sum is exact in any order
    Streaming(
        "sum",
        1,
        ("plain", "prefetch"),
        lambda n: reduce(Op.ADD, _a(n), (0,)),
        lambda a, b: a.sum(),
        lambda out, a, b: peers.torch().sum(a, dim=0, out=out),
        lambda out, a, b: np.sum(a, out=out),
    ),
)


class Memory:
    """Two inputs of n random elements and an output, shared by everybody."""

    def __init__(self, n: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.n, self.seed = n, seed
        self.a, self.b, self.out = (empty((n,), np.dtype(np.float32)) for _ in range(3))
        for array in (self.a, self.b):
            generator.standard_normal(dtype=np.float32, out=array)
        self.out.fill(0)

    def of(self, work: Streaming) -> tuple[Array, Array, Array]:
        """(output, first, second input) as the work takes them."""
        if work.name == "matvec":
            rows = self.n // WIDTH
            return self.out[:rows], self.a[: rows * WIDTH].reshape(rows, WIDTH), self.b[:WIDTH]
        if work.name == "sum":
            return self.out[:1].reshape(()), self.a, self.b
        return self.out, self.a, self.b

    def round(self) -> None:
        """Make the first input whole numbers."""
        np.rint(self.a, out=self.a)

    def check(self, work: Streaming, who: str, got: Array) -> None:
        """AssertionError unless `got` is what the work is by definition; everywhere written, and right in many places."""
        out, a, b = self.of(work)
        if work.name == "sum":
            wanted = sum(float(piece.sum(dtype=np.float64)) for piece in np.array_split(a, PIECES))
            check(f"sum by {who}", got, np.float64(wanted), 0)
            return
        assert not any(np.isnan(piece.sum()) for piece in np.array_split(got, PIECES)), (
            f"{who} left gaps in {work.name}"
        )
        whole = b.astype(np.float64) if work.name == "matvec" else None
        length = min(len(out), PIECE if whole is None else PIECE // WIDTH)
        starts = np.random.default_rng(self.seed).integers(0, len(out) - length, PIECES - 2, endpoint=True)
        for start in (0, len(out) - length, *map(int, starts)):
            part = slice(start, start + length)
            second = b[part].astype(np.float64) if whole is None else whole
            wanted_there = work.wanted(a[part].astype(np.float64), second)
            check(f"{work.name} by {who} from element {start}", got[part], wanted_there, work.terms)


def contest(
    work: Streaming, memory: Memory, engine: Engine, made: loops.Loops | None, seconds: float
) -> dict[str, Times]:
    """Everybody checked, then raced; times by name."""
    runs = _runs(work, memory, engine, made)
    for name, (run, result) in runs.items():
        memory.of(work)[0].fill(np.nan)
        run()
        memory.check(work, name, result())
    return race([in_process(name, run, engine.threads) for name, (run, _) in runs.items()], seconds)


def _runs(
    work: Streaming, memory: Memory, engine: Engine, made: loops.Loops | None
) -> dict[str, tuple[Run, Callable[[], Array]]]:
    """Each one's call, and where its result is then."""
    threads = engine.threads
    peers.limit(threads)
    out, a, b = memory.of(work)
    kernel = Kernel(work.output(memory.n))
    inputs = [a, b][: len(kernel.params)]
    schedule = picks(kernel, engine.target, threads)[0]
    found: dict[str, tuple[Run, Callable[[], Array]]] = {
        "engine": (engine.run(kernel, schedule, out, inputs), lambda: out)
    }
    if made is None:
        found["loop NumPy"] = (lambda: work.numpy(out, a, b)), lambda: out
    else:
        for name in work.loops:
            found[f"loop {name}"] = _loop(work, f"{work.name}_{name}", memory, made, threads)
    if peers.torch() is not None:
        tensors = [peers.torch().from_numpy(array) for array in (out, a, b)]
        found["PyTorch"] = (lambda: work.torch(*tensors)), lambda: out
    return found


def _loop(
    work: Streaming, name: str, memory: Memory, made: loops.Loops, threads: int
) -> tuple[Run, Callable[[], Array]]:
    out, a, b = memory.of(work)
    if work.name == "sum":
        partial = memory.out[:threads]
        run = made.call(name, threads, partial, [a], memory.n)
        return run, lambda: partial.sum(dtype=np.float64)
    rows = work.name == "matvec"
    return made.call(name, threads, out, [a, b], len(out), WIDTH, 4 if rows else loops.PART), lambda: out


def best_loop(times: dict[str, Times]) -> tuple[str, Ratio]:
    """The name of the loop with the best median, and the engine's ratio to the best loops, of medians and of bests."""
    found = {name.removeprefix("loop "): each for name, each in times.items() if name.startswith("loop ")}
    name = min(found, key=lambda each: found[each].median_s)
    ours = times["engine"]
    least = min(each.best_s for each in found.values())
    return name, Ratio(found[name].median_s / ours.median_s, least / ours.best_s)


def add_row(table: Table, work: Streaming, nbytes: float, threads: int, times: dict[str, Times]) -> None:
    """The row of one contest."""
    ours = times["engine"]
    name, against = best_loop(times)
    rates = f"{nbytes / ours.median_s / 1e9:.1f} / {nbytes / ours.best_s / 1e9:.1f}"
    torch = Ratio.of(ours, times["PyTorch"]) if "PyTorch" in times else None
    row = (work.name.replace("fused", "relu(a*b+a)"), str(threads), rates, str(against), name)
    reached = verdict(against, LOOPS_REACH, MEMORY_BINDS), "missing" if torch is None else str(torch)
    table.add_row(*row, *reached, "" if torch is None else verdict(torch, TORCH_REACH, MEMORY_BINDS))


def fitting(nbytes: int) -> tuple[int, str]:
    """Bytes of an array, of which there are three and something to spare; what to say if that is less than asked for."""
    most = available_bytes() // 4
    if most >= nbytes:
        return nbytes, f"arrays of {nbytes / GiB:g} GiB"
    return most, f"arrays of {most / GiB:.2f} GiB only: memory is short"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=GiB)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    parser.add_argument("--only", default=",".join(work.name for work in WORKS))
    options = parser.parse_args(arguments)
    nbytes, said = fitting(options.bytes)
    memory = Memory(nbytes // 4, randbits(31))
    columns = ("work", "threads", "GB/s", "of the best loop", "which is", "reach", "of PyTorch", "reach")
    with tempfile.TemporaryDirectory() as folder:
        made = loops.found(Path(folder))
        compiler = "no C compiler, so NumPy stands in" if made is None else f"loops by {made.compiler} -O3"
        table = Table(*columns, title=f"memory bandwidth, {said}; medians / bests")
        with shown(table, f"seed {memory.seed}", compiler, peers.described()):
            for work in WORKS:
                if work.name == "sum":
                    memory.round()
                for threads in (
                    map(int, options.threads.split(",")) if work.name in options.only.split(",") else ()
                ):
                    engine = Engine(Path(folder), threads)
                    times = contest(work, memory, engine, made, options.seconds)
                    add_row(table, work, work.moved * nbytes, threads, times)


if __name__ == "__main__":
    main()
