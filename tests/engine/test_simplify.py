"""engine.simplify: the same values, fewer ops. Index arithmetic is checked against brute force over the ranges."""

from __future__ import annotations

from itertools import product
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.bounds import bounds
from engine.build import broadcast, const, param, reduce
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import RangeType
from engine.runtime.interp import apply, evaluate
from engine.simplify import simplify
from engine.spec import Level, verify

pytestmark = pytest.mark.slow


def range_(number: int, extent: int) -> UOp:
    return UOp(Op.RANGE, dt.int64, (), (number, extent, RangeType.LOOP))


def integer(value: int) -> UOp:
    return const(value, dt.int64)


def op(kind: Op, *src: UOp) -> UOp:
    dtype = dt.bool_ if kind in (Op.LT, Op.EQ, Op.NE) else src[-1].dtype
    return UOp(kind, dtype, src)


def value_at(root: UOp, point: dict[UOp, int]) -> int:
    """A kernel-level integer expression evaluated at one point of its ranges."""
    values: dict[UOp, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for node in toposort(root):
            if node.op is Op.RANGE:
                values[node] = np.asarray(point[node], np.int64)
            elif node.op is Op.CONST:
                values[node] = np.asarray(node.arg, node.dtype.numpy)
            else:
                values[node] = apply(node.op, node.dtype, [values[s] for s in node.src], node.src[0].dtype)
    return int(values[root])


def assert_same_everywhere(before: UOp, after: UOp, ranges: list[UOp]) -> None:
    low, high = bounds(before)
    for values in product(*(range(r.arg[1]) for r in ranges)):
        point = dict(zip(ranges, values, strict=True))
        wanted = value_at(before, point)
        assert value_at(after, point) == wanted
        assert low <= wanted <= high


RANGES = [range_(0, 1), range_(1, 4), range_(2, 6), range_(3, 5)]
SMALL = st.integers(-9, 12).map(integer)
DIVISORS = st.sampled_from([-4, -1, 0, 1, 2, 3, 4, 6, 8, 12, 24]).map(integer)


def _extend(inner: st.SearchStrategy[UOp]) -> st.SearchStrategy[UOp]:
    pairs = st.builds(op, st.sampled_from([Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN]), inner, inner)
    scaled = st.builds(op, st.just(Op.MUL), inner, DIVISORS)
    divided = st.builds(op, st.sampled_from([Op.IDIV, Op.MOD]), inner, DIVISORS)
    compared = st.builds(op, st.sampled_from([Op.LT, Op.EQ, Op.NE]), inner, SMALL)
    chosen = st.builds(lambda c, a, b: op(Op.WHERE, c, a, b), compared, inner, inner)
    return pairs | scaled | divided | divided | chosen


EXPRESSIONS = st.recursive(st.sampled_from(RANGES) | SMALL, _extend, max_leaves=8)


@settings(deadline=None, max_examples=120)
@given(EXPRESSIONS)
def test_an_index_expression_keeps_its_value_at_every_point(root: UOp) -> None:
    after = simplify(root)
    verify(after, Level.KERNEL, "simplify")
    assert_same_everywhere(root, after, RANGES)


@settings(deadline=None, max_examples=60)
@given(EXPRESSIONS, st.integers(-20, 60))
def test_a_comparison_keeps_its_answer_at_every_point(left: UOp, bound: int) -> None:
    root = op(Op.LT, left, integer(bound))
    assert_same_everywhere(root, simplify(root), RANGES)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(RANGES), st.sampled_from([1, 2, 4, 6, 8, 24])), min_size=1, max_size=4
    ),
    st.integers(0, 30),
    st.sampled_from([2, 4, 6, 8, 24]),
    st.sampled_from([Op.IDIV, Op.MOD]),
)
def test_sums_of_strided_ranges_divide_correctly(
    terms: list[tuple[UOp, int]], offset: int, divisor: int, kind: Op
) -> None:
    total = integer(offset)
    for node, stride in terms:
        total = op(Op.ADD, total, op(Op.MUL, node, integer(stride)))
    root = op(kind, total, integer(divisor))
    assert_same_everywhere(root, simplify(root), RANGES)


