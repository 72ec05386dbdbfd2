"""Kernels with PAD, SHRINK, FLIP, GATHER, SCATTER and FOLD, lowered and compiled, against the interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine import dtype as dt
from engine import heuristic
from engine.build import (
    broadcast,
    const,
    elementwise,
    expand,
    flip,
    fold,
    gather,
    iota_along,
    pad,
    param,
    reduce,
    reshape,
    scatter,
    shrink,
)
from engine.errors import IllegalOpt
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind
from engine.programs import random_inputs
from engine.runtime.cpu import CpuRuntime
from engine.runtime.interp import evaluate
from engine.schedule import replay
from engine.shrink import shrink as shrink_kernel
from engine.spec import Level, verify
from engine.target import detect

X = param(0, (5, 37), dt.float32)
INDEX = param(1, (3, 37), dt.int32)
UPDATES = param(2, (3, 37), dt.float32)
STATE = param(0, (40,), dt.int64)
STEPS = param(1, (6, 40), dt.int64)


def _windows(x: UOp, count: int, step: int, dilation: int) -> UOp:
    """x[:, o · step + k · dilation] by views alone: rows of n + dilation elements out of a repeated x."""
    rows, n = 5, 37
    long = n + dilation
    times = -(-count * long // n)
    repeated = reshape(expand(reshape(x, (rows, 1, n)), (rows, times, n)), (rows, times * n))
    skewed = reshape(shrink(repeated, ((0, rows, 1), (0, count * long, 1))), (rows, count, long))
    outputs = (n - dilation * (count - 1) - 1) // step + 1
    return shrink(skewed, ((0, rows, 1), (0, count, 1), (0, (outputs - 1) * step + 1, step)))


def _swapped(steps: int) -> UOp:
    a, b = fold(steps, [STATE, elementwise(Op.NEG, STATE)], [], lambda step, states, xs: states[::-1])
    return elementwise(Op.SUB, a, b)


def _running(steps: int) -> UOp:
    def body(step: UOp, states: tuple[UOp, ...], xs: tuple[UOp, ...]) -> list[UOp]:
        a, b = states
        return [elementwise(Op.ADD, b, xs[0]), elementwise(Op.ADD, a, broadcast(step, (40,)))]

    a, b = fold(steps, [STATE, STATE], [shrink(STEPS, ((0, steps, 1), (0, 40, 1)))], body)
    return elementwise(Op.MUL, a, b)


def _counted(steps: int) -> UOp:
    one, two = (const(n, dt.int64, (40,)) for n in (1, 2))

    def body(step: UOp, states: tuple[UOp, ...], xs: tuple[UOp, ...]) -> list[UOp]:
        a, b = states
        return [b, elementwise(Op.ADD, elementwise(Op.ADD, a, one), two)]

    a, b = fold(steps, [STATE, elementwise(Op.NEG, STATE)], [], body)
    return elementwise(Op.SUB, a, b)


CASES: dict[str, UOp] = {
    "shrink": shrink(X, ((1, 5, 2), (0, 36, 3))),
    "flip": flip(X, (0, 1)),
    "pad": pad(X, ((2, 1, 1), (3, 2, 0))),
    "pad between": pad(X, ((0, 0, 0), (3, 2, 2))),
    "pad of what is computed": elementwise(
        Op.ADD, pad(elementwise(Op.EXP, X), ((0, 0, 0), (3, 2, 0))), const(1, dt.float32, (5, 42))
    ),
    "sum of padded and one": reduce(
        Op.ADD, elementwise(Op.ADD, pad(X, ((0, 0, 0), (3, 2, 0))), const(1, dt.float32, (5, 42))), (1,)
    ),
    "pad of a sum": pad(reduce(Op.ADD, X, (1,)), ((3, 2, 1),)),
    "flip of a pad": flip(pad(X, ((1, 0, 0), (0, 5, 0))), (1,)),
    "flat pad": reshape(pad(reshape(flip(X, (1,)), (185,)), ((7, 8, 0),)), (8, 25)),
    "iota": iota_along((5, 37), 1),
    "gather": gather(X, INDEX, 0),
    "gather of what is computed": gather(elementwise(Op.EXP, X), INDEX, 0),
    "sum of gathered": reduce(Op.ADD, gather(X, INDEX, 0), (0,)),
    "scatter set": scatter(X, INDEX, UPDATES, 0, "set"),
    "scatter add": scatter(X, INDEX, UPDATES, 0, "add"),
    "scatter max": scatter(X, INDEX, UPDATES, 0, "max"),
    "windows": _windows(X, 3, 2, 2),
    "no steps": _swapped(0),
    "one step": _swapped(1),
    "no steps of sums": _running(0),
    "one step of sums": _running(1),
    "states change places": _swapped(7),
    "states, xs and the step": _running(6),
    "states that a constant is added to": _counted(7),
}


def inputs_of(kernel: Kernel) -> list[np.ndarray]:
    """Random inputs; indices from -2 to 8, so that many point nowhere and many meet."""
    found = random_inputs(kernel, 3)
    return [a % 11 - 2 if a.dtype == np.int32 else a for a in found]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> CpuRuntime:
    return CpuRuntime(detect(), Path(tmp_path_factory.mktemp("kernels")))


def _with_slots(node: UOp) -> Kernel:
    """The kernel, its PARAMs numbered as they come."""
    params = sorted((n for n in toposort(node) if n.op is Op.PARAM), key=lambda n: n.arg[0])
    numbered = {n: param(i, n.arg[1], n.dtype) for i, n in enumerate(params)}
    return Kernel(substitute(node, numbered))


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_kernel_is_as_interpreted(name: str, scheduled: bool, runtime: CpuRuntime) -> None:
    kernel = _with_slots(CASES[name])
    inputs = inputs_of(kernel)
    wanted = evaluate(kernel, inputs)
    opts = heuristic.schedule(kernel, runtime.target) if scheduled else ()
    got = runtime.prepare(kernel, opts)(inputs)
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_windows_need_no_division(runtime: CpuRuntime) -> None:
    """rows · (n + d) modulo n is rows · d: a convolution's index arithmetic is sums."""
    source = runtime.prepare(_with_slots(CASES["windows"])).source
    assert "%" not in source
    assert "/" not in source.split("kernel(")[1]


def test_the_updates_of_a_scatter_are_not_shared_among_threads() -> None:
    kernel = _with_slots(CASES["scatter set"])
    with pytest.raises(IllegalOpt, match="order"):
        replay(kernel, (Opt(OptKind.THREAD, "out", 0, 2),))


@pytest.mark.parametrize("name", CASES)
def test_a_shrunk_kernel_is_a_kernel(name: str) -> None:
    small = shrink_kernel(_with_slots(CASES[name]))
    verify(small.output, Level.DEFINITION, "shrink")
    assert [n.op for n in toposort(small.output)] == [n.op for n in toposort(_with_slots(CASES[name]).output)]
    evaluate(small, inputs_of(small))
