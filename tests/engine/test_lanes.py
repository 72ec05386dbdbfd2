"""Vector access: what stays a vector, what goes lane by lane, and that neither touches what it must not."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine import lanes as lanes_module
from engine.build import (
    const,
    elementwise,
    expand,
    flip,
    gather,
    iota,
    matmul,
    pad,
    param,
    permute,
    reduce,
    reshape,
)
from engine.errors import VerifyError
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.lanes import lanes_of, leading_lanes, settle_lanes
from engine.lower import lower
from engine.offsets import add, number
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.places import settle_places
from engine.runtime.cpu import CpuRuntime
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.schedule import replay
from engine.small_floats import widen
from engine.spec import Level, verify
from engine.target import detect as detect_c

VEC8 = (Opt(OptKind.VEC, "out", 0, 8),)
F = dt.float32
LANES = UOp(Op.RANGE, dt.int64, (), (9, 8, RangeType.VEC))
LOOP = UOp(Op.RANGE, dt.int64, (), (1, 4, RangeType.LOOP))
MEMORY, OUTPUT = param(0, (100,), F), param(1, (100,), F)


def settled(node: UOp, schedule: Schedule = VEC8) -> list[UOp]:
    kernel = Kernel(node)
    root = settle_lanes(widen(settle_places(lower(kernel, replay(kernel, schedule)))))
    verify(root, Level.LANES, "lanes")
    return toposort(root)


def accesses(nodes: list[UOp]) -> Counter[tuple[Op, int, bool]]:
    """How many of each (LOAD or STORE, elements, guarded), but for accumulators'."""
    return Counter(
        (node.op, lanes_of(node.src[0]), len(node.src[0].src) == 3)
        for node in nodes
        if node.op in (Op.LOAD, Op.STORE) and toposort(node.src[0].src[0])[0].op is Op.PARAM
    )


def store(offset: UOp, value: UOp, *valid: UOp) -> UOp:
    place = UOp(Op.INDEX, F, (OUTPUT, offset, *valid))
    return UOp(Op.SINK, dt.void, (UOp(Op.STORE, dt.void, (place, value)),))


def load(offset: UOp, *valid: UOp) -> UOp:
    other = [const(0.0, F)] if valid else []
    return UOp(Op.LOAD, F, (UOp(Op.INDEX, F, (MEMORY, offset, *valid)), *other))


def less(a: UOp, b: int) -> UOp:
    return UOp(Op.LT, dt.bool_, (a, number(b)))


# -- what becomes of an access -----------------------------------------------------------------------------------


def test_lanes_in_a_row_are_one_access() -> None:
    found = accesses(settled(elementwise(Op.NEG, param(0, (64,), F))))
    assert found == {(Op.LOAD, 8, False): 1, (Op.STORE, 8, False): 1}


def test_a_value_that_is_the_same_in_all_lanes_is_loaded_once() -> None:
    b = reshape(param(1, (1,), F), (1,))
    node = elementwise(Op.ADD, param(0, (64,), F), UOp(Op.EXPAND, F, (b,), (64,)))
    assert accesses(settled(node))[Op.LOAD, 1, False] == 1


def test_a_ragged_end_is_guarded_by_a_count_of_leading_lanes() -> None:
    nodes = settled(elementwise(Op.NEG, param(0, (61,), F)))
    assert accesses(nodes)[Op.LOAD, 8, True] == 1
    masks = [node.src[2] for node in nodes if node.op is Op.INDEX and len(node.src) == 3]
    assert all(leading_lanes(mask) is not None for mask in masks)


def test_a_stride_goes_lane_by_lane() -> None:
    found = accesses(settled(permute(param(0, (8, 16), F), (1, 0)), (Opt(OptKind.VEC, "out", 1, 8),)))
    assert found == {(Op.LOAD, 1, False): 8, (Op.STORE, 8, False): 1}


def test_a_reversed_axis_goes_lane_by_lane() -> None:
    assert accesses(settled(flip(param(0, (64,), F), (0,))))[Op.LOAD, 1, False] == 8


def test_a_padded_axis_is_one_masked_access() -> None:
    found = accesses(settled(pad(param(0, (50,), F), ((5, 9, 0),))))
    assert found == {(Op.LOAD, 8, True): 1, (Op.STORE, 8, False): 1}


def test_offsets_that_are_data_are_taken_lane_by_lane() -> None:
    nodes = settled(gather(param(0, (9,), F), param(1, (64,), dt.int32), 0))
    assert accesses(nodes)[Op.LOAD, 8, False] == 1, "the index"
    assert accesses(nodes)[Op.LOAD, 1, True] == 8, "the values"
    assert {node.arg for node in nodes if node.op is Op.LANE} == set(range(8))


def test_a_condition_alike_in_all_lanes_becomes_part_of_the_count() -> None:
    valid = UOp(Op.AND, dt.bool_, (less(LOOP, 3), less(add(LOOP, LANES), 9)))
    nodes = toposort(settle_lanes(store(LANES, load(add(LOOP, LANES), valid))))
    (mask,) = [node.src[2] for node in nodes if node.op is Op.INDEX and len(node.src) == 3]
    count = leading_lanes(mask)
    assert count is not None
    assert count.op is Op.WHERE


def test_a_store_of_scattered_lanes_is_a_store_for_each() -> None:
    twice = UOp(Op.MUL, dt.int64, (LANES, number(2)))
    root = settle_lanes(store(twice, load(LANES)))
    verify(root, Level.LANES, "lanes")
    assert accesses(toposort(root)) == {(Op.LOAD, 8, False): 1, (Op.STORE, 1, False): 8}


