"""The word GEMM deleted: products of other forms beside the GEMM of as many operations, by the same engine unchanged.

`python -m tests.bench.products [--scale 1024] [--threads 1,2] [--seconds 1]`. The engine's GFLOP/s are compared with those of
its own GEMM in the same race, and each product with the peers that can do it. A multiply-add is one instruction for two
operations; work with fewer of them cannot have a GEMM's GFLOP/s, so the ratio in instructions a second stands beside.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from secrets import randbits
from typing import Any

import numpy as np
from rich.table import Table

from engine import dtype as dt
from engine.build import broadcast, const, elementwise, matmul, param, permute, reduce, reshape
from engine.kernel import Kernel
from engine.ops import Op
from engine.picks import picks
from tests.bench import peers
from tests.bench.contest import Engine, Work, contest
from tests.bench.gemm import gemm
from tests.bench.racing import Racer, Ratio, Times, in_process, shown, verdict

REACH = 0.8
PACKING_BINDS = "packing: it is more of the work where operands are small, or read across memory"
INSTRUCTIONS_BIND = "its instructions do {:.2f} of the operations"
BATCH = 64


def transposed(n: int) -> Work:
    """Aᵀ @ B, both (n, n)."""
    a, b = param(0, (n, n), dt.float32), param(1, (n, n), dt.float32)
    return Work(
        f"AᵀB {n}³",
        Kernel(matmul(permute(a, (1, 0)), b)),
        lambda a, b: a.T @ b,
        lambda out, a, b: np.matmul(a.T, b, out=out),
        lambda out, a, b: peers.torch().mm(a.T, b, out=out),
    )


def batched(n: int) -> Work:
    """BATCH products of (n, n) @ (n, n)."""
    a, b = param(0, (BATCH, n, n), dt.float32), param(1, (BATCH, n, n), dt.float32)
    return Work(
        f"{BATCH} × {n}³",
        Kernel(matmul(a, b)),
        lambda a, b: a @ b,
        lambda out, a, b: np.matmul(a, b, out=out),
        lambda out, a, b: peers.torch().bmm(a, b, out=out),
    )


def rectified(m: int, n: int, k: int) -> Work:
    """Σ relu(a·b + c) over k, for a (m, k), b (k, n) and c (m, n): four operations where a GEMM has two."""
    a, b, c = (param(i, shape, dt.float32) for i, shape in enumerate(((m, k), (k, n), (m, n))))
    shape = (m, n, k)
    left = broadcast(reshape(a, (m, 1, k)), shape)
    right = broadcast(reshape(permute(b, (1, 0)), (1, n, k)), shape)
    inside = elementwise(Op.ADD, elementwise(Op.MUL, left, right), broadcast(reshape(c, (m, n, 1)), shape))
    output = reduce(Op.ADD, elementwise(Op.MAX, inside, const(0, dt.float32, shape)), (2,))
    # a multiply-add, a maximum and an addition
    return Work(f"Σ relu(a·b+c) {m}×{n}×{k}", Kernel(output), _rectified, operations=4 / 3)


def _rectified(a: Any, b: Any, c: Any) -> Any:
    return np.stack([np.maximum(row[:, None] * b + line, 0).sum(0) for row, line in zip(a, c, strict=True)])


def pairs(scale: int) -> list[tuple[Work, Work]]:
    """Each product and the GEMM of as many operations."""
    small = scale // 8
    return [
        (transposed(scale), gemm(scale, scale, scale)),
        (batched(small), gemm(4 * small, 4 * small, 4 * small)),
        (rectified(scale, scale, scale // 2), gemm(scale, scale, scale)),
    ]


def beside(work: Work, engine: Engine, seed: int) -> Racer:
    """The engine's own run of some work, as a further racer."""
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal(node.arg[1], np.float32) for node in work.kernel.params]
    output = np.zeros(inputs[0].shape[:1] + inputs[1].shape[1:], np.float32)
    schedule = picks(work.kernel, engine.target, engine.threads)[0]
    return in_process("GEMM", engine.run(work.kernel, schedule, output, inputs), engine.threads)


def rates(work: Work, times: Times) -> Times:
    """Seconds for each operation, so that ratios compare GFLOP/s."""
    return Times(tuple(each / work.flops for each in times.times_s))


def add_row(table: Table, work: Work, like: Work, threads: int, times: dict[str, Times]) -> None:
    """The row of one product."""
    ours, theirs = rates(work, times["engine"]), rates(like, times["GEMM"])
    found = Ratio.of(ours, theirs)
    more = like.operations / work.operations
    instructions = Ratio(found.medians * more, found.bests * more)
    shown = [f"{1e-9 / each.median_s:.0f} / {1e-9 / each.best_s:.0f}" for each in (ours, theirs)]
    compared = [
        str(Ratio.of(times["engine"], times[name])) if name in times else "none"
        for name in (peers.blas().name, "PyTorch")
    ]
    table.add_row(
        work.name,
        str(threads),
        shown[0],
        like.name,
        shown[1],
        str(found),
        verdict(found, REACH, PACKING_BINDS if more == 1 else INSTRUCTIONS_BIND.format(1 / more)),
        str(instructions),
        *compared,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=1024)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    options = parser.parse_args(arguments)
    seed = randbits(31)
    peer = (f"× {peers.blas().name}", "× PyTorch")
    columns = (
        "work",
        "threads",
        "GFLOP/s",
        "GEMM",
        "its GFLOP/s",
        "of it",
        "reach",
        "in instructions",
        *peer,
    )
    table = Table(*columns, title="the word GEMM deleted; medians / bests")
    with tempfile.TemporaryDirectory() as folder, shown(table, f"seed {seed}", peers.described()):
        for threads in map(int, options.threads.split(",")):
            engine = Engine(Path(folder), threads)
            for work, like in pairs(options.scale):
                schedules = {"engine": picks(work.kernel, engine.target, threads)[0]}
                others = [beside(like, engine, seed)]
                times = contest(work, schedules, engine, options.seconds, seed, others)
                add_row(table, work, like, threads, times)


if __name__ == "__main__":
    main()
