"""Which opts are legal, and what leaves they lead to."""

from __future__ import annotations

import random

import pytest

from engine import dtype as dt
from engine.build import matmul, param, permute, reduce
from engine.dtype import float32, int32, int64
from engine.errors import IllegalOpt
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.schedule import Scheduled, replay
from tests.engine.sample_kernels import SAMPLES, random_schedule


def gemm(m: int, n: int, k: int) -> Kernel:
    return Kernel(matmul(param(0, (m, k), float32), param(1, (k, n), float32)))


def split(target: str, axis: int, amount: int, type_: RangeType = RangeType.LOOP) -> Opt:
    return Opt(OptKind.SPLIT, target, axis, amount, type_)


def vec(target: str, axis: int, amount: int = 16) -> Opt:
    return Opt(OptKind.VEC, target, axis, amount)


def upcast(axis: int, amount: int) -> Opt:
    return Opt(OptKind.UPCAST, "out", axis, amount)


def reorder(first: int, second: int) -> Opt:
    return Opt(OptKind.REORDER, "out", first, second)


def unroll(axis: int, amount: int) -> Opt:
    return Opt(OptKind.UNROLL, "r0", axis, amount)


def thread(axis: int, amount: int) -> Opt:
    return Opt(OptKind.THREAD, "out", axis, amount)


def shown(scheduled: Scheduled) -> list[str]:
    return [str(leaf) for leaf in scheduled.leaves]


def test_without_opts_every_axis_is_one_loop() -> None:
    assert shown(replay(gemm(8, 6, 4))) == ["out.0:8x1:LOOP", "out.1:6x1:LOOP", "r0.0:4x1:REDUCE"]


def test_axes_of_one_element_vanish_and_the_others_keep_their_numbers() -> None:
    assert shown(replay(gemm(1, 6, 4))) == ["out.1:6x1:LOOP", "r0.0:4x1:REDUCE"]


def test_a_register_tile_lies_inside_all_loops() -> None:
    scheduled = replay(gemm(48, 96, 64), (upcast(1, 3), vec("out", 1), upcast(0, 8), unroll(0, 2)))
    assert shown(scheduled) == [
        "out.0:6x8:LOOP",
        "out.1:2x48:LOOP",
        "r0.0:32x2:REDUCE",
        "r0.0:2x1:UNROLL",
        "out.0:8x1:UPCAST",
        "out.1:3x16:UPCAST",
        "out.1:16x1:VEC",
    ]
    assert scheduled.span(scheduled.axes[1]) == 48
    assert scheduled.lanes == 16


def test_the_outer_part_of_a_split_goes_to_the_front_behind_earlier_ones() -> None:
    scheduled = replay(gemm(48, 96, 64), (split("out", 1, 12), split("r0", 0, 16), split("out", 0, 6)))
    assert [str(leaf) for leaf in scheduled.loops] == [
        "out.1:8x12:LOOP",
        "r0.0:4x16:LOOP",
        "out.0:8x6:LOOP",
        "out.0:6x1:LOOP",
        "out.1:12x1:LOOP",
    ]


def test_a_second_split_takes_the_inner_leaf_apart() -> None:
    scheduled = replay(gemm(48, 96, 64), (split("out", 1, 12), split("out", 1, 4)))
    outer, middle, inner = (leaf for leaf in scheduled.loops if leaf.axis.index == 1)
    assert [(leaf.extent, leaf.stride) for leaf in (outer, middle, inner)] == [(8, 12), (3, 4), (4, 1)]


def test_reorder_swaps_two_loops() -> None:
    scheduled = replay(gemm(8, 6, 4), (reorder(0, 1),))
    assert [leaf.axis.index for leaf in scheduled.loops] == [1, 0]


def test_thread_takes_the_outermost_leaf_of_its_axis_whenever_it_is_asked_for() -> None:
    early = replay(gemm(50, 6, 4), (thread(0, 4), upcast(0, 3)))
    late = replay(gemm(50, 6, 4), (upcast(0, 3), thread(0, 4)))
    assert early.leaves == late.leaves
    assert str(early.loops[0]) == "out.0:4x15:THREAD"
    assert early.tiles == 4


def test_more_threads_than_steps_make_no_empty_tiles() -> None:
    assert replay(gemm(5, 6, 4), (thread(0, 4),)).tiles == 3


