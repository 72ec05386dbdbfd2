"""engine.bounds: every value an op can give lies within its bounds, by brute force over all of them."""

from __future__ import annotations

from itertools import product
from random import Random

import numpy as np
import pytest

from engine import dtype as dt
from engine.bounds import bounds, fits, limits, wrap
from engine.build import bitcast, cast, const, elementwise, fold, gather, iota, pad, param, reduce, scatter
from engine.dtype import DTYPES, DType
from engine.ir import UOp, toposort
from engine.ops import COMPARE, Op
from engine.shapes import shape_of
from tests.exact import scalar, wrapped
from tests.graphs import random_graph
from tests.reference import evaluate, exact

pytestmark = pytest.mark.slow

NARROW = (dt.int8, dt.uint8)
BINARY = [
    *(Op.ADD, Op.SUB, Op.MUL, Op.IDIV, Op.MOD, Op.MAX, Op.MIN, Op.AND, Op.OR, Op.XOR, Op.SHL, Op.SHR),
    *(Op.LT, Op.EQ, Op.NE),
]


def within(low: int, high: int, dtype: DType) -> UOp:
    """A node that can be anything from low to high."""
    least, most = const(low, dtype), const(high, dtype)
    node = elementwise(Op.MAX, elementwise(Op.MIN, param(0, (), dtype), most), least)
    assert bounds(node) == (low, high)
    return node


def interval(random: Random, dtype: DType, spread: int = 12) -> tuple[int, int]:
    """Short, and often at 0 or at the end of the type."""
    middle = random.choice([0, 0, 1, -1, dtype.low, dtype.high, random.randint(dtype.low, dtype.high)])
    low = min(max(middle - random.randint(0, spread), dtype.low), dtype.high)
    return low, min(max(low, middle + random.randint(0, spread)), dtype.high)


@pytest.mark.parametrize("dtype", NARROW, ids=repr)
@pytest.mark.parametrize("op", BINARY)
def test_every_result_of_an_op_lies_within_its_bounds(op: Op, dtype: DType) -> None:
    random = Random(f"{op} {dtype}")
    for _ in range(150):
        a, b = interval(random, dtype), interval(random, dtype)
        low, high = bounds(elementwise(op, within(*a, dtype), within(*b, dtype)))
        gives = dt.bool_ if op in COMPARE else dtype
        for x, y in product(range(a[0], a[1] + 1), range(b[0], b[1] + 1)):
            assert low <= scalar(op, gives, dtype, x, y) <= high, (op, a, b, x, y, (low, high))


@pytest.mark.parametrize("op", [Op.AND, Op.OR, Op.XOR, Op.EQ, Op.NE])
def test_every_result_of_an_op_on_bools_lies_within_its_bounds(op: Op) -> None:
    for (a, xs), (b, ys) in product(_bools(), repeat=2):
        low, high = bounds(elementwise(op, a, b))
        found = {scalar(op, dt.bool_, dt.bool_, x, y) for x in xs for y in ys}
        assert found <= set(range(low, high + 1)), (op, xs, ys)


def _bools() -> list[tuple[UOp, tuple[bool, ...]]]:
    either = param(0, (), dt.bool_)
    return [(either, (False, True)), (const(True, dt.bool_), (True,)), (const(False, dt.bool_), (False,))]


@pytest.mark.parametrize("dtype", NARROW, ids=repr)
@pytest.mark.parametrize("op", [Op.NEG, Op.NOT])
def test_every_result_of_a_unary_op_lies_within_its_bounds(op: Op, dtype: DType) -> None:
    random = Random(f"{op} {dtype}")
    for _ in range(150):
        a = interval(random, dtype)
        low, high = bounds(elementwise(op, within(*a, dtype)))
        assert all(low <= scalar(op, dtype, dtype, x) <= high for x in range(a[0], a[1] + 1)), (op, a)