def test_a_flattened_index_is_taken_apart_again() -> None:
    i, j = range_(1, 4), range_(2, 6)
    flat = op(Op.ADD, op(Op.MUL, i, integer(6)), j)
    assert simplify(op(Op.IDIV, flat, integer(6))) is i
    assert simplify(op(Op.MOD, flat, integer(6))) is j


def test_a_split_index_is_put_together_again() -> None:
    i = range_(7, 100)
    high = op(Op.MUL, op(Op.IDIV, i, integer(8)), integer(8))
    assert simplify(op(Op.ADD, high, op(Op.MOD, i, integer(8)))) is i


def test_a_range_of_size_one_vanishes() -> None:
    i, j = range_(0, 1), range_(1, 4)
    assert simplify(op(Op.ADD, op(Op.MUL, i, integer(100)), j)) is j
    end = UOp(Op.END, dt.void, (UOp(Op.STORE, dt.void, _store_sources(j)), i, j))
    assert simplify(end).src[1:] == (j,)


def _store_sources(index: UOp) -> tuple[UOp, UOp]:
    address = UOp(Op.INDEX, dt.float32, (param(0, (4,), dt.float32), index))
    return address, const(1.0, dt.float32)


def test_a_guard_that_always_holds_vanishes() -> None:
    i = range_(1, 4)
    guard = op(Op.LT, op(Op.MUL, i, integer(3)), integer(10))
    address = UOp(Op.INDEX, dt.float32, (param(0, (12,), dt.float32), i, guard))
    load = UOp(Op.LOAD, dt.float32, (address, const(0.0, dt.float32)))
    simple = simplify(load)
    assert len(simple.src) == 1
    assert len(simple.src[0].src) == 2


def test_a_sum_that_may_wrap_is_not_taken_apart() -> None:
    x = UOp(Op.LOAD, dt.int64, (UOp(Op.INDEX, dt.int64, (param(0, (4,), dt.int64), range_(1, 4))),))
    root = op(Op.IDIV, op(Op.MUL, x, integer(8)), integer(8))
    assert simplify(root) is root


@pytest.mark.parametrize("dtype", [dt.int32, dt.int64])
def test_folding_wraps_as_the_interpreter_does(dtype: dt.DType) -> None:
    most = (1 << (8 * dtype.itemsize - 1)) - 1
    root = UOp(Op.ADD, dtype, (const(most, dtype), const(1, dtype)))
    assert simplify(root).arg == -most - 1


@pytest.mark.parametrize(
    ("kind", "a", "b", "wanted"),
    [(Op.IDIV, -7, 2, -4), (Op.MOD, -7, 2, 1), (Op.IDIV, 5, 0, 0), (Op.MOD, 5, 0, 0), (Op.MOD, 7, -3, -2)],
)
def test_folded_division_floors_and_zero_divides_to_zero(kind: Op, a: int, b: int, wanted: int) -> None:
    assert simplify(UOp(kind, dt.int32, (const(a, dt.int32), const(b, dt.int32)))).arg == wanted


def test_folded_floats_are_rounded_to_their_type() -> None:
    tenth = const(0.1, dt.float32)
    assert simplify(UOp(Op.ADD, dt.float32, (tenth, tenth))).arg == float(np.float32(0.1) + np.float32(0.1))


X = param(0, (3,), dt.float32)


@pytest.mark.parametrize(
    ("kind", "number"),
    [(Op.MUL, 0.0), (Op.ADD, 0.0), (Op.SUB, -0.0), (Op.MUL, nan), (Op.DIV, 0.0)],
)
def test_floats_keep_what_nan_infinity_or_the_sign_of_zero_may_change(kind: Op, number: float) -> None:
    root = UOp(kind, dt.float32, (X, const(number, dt.float32, (3,))))
    assert simplify(root) is root


@pytest.mark.parametrize(
    ("kind", "number"),
    [(Op.MUL, 1.0), (Op.ADD, -0.0), (Op.SUB, 0.0), (Op.DIV, 1.0), (Op.MAX, float("-inf"))],
)
def test_floats_drop_what_is_neutral_for_every_bit_pattern(kind: Op, number: float) -> None:
    assert simplify(UOp(kind, dt.float32, (X, const(number, dt.float32, (3,))))) is X


def test_a_float_minus_itself_stays_since_infinity_minus_infinity_is_nan() -> None:
    root = UOp(Op.SUB, dt.float32, (X, X))
    assert simplify(root) is root
    assert simplify(UOp(Op.EQ, dt.bool_, (X, X))).op is Op.EQ