REFUSED: list[tuple[str, Schedule, str]] = [
    ("an axis that is not there", (upcast(2, 4),), "no axis out.2"),
    ("a reduce that is not there", (Opt(OptKind.UNROLL, "r1", 0, 4),), "no axis r1.0"),
    ("an upcast reduce axis", (Opt(OptKind.UPCAST, "r0", 0, 4),), "UNROLL"),
    ("an unrolled output axis", (Opt(OptKind.UNROLL, "out", 0, 4),), "UPCAST"),
    ("an amount of one", (upcast(0, 1),), "at least 2"),
    ("two upcasts of an axis", (upcast(0, 2), upcast(0, 2)), "has its UPCAST leaf"),
    ("two vectors", (vec("out", 1), vec("r0", 0)), "have their VEC leaf"),
    ("lanes not a power of two", (vec("out", 1, 12),), "power of two"),
    ("too many lanes", (vec("out", 1, 32),), "at most 16"),
    ("lanes along a strided output axis", (vec("out", 0),), "stride 1"),
    ("a body of thousands", (upcast(0, 32), upcast(1, 32)), "expands"),
    ("a split that does not divide the inner leaf", (split("out", 1, 12), split("out", 1, 5)), "divide"),
    ("a split of nothing", (split("out", 1, 12), split("out", 1, 12)), "less than"),
    ("a REDUCE part of an output axis", (split("out", 1, 4, RangeType.REDUCE),), "axes of a reduce"),
    ("a split into vectors", (split("out", 1, 4, RangeType.VEC),), "LOOP or REDUCE"),
    ("a LOOP inside a REDUCE", (split("r0", 0, 8, RangeType.REDUCE), split("r0", 0, 4)), "split LOOP first"),
    ("a swap with no loop", (reorder(0, 2),), "2 loops"),
    ("a swap with itself", (reorder(1, 1),), "smaller"),
    ("an inner leaf outside its outer one", (split("out", 1, 4), reorder(0, 2)), "outer one"),
    ("two threaded axes", (thread(0, 2), thread(1, 2)), "has its THREAD leaf"),
    ("a threaded reduce", (Opt(OptKind.THREAD, "r0", 0, 2),), "not a reduce's"),
]


@pytest.mark.parametrize(
    ("schedule", "reason"), [(s, r) for _, s, r in REFUSED], ids=[n for n, _, _ in REFUSED]
)
def test_an_illegal_opt_is_refused_with_the_reason(schedule: Schedule, reason: str) -> None:
    with pytest.raises(IllegalOpt, match=reason) as caught:
        replay(gemm(48, 96, 64), schedule)
    assert caught.value.field == f"schedule[{len(schedule) - 1}]"


def test_lanes_along_a_reduce_need_a_load_that_is_contiguous_there() -> None:
    columns = Kernel(reduce(Op.ADD, param(0, (8, 32), float32), (0,)))
    with pytest.raises(IllegalOpt, match="stride 1"):
        replay(columns, (vec("r0", 0),))
    rows = Kernel(reduce(Op.ADD, permute(param(0, (32, 8), float32), (1, 0)), (0,)))
    assert replay(rows, (vec("r0", 0, 8),)).lanes == 8


def test_partial_results_need_an_output_of_the_reduces_type() -> None:
    assert replay(SAMPLES["mean of squares"], (split("r0", 0, 4),)).partial_reduce
    for name in ("any is positive", "symmetric"):
        with pytest.raises(IllegalOpt, match="partial results"):
            replay(SAMPLES[name], (split("r0", 0, 4),))


def test_an_empty_axis_takes_no_opts() -> None:
    with pytest.raises(IllegalOpt, match="empty"):
        replay(SAMPLES["empty"], (upcast(0, 2),))


def test_integers_are_scheduled_like_floats() -> None:
    kernel = Kernel(matmul(param(0, (4, 4), int64), param(1, (4, 4), int64)))
    assert replay(kernel, (vec("out", 1, 4), unroll(0, 2))).lanes == 4
    assert replay(Kernel(reduce(Op.MAX, param(0, (64,), int32), (0,))), (vec("r0", 0),)).lanes == 16


@pytest.mark.parametrize("name", SAMPLES)
def test_leaves_reach_every_element_of_every_axis_once(name: str) -> None:
    rng = random.Random(name)
    for _ in range(20):
        scheduled = replay(SAMPLES[name], random_schedule(SAMPLES[name], rng))
        for axis in (axis for axis in scheduled.axes if axis.extent):
            leaves = sorted(
                scheduled.leaves_of(axis), key=lambda leaf: (leaf.stride * leaf.extent, leaf.stride)
            )
            stride = 1
            for leaf in leaves:
                assert leaf.stride == stride, "each leaf steps over exactly what lies inside it"
                stride *= leaf.extent
            assert stride >= axis.extent
            loops = [leaf.stride for leaf in scheduled.loops if leaf.axis == axis]
            assert loops == sorted(loops, reverse=True), "outer leaves run outside inner ones"


def test_ids_are_in_execution_order_and_apart_from_those_of_the_axes() -> None:
    scheduled = replay(gemm(48, 96, 64), (upcast(0, 4), split("r0", 0, 8), thread(1, 2)))
    ids = [leaf.id for leaf in scheduled.leaves]
    assert ids == list(range(len(scheduled.axes), len(scheduled.axes) + len(ids)))


def test_a_schedule_for_a_big_shape_replays_on_a_small_ragged_one() -> None:
    rng = random.Random(0)
    big, small = gemm(512, 1024, 2048), gemm(37, 41, 29)
    for _ in range(200):
        replay(small, random_schedule(big, rng))


def test_partial_results_do_not_wait_in_an_output_that_rounds_them() -> None:
    kernel = Kernel(reduce(Op.ADD, param(0, (4, 64), dt.bfloat16), (1,)))
    with pytest.raises(IllegalOpt, match="rounded to bfloat16"):
        replay(kernel, (Opt(OptKind.SPLIT, "r0", 0, 8, RangeType.LOOP),))