def test_lanes_that_all_go_to_one_element_are_refused() -> None:
    with pytest.raises(VerifyError, match="into one element"):
        settle_lanes(store(number(3), load(LANES)))


def test_lanes_of_two_axes_do_not_meet_in_a_value() -> None:
    others = UOp(Op.RANGE, dt.int64, (), (10, 8, RangeType.VEC))
    both = UOp(Op.ADD, F, (load(LANES), load(others)))
    with pytest.raises(VerifyError, match="ADD: depends on the lanes of two axes"):
        settle_lanes(store(LANES, both))


def test_a_reduce_and_the_output_have_lanes_of_their_own() -> None:
    x = param(0, (4, 64), F)
    sums = expand(reshape(reduce(Op.ADD, x, (1,)), (4, 1)), (4, 64))
    schedule = (Opt(OptKind.VEC, "out", 1, 16), Opt(OptKind.VEC, "r0", 0, 8))
    nodes = settled(elementwise(Op.DIV, x, sums), schedule)
    assert accesses(nodes) == {(Op.LOAD, 8, False): 1, (Op.LOAD, 16, False): 1, (Op.STORE, 16, False): 1}


def test_one_lane_of_a_vector_accumulator_is_taken_from_the_whole() -> None:
    nodes = settled(reduce(Op.ADD, param(0, (4, 64), F), (1,)), (Opt(OptKind.VEC, "r0", 0, 8),))
    assert sorted(node.arg for node in nodes if node.op is Op.LANE) == list(range(8))
    memories = [node for node in nodes if node.op is Op.INDEX and toposort(node.src[0])[0].op is Op.ACC]
    assert {node.arg for node in memories} == {8}


def test_a_kernel_without_lanes_stays_as_it_is() -> None:
    kernel = Kernel(elementwise(Op.NEG, param(0, (64,), F)))
    root = settle_places(lower(kernel, replay(kernel, ())))
    assert settle_lanes(root) is root


def test_counting_lanes_of_a_deep_graph_needs_no_stack() -> None:
    node = load(LANES)
    for _ in range(20_000):
        node = UOp(Op.ADD, F, (node, node))
    assert lanes_of(node) == 8
    assert lanes_module.lanes_of(UOp(Op.LANE, F, (node,), 3)) == 1


# -- the spec ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (UOp(Op.INDEX, F, (MEMORY, LANES)), "differs between lanes"),
        (UOp(Op.INDEX, F, (MEMORY, number(0)), 1), "2 or more"),
        (UOp(Op.INDEX, F, (MEMORY, number(0), less(LOOP, 3)), 8), "8 lanes"),
        (UOp(Op.INDEX, F, (MEMORY, number(0), less(LANES, 3))), "1 lanes"),
        (UOp(Op.LANE, F, (const(1.0, F),), 1), "no lane 1"),
    ],
)
def test_the_spec_refuses_what_is_not_settled(node: UOp, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        verify(node, Level.LANES, "lanes")


def test_before_the_pass_an_index_is_of_one_element() -> None:
    with pytest.raises(VerifyError, match="one element"):
        verify(UOp(Op.INDEX, F, (MEMORY, number(0)), 8), Level.KERNEL, "lower")


# -- what is computed --------------------------------------------------------------------------------------------

N = 61
X = param(0, (N,), F)
NUMBERS = iota(N)
CASES: dict[str, UOp] = {
    "lane numbers are values": elementwise(Op.MUL, UOp(Op.CAST, F, (NUMBERS,)), X),
    "lane numbers are conditions": elementwise(
        Op.WHERE, elementwise(Op.LT, NUMBERS, const(13, dt.int64, (N,))), X, elementwise(Op.NEG, X)
    ),
    "lane numbers are divided": elementwise(Op.MOD, NUMBERS, const(7, dt.int64, (N,))),
    "reversed": flip(X, (0,)),
    "padded": pad(X, ((5, 9, 0),)),
    "spread": pad(X, ((1, 2, 2),)),
    "gathered": gather(X, param(1, (N,), dt.int64), 0),
    "bools": elementwise(Op.NOT, elementwise(Op.LT, X, const(0.0, F, (N,)))),
    "matmul of integers": reshape(matmul(param(0, (1, 5), dt.int16), param(1, (5, N), dt.int16)), (N,)),
}
SCHEDULES = [(), VEC8, (Opt(OptKind.VEC, "out", 0, 16), Opt(OptKind.UPCAST, "out", 0, 2))]


def inputs_of(kernel: Kernel) -> list[Any]:
    """Indices reach far outside on both sides."""
    rng = np.random.default_rng(2)
    far = np.array([-1, N, 2**40, -(2**62), 2**62, 3, 0, N - 1])
    return [
        np.resize(far, node.arg[1])
        if node.dtype is dt.int64
        else (rng.standard_normal(node.arg[1]) * 9).astype(node.dtype.numpy)
        for node in kernel.params
    ]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["scalar", "x8", "x16 twice"])
@pytest.mark.parametrize("name", CASES)
def test_both_renderers_compute_what_the_interpreter_does(
    name: str, schedule: Schedule, tmp_path: Any
) -> None:
    kernel = Kernel(CASES[name])
    inputs = inputs_of(kernel)
    wanted = evaluate(kernel, inputs)
    for runtime in (LlvmRuntime(detect()), CpuRuntime(detect_c(), tmp_path)):
        np.testing.assert_array_equal(runtime.prepare(kernel, schedule)(inputs), wanted)