def test_integer_algebra_sees_constants_through_views() -> None:
    x = param(0, (2, 3), dt.int32)
    zero, one = const(0, dt.int32, (2, 3)), const(1, dt.int32, (2, 3))
    assert simplify(UOp(Op.MUL, dt.int32, (zero, x))) is zero
    assert simplify(UOp(Op.ADD, dt.int32, (UOp(Op.MUL, dt.int32, (one, x)), zero))) is x


def test_chained_integer_offsets_become_one() -> None:
    x = param(0, (2,), dt.int32)
    node = x
    for _ in range(1000):
        node = UOp(Op.ADD, dt.int32, (node, const(3, dt.int32, (2,))))
    assert simplify(node) is UOp(Op.ADD, dt.int32, (x, const(3000, dt.int32, (2,))))


def test_views_that_do_nothing_vanish_and_others_merge() -> None:
    x = param(0, (2, 3), dt.float32)
    turned = UOp(Op.PERMUTE, dt.float32, (UOp(Op.PERMUTE, dt.float32, (x,), (1, 0)),), (1, 0))
    assert simplify(turned) is x
    shaped = UOp(Op.RESHAPE, dt.float32, (UOp(Op.RESHAPE, dt.float32, (x,), (6,)),), (2, 3))
    assert simplify(shaped) is x


def test_a_reduction_over_axes_of_size_one_vanishes() -> None:
    x = param(0, (2, 1, 3), dt.float32)
    assert simplify(reduce(Op.ADD, x, (1,))).op is Op.RESHAPE
    both = simplify(reduce(Op.ADD, x, (1, 2)))
    assert (both.op, both.arg) == (Op.REDUCE, (Op.ADD, (1,)))


def test_reductions_by_one_op_merge() -> None:
    x = param(0, (2, 3, 4), dt.float32)
    merged = simplify(reduce(Op.MAX, reduce(Op.MAX, x, (1,)), (0,)))
    assert merged is reduce(Op.MAX, x, (0, 1))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([Op.ADD, Op.SUB, Op.MUL, Op.IDIV, Op.MOD, Op.XOR, Op.MAX]), max_size=6),
    st.data(),
)
def test_random_integer_chains_mean_the_same_after_simplification(ops: list[Op], data: st.DataObject) -> None:
    x = param(0, (5,), dt.int32)
    node = x
    for kind in ops:
        other = data.draw(
            st.sampled_from([x, *(const(n, dt.int32, (5,)) for n in (-3, -1, 0, 1, 2, 1 << 30))])
        )
        node = UOp(kind, dt.int32, (node, other))
    values = [np.array([-(1 << 31), -5, 0, 7, (1 << 31) - 1], np.int32)]
    simple = simplify(node)
    verify(simple, Level.DEFINITION, "simplify")
    wanted = evaluate(Kernel(node), values)
    if not any(n.op is Op.PARAM for n in toposort(simple)):
        values = []
    np.testing.assert_array_equal(evaluate(Kernel(simple), values), wanted)


def test_a_constant_seen_through_many_views_is_one_broadcast() -> None:
    node = broadcast(UOp(Op.RESHAPE, dt.float32, (const(2.0, dt.float32, (3, 4)),), (12, 1)), (12, 5))
    assert simplify(node) is const(2.0, dt.float32, (12, 5))


def test_a_range_with_its_own_number_of_trips_is_a_condition_and_stays() -> None:
    i = range_(1, 4)
    trips = UOp(Op.CAST, dt.int64, (op(Op.LT, i, integer(2)),))
    condition = UOp(Op.RANGE, dt.int64, (trips,), (9, 1, RangeType.LOOP))
    end = UOp(Op.END, dt.void, (UOp(Op.STORE, dt.void, _store_sources(i)), condition))
    assert simplify(end) is end


def test_waiting_for_a_range_that_vanished_is_no_waiting() -> None:
    memory = param(0, (4,), dt.float32)
    assert simplify(UOp(Op.AFTER, dt.float32, (memory, range_(0, 1)))) is memory
    kept = UOp(Op.AFTER, dt.float32, (memory, range_(1, 4), range_(0, 1)))
    assert simplify(kept).src[1:] == (range_(1, 4),)
