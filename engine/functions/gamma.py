"""The logarithm of the gamma function and its derivatives, in float64 whatever the dtype.

Beyond 8 by Stirling's series, below by the recurrence from there, below 1/2 by reflection. Sources: Abramowitz and
Stegun, "Handbook of mathematical functions" (1964), 6.1.17, 6.1.40, 6.3.7, 6.3.18, 6.4.12.
"""

from __future__ import annotations

from math import log, pi

from engine import dtype as dt
from engine.build import cast, elementwise, slope
from engine.functions.arithmetic import (
    add,
    as_float,
    divide,
    equal,
    floor,
    is_infinite,
    less,
    logical_and,
    magnitude,
    multiply,
    subtract,
    where,
)
from engine.functions.mathematics import cosine, polynomial, sine
from engine.ir import UOp
from engine.ops import Op

SHIFT = 8  # how far a number is moved up before the series
_LOG = [1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156]
_FIRST = [-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760, -1 / 12]
_SECOND = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6]
INFINITY, NOTHING = float("inf"), float("nan")


def log_gamma(x: UOp) -> UOp:
    """log |Γ(x)|; infinite at 0, -1, -2, … and at the infinities."""
    number = as_float(x)
    wide = cast(number, dt.float64)
    far = is_infinite(wide)
    turned, high = _turned(where(far, 1.0, wide))
    mirrored = elementwise(Op.LOG, divide(pi, _at_least(magnitude(_sine(wide, far)))))
    value = where(turned, subtract(mirrored, _log_gamma(high)), _log_gamma(high))
    value = where(_is_pole(wide), INFINITY, where(far, INFINITY, value))
    return cast(slope(cast(value, number.dtype), (number, digamma(number))), number.dtype)


def digamma(x: UOp) -> UOp:
    """The derivative of log Γ(x): NaN at -1, -2, …, at 0 the infinity of the other sign."""
    number = as_float(x)
    wide = cast(number, dt.float64)
    far = is_infinite(wide)
    turned, high = _turned(where(far, 1.0, wide))
    steep = divide(pi, _tangent(wide, far))
    value = where(turned, subtract(_digamma(high), steep), _digamma(high))
    value = where(less(wide, 0.0), where(_is_pole(wide), NOTHING, value), value)
    value = where(equal(wide, 0.0), divide(-1.0, wide), value)
    value = where(far, where(less(0.0, wide), INFINITY, NOTHING), value)
    return slope(cast(value, number.dtype), (number, _trigamma_of(number)))


def _trigamma_of(number: UOp) -> UOp:
    wide = cast(number, dt.float64)
    far = is_infinite(wide)
    turned, high = _turned(where(far, 1.0, wide))
    wave = divide(pi, _sine(wide, far))
    value = where(turned, subtract(multiply(wave, wave), _trigamma(high)), _trigamma(high))
    return cast(where(far, 0.0, value), number.dtype)


def _turned(x: UOp) -> tuple[UOp, UOp]:
    """(is it below 1/2, then 1 - x, else x)."""
    low = less(x, 0.5)
    return low, where(low, subtract(1.0, x), x)


def _is_pole(x: UOp) -> UOp:
    return logical_and(less(x, 0.5), equal(x, floor(x)))


def _at_least(x: UOp) -> UOp:
    return where(less(x, 1e-300), 1e-300, x)


def _share(x: UOp, far: UOp) -> UOp:
    """x less the even number next to it: what sin πx and cos πx depend on, exactly."""
    near = where(far, 1.0, x)
    return subtract(near, multiply(2.0, floor(add(multiply(near, 0.5), 0.5))))


def _sine(x: UOp, far: UOp) -> UOp:
    return sine(multiply(pi, _share(x, far)))


def _tangent(x: UOp, far: UOp) -> UOp:
    angle = multiply(pi, _share(x, far))
    return divide(sine(angle), cosine(angle))


def _moved(x: UOp) -> UOp:
    """x, moved up by SHIFT where it is below that."""
    return where(less(x, float(SHIFT)), add(x, float(SHIFT)), x)


def _log_gamma(x: UOp) -> UOp:
    up = _moved(x)
    inverse = divide(1.0, up)
    series = multiply(inverse, polynomial(multiply(inverse, inverse), _LOG))
    found = subtract(multiply(subtract(up, 0.5), elementwise(Op.LOG, up)), up)
    found = add(add(found, 0.5 * log(2 * pi)), series)
    product = x
    for step in range(1, SHIFT):
        product = multiply(product, add(x, float(step)))
    low = less(x, float(SHIFT))
    return subtract(found, elementwise(Op.LOG, where(low, product, 1.0)))


def _digamma(x: UOp) -> UOp:
    up = _moved(x)
    inverse = divide(1.0, up)
    square = multiply(inverse, inverse)
    found = subtract(elementwise(Op.LOG, up), multiply(0.5, inverse))
    found = add(found, multiply(square, polynomial(square, _FIRST)))
    low = less(x, float(SHIFT))
    for step in range(SHIFT):
        found = subtract(found, where(low, divide(1.0, add(x, float(step))), 0.0))
    return found


def _trigamma(x: UOp) -> UOp:
    up = _moved(x)
    inverse = divide(1.0, up)
    square = multiply(inverse, inverse)
    found = add(inverse, multiply(0.5, square))
    found = add(found, multiply(multiply(square, inverse), polynomial(square, _SECOND)))
    low = less(x, float(SHIFT))
    for step in range(SHIFT):
        one = divide(1.0, add(x, float(step)))
        found = add(found, where(low, multiply(one, one), 0.0))
    return found
