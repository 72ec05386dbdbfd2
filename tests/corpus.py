"""A corpus of kernels with schedules, as JSON: what two revisions of the engine are compared on (tests.replay)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from engine import dtype as dt
from engine import heuristic
from engine.dtype import DType
from engine.ir import UOp
from engine.kernel import Kernel
from engine.opts import Schedule, schedule_to_json
from engine.order import fresh_buffer, order
from engine.programs import PROGRAMS, program
from engine.serialize import kernel_to_json
from engine.simplify import simplify_all
from engine.target import Target
from engine.tensor import Tensor
from engine.unfold import unfold
from tests.engine.sample_kernels import SAMPLES, random_schedule
from tests.graphs import random_graph

Entry = dict[str, Any]  # name, kernel, schedule
GRAPHS = 30
SHAPES = {"gemm": [(64, 64, 64), (37, 41, 29), (1, 128, 256)], "reduce": [(64, 1000), (7, 33)]}
OTHERS = [(1000,), (7, 33), (3, 5, 17)]
# The heuristic asks its target for sizes: one that is the same on every machine.
TARGET = Target("CPU", "any+l1d=32K+l2=1024K+l3=32768K", 4, "cc", (), "avx512")


def corpus() -> Iterator[Entry]:
    """The entries: named programs, samples of every form, models' parts and random graphs; each name once."""
    for name, kernel in kernels():
        yield entry(name, kernel, ())
        heuristics = heuristic.schedule(kernel, TARGET, 4)
        if heuristics:
            yield entry(f"{name}, heuristic", kernel, heuristics)
        if name.startswith(("sample", "program")):
            rng = random.Random(name)
            for number in range(2):
                yield entry(f"{name}, random {number}", kernel, random_schedule(kernel, rng))


def entry(name: str, kernel: Kernel, schedule: Schedule) -> Entry:
    """One entry of the corpus."""
    return {"name": name, "kernel": kernel_to_json(kernel), "schedule": schedule_to_json(schedule)}


def kernels() -> Iterator[tuple[str, Kernel]]:
    """Every kernel of the corpus with its name."""
    for name in PROGRAMS:
        for shape in SHAPES.get(name, OTHERS):
            for dtype in (dt.float32, dt.float16, dt.bfloat16, dt.int32):
                yield f"program {name} {shape} {dtype.name}", program(name, shape, dtype)
    yield from ((f"sample {name}", kernel) for name, kernel in SAMPLES.items())
    for name, tensor in models().items():
        yield from steps(f"model {name}", tensor.node)
    for seed in range(GRAPHS):
        yield from steps(
            f"graph {seed}",
            random_graph(seed, lambda array: fresh_buffer(array.shape, dt.from_numpy(array.dtype))),
        )


def steps(name: str, root: UOp) -> Iterator[tuple[str, Kernel]]:
    """The kernels that a tensor graph comes to."""
    for number, step in enumerate(order(unfold(simplify_all([root])))):
        yield f"{name}, step {number}", step.kernel


def models() -> dict[str, Tensor]:
    """Parts of models, lazily."""

    def tensor(*shape: int, dtype: DType = dt.float32) -> Tensor:
        return Tensor._of(fresh_buffer(shape, dtype), "INTERP")

    x, w, v, b = tensor(6, 32), tensor(32, 48), tensor(48, 32), tensor(48)
    q, k = tensor(2, 4, 9, 16), tensor(2, 4, 9, 16)
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / ((centred * centred).mean(-1, keepdim=True) + 1e-5).sqrt()
    scores = (q @ k.permute(0, 1, 3, 2)) * 0.25
    half = tensor(6, 32, dtype=dt.float16)
    return {
        "layer": (x @ w + b).relu() @ v,
        "softmax": x.softmax(),
        "layer norm": normal * tensor(32) + tensor(32),
        "attention": scores.softmax() @ tensor(2, 4, 9, 16),
        "silu": x / (1 + (-x).exp()),
        "cross entropy": ((x - x.max(-1, keepdim=True)).exp().sum(-1)).log().mean(),
        "half": (half @ tensor(32, 8, dtype=dt.float16)).exp(),
    }