@pytest.mark.parametrize("source", [d for d in DTYPES.values() if d.is_int], ids=repr)
def test_every_cast_lies_within_its_bounds(source: DType) -> None:
    random = Random(f"{source}")
    for target in (d for d in DTYPES.values() if not d.is_float):
        for _ in range(20):
            a = interval(random, source)
            low, high = bounds(cast(within(*a, source), target))
            for x in range(a[0], a[1] + 1):
                assert low <= int(scalar(Op.CAST, target, source, x)) <= high, (source, target, a, x)


@pytest.mark.parametrize("dtype", [dt.int32, dt.uint64], ids=repr)
def test_shifts_by_the_width_and_more_lie_within_their_bounds(dtype: DType) -> None:
    amounts = [0, 1, dtype.bits - 1, dtype.bits, dtype.bits + 1, 200]
    values = [dtype.low, -1 if dtype.low else 0, 0, 1, 5, dtype.high]
    for low, high in [(a, b) for a in amounts for b in amounts if a <= b]:
        for first, last in [(a, b) for a in values for b in values if a <= b]:
            for op in (Op.SHL, Op.SHR):
                found = bounds(elementwise(op, within(first, last, dtype), within(low, high, dtype)))
                for x in (v for v in values if first <= v <= last):
                    for y in (v for v in amounts if low <= v <= high):
                        assert found[0] <= scalar(op, dtype, dtype, x, y) <= found[1], (op, x, y)


def test_bounds_of_moved_values_are_theirs_and_zero_where_zeros_come_in() -> None:
    x = elementwise(Op.ADD, iota(5), const(3, dt.int64, (5,)))
    assert bounds(iota(5)) == (0, 4)
    assert bounds(x) == (3, 7)
    assert bounds(pad(x, [(1, 0, 0)])) == (0, 7)
    assert bounds(gather(x, param(0, (2,), dt.int64), 0)) == (0, 7)
    assert bounds(UOp(Op.FLIP, dt.int64, (x,), (0,))) == (3, 7)
    assert bounds(UOp(Op.SHRINK, dt.int64, (x,), ((1, 3, 1),))) == (3, 7)
    assert bounds(reduce(Op.MAX, x, (0,))) == (3, 7)


def test_nothing_is_known_of_sums_bits_scatters_and_folds() -> None:
    x = cast(iota(5), dt.int32)
    everything = limits(dt.int32)
    (state,) = fold(5, [const(0, dt.int32)], [x], lambda _, s, p: [elementwise(Op.ADD, s[0], p[0])])
    assert bounds(state) == everything
    assert bounds(reduce(Op.ADD, x, (0,))) == everything
    assert bounds(scatter(x, iota(5), x, 0, "add")) == everything
    assert bounds(bitcast(cast(iota(5), dt.uint32), dt.int32)) == everything


def test_values_of_random_graphs_lie_within_the_bounds_of_every_node() -> None:
    checked = 0
    for seed in range(80):
        arrays: dict[UOp, np.ndarray] = {}

        def leaf(array: np.ndarray, arrays: dict[UOp, np.ndarray] = arrays) -> UOp:
            node = param(len(arrays), array.shape, dt.from_numpy(array.dtype))
            arrays[node] = array
            return node

        root = random_graph(seed, leaf)
        known = {
            node: exact(a.astype(np.float64) if node.dtype.is_float else a) for node, a in arrays.items()
        }
        evaluate(root, known)
        for node in toposort(root):
            if node in known and node.dtype in map(DTYPES.get, DTYPES) and not node.dtype.is_float:
                low, high = bounds(node)
                found = known[node].value[known[node].known]
                assert not found.size or low <= int(found.min()) <= int(found.max()) <= high, (seed, node)
                checked += (
                    fits((low, high), node.dtype)
                    and (low, high) != limits(node.dtype)
                    and shape_of(node) != ()
                )
    assert checked > 100, "some bounds say more than the type"


def test_wrapping_is_twos_complement() -> None:
    for dtype in (d for d in DTYPES.values() if d.is_int):
        for value in (0, 1, -1, dtype.high + 1, dtype.low - 1, 3 * dtype.high + 7):
            assert wrap(value, dtype) == wrapped(value, dtype)
