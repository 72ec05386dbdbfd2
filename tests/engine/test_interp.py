"""The interpreter is the definition of every op, so it is itself held against NumPy and against edge cases."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.build import broadcast, cast, const, elementwise, matmul, param, permute, reduce, reshape
from engine.dtype import DType
from engine.element_spec import BITS, FLOAT_ONLY, INT_ONLY
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import BINARY, COMPARE, UNARY, Op
from engine.programs import program, random_inputs
from engine.runtime import interp
from engine.runtime.interp import evaluate, evaluate_rows
from engine.shapes import shape_of
from tests.graphs import assert_close, by_numpy, random_graph
from tests.reference import NUMPY

FLOATS = np.array([-2.5, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0, inf, -inf, nan], np.float32)
INTS = np.array([-(1 << 31), -7, -1, 0, 1, 2, 7, (1 << 31) - 1], np.int32)


def run(op: Op, *arrays: np.ndarray) -> np.ndarray:
    params = [param(i, a.shape, dt.from_numpy(a.dtype)) for i, a in enumerate(arrays)]
    return evaluate(Kernel(elementwise(op, *params)), arrays)


def pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(values, values)
    return np.ascontiguousarray(a.ravel()), np.ascontiguousarray(b.ravel())


@pytest.mark.parametrize("op", sorted(UNARY - BITS))
def test_unary_float_ops_are_numpys_in_float64_rounded_once(op: Op) -> None:
    with np.errstate(all="ignore"):
        wanted = NUMPY[op](FLOATS.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(run(op, FLOATS), wanted)


@pytest.mark.parametrize("op", sorted(BINARY - BITS - INT_ONLY))
def test_binary_float_ops_are_numpys_in_float64_rounded_once(op: Op) -> None:
    a, b = pairs(FLOATS)
    with np.errstate(all="ignore"):
        wanted = NUMPY[op](a.astype(np.float64), b.astype(np.float64))
    got = run(op, a, b)
    np.testing.assert_array_equal(got, wanted.astype(np.bool_ if op in COMPARE else np.float32))


@pytest.mark.parametrize("op", sorted(BINARY - FLOAT_ONLY))
def test_binary_integer_ops_wrap_floor_and_divide_by_zero_to_zero(op: Op) -> None:
    a, b = pairs(INTS)
    got = run(op, a, b)
    for x, y, result in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
        assert result == _integer(op, x, y), (op, x, y)


def _integer(op: Op, x: int, y: int) -> int | bool:
    if op in (Op.SHL, Op.SHR):
        exact = _shifted(op, x, y)
    elif op in INT_ONLY:
        exact = 0 if y == 0 else x // y if op is Op.IDIV else x % y
    elif op in (Op.MAX, Op.MIN):
        exact = max(x, y) if op is Op.MAX else min(x, y)
    else:
        exact = NUMPY[op](x, y)
    return exact if op in COMPARE else (exact + (1 << 31)) % (1 << 32) - (1 << 31)


def _shifted(op: Op, x: int, y: int) -> int:
    """By the width or more, or by less than nothing: 0, or the sign."""
    if 0 <= y < 32:
        return x << y if op is Op.SHL else x >> y
    return -1 if op is Op.SHR and x < 0 else 0


@pytest.mark.parametrize("op", [Op.MAX, Op.MIN])
def test_maximum_and_minimum_propagate_nan_also_when_reducing(op: Op) -> None:
    assert np.isnan(run(op, np.array([1, nan], np.float32), np.array([nan, 1], np.float32))).all()
    x = np.array([[1, nan, 2], [0, 1, 2]], np.float32)
    got = evaluate(Kernel(reduce(op, param(0, (2, 3), dt.float32), (1,))), [x])
    assert np.isnan(got[0])
    assert got[1] == (2 if op is Op.MAX else 0)


@pytest.mark.parametrize(
    ("dtype", "values", "wanted"),
    [
        (
            dt.int32,
            [nan, inf, -inf, 3e9, -3e9, 2.9, -2.9],
            [0, 2**31 - 1, -(2**31), 2**31 - 1, -(2**31), 2, -2],
        ),
        (dt.int64, [nan, inf, -inf, 1e19, -1e19, 2.9], [0, 2**63 - 1, -(2**63), 2**63 - 1, -(2**63), 2]),
        (dt.bool_, [nan, 0.0, -0.0, 0.25], [True, False, False, True]),
    ],
)
def test_floats_cast_to_integers_truncate_and_saturate(
    dtype: DType, values: list[float], wanted: list[int]
) -> None:
    x = np.array(values, np.float32)
    assert evaluate(Kernel(cast(param(0, x.shape, dt.float32), dtype)), [x]).tolist() == wanted


def test_integers_cast_to_narrower_integers_wrap() -> None:
    x = np.array([1 << 32, (1 << 31) + 5, -1], np.int64)
    assert evaluate(Kernel(cast(param(0, (3,), dt.int64), dt.int32)), [x]).tolist() == [0, 5 - (1 << 31), -1]


def test_a_large_integer_is_rounded_once_on_its_way_to_float() -> None:
    x = np.array([(1 << 60) + (1 << 36) + 1], np.int64)  # by way of float64 it would be a tie, and go down
    got = evaluate(Kernel(cast(param(0, (1,), dt.int64), dt.float32)), [x])
    assert got.tolist() == x.astype(np.float32).tolist()


def test_floats_are_rounded_at_a_cast_and_at_the_output_only() -> None:
    x = np.array([1.0], np.float32)
    node = param(0, (1,), dt.float32)
    tiny = elementwise(Op.ADD, node, const(2.0**-30, dt.float32, (1,)))
    back = elementwise(Op.SUB, tiny, const(1.0, dt.float32, (1,)))
    assert evaluate(Kernel(back), [x])[0] == 2.0**-30
    rounded = elementwise(Op.SUB, UOp(Op.CAST, dt.float32, (tiny,)), const(1.0, dt.float32, (1,)))
    assert evaluate(Kernel(rounded), [x])[0] == 0.0


def test_exact_gives_float64_before_rounding() -> None:
    third = elementwise(Op.DIV, param(0, (1,), dt.float32), const(3.0, dt.float32, (1,)))
    got = evaluate(Kernel(third), [np.ones(1, np.float32)], exact=True)
    assert got.dtype == np.float64
    assert got[0] == 1 / 3


def test_sums_of_nothing_are_zero_and_products_one() -> None:
    x = np.empty((2, 0), np.float32)
    node = param(0, (2, 0), dt.float32)
    assert evaluate(Kernel(reduce(Op.ADD, node, (1,))), [x]).tolist() == [0, 0]
    assert evaluate(Kernel(reduce(Op.MUL, node, (1,))), [x]).tolist() == [1, 1]
    assert evaluate(Kernel(node), [x]).shape == (2, 0)


def test_integer_sums_wrap() -> None:
    x = np.array([(1 << 31) - 1, 1], np.int32)
    assert evaluate(Kernel(reduce(Op.ADD, param(0, (2,), dt.int32), (0,))), [x]) == -(1 << 31)


@pytest.mark.parametrize("shape", [(37, 29, 41), (130, 70, 90), (0, 3, 2), (3, 2, 0), (1, 1, 1)])
def test_a_matrix_product_in_tiles_is_numpys(shape: tuple[int, int, int]) -> None:
    kernel = program("gemm", shape)
    a, b = random_inputs(kernel, 3)
    np.testing.assert_allclose(evaluate(kernel, [a, b], exact=True), a.astype(np.float64) @ b, atol=1e-12)


def test_rows_are_the_rows_of_the_whole() -> None:
    kernel = program("gemm", (9, 5, 4))
    inputs = random_inputs(kernel, 1)
    np.testing.assert_array_equal(evaluate_rows(kernel, inputs, 4, 7), evaluate(kernel, inputs)[4:7])
    assert evaluate_rows(kernel, inputs, 3, 3).shape == (0, 5)
    with pytest.raises(InvalidGraph, match="rows"):
        evaluate_rows(kernel, inputs, 4, 10)


def test_an_output_without_axes_is_one_row() -> None:
    total = Kernel(reduce(Op.ADD, param(0, (4,), dt.float32), (0,)))
    assert evaluate_rows(total, [np.ones(4, np.float32)], 0, 1) == 4


@pytest.mark.parametrize("inputs", [[], [np.ones((2, 3), np.float64)], [np.ones((3, 2), np.float32)]])
def test_an_input_that_does_not_fit_is_named(inputs: list[np.ndarray]) -> None:
    with pytest.raises(InvalidGraph, match="inputs"):
        evaluate(Kernel(param(0, (2, 3), dt.float32)), inputs)


def _kernel(seed: int, max_reduces: int = 1) -> tuple[Kernel, list[np.ndarray]]:
    arrays: list[np.ndarray] = []

    def leaf(array: np.ndarray) -> UOp:
        arrays.append(array)
        return param(len(arrays) - 1, array.shape, dt.from_numpy(array.dtype))

    kernel = Kernel(random_graph(seed, leaf, max_reduces=max_reduces))
    return kernel, [arrays[node.arg[0]] for node in kernel.params]


@pytest.mark.parametrize("tile", [1, 7, 64, interp.TILE])
@pytest.mark.slow
def test_random_graphs_evaluate_as_numpy_does_whatever_the_tile(
    tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interp, "TILE", tile)
    monkeypatch.setattr(interp, "BLOCK", 4 * tile)
    for seed in range(60):
        kernel, inputs = _kernel(seed, max_reduces=3)
        wanted = by_numpy(kernel.output, dict(zip(kernel.params, inputs, strict=True)))
        assert_close(evaluate(kernel, inputs), wanted, seed)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4), st.data())
def test_windows_of_reshapes_are_the_slices_of_the_whole(shape: list[int], data: st.DataObject) -> None:
    total = int(np.prod(shape))
    new = data.draw(st.sampled_from(_factorings(total)))
    node = permute(reshape(param(0, tuple(shape), dt.float32), new), tuple(range(len(new)))[::-1])
    x = np.arange(total, dtype=np.float32).reshape(shape)
    whole = evaluate(Kernel(node), [x])
    rows = shape_of(node)[0]
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    np.testing.assert_array_equal(evaluate_rows(Kernel(node), [x], start, stop), whole[start:stop])


def _factorings(total: int) -> list[tuple[int, ...]]:
    found = [(total,), (1, total), (total, 1)]
    for i in range(2, total + 1):
        if total % i == 0:
            found += [(i, total // i)]
            found += [(i, j, total // i // j) for j in range(1, total // i + 1) if total // i % j == 0]
    return found


def test_a_graph_far_deeper_than_pythons_stack_evaluates() -> None:
    node = param(0, (3,), dt.int32)
    one = const(1, dt.int32, (3,))
    for _ in range(4_000):
        node = UOp(Op.ADD, dt.int32, (node, one))
    assert evaluate(Kernel(node), [np.arange(3, dtype=np.int32)]).tolist() == [4_000, 4_001, 4_002]


def test_two_reductions_in_one_graph_evaluate_though_a_kernel_has_one() -> None:
    x = param(0, (6, 5), dt.float32)
    top = broadcast(reshape(reduce(Op.MAX, x, (1,)), (6, 1)), (6, 5))
    powers = elementwise(Op.EXP, elementwise(Op.SUB, x, top))
    array = np.random.default_rng(0).standard_normal((6, 5), dtype=np.float32)
    wanted = np.exp(array - array.max(1, keepdims=True)).sum(1)
    np.testing.assert_allclose(evaluate(Kernel(reduce(Op.ADD, powers, (1,))), [array]), wanted, rtol=1e-6)


def test_batched_products_broadcast_their_leading_axes() -> None:
    a = np.random.default_rng(1).standard_normal((2, 1, 3, 4), dtype=np.float32)
    b = np.random.default_rng(2).standard_normal((5, 4, 2), dtype=np.float32)
    node = matmul(param(0, a.shape, dt.float32), param(1, b.shape, dt.float32))
    np.testing.assert_allclose(evaluate(Kernel(node), [a, b]), a @ b, rtol=1e-5, atol=1e-6)
