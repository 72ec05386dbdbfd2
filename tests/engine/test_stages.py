"""STAGE: a value kept in scratch memory, laid out as it is read, whatever views lie before and after it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import cast, elementwise, expand, gather, matmul, param, permute, reduce, reshape, scatter
from engine.errors import IllegalOpt
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule, schedule_from_json, schedule_to_json
from engine.pipeline import compile_source
from engine.programs import program, random_inputs
from engine.render.c import CRenderer
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.runtime.scratch import scratch
from engine.schedule import replay
from engine.stages import MAX_SCRATCH, values
from engine.target import FEATURES


def vec(axis: int, lanes: int = 8) -> Opt:
    return Opt(OptKind.VEC, "out", axis, lanes)


def upcast(axis: int, amount: int) -> Opt:
    return Opt(OptKind.UPCAST, "out", axis, amount)


def unroll(amount: int) -> Opt:
    return Opt(OptKind.UNROLL, "r0", 0, amount)


def split(target: str, axis: int, amount: int) -> Opt:
    return Opt(OptKind.SPLIT, target, axis, amount, RangeType.LOOP)


def stage(number: int, depth: int, target: str = "r0") -> Opt:
    return Opt(OptKind.STAGE, target, number, depth)


def gemm(m: int = 37, n: int = 53, k: int = 29) -> Kernel:
    return program("gemm", (m, n, k))


TILE: Schedule = (vec(1), upcast(0, 4), upcast(1, 2), unroll(3))
LEFT, RIGHT = 0, 1  # a gemm's values: A over (i, k), B over (k, j)


def staged_axes(kernel: Kernel) -> list[list[str]]:
    return [sorted(map(str, value.axes)) for value in values(kernel)]


# ------------------------------------------------------------------------------------------- what may be staged


def test_a_gemm_has_its_two_matrices_to_stage() -> None:
    assert staged_axes(gemm()) == [["out.0", "r0.0"], ["out.1", "r0.0"]]
    assert [value.node.op for value in values(gemm())] == [Op.LOAD, Op.LOAD]


def test_what_is_computed_from_one_load_is_staged_computed() -> None:
    a, b = param(0, (6, 7), dt.bfloat16), param(1, (7, 5), dt.float32)
    left = elementwise(Op.EXP, cast(a, dt.float32))
    first, second = values(Kernel(matmul(left, b)))
    assert (first.node.op, second.node.op) == (Op.EXP, Op.LOAD)
    assert (first.itemsize, second.itemsize) == (4, 4)


def test_a_small_float_is_staged_as_the_float32_that_it_is_computed_in() -> None:
    a, b = param(0, (6, 7), dt.float16), param(1, (7, 5), dt.float16)
    assert {value.itemsize for value in values(Kernel(matmul(a, b)))} == {4}


def test_values_of_the_output_belong_to_it() -> None:
    a, b = param(0, (6, 7), dt.float32), param(1, (6, 7), dt.float32)
    assert {value.target for value in values(Kernel(elementwise(Op.ADD, a, b)))} == {"out"}


# ------------------------------------------------------------------------------------------------------ layout


def test_a_stage_is_laid_out_in_the_order_of_execution() -> None:
    scheduled = replay(gemm(32, 64, 24), (*TILE, stage(RIGHT, 0)))
    (found,) = scheduled.stages
    kinds = [
        (str(leaf.axis), leaf.type.name, leaf.extent, step) for leaf, step in reversed(found.strides.items())
    ]
    assert kinds == [
        ("out.1", "LOOP", 4, 24 * 16),
        ("r0.0", "REDUCE", 8, 3 * 16),
        ("r0.0", "UNROLL", 3, 16),
        ("out.1", "UPCAST", 2, 8),
        ("out.1", "VEC", 8, 1),
    ]
    assert scheduled.scratch == 64 * 24 * 4


def test_a_stage_inside_a_loop_holds_what_runs_inside() -> None:
    outer = replay(gemm(32, 64, 24), (*TILE, split("r0", 0, 4), stage(LEFT, 0)))
    inner = replay(gemm(32, 64, 24), (*TILE, split("r0", 0, 4), stage(LEFT, 1)))
    assert (outer.stages[0].elements, inner.stages[0].elements) == (32 * 24, 32 * 12)


def test_stages_lie_one_behind_the_other_from_cache_line_to_cache_line() -> None:
    scheduled = replay(gemm(5, 7, 3), (stage(LEFT, 0), stage(RIGHT, 0)))
    assert [found.at for found in scheduled.stages] == [0, 64]
    assert scheduled.scratch == 64 + 128


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ((stage(2, 0),), "2 values"),
        ((stage(0, 0, "out"),), "out has 0 values"),
        ((stage(LEFT, 0), stage(LEFT, 1)), "staged already"),
        ((stage(LEFT, 3),), "there are 2 loops"),
        ((stage(LEFT, 2),), "does not move it"),
        ((stage(RIGHT, 1),), "does not move it"),
    ],
)
def test_a_stage_that_may_not_be_is_refused_by_name(schedule: Schedule, reason: str) -> None:
    with pytest.raises(IllegalOpt, match=reason) as error:
        replay(gemm(), schedule)
    assert error.value.field == f"schedule[{len(schedule) - 1}]"


def test_stages_beyond_the_scratch_memory_are_refused() -> None:
    side = 1 << 12
    assert side * side * 4 == MAX_SCRATCH
    kernel = program("gemm", (8, side, side))
    assert replay(kernel, (stage(RIGHT, 0),)).scratch == MAX_SCRATCH
    with pytest.raises(IllegalOpt, match="64 MiB"):
        replay(kernel, (stage(LEFT, 0), stage(RIGHT, 0)))


def test_a_kernel_that_scatters_or_folds_stages_nothing() -> None:
    values_, index = param(0, (9,), dt.float32), param(1, (4,), dt.int32)
    assert values(Kernel(scatter(values_, index, param(2, (4,), dt.float32), 0, "add"))) == ()


def test_a_schedule_with_stages_is_itself_as_json() -> None:
    schedule = (*TILE, stage(RIGHT, 0), stage(LEFT, 1))
    assert schedule_from_json(schedule_to_json(schedule)) == schedule


# ------------------------------------------------------------------------------------------------------ results


def transposed_left() -> Kernel:
    a, b = param(0, (29, 37), dt.float32), param(1, (29, 53), dt.float32)
    return Kernel(matmul(permute(a, (1, 0)), b))


def transposed_right() -> Kernel:
    a, b = param(0, (37, 29), dt.float32), param(1, (53, 29), dt.float32)
    return Kernel(matmul(a, permute(b, (1, 0))))


def of_small_floats() -> Kernel:
    a, b = param(0, (37, 29), dt.bfloat16), param(1, (29, 53), dt.float32)
    return Kernel(matmul(elementwise(Op.NEG, cast(a, dt.float32)), b))


def of_gathered_rows() -> Kernel:
    a, rows, b = param(0, (11, 29), dt.float32), param(1, (37, 29), dt.int32), param(2, (29, 53), dt.float32)
    return Kernel(matmul(gather(a, rows, 0), b))


KERNELS = {
    "gemm": gemm(),
    "left transposed": transposed_left(),
    "right transposed": transposed_right(),
    "small floats": of_small_floats(),
    "gathered": of_gathered_rows(),
    "integers": program("gemm", (37, 53, 29), "int32"),
}
PLACES: dict[str, tuple[Opt, ...]] = {
    "right": (stage(RIGHT, 0),),
    "both": (stage(RIGHT, 0), stage(LEFT, 0)),
    "blocks": (split("r0", 0, 3), stage(RIGHT, 1), stage(LEFT, 1)),
    "blocks of two axes": (split("out", 1, 2), split("r0", 0, 3), stage(RIGHT, 2), stage(LEFT, 2)),
    "threads": (Opt(OptKind.THREAD, "out", 1, 3), stage(RIGHT, 0), stage(LEFT, 1)),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", KERNELS)
def test_a_staged_kernel_computes_the_same(name: str, place: str) -> None:
    kernel = KERNELS[name]
    inputs = random_inputs(kernel, seed=3, integers=True)
    prepared = LlvmRuntime(detect()).prepare(kernel, (*TILE, *PLACES[place]), threads=2)
    np.testing.assert_array_equal(prepared(inputs), evaluate(kernel, inputs))


def test_a_transpose_goes_through_a_stage() -> None:
    kernel = Kernel(permute(param(0, (45, 67), dt.float32), (1, 0)))
    tiled = (split("out", 0, 16), split("out", 1, 16), stage(0, 2, "out"))
    inputs = random_inputs(kernel, seed=3)
    np.testing.assert_array_equal(LlvmRuntime(detect()).prepare(kernel, tiled)(inputs), inputs[0].T)


def test_a_reduce_starts_anew_inside_the_loops_round_the_stage_that_it_reads() -> None:
    """The rows' loop lies round the stage and moves neither it nor the sums of columns."""
    x = param(0, (19, 21), dt.int32)
    sums = expand(reshape(reduce(Op.ADD, x, (0,)), (1, 21)), (19, 21))
    kernel = Kernel(elementwise(Op.SUB, x, sums))
    inputs = random_inputs(kernel, seed=3)
    schedule = (stage(0, 2), Opt(OptKind.THREAD, "out", 1, 4), vec(1))
    found = LlvmRuntime(detect()).prepare(kernel, schedule, threads=2)(inputs)
    np.testing.assert_array_equal(found, evaluate(kernel, inputs))


def test_what_needs_a_total_is_not_staged() -> None:
    x = param(0, (19, 21), dt.float32)
    sums = expand(reshape(reduce(Op.ADD, x, (1,)), (19, 1)), (19, 21))
    found = values(Kernel(elementwise(Op.SUB, elementwise(Op.NEG, x), sums)))
    assert [(value.target, value.node.op) for value in found] == [("out", Op.NEG), ("r0", Op.LOAD)]


def test_the_source_reads_a_stage_where_the_matrix_stood() -> None:
    features = FEATURES["avx2"]
    source = compile_source(gemm(), (*TILE, stage(RIGHT, 0)), CRenderer(features), features).source
    inner = source.rpartition("for (")[2]
    assert "s0[" in inner or "s0 +" in inner
    assert "in1" not in inner


# ---------------------------------------------------------------------------------------------- scratch memory


def test_scratch_memory_is_aligned_and_kept() -> None:
    first = scratch(1000)
    assert first % 64 == 0
    assert scratch(500) == first
    assert scratch(0) == 0


def test_threads_have_scratch_memory_of_their_own() -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(scratch, 1000).result()
        assert abs(other - scratch(1000)) >= 1000
