"""Every rule of engine.gradient against central differences of the interpreter, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.build import (
    broadcast,
    cast,
    const,
    detach,
    elementwise,
    expand,
    flip,
    fold,
    gather,
    matmul,
    pad,
    param,
    permute,
    reduce,
    reshape,
    scatter,
    shrink,
    slope,
)
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.gradient import RULES, WITHOUT_GRADIENT, gradients
from engine.ir import UOp, toposort
from engine.ops import REDUCERS, SCATTERS, Op
from engine.shapes import shape_of
from engine.spec import SPECS, Level, verify
from tests.engine.differences import assert_gradients, by_rules, leaves, value

Random = np.random.Generator
SEEDS = st.integers(0, 1 << 30)
SLOWLY = settings(max_examples=8, deadline=None)


def apart(random: Random, shape: tuple[int, ...], low: float = -3.0) -> np.ndarray:
    """Numbers that no step of the differences brings together, nor to 0 or a whole number."""
    count = int(np.prod(shape))
    return (low + 0.013 + random.permutation(count) * (6.0 / max(count, 1)) * 0.99).reshape(shape)


def some_shape(random: Random, least: int = 0) -> tuple[int, ...]:
    return tuple(random.integers(1, 4, random.integers(least, 4)).tolist())


def check(arrays: list[np.ndarray], build: Callable[..., UOp], random: Random) -> None:
    nodes = leaves(*arrays)
    root = build(*nodes)
    verify(root, Level.TENSOR, "the test")
    assert_gradients(root, dict(zip(nodes, arrays, strict=True)), random)


def test_every_op_of_the_tensor_level_has_a_rule_or_is_known_to_need_none() -> None:
    ops = {op for check in SPECS[Level.TENSOR] for op in check.pattern.ops}
    assert ops == set(RULES) | WITHOUT_GRADIENT
    assert not set(RULES) & WITHOUT_GRADIENT


# ------------------------------------------------------------------------------------------ element-wise


@pytest.mark.parametrize("op", [Op.NEG, Op.EXP, Op.LOG, Op.SQRT, Op.SIN])
@given(seed=SEEDS)
@SLOWLY
def test_the_rule_of_a_unary_op_is_its_derivative(op: Op, seed: int) -> None:
    random = np.random.default_rng(seed)
    x = apart(random, some_shape(random), low=0.1 if op in (Op.LOG, Op.SQRT) else -3)
    check([x], lambda a: elementwise(op, a), random)


@pytest.mark.parametrize("op", [Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.FMOD, Op.MAX, Op.MIN])
@given(seed=SEEDS)
@SLOWLY
def test_the_rule_of_a_binary_op_is_its_derivative(op: Op, seed: int) -> None:
    random = np.random.default_rng(seed)
    both = apart(random, (2, *some_shape(random)))
    if (
        op is Op.FMOD
    ):  # it jumps where the quotient is a whole number, and differences across a jump are no derivative
        quotient = both[0] / both[1]
        assume(bool(np.all(np.abs(quotient - np.rint(quotient)) > 1e-3)))
    check([both[0], both[1]], lambda a, b: elementwise(op, a, b), random)


@given(seed=SEEDS)
@SLOWLY
def test_a_choice_passes_the_gradient_to_what_was_chosen(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = some_shape(random)
    arrays = [random.random(shape) < 0.5, random.normal(size=shape), random.normal(size=shape)]
    check(arrays, lambda c, a, b: elementwise(Op.WHERE, c, a, b), random)


@pytest.mark.parametrize("op", [Op.MAX, Op.MIN])
def test_equal_operands_share_the_gradient_of_a_maximum(op: Op) -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([1.0, 5.0, -5.0])
    a, b = leaves(x, y)
    got = by_rules(elementwise(op, a, b), {a: x, b: y}, np.array([8.0, 8.0, 8.0]))
    wanted = [[4.0, 0.0, 8.0], [4.0, 8.0, 0.0]]
    assert [g.tolist() for g in got] == (wanted if op is Op.MAX else [[4, 8, 0], [4, 0, 8]])


@pytest.mark.parametrize("source", [dt.float16, dt.bfloat16, dt.float32, dt.float64])
@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32, dt.float64])
def test_a_cast_between_floats_casts_the_gradient_back(source: DType, dtype: DType) -> None:
    x = param(0, (2,), source)
    (found,) = gradients([cast(x, dtype)], [const(0.5, dtype, (2,))], [x])
    assert found is not None
    assert found.dtype is source
    assert value(found, {}).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_gradients_stay_in_the_dtype_of_what_they_are_gradients_of(dtype: DType) -> None:
    x, w = param(0, (2, 3), dtype), param(1, (3, 4), dtype)
    y = reduce(Op.MAX, elementwise(Op.SIN, elementwise(Op.EXP, matmul(x, w))), (1,))
    found = gradients([y], [const(1.0, dtype, (2,))], [x, w, y])
    assert [g and (g.dtype, shape_of(g)) for g in found] == [(dtype, (2, 3)), (dtype, (3, 4)), (dtype, (2,))]
    for g in found:
        assert g is not None
        verify(g, Level.TENSOR, "gradients")


@pytest.mark.parametrize("dtype", [dt.float8_e4m3fn, dt.float8_e5m2])
def test_eight_bit_floats_get_gradients_though_nothing_is_computed_in_them(dtype: DType) -> None:
    x = param(0, (2,), dtype)
    wide = cast(expand(reshape(x, (2, 1)), (2, 3)), dt.float32)
    taken = cast(gather(x, param(1, (4,), dt.int64), 0), dt.float32)
    found = gradients([wide, taken], [const(1, dt.float32, (2, 3)), const(1, dt.float32, (4,))], [x])
    assert found[0] is not None
    verify(found[0], Level.TENSOR, "gradients")
    read = {param(1, (4,), dt.int64): np.array([0, 0, 1, 7])}
    assert value(found[0], read).astype(np.float32).tolist() == [5.0, 4.0]


def test_nothing_flows_through_whole_numbers_comparisons_and_bits() -> None:
    x = param(0, (3,), dt.float64)
    as_int = cast(cast(x, dt.int64), dt.float64)
    below = cast(elementwise(Op.LT, x, elementwise(Op.NEG, x)), dt.float64)
    bits = UOp(Op.BITCAST, dt.float64, (UOp(Op.BITCAST, dt.int64, (x,)),))
    for y in (as_int, below, bits, detach(x)):
        assert gradients([y], [y], [x]) == (None,)


def test_what_is_rounded_has_the_gradient_zero_and_passes_nothing_on() -> None:
    x = param(0, (3,), dt.float64)
    y = elementwise(Op.TRUNC, elementwise(Op.EXP, x))
    assert gradients([y], [y], [x]) == (const(0.0, dt.float64, (3,)),)


def test_a_slope_has_the_derivatives_that_it_declares() -> None:
    x, y = np.array([2.0, 3.0]), np.array([5.0, 7.0])
    a, b = leaves(x, y)
    product = elementwise(Op.MUL, a, b)
    got = by_rules(
        slope(product, (a, b), (b, const(0.0, dt.float64, (2,)))), {a: x, b: y}, np.array([1.0, 10.0])
    )
    assert [g.tolist() for g in got] == [[5.0, 70.0], [0.0, 0.0]]
    assert value(slope(product, (a, b)), {a: x, b: y}).tolist() == [10.0, 21.0]


# ------------------------------------------------------------------------------------------------- views


def _random_view(op: Op, random: Random, shape: tuple[int, ...]) -> Callable[[UOp], UOp]:
    axes = range(len(shape))
    match op:
        case Op.RESHAPE:
            return lambda x: reshape(x, (1, *shape[::-1], 1))
        case Op.PERMUTE:
            return lambda x: permute(x, tuple(random.permutation(len(shape)).tolist()))
        case Op.EXPAND:
            return lambda x: broadcast(x, (2, *(3 if n == 1 else n for n in shape)))
        case Op.FLIP:
            return lambda x: flip(x, tuple(axis for axis in axes if random.random() < 0.7))
        case Op.PAD:
            return lambda x: pad(x, random.integers(0, 3, (len(shape), 3)).tolist())
    starts = [int(random.integers(0, n + 1)) for n in shape]
    part = [
        (s, int(random.integers(s, n + 1)), int(random.integers(1, 4)))
        for s, n in zip(starts, shape, strict=True)
    ]
    return lambda x: shrink(x, part)


@pytest.mark.parametrize("op", [Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.FLIP, Op.SHRINK, Op.PAD])
@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_rule_of_a_view_brings_each_gradient_back_to_where_its_element_came_from(
    op: Op, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 5, random.integers(1, 4)).tolist())
    check([random.normal(size=shape)], _random_view(op, random, shape), random)


@pytest.mark.parametrize("op", [Op.RESHAPE, Op.PERMUTE, Op.EXPAND, Op.FLIP, Op.SHRINK, Op.PAD])
def test_a_view_of_nothing_has_a_gradient_of_nothing(op: Op) -> None:
    random = np.random.default_rng(3)
    x = param(0, (2, 0), dt.float64)
    y = _random_view(op, random, (2, 0))(x)
    (found,) = gradients([y], [const(1.0, dt.float64, shape_of(y))], [x])
    assert found is not None
    assert shape_of(found) == (2, 0)


# ----------------------------------------------------------------------------------------------- reduces


@pytest.mark.parametrize("op", sorted(REDUCERS))
@given(seed=SEEDS)
@SLOWLY
def test_the_rule_of_a_reduce_is_its_derivative(op: Op, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = some_shape(random, least=1)
    axes = tuple(axis for axis in range(len(shape)) if random.random() < 0.6)
    check([apart(random, shape)], lambda x: reduce(op, x, axes), random)


@pytest.mark.parametrize("zeros", [0, 1, 2, 4])
def test_the_gradient_of_a_product_is_right_with_zeros(zeros: int) -> None:
    x = np.array([[1.5, -2.0, 3.0, 0.5], [2.0, 2.0, -1.0, 4.0]])
    x[0, :zeros] = 0
    check([x], lambda a: reduce(Op.MUL, a, (1,)), np.random.default_rng(zeros))


@pytest.mark.parametrize("op", [Op.MAX, Op.MIN])
def test_the_extremes_of_a_reduce_share_its_gradient_evenly(op: Op) -> None:
    x = np.array([[1.0, 3.0, 3.0, 1.0, 2.0], [5.0, 5.0, 5.0, 5.0, 5.0]])
    (a,) = leaves(x)
    got = by_rules(reduce(op, a, (1,)), {a: x}, np.array([1.0, 10.0]))[0]
    first = [0, 0.5, 0.5, 0, 0] if op is Op.MAX else [0.5, 0, 0, 0.5, 0]
    assert got.tolist() == [first, [2.0] * 5]


# ---------------------------------------------------------------------------------------------- indexing


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_what_was_gathered_twice_gets_both_gradients_and_what_was_not_there_none(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = some_shape(random, least=1)
    axis = int(random.integers(0, len(shape)))
    n = shape[axis]
    taken = (*shape[:axis], int(random.integers(1, 6)), *shape[axis + 1 :])
    index = random.integers(-1, n + 1, taken)
    check([random.normal(size=shape), index], lambda x, i: gather(x, i, axis), random)


@pytest.mark.parametrize("how", SCATTERS)
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_rule_of_a_scatter_is_its_derivative_also_where_updates_meet(how: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = some_shape(random, least=1)
    axis = int(random.integers(0, len(shape)))
    n, count = shape[axis], int(random.integers(1, 6))
    index = random.integers(-1, n + 1, (*shape[:axis], count, *shape[axis + 1 :]))
    both = apart(random, (int(np.prod(shape)) + index.size,))
    start, updates = both[: -index.size].reshape(shape), both[-index.size :].reshape(index.shape)
    check([start, index, updates], lambda s, i, u: scatter(s, i, u, axis, how), random)


def test_equal_maxima_of_a_scatter_share_the_gradient_with_what_was_there() -> None:
    start, index, updates = np.array([5.0, 1.0]), np.array([0, 0, 1]), np.array([5.0, 5.0, 0.0])
    s, i, u = leaves(start, index, updates)
    got = by_rules(scatter(s, i, u, 0, "max"), {s: start, i: index, u: updates}, np.array([6.0, 6.0]))
    assert [g.tolist() for g in got] == [[2.0, 6.0], [2.0, 2.0, 0.0]]


# ---------------------------------------------------------------------------------------------- the walk


def test_contiguous_and_assign_pass_the_gradient_to_the_value() -> None:
    x, buffer = param(0, (2,), dt.float32), UOp(Op.BUFFER, dt.float32, (), (0, (2,)))
    seed = const(3.0, dt.float32, (2,))
    y = UOp(Op.ASSIGN, dt.float32, (buffer, UOp(Op.CONTIGUOUS, dt.float32, (x,), "global")))
    assert gradients([y], [seed], [x, buffer]) == (seed, None)


def test_a_fold_on_the_way_to_a_target_is_refused_and_elsewhere_is_none_of_our_business() -> None:
    x, y = param(0, (), dt.float64), param(1, (), dt.float64)
    (looped,) = fold(3, [y], [], lambda step, s, xs: [elementwise(Op.MUL, s[0], s[0])])
    root = elementwise(Op.MUL, x, looped)
    assert gradients([root], [const(1.0, dt.float64)], [x])[0] is not None
    with pytest.raises(InvalidGraph, match="FOLD"):
        gradients([root], [const(1.0, dt.float64)], [y])


def test_a_seed_must_fit_its_root() -> None:
    x = param(0, (2,), dt.float32)
    with pytest.raises(InvalidGraph, match=r"float32 \(3,\).*float32 \(2,\)"):
        gradients([x], [const(1.0, dt.float32, (3,))], [x])
    with pytest.raises(InvalidGraph, match="only floats"):
        gradients([param(0, (), dt.int32)], [const(1, dt.int32)], [x])


def test_a_target_may_depend_on_another_and_one_that_is_not_reached_has_none() -> None:
    x, z = param(0, (), dt.float64), param(1, (), dt.float64)
    y = elementwise(Op.SIN, x)
    root = elementwise(Op.MUL, y, y)
    dx, dy, dz = gradients([root], [const(1.0, dt.float64)], [x, y, z])
    assert dz is None
    at = {x: np.array(0.7)}
    assert dx is not None
    assert dy is not None
    assert value(dy, at) == pytest.approx(2 * np.sin(0.7))
    assert value(dx, at) == pytest.approx(2 * np.sin(0.7) * np.cos(0.7))


def test_several_roots_add_their_gradients() -> None:
    x = param(0, (), dt.float64)
    roots = [elementwise(Op.EXP, x), x, elementwise(Op.NEG, x)]
    (found,) = gradients(roots, [const(s, dt.float64) for s in (2.0, 3.0, 5.0)], [x])
    assert found is not None
    assert value(found, {x: np.array(0.5)}) == pytest.approx(2 * np.exp(0.5) + 3 - 5)


def test_a_gradient_can_be_differentiated_again() -> None:
    x = np.array([0.3, -1.2])
    (a,) = leaves(x)
    one = const(1.0, dt.float64, (2,))
    y = elementwise(Op.MUL, elementwise(Op.SIN, a), elementwise(Op.EXP, a))
    (first,) = gradients([y], [one], [a])
    assert first is not None
    assert_gradients(first, {a: x}, np.random.default_rng(0))


@pytest.mark.slow
def test_a_chain_of_100_000_nodes_is_differentiated_without_recursion_and_in_linear_size() -> None:
    x = param(0, (), dt.float64)
    y = x
    for _ in range(50_000):
        y = elementwise(Op.EXP, elementwise(Op.MUL, y, x))
    (found,) = gradients([y], [const(1.0, dt.float64)], [x])
    assert found is not None
    assert 50_000 < len(toposort(found)) < 1_000_000


@given(seed=SEEDS)
@settings(max_examples=25, deadline=None)
def test_random_graphs_have_the_gradients_of_their_differences(seed: int) -> None:
    random = np.random.default_rng(seed)
    arrays = [apart(random, some_shape(random)) for _ in range(3)]
    nodes = leaves(*arrays)
    made = list(nodes)
    for _ in range(10):
        made.append(_next_node(made, random))
    assert_gradients(made[-1], dict(zip(nodes, arrays, strict=True)), random)


def _next_node(made: list[UOp], random: Random) -> UOp:
    """Smooth and bounded, so that differences stay exact however the ops are chained."""
    x = made[int(random.integers(len(made) // 2, len(made)))]
    shape = shape_of(x)
    smooth = elementwise(Op.SIN, x)
    match int(random.integers(0, 8)):
        case 0:
            return elementwise(Op.EXP, smooth)
        case 1:
            others = [n for n in made if shape_of(n) == shape]
            other = others[int(random.integers(0, len(others)))]
            return elementwise(Op.MUL, smooth, elementwise(Op.SIN, other))
        case 2:
            return elementwise(
                Op.DIV, x, elementwise(Op.ADD, elementwise(Op.MUL, x, x), const(1.0, dt.float64, shape))
            )
        case 3 if shape:
            return reduce(Op.ADD, smooth, (int(random.integers(0, len(shape))),))
        case 4 if shape:
            return reduce(Op.MUL, elementwise(Op.EXP, smooth), (0,))
        case 5 if len(shape) < 3:
            return broadcast(x, (2, *shape))
        case 6 if shape:
            index = const(0, dt.int64, (3, *shape[1:]))
            return gather(x, index, 0)
        case 7 if shape:
            return pad(flip(smooth, (0,)), [(1, 0, 1), *[(0, 0, 0)] * (len(shape) - 1)])
    return elementwise(Op.SQRT, elementwise(Op.EXP, smooth))
