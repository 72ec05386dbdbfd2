"""Powers: of whole numbers by squaring, of others by exp and log, with PyTorch's derivatives where those have none."""

from __future__ import annotations

from math import isfinite

from engine import dtype as dt
from engine.build import cast, elementwise, slope
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    Term,
    as_float,
    as_number,
    divide,
    equal,
    is_finite,
    less,
    less_or_equal,
    like,
    logical_and,
    logical_not,
    logical_or,
    magnitude,
    multiply,
    negate,
    not_equal,
    sign_bit,
    subtract,
    terms,
    together,
    truncate,
    where,
    wider,
)
from engine.ir import UOp
from engine.ops import Op


def power(a: Term, b: Term) -> UOp:
    """a ** b: a whole number b by squaring, 0.5 by the square root; see `_float_power` and `_integer_power`.

    InvalidGraph for integers to a negative number.
    """
    if isinstance(b, UOp) or not isfinite(b):
        return _any_power(*together(a, b))
    (x,) = terms(a)
    times = int(b)
    if b == times and abs(times) < 1 << 20:
        if isinstance(b, int):
            return _whole_scalar_power(cast(x, dt.int64) if x.dtype is dt.bool_ else as_number(x), times)
        return _whole_scalar_power(as_float(x), times)
    x = as_float(x)
    if abs(b) == 0.5:
        root = elementwise(Op.SQRT, x)
        return root if b > 0 else slope(divide(1.0, root), (x, divide(-0.5, multiply(root, x))))
    return _any_power(*together(x, b))


def _whole_scalar_power(x: UOp, times: int) -> UOp:
    if times < 0 and not x.dtype.is_float:
        raise InvalidGraph(f"an integer to the {times} is no integer; use .float() first", "**")
    wide = wider(x)
    if times >= 0:
        return cast(_squared(wide, times), x.dtype)
    found = divide(1.0, _squared(wide, -times))
    return cast(slope(found, (wide, divide(float(times), _squared(wide, 1 - times)))), x.dtype)


def _squared(x: UOp, times: int) -> UOp:
    found: UOp | None = None
    square = x
    while times:
        if times & 1:
            found = square if found is None else elementwise(Op.MUL, found, square)
        times >>= 1
        square = elementwise(Op.MUL, square, square) if times else square
    if found is not None:
        return found
    one = like(1, x)
    return slope(one, (x, like(0, x))) if x.dtype.is_float else one


def _any_power(x: UOp, y: UOp) -> UOp:
    x, y = as_number(x), as_number(y)
    return _sloped(x, y) if x.dtype.is_float else _integer_power(x, y)


def _sloped(x: UOp, y: UOp) -> UOp:
    """x ** y with the derivatives y x ** (y - 1) and x ** y log x, which where both of those are 0 are 0."""
    found = _float_power(x, y)
    by_base = where(equal(y, 0), 0.0, multiply(y, _float_power(x, subtract(y, 1))))
    still = logical_and(equal(x, 0), less_or_equal(0, y))
    logarithm = cast(elementwise(Op.LOG, wider(x)), x.dtype)
    return slope(found, (x, by_base), (y, where(still, 0.0, multiply(found, logarithm))))


def _integer_power(x: UOp, y: UOp) -> UOp:
    """By squaring, bit by bit; to a negative number it is 0, or ±1 of ±1, as in PyTorch."""
    found, square = like(1, x), x
    for bit in range(x.dtype.bits - 1):
        chosen = not_equal(elementwise(Op.AND, y, like(1 << bit, y)), 0)
        found = where(chosen, multiply(found, square), found)
        square = multiply(square, square)
    if x.dtype.is_unsigned:
        chosen = not_equal(elementwise(Op.AND, y, like(1 << (x.dtype.bits - 1), y)), 0)
        return where(chosen, multiply(found, square), found)
    odd = not_equal(elementwise(Op.AND, y, like(1, y)), 0)
    of_minus_one = where(equal(x, -1), where(odd, like(-1, x), like(1, x)), like(0, x))
    return where(less(y, 0), where(equal(x, 1), like(1, x), of_minus_one), found)


def _float_power(x: UOp, y: UOp) -> UOp:
    """By exp and log in float64, which leaves float32 and narrower right to the last bit or so.

    float64 itself is good to about |y log x| ulp, and by squaring where y is whole and below 64. A negative
    number to one that is not whole is NaN; anything to the 0, and 1 to anything, is 1.
    """
    a, b = cast(x, dt.float64), cast(y, dt.float64)
    size = magnitude(a)
    logarithm = elementwise(Op.LOG, where(equal(size, 0.0), 1.0, size))
    found = elementwise(Op.EXP, multiply(b, logarithm))
    whole = equal(b, truncate(b))
    if x.dtype is dt.float64:
        found = where(logical_and(whole, less(magnitude(b), 64.0)), _small_power(size, b), found)
    found = where(equal(size, 0.0), where(less(b, 0.0), float("inf"), where(less(0.0, b), 0.0, b)), found)
    odd = equal(magnitude(subtract(b, multiply(2.0, truncate(multiply(b, 0.5))))), 1.0)
    found = where(logical_and(odd, sign_bit(a)), negate(found), found)
    no_number = logical_and(logical_and(less(a, 0.0), logical_not(whole)), is_finite(a))
    found = where(no_number, float("nan"), found)
    one = logical_or(equal(a, 1.0), equal(b, 0.0))
    one = logical_or(one, logical_and(equal(a, -1.0), equal(magnitude(b), float("inf"))))
    # Where it is 1 already it stays, as a constant in its place would have no (second) derivative.
    return cast(where(logical_and(one, not_equal(found, 1.0)), 1.0, found), x.dtype)


def _small_power(x: UOp, y: UOp) -> UOp:
    times = cast(magnitude(y), dt.int32)
    found, square = like(1.0, x), x
    for bit in range(6):
        chosen = not_equal(elementwise(Op.AND, times, like(1 << bit, times)), 0)
        found = where(chosen, multiply(found, square), found)
        square = multiply(square, square)
    return where(less(y, 0.0), divide(1.0, found), found)
