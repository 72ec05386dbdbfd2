"""engine.runtime.meaning, the definition of every op: each op on each dtype it allows, against Python's numbers.

All combinations of the special values of a dtype: limits, NaN, infinities, zeros of both signs, denormals, shifts
by the width and more. Element by element, the expectation comes from tests.exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import const, param, reduce
from engine.dtype import DTYPES, DType
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import BINARY, COMPARE, CONVERSIONS, ELEMENTWISE, REDUCERS, TERNARY, UNARY, Op
from engine.runtime import meaning
from engine.runtime.interp import evaluate
from engine.spec import Level, problem
from tests.exact import Number, nearest, scalar, special_values, wrapped

pytestmark = pytest.mark.slow

# Their last bit in float64 is the library's own.
INEXACT = (Op.EXP, Op.LOG, Op.SIN)


def node_of(op: Op, dtype: DType, source: DType) -> UOp:
    count = 1 if op in UNARY or op in CONVERSIONS else 2
    params = [param(i, (4,), source) for i in range(count)]
    if op is Op.WHERE:
        params = [param(0, (4,), dt.bool_), param(1, (4,), source), param(2, (4,), source)]
    return UOp(op, dtype, tuple(params))


def allowed() -> Iterator[tuple[Op, DType, DType]]:
    """(op, dtype it gives, dtype of its sources) of all that a definition allows."""
    for op in sorted(ELEMENTWISE - {Op.MULACC}):
        for source in DTYPES.values():
            targets = DTYPES.values() if op in CONVERSIONS else [dt.bool_ if op in COMPARE else source]
            yield from (
                (op, t, source) for t in targets if not problem(node_of(op, t, source), Level.DEFINITION)
            )


ALLOWED = list(allowed())
CASTS = [(dtype, source) for op, dtype, source in ALLOWED if op is Op.CAST]


def combined(*arrays: np.ndarray) -> list[np.ndarray]:
    """Every combination of an element of each."""
    return [np.ascontiguousarray(a.ravel()) for a in np.meshgrid(*arrays, indexing="ij")]


def run(op: Op, dtype: DType, *arrays: np.ndarray) -> np.ndarray:
    params = tuple(param(i, a.shape, dt.from_numpy(a.dtype)) for i, a in enumerate(arrays))
    return evaluate(Kernel(UOp(op, dtype, params)), arrays)


def numbers(array: np.ndarray) -> list[Number]:
    """The elements as Python numbers."""
    found: list[Number] = (array.astype(np.float64) if array.dtype.kind in "fV" else array).tolist()
    return found


def is_same(got: Number, wanted: Number, inexact: bool) -> bool:
    if isinstance(wanted, float) and math.isnan(wanted):
        return isinstance(got, float) and math.isnan(got)
    if inexact:
        return math.isclose(got, wanted, rel_tol=2.0**-51, abs_tol=0)
    return got == wanted


def check(op: Op, dtype: DType, source: DType, arrays: list[np.ndarray]) -> None:
    got = run(op, dtype, *arrays)
    assert got.dtype == dtype.numpy
    inexact = op in INEXACT and dtype is dt.float64
    for result, *values in zip(numbers(got), *map(numbers, arrays), strict=True):
        wanted = scalar(op, dtype, source, *values)
        assert is_same(result, wanted, inexact), (op, dtype, source, values, result, wanted)


def test_nothing_that_a_definition_allows_is_left_out() -> None:
    counts = {op: sum(o is op for o, _, _ in ALLOWED) for op in ELEMENTWISE - {Op.MULACC}}
    assert counts[Op.CAST] == 15 * 15
    assert counts[Op.BITCAST] == 4 * 4 + 4 * 4 + 3 * 3 + 3 * 3
    assert counts[Op.WHERE] == 15
    assert all(counts[op] == 4 for op in (Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.TRUNC, Op.DIV))
    assert all(counts[op] == 8 for op in (Op.IDIV, Op.MOD, Op.SHL, Op.SHR))
    assert all(counts[op] == 9 for op in (Op.NOT, Op.AND, Op.OR, Op.XOR))
    assert all(counts[op] == 12 for op in (Op.NEG, Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN, Op.LT))
    assert all(counts[op] == 13 for op in (Op.EQ, Op.NE))


@pytest.mark.parametrize("op", sorted(UNARY))
def test_unary_ops_are_pythons_on_every_dtype(op: Op) -> None:
    for found, dtype, source in ALLOWED:
        if found is op:
            check(op, dtype, source, [special_values(source)])


@pytest.mark.parametrize("op", sorted(BINARY))
def test_binary_ops_are_pythons_on_every_dtype(op: Op) -> None:
    for found, dtype, source in ALLOWED:
        if found is op:
            check(op, dtype, source, combined(special_values(source), special_values(source)))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=repr)
def test_where_chooses_on_every_dtype(dtype: DType) -> None:
    values = special_values(dtype)
    check(Op.WHERE, dtype, dtype, combined(np.array([False, True]), values, values[::-1].copy()))


@pytest.mark.parametrize("source", DTYPES.values(), ids=repr)
def test_casts_between_all_dtypes_are_pythons(source: DType) -> None:
    for dtype, found in CASTS:
        if found == source:
            check(Op.CAST, dtype, source, [special_values(source)])


def test_integers_near_the_middle_of_two_floats_are_rounded_once() -> None:
    middles = [
        1 << 62,
        (1 << 60) + (1 << 52),
        (1 << 62) + (1 << 38),
        (1 << 53) + 1,
        3 << 50,
        65519,
        65520,
        464,
    ]
    values = [m + d for m in middles for d in (-1, 0, 1)]
    for source in (dt.int64, dt.uint64):
        for dtype in (d for d in DTYPES.values() if d.is_float):
            check(Op.CAST, dtype, source, [np.array(values, source.numpy)])
    check(Op.CAST, dt.bfloat16, dt.int64, [-np.array(values, np.int64)])
    check(Op.CAST, dt.bfloat16, dt.uint64, [np.array([(1 << 64) - 1, (1 << 63) + (1 << 55) + 1], np.uint64)])


@pytest.mark.parametrize("source", [d for d in DTYPES.values() if d is not dt.bool_], ids=repr)
def test_a_bitcast_keeps_the_bits(source: DType) -> None:
    values = special_values(source)
    for op, dtype, found in ALLOWED:
        if op is Op.BITCAST and found == source:
            wanted = values.view(dtype.numpy)
            got = run(Op.BITCAST, dtype, values)
            is_nan = np.isnan(wanted.astype(np.float64)) if dtype.is_float else np.zeros(values.shape, bool)
            bits = f"u{dtype.itemsize}"
            np.testing.assert_array_equal(got[~is_nan].view(bits), wanted[~is_nan].view(bits))
            if dtype.is_float:  # which NaN it is, is not said
                np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), is_nan)


def test_zeros_keep_their_sign_through_arithmetic() -> None:
    zeros = combined(np.array([0.0, -0.0], np.float32), np.array([0.0, -0.0], np.float32))
    for op in (Op.ADD, Op.SUB, Op.MUL):
        wanted = [
            math.copysign(1, scalar(op, dt.float32, dt.float32, a, b))
            for a, b in zip(*map(numbers, zeros), strict=True)
        ]
        assert np.copysign(1, run(op, dt.float32, *zeros)).tolist() == wanted, op
    signs = np.copysign(1, run(Op.TRUNC, dt.float32, np.array([-0.5, 0.5, -0.0], np.float32)))
    assert signs.tolist() == [-1, 1, -1]


# ----------------------------------------------------------------------------------------------- reductions


def reduced(op: Op, dtype: DType, values: list[Number]) -> Number:
    """From the identity on, one after the other, floats rounded at the end only."""
    if not dtype.is_float:
        start = {Op.ADD: 0, Op.MUL: 1, Op.MAX: dtype.low, Op.MIN: dtype.high}[op]
        for value in values:
            start = int(scalar(op, dtype, dtype, start, value))
        return start
    total = {Op.ADD: 0.0, Op.MUL: 1.0, Op.MAX: -math.inf, Op.MIN: math.inf}[op]
    for value in values:
        total = float(scalar(op, dt.float64, dt.float64, total, value))
    return nearest(total, dtype)


NUMBERS = [d for d in DTYPES.values() if d.is_int or (d.is_float and not d.is_storage)]


@pytest.mark.parametrize("dtype", NUMBERS, ids=repr)
@pytest.mark.parametrize("op", sorted(REDUCERS))
def test_reductions_are_pythons_on_every_dtype(op: Op, dtype: DType) -> None:
    values = special_values(dtype)
    rows = np.stack([np.roll(values, i)[:3] for i in range(len(values))])
    got = evaluate(Kernel(reduce(op, param(0, rows.shape, dtype), (1,))), [rows])
    for result, row in zip(numbers(got), rows, strict=True):
        wanted = reduced(op, dtype, numbers(row))
        assert is_same(result, wanted, False), (op, dtype, row, result, wanted)


@pytest.mark.parametrize("dtype", NUMBERS, ids=repr)
def test_reductions_of_nothing_give_their_identity(dtype: DType) -> None:
    x = np.empty((2, 0, 3), dtype.numpy)
    for op in (Op.ADD, Op.MUL):
        got = evaluate(Kernel(reduce(op, param(0, x.shape, dtype), (1,))), [x])
        assert numbers(got.ravel()) == [int(op is Op.MUL)] * 6


@pytest.mark.parametrize("dtype", NUMBERS, ids=repr)
def test_a_reduction_of_one_element_is_it(dtype: DType) -> None:
    values = special_values(dtype).reshape(-1, 1)
    for op in REDUCERS:
        got = evaluate(Kernel(reduce(op, param(0, values.shape, dtype), (1,))), [values])
        for result, value in zip(numbers(got), numbers(values.ravel()), strict=True):
            assert is_same(result, value, False), (op, value)


# ------------------------------------------------------------------------------------------------- constants


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=repr)
def test_constants_of_every_dtype_are_their_numbers(dtype: DType) -> None:
    for value in numbers(special_values(dtype)):
        got = evaluate(Kernel(const(value, dtype, (2,))), [])
        assert got.dtype == dtype.numpy
        assert all(is_same(found, value, False) for found in numbers(got)), (dtype, value)


def test_multiply_accumulate_is_one_product_and_one_sum() -> None:
    a, b, c = (np.array([x]) for x in (1.5, 2.0, 0.25))
    assert meaning.apply(Op.MULACC, dt.float64, [a, b, c], dt.float64).tolist() == [3.25]
    assert {Op.WHERE, Op.MULACC} == TERNARY


def test_wrapping_is_twos_complement() -> None:
    assert [wrapped(v, dt.int8) for v in (127, 128, -128, -129, 256)] == [127, -128, -128, 127, 0]
    assert [wrapped(v, dt.uint8) for v, _ in product((-1, 256), (0,))] == [255, 0]
