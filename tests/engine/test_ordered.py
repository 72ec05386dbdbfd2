"""SCATTER and FOLD, the ops with an order, by hand-made cases and closed forms; GATHER and indices nobody may trust."""

from __future__ import annotations

from math import comb, nan

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import cast, const, elementwise, fold, gather, iota, param, permute, reduce, scatter
from engine.dtype import DTYPES, DType
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.runtime.interp import evaluate, evaluate_rows
from engine.spec import Level, verify
from tests.exact import special_values

INDEX_TYPES = [d for d in DTYPES.values() if d.is_int]


def scattered(
    how: str, start: np.ndarray, index: np.ndarray, updates: np.ndarray, axis: int = 0
) -> np.ndarray:
    params = [param(i, a.shape, dt.from_numpy(a.dtype)) for i, a in enumerate((start, index, updates))]
    node = scatter(params[0], params[1], params[2], axis, how)
    verify(node, Level.DEFINITION, "test")
    return evaluate(Kernel(node), [start, index, updates])


@pytest.mark.parametrize(("how", "wanted"), [("set", [7, 3, 0]), ("add", [13, 3, 0]), ("max", [8, 3, 0])])
def test_of_duplicates_set_keeps_the_last_add_sums_and_max_takes_the_greatest(
    how: str, wanted: list[int]
) -> None:
    index, updates = np.array([0, 0, 1, 0]), np.array([8, -2, 3, 7], np.int32)
    assert scattered(how, np.zeros(3, np.int32), index, updates).tolist() == wanted


@pytest.mark.parametrize("dtype", INDEX_TYPES, ids=repr)
def test_an_index_that_points_nowhere_reads_zero_and_writes_nothing(dtype: DType) -> None:
    index = special_values(dtype)
    index = index[np.argsort(index.astype(object))]
    inside = [int(i) for i in index if 0 <= int(i) < 3]
    updates = np.arange(1, len(index) + 1, dtype=np.int32)
    got = scattered("set", np.zeros(3, np.int32), index, updates)
    wanted = [next((int(u) for i, u in zip(index, updates, strict=True) if int(i) == k), 0) for k in range(3)]
    assert got.tolist() == wanted
    values = np.array([5, 6, 7], np.int32)
    node = gather(param(0, (3,), dt.int32), param(1, index.shape, dtype), 0)
    read = evaluate(Kernel(node), [values, index]).tolist()
    assert read == [int(values[int(i)]) if 0 <= int(i) < 3 else 0 for i in index]
    assert len(inside) == 3


def test_scattering_into_nothing_or_nothing_into_something_changes_nothing() -> None:
    none = np.zeros((0, 2), np.float32)
    assert scattered("add", none, np.zeros((3, 2), np.int32), np.ones((3, 2), np.float32)).shape == (0, 2)
    three = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert scattered("add", three, np.zeros((0, 2), np.int32), none).tolist() == three.tolist()


def test_updates_along_an_inner_axis_stay_in_their_rows() -> None:
    start = np.zeros((2, 3), np.float64)
    index, updates = np.array([[0, 2], [1, 1]]), np.array([[1.0, 2.0], [3.0, 4.0]])
    assert scattered("add", start, index, updates, axis=1).tolist() == [[1, 0, 2], [0, 7, 0]]


def test_a_maximum_scattered_propagates_nan() -> None:
    got = scattered("max", np.zeros(2, np.float32), np.array([0, 0, 1]), np.array([nan, 5, 3], np.float32))
    assert np.isnan(got[0])
    assert got[1] == 3


def test_integers_scattered_by_addition_wrap() -> None:
    got = scattered("add", np.array([127], np.int8), np.array([0, 0]), np.array([1, 1], np.int8))
    assert got.tolist() == [-127]


@pytest.mark.parametrize("how", ["set", "add", "max"])
def test_a_scatter_is_a_loop_in_python(how: str) -> None:
    rng = np.random.default_rng(5)
    start = rng.integers(-9, 9, (4, 5, 3)).astype(np.int64)
    index, updates = rng.integers(-2, 7, (4, 8, 3)), rng.integers(-9, 9, (4, 8, 3))
    wanted = start.copy()
    for i, j, k in np.ndindex(4, 8, 3):
        place = int(index[i, j, k])
        if 0 <= place < 5:
            old, new = wanted[i, place, k], updates[i, j, k]
            wanted[i, place, k] = new if how == "set" else old + new if how == "add" else max(old, new)
    np.testing.assert_array_equal(scattered(how, start, index, updates, axis=1), wanted)


# ------------------------------------------------------------------------------------------------------------ FOLD


def run(node: UOp, *arrays: np.ndarray) -> np.ndarray:
    verify(node, Level.DEFINITION, "test")
    return evaluate(Kernel(node), arrays)


