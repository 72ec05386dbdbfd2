"""Lowered kernels: their structure, and that they compute what the interpreter does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from engine import linearize, lower, places
from engine.build import broadcast, elementwise, expand, matmul, param, permute, reduce, reshape
from engine.dtype import DTYPES, DType, float32
from engine.errors import InvalidGraph
from engine.indexing import accesses, body, identity
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import REDUCERS, Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.runtime import meaning
from engine.schedule import replay
from engine.spec import Level, problem, verify
from engine.target import detect
from tests.engine.sample_kernels import SAMPLES, Case, cases_of, mismatches

pytestmark = pytest.mark.slow

GEMM = Kernel(matmul(param(0, (32, 24), float32), param(1, (24, 64), float32)))
TILE = (
    Opt(OptKind.VEC, "out", 1, 16),
    Opt(OptKind.UPCAST, "out", 1, 2),
    Opt(OptKind.UPCAST, "out", 0, 4),
)


def lowered(kernel: Kernel, schedule: Schedule = (), fma: bool = True) -> tuple[UOp, ...]:
    root = lower.lower(kernel, replay(kernel, schedule), fma=fma)
    verify(root, Level.KERNEL, "lower")
    settled = places.settle_places(root)
    verify(settled, Level.KERNEL, "settle_places")
    return linearize.linearize(settled)


def counts(lines: tuple[UOp, ...]) -> Counter[Op]:
    return Counter(line.op for line in lines)


# -- indexing ---------------------------------------------------------------------------------------------------


def strides(kernel: Kernel) -> list[tuple[int, dict[str, int | None]]]:
    return [(a.slot, {str(axis): s for axis, s in a.strides.items()}) for a in accesses(kernel)]


def test_loads_of_a_matmul_stay_in_place_along_the_other_operands_axis() -> None:
    assert strides(GEMM) == [
        (-1, {"out.0": 64, "out.1": 1, "r0.0": 0}),
        (0, {"out.0": 24, "out.1": 0, "r0.0": 1}),
        (1, {"out.0": 0, "out.1": 1, "r0.0": 64}),
    ]


def test_a_transpose_is_a_change_of_strides() -> None:
    kernel = Kernel(permute(param(0, (5, 7), float32), (1, 0)))
    assert strides(kernel)[1] == (0, {"out.0": 1, "out.1": 7})


def test_a_reshape_of_whole_groups_needs_no_division() -> None:
    kernel = Kernel(reshape(permute(param(0, (6, 10, 4), float32), (2, 0, 1)), (4, 60)))
    assert strides(kernel)[1] == (0, {"out.0": 1, "out.1": 4})


def test_a_reshape_across_groups_has_no_stride() -> None:
    assert None in strides(SAMPLES["reshaped"])[1][1].values()


def test_a_reduce_inside_anothers_loops_is_refused() -> None:
    once = reduce(Op.ADD, param(0, (4, 5), float32), (1,))
    with pytest.raises(InvalidGraph, match="REDUCE r0 lies inside the loops of r1: cut"):
        body(Kernel(reduce(Op.MAX, once, (0,))))


def test_each_reduce_has_axes_of_its_own() -> None:
    found = body(SAMPLES["softmax"])
    assert [str(axis) for axis in found.axes] == ["out.0", "out.1", "r0.0", "r1.0"]
    assert list(found.reduces.values()) == ["r0", "r1"]
    moved = [sorted(str(axis) for axis in found.axes_of(target)) for target in ("out", "r0", "r1")]
    assert moved == [["out.0", "out.1"], ["out.0", "r0.0"], ["out.0", "r1.0"]]
    assert [found.axes_under(reduce) for reduce in found.reduces] == [
        found.axes_under(found.offset) - {found.axes[1]}
    ] * 2


@pytest.mark.parametrize("dtype", [d for d in DTYPES.values() if d.is_int or d.is_float], ids=repr)
def test_a_reduce_starts_from_what_changes_nothing(dtype: DType) -> None:
    for op in REDUCERS:
        start = identity(op, dtype)
        assert start.arg == meaning.identity(op, dtype)
        assert not problem(start, Level.KERNEL)


# -- structure --------------------------------------------------------------------------------------------------


def test_a_tile_that_divides_its_axes_has_one_version_and_no_guards() -> None:
    lines = lowered(GEMM, TILE)
    assert counts(lines)[Op.STORE] == 8 * 3, "8 vectors: initialised, accumulated, stored"
    assert counts(lines)[Op.RANGE] == counts(lines)[Op.END] + 1, "the two output loops close together"
    assert not any(len(node.src) == 3 for node in toposort(*lines) if node.op is Op.INDEX)


def test_each_load_of_a_tile_is_made_once() -> None:
    assert counts(lowered(GEMM, TILE))[Op.LOAD] == 4 + 2


def test_products_are_fused_into_the_sum_only_where_the_target_can() -> None:
    assert counts(lowered(GEMM, TILE))[Op.MULACC] == 8
    assert counts(lowered(GEMM, TILE, fma=False))[Op.MULACC] == 0


def test_a_ragged_axis_has_an_interior_without_guards_and_a_guarded_border() -> None:
    ragged = Kernel(matmul(param(0, (30, 24), float32), param(1, (24, 64), float32)))
    lines = lowered(ragged, TILE)
    assert counts(lines)[Op.MULACC] == 16
    guarded = [line for line in lines if line.op is Op.STORE and len(line.src[0].src) == 3]
    assert 0 < len(guarded) <= 8


def nesting(lines: tuple[UOp, ...]) -> list[str]:
    """Each MAX and ADD that updates an accumulator, each EXP and each store to memory, behind the loops round it."""
    open_: list[UOp] = []
    found = []
    for line in lines:
        if line.op is Op.RANGE:
            open_.append(line)
        elif line.op is Op.END:
            open_ = [range_ for range_ in open_ if range_ not in line.src]
        elif line.op in (Op.MAX, Op.EXP, Op.STORE):
            found.append(f"{len(open_)} {line.op.value}")
    return found


def test_each_reduce_of_a_row_has_loops_of_its_own_beside_those_of_the_output() -> None:
    # of both accumulators: set, updated; then the output
    expected = ["1 STORE", "2 MAX", "2 STORE", "1 STORE", "2 EXP", "2 STORE", "2 EXP", "2 STORE"]
    assert nesting(lowered(SAMPLES["softmax"])) == expected


def test_a_ragged_axis_of_the_output_makes_no_second_version_of_a_reduce_that_it_does_not_move() -> None:
    schedule = (Opt(OptKind.VEC, "out", 1, 16), Opt(OptKind.VEC, "r0", 0, 1 << 4))
    found = nesting(lowered(SAMPLES["softmax"], schedule[:1]))
    assert found.count("2 MAX") == 1
    assert sum(line.endswith("EXP") for line in found) == 1 + 2
    inside = nesting(lowered(SAMPLES["softmax"], schedule))
    assert sum(line.endswith("MAX") for line in inside) > 1  # but one by its own ragged lanes


def test_a_ragged_axis_that_moves_a_reduce_gives_it_versions_of_its_own() -> None:
    found = nesting(lowered(SAMPLES["softmax"], (Opt(OptKind.UPCAST, "out", 0, 4),)))
    assert sum(line.endswith("MAX") for line in found) == 4 + 4
    assert all(int(line.split()[0]) <= 3 for line in found)  # rows, whether they are inside, columns


def test_what_a_loop_does_not_change_is_computed_outside_it() -> None:
    row = expand(reshape(reduce(Op.ADD, param(0, (8, 16), float32), (1,)), (8, 1)), (8, 32))
    scaled = elementwise(Op.MUL, row, broadcast(param(1, (32,), float32), (8, 32)))
    lines = lowered(Kernel(scaled))
    kinds = [line.op for line in lines if line.op in (Op.RANGE, Op.END)]
    assert kinds == [Op.RANGE, Op.RANGE, Op.END, Op.RANGE, Op.END], (
        "one sum for each row, not for each element"
    )


def test_loads_of_an_epilogue_wait_for_the_reduce() -> None:
    lines = lowered(SAMPLES["gemm, bias, relu"])
    last_reduce = max(i for i, line in enumerate(lines) if line.op is Op.END and len(line.src) == 2)
    bias = next(i for i, line in enumerate(lines) if line.op is Op.LOAD and line.src[0].src[0].arg[0] == 2)
    assert bias > last_reduce


def test_few_accumulators_are_copied_for_the_unrolled_steps() -> None:
    rows = Kernel(reduce(Op.ADD, param(0, (4, 64), float32), (1,)))
    sizes = {
        amount: next(
            line.arg[1]
            for line in lowered(rows, (Opt(OptKind.UNROLL, "r0", 0, amount),))
            if line.op is Op.ACC
        )
        for amount in (2, 4, 16)
    }
    assert sizes == {2: 2, 4: 4, 16: 8}


def test_copies_are_combined_lane_by_lane_before_the_lanes_are() -> None:
    rows = Kernel(reduce(Op.ADD, param(0, (4, 512), float32), (1,)))

    def added(unrolled: int) -> int:
        lines = lowered(rows, (Opt(OptKind.VEC, "r0", 0, 16), Opt(OptKind.UNROLL, "r0", 0, unrolled)))
        return sum(line.op is Op.ADD and line.dtype is float32 for line in lines)

    assert [added(unrolled) for unrolled in (2, 4, 8)] == [2 * n - 1 + 15 for n in (2, 4, 8)]


def test_partial_results_wait_in_the_output() -> None:
    lines = lowered(GEMM, (Opt(OptKind.SPLIT, "r0", 0, 8, RangeType.LOOP),))
    read_back = [line for line in lines if line.op is Op.LOAD and line.src[0].src[0].op is Op.AFTER]
    assert len(read_back) == 1
    assert len(read_back[0].src[0].src) == 3, "not in the first iteration"


def test_a_kernel_without_output_elements_does_nothing() -> None:
    assert lowered(SAMPLES["empty"]) == ()


def test_a_statement_stands_inside_the_loops_it_depends_on() -> None:
    for name, kernel in SAMPLES.items():
        open_: list[UOp] = []
        for line in lowered(kernel):
            if line.op is Op.RANGE:
                open_.append(line)
            elif line.op is Op.END:
                del open_[len(open_) - (len(line.src) - 1) :]
            else:
                needed = {n for n in toposort(line, enter=lambda n: n.op is not Op.END) if n.op is Op.RANGE}
                assert needed <= set(open_), name
        assert not open_, name


# -- meaning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", [1, pytest.param(40, marks=pytest.mark.soak)])
def test_random_schedules_of_ragged_kernels_compute_what_the_interpreter_does(
    tmp_path: Path, each: int
) -> None:
    assert mismatches(cases_of(schedules_each=each, seed=2), detect("gcc"), tmp_path) == []


PARTIAL = (Opt(OptKind.SPLIT, "r0", 0, 4, RangeType.LOOP), Opt(OptKind.SPLIT, "r0", 0, 2, RangeType.LOOP))
HARD: list[tuple[str, Schedule]] = [
    # an epilogue that must run once, after the last of two levels of partial sums over a ragged axis
    ("gemm, bias, relu", (*PARTIAL, Opt(OptKind.UNROLL, "r0", 0, 2), *TILE)),
    ("mean of squares", (*PARTIAL, Opt(OptKind.VEC, "r0", 0, 4))),
    # the value entering a product beyond the end must not be 0, nor 1 that entering a sum
    ("product", (Opt(OptKind.VEC, "r0", 0, 8), Opt(OptKind.UNROLL, "r0", 0, 2))),
    ("normalised", (Opt(OptKind.VEC, "r0", 0, 16), Opt(OptKind.UNROLL, "r0", 0, 2))),
    ("max", (Opt(OptKind.VEC, "r0", 0, 8), Opt(OptKind.UNROLL, "r0", 0, 3))),
    # tiles larger than their axes
    (
        "gemm",
        (Opt(OptKind.VEC, "out", 1, 16), Opt(OptKind.UPCAST, "out", 0, 24), Opt(OptKind.UPCAST, "out", 1, 3)),
    ),
    # loops that run empty if they are not cut short
    (
        "axes turned",
        (Opt(OptKind.UPCAST, "out", 1, 4), Opt(OptKind.SPLIT, "out", 1, 2), Opt(OptKind.THREAD, "out", 2, 3)),
    ),
    # both sides of a symmetric sum share the loops but not the accumulators
    (
        "symmetric",
        (Opt(OptKind.VEC, "out", 1, 8), Opt(OptKind.UPCAST, "out", 0, 4), Opt(OptKind.UNROLL, "r0", 0, 3)),
    ),
]


def test_schedules_that_are_easy_to_get_wrong_are_right(tmp_path: Path) -> None:
    cases = [Case(name, SAMPLES[name], schedule) for name, schedule in HARD]
    assert mismatches(cases, detect("gcc"), tmp_path) == []
