"""Kernels that pass over rows: which they are, and the schedule each pass gets."""

from __future__ import annotations

import numpy as np
import pytest

from engine import heuristic, rows
from engine.build import broadcast, elementwise, expand, param, reduce, reshape
from engine.dtype import float32, int64
from engine.indexing import body
from engine.kernel import Kernel
from engine.model import estimate
from engine.ops import Op
from engine.opts import Opt, OptKind, Schedule
from engine.picks import pick
from engine.programs import random_inputs
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.schedule import replay
from engine.target import Target
from tests.engine.sample_kernels import SAMPLES
from tests.engine.scheduling import KERNELS

BIG = Target("CPU", "x86_64-cpu+l1d=48K+l2=1024K", 8, "gcc 12.2.0", (), "avx512")


def softmax(m: int, n: int) -> Kernel:
    x = param(0, (m, n), float32)

    top = expand(reshape(reduce(Op.MAX, x, (1,)), (m, 1)), (m, n))
    powers = elementwise(Op.EXP, elementwise(Op.SUB, x, top))
    return Kernel(elementwise(Op.DIV, powers, expand(reshape(reduce(Op.ADD, powers, (1,)), (m, 1)), (m, n))))


def amounts(schedule: Schedule, kind: OptKind) -> dict[str, int]:
    return {f"{opt.target}.{opt.axis}": opt.amount for opt in schedule if opt.kind is kind}


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("gemm", False),
        ("sum of columns", False),
        ("copy", False),
        ("normalised", True),
        ("softmax", True),
    ],
)
def test_a_kernel_passes_over_rows_if_an_output_axis_does_not_move_a_reduce(name: str, passes: bool) -> None:
    assert rows.is_rows(SAMPLES.get(name, Kernel(param(0, (3, 4), float32)))) is passes


def test_a_kernel_with_two_reduces_passes_over_rows_even_without_a_row_to_write() -> None:
    assert rows.is_rows(KERNELS["sums less maxima of another length"])
    assert rows.is_rows(KERNELS["place of the greatest"])


def test_each_pass_gets_lanes_and_steps_of_its_own() -> None:
    schedule = heuristic.schedule(softmax(256, 1024), BIG)
    assert amounts(schedule, OptKind.VEC) == {"r0.0": 16, "r1.0": 16, "out.1": 16}
    assert amounts(schedule, OptKind.UNROLL) == {"r0.0": rows.STEPS, "r1.0": rows.STEPS_OF_FUNCTIONS}
    assert amounts(schedule, OptKind.UPCAST) == {"out.1": 2}


def test_lanes_are_as_many_as_registers_have_of_the_widest_number_of_the_pass() -> None:
    x = param(0, (64, 512), float32)
    wide = elementwise(Op.ADD, broadcast(param(1, (512,), int64), (64, 512)), param(2, (64, 512), int64))
    both = elementwise(Op.LT, reduce(Op.MAX, wide, (1,)), param(3, (64,), int64))
    kernel = Kernel(elementwise(Op.WHERE, both, reduce(Op.ADD, x, (1,)), reduce(Op.MAX, x, (1,))))
    found = amounts(heuristic.schedule(kernel, BIG), OptKind.VEC)
    lanes = {reduce.dtype: found[f"{target}.0"] for reduce, target in body(kernel).reduces.items()}
    assert lanes == {int64: 8, float32: 16}


def test_columns_that_lanes_cannot_lie_along_are_unrolled() -> None:
    schedule = heuristic.schedule(KERNELS["softmax of columns"], BIG)
    assert amounts(schedule, OptKind.VEC) == {"out.1": 16}
    assert set(amounts(schedule, OptKind.UNROLL)) == {"r0.0", "r1.0"}


def test_threads_share_whole_rows() -> None:
    assert amounts(heuristic.schedule(softmax(4096, 1024), BIG, threads=2), OptKind.THREAD) == {"out.0": 8}
    assert amounts(heuristic.schedule(softmax(1, 1 << 21), BIG, threads=2), OptKind.THREAD) == {}
    assert amounts(heuristic.schedule(softmax(4, 4), BIG, threads=2), OptKind.THREAD) == {}


def test_what_each_pass_computes_ends_at_the_totals_that_it_reads() -> None:
    found = body(softmax(8, 16))
    ops = {
        name: sorted(
            node.op.value for node in rows.nodes_of(found, name) if node.op in (Op.EXP, Op.DIV, Op.SUB)
        )
        for name in rows.targets(found)
    }
    assert ops == {"r0": [], "r1": ["EXP", "SUB"], "out": ["DIV", "EXP", "SUB"]}


@pytest.mark.parametrize("shape", [(5, 1024), (7, 1000), (3, 9), (1, 40), (6, 1)])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_schedule_computes_the_same(shape: tuple[int, int], threads: int) -> None:
    kernel, target = softmax(*shape), detect()
    schedule = heuristic.schedule(kernel, target)
    if threads > 1 and shape[0] > 1:
        schedule = (*schedule, Opt(OptKind.THREAD, "out", 0, 3))
    inputs = random_inputs(kernel, seed=1)
    found = LlvmRuntime(target).prepare(kernel, schedule, threads)(inputs)
    np.testing.assert_allclose(found, evaluate(kernel, inputs), rtol=2e-6, atol=1e-9)


def test_the_model_counts_each_pass_by_itself() -> None:
    def seconds(rows_: int, *opts: Opt) -> float:
        kernel = softmax(rows_, 1024)
        return estimate(kernel, replay(kernel, opts), BIG)

    lanes = [Opt(OptKind.VEC, target, axis, 16) for target, axis in (("r0", 0), ("r1", 0), ("out", 1))]
    plain = seconds(4096)
    for count in range(1, 4):
        assert seconds(4096, *lanes[:count]) < seconds(4096, *lanes[: count - 1])
    assert seconds(4096, *lanes) < plain / 8
    assert 1.9 < seconds(8192, *lanes) / seconds(4096, *lanes) < 2.1


def test_long_rows_are_written_past_the_caches() -> None:
    def streams(kernel: Kernel) -> bool:
        return replay(kernel, pick(kernel, BIG)).streams

    assert streams(softmax(65536, 1024))
    assert not streams(softmax(64, 1024))
    assert not streams(softmax(65536, 1023))  # rows do not start where vectors do
    x = param(0, (65536, 1024), float32)
    spread = elementwise(Op.SUB, reduce(Op.ADD, x, (1,)), reduce(Op.MAX, x, (1,)))
    assert not streams(Kernel(spread))  # the output has no lanes