def test_a_fold_of_no_steps_gives_what_it_starts_from() -> None:
    x = param(0, (0, 3), dt.int32)
    init = param(1, (3,), dt.int32)
    (found,) = fold(0, [init], [x], lambda _, s, p: [elementwise(Op.ADD, s[0], p[0])])
    assert run(found, np.zeros((0, 3), np.int32), np.array([4, 5, 6], np.int32)).tolist() == [4, 5, 6]


@pytest.mark.parametrize("steps", [0, 1, 2, 10, 90])
def test_two_states_step_together_as_fibonaccis_numbers_do(steps: int) -> None:
    zero, one = const(0, dt.int64), const(1, dt.int64)
    a, b = fold(steps, [zero, one], [], lambda _, s, __: [s[1], elementwise(Op.ADD, s[0], s[1])])
    first, second = 0, 1
    for _ in range(steps):
        first, second = second, first + second
    assert (int(run(a)), int(run(b))) == (first, second)


def test_the_number_of_the_step_counts_from_zero() -> None:
    (total,) = fold(101, [const(0, dt.int64)], [], lambda i, s, _: [elementwise(Op.ADD, s[0], i)])
    assert run(total) == comb(101, 2)


def test_each_step_reads_its_part_of_every_x() -> None:
    a, b = param(0, (5, 2), dt.int64), param(1, (5, 2), dt.int64)
    zero = const(0, dt.int64, (2,))

    def body(step: UOp, states: tuple[UOp, ...], xs: tuple[UOp, ...]) -> list[UOp]:
        return [elementwise(Op.ADD, states[0], elementwise(Op.MUL, xs[0], xs[1]))]

    (found,) = fold(5, [zero], [a, b], body)
    x, y = np.arange(10).reshape(5, 2), np.arange(10, 20).reshape(5, 2)
    assert run(found, x, y).tolist() == (x * y).sum(0).tolist()


def test_a_body_may_reduce_gather_scatter_and_turn_its_state() -> None:
    """Power iteration in integers: state ← (state @ state.T) with its first row put last."""

    def body(step: UOp, states: tuple[UOp, ...], xs: tuple[UOp, ...]) -> list[UOp]:
        turned = permute(states[0], (1, 0))
        index = elementwise(
            Op.MOD, elementwise(Op.ADD, iota(3), const(1, dt.int64, (3,))), const(3, dt.int64, (3,))
        )
        along = UOp(Op.EXPAND, dt.int64, (UOp(Op.RESHAPE, dt.int64, (index,), (3, 1)),), (3, 3))
        moved = gather(turned, along, 0)
        total = reduce(Op.ADD, turned, (0, 1))
        put = scatter(moved, along, const(1, dt.int64, (3, 3)), 0, "add")
        spread = UOp(Op.EXPAND, dt.int64, (UOp(Op.RESHAPE, dt.int64, (total,), (1, 1)),), (3, 3))
        return [elementwise(Op.SUB, put, spread)]

    x = np.arange(9).reshape(3, 3)
    (found,) = fold(4, [param(0, (3, 3), dt.int64)], [], body)
    state = x
    for _ in range(4):
        state = np.roll(state.T, -1, axis=0) + 1 - state.sum()
    assert run(found, x).tolist() == state.tolist()


def test_a_fold_may_stand_between_reductions_and_be_read_twice() -> None:
    x = param(0, (4, 6), dt.float64)
    rows = reduce(Op.ADD, x, (1,))
    (found,) = fold(4, [const(1.0, dt.float64)], [rows], lambda _, s, p: [elementwise(Op.MUL, s[0], p[0])])
    both = elementwise(Op.ADD, found, elementwise(Op.SQRT, found))
    array = np.random.default_rng(1).random((4, 6))
    product = array.sum(1).prod()
    np.testing.assert_allclose(run(both, array), product + np.sqrt(product), rtol=1e-14)


def test_rows_of_a_fold_are_those_of_the_whole() -> None:
    x = param(0, (3, 7), dt.int32)
    (found,) = fold(3, [const(1, dt.int32, (7,))], [x], lambda _, s, p: [elementwise(Op.MUL, s[0], p[0])])
    array = np.arange(1, 22, dtype=np.int32).reshape(3, 7)
    np.testing.assert_array_equal(evaluate_rows(Kernel(found), [array], 2, 5), array.prod(0)[2:5])


def test_narrow_states_wrap_at_every_step() -> None:
    (found,) = fold(
        10, [const(1, dt.uint8)], [], lambda _, s, __: [elementwise(Op.MUL, s[0], const(3, dt.uint8))]
    )
    assert run(found) == 3**10 % 256


def test_steps_of_a_body_a_hundred_deep_end() -> None:
    def body(step: UOp, states: tuple[UOp, ...], xs: tuple[UOp, ...]) -> list[UOp]:
        node = states[0]
        for _ in range(100):
            node = elementwise(Op.ADD, elementwise(Op.MUL, node, node), cast(step, dt.uint32))
        return [node]

    (found,) = fold(30, [const(3, dt.uint32)], [], body)
    state = 3
    for step in range(30):
        for _ in range(100):
            state = (state * state + step) % (1 << 32)
    assert run(found) == state
