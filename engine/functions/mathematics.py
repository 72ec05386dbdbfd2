"""Functions of one number (and a few of two) out of the graph's exp, log, sqrt and sin.

Each is written so that its derivative, op by op, is as good as itself: no branch that is not chosen overflows, and
no difference of near numbers is divided by another. float16 and bfloat16 are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import factorial, log, pi, sqrt
from typing import Concatenate, ParamSpec

from engine import dtype as dt
from engine.build import bitcast, cast, elementwise, slope
from engine.functions.arithmetic import (
    Term,
    absolute,
    add,
    as_float,
    divide,
    equal,
    floor,
    is_infinite,
    is_nan,
    less,
    like,
    logical_and,
    maximum,
    minimum,
    multiply,
    negate,
    not_equal,
    sign_bit,
    subtract,
    together,
    where,
    wider,
)
from engine.ir import UOp
from engine.ops import Op
from engine.rounding import largest

P = ParamSpec("P")


def in_float(function: Callable[Concatenate[UOp, P], UOp]) -> Callable[Concatenate[UOp, P], UOp]:
    """A function of floats, for any dtype: half floats by way of float32, integers and bool as float32."""

    @wraps(function)
    def computed(x: UOp, /, *args: P.args, **kwargs: P.kwargs) -> UOp:
        number = as_float(x)
        return cast(function(wider(number), *args, **kwargs), number.dtype)

    return computed


def polynomial(x: UOp, coefficients: Sequence[float]) -> UOp:
    """c0 + c1 x + c2 x² + … by Horner's rule."""
    found = like(coefficients[-1], x)
    for c in reversed(coefficients[:-1]):
        found = add(multiply(found, x), c)
    return found


def chebyshev(t: UOp, coefficients: Sequence[float]) -> UOp:
    """The sum of c_k T_k(t) for t in [-1, 1], by Clenshaw's recurrence."""
    double = multiply(t, 2.0)
    one, two = like(0.0, t), like(0.0, t)
    for c in reversed(coefficients[1:]):
        one, two = add(subtract(multiply(double, one), two), c), one
    return add(subtract(multiply(t, one), two), coefficients[0])


def _terms(x: UOp, for_float32: int, for_float64: int) -> int:
    return for_float64 if x.dtype is dt.float64 else for_float32


def _clear(x: UOp, chosen: UOp) -> UOp:
    """x where chosen, else 0: what a branch is given that is not taken elsewhere."""
    return where(chosen, x, 0.0)


def _sized(x: UOp) -> UOp:
    """|x| with slope 1 at 0, so that an odd function put together again by `_odd` has its slope."""
    return where(less(x, 0.0), negate(x), x)


def _odd(x: UOp, of_size: UOp) -> UOp:
    return where(less(x, 0.0), negate(of_size), of_size)


# -------------------------------------------------------------------------------------- roots and powers


@in_float
def exp(x: UOp) -> UOp:
    """e ** x."""
    return elementwise(Op.EXP, x)


@in_float
def logarithm(x: UOp) -> UOp:
    """The natural logarithm; -infinity of 0, NaN of less."""
    return elementwise(Op.LOG, x)


@in_float
def root(x: UOp) -> UOp:
    """The square root; NaN of less than 0."""
    return elementwise(Op.SQRT, x)


@in_float
def reciprocal_root(x: UOp) -> UOp:
    """1 / √x."""
    return divide(1.0, elementwise(Op.SQRT, x))


@in_float
def reciprocal(x: UOp) -> UOp:
    """1 / x."""
    return divide(1.0, x)


@in_float
def exp2(x: UOp) -> UOp:
    """2 ** x: the fraction by exp, the whole part exactly by `_power_of_two`."""
    low, high = (-1100.0, 1100.0) if x.dtype is dt.float64 else (-160.0, 160.0)
    whole = floor(clamp(x, low, high))
    fraction = clamp(subtract(x, whole), -1.0, 2.0)
    half = floor(multiply(whole, 0.5))
    scaled = multiply(elementwise(Op.EXP, multiply(fraction, log(2.0))), _power_of_two(half))
    found = multiply(scaled, _power_of_two(subtract(whole, half)))
    found = where(equal(x, float("inf")), x, found)
    return slope(found, (x, multiply(found, log(2.0))))


def _power_of_two(n: UOp) -> UOp:
    """2 ** n for a whole n that is an exponent of the float type, by its bits."""
    integer = dt.int64 if n.dtype is dt.float64 else dt.int32
    bits = add(cast(n, integer), (1 << (n.dtype.exponent - 1)) - 1)
    return bitcast(elementwise(Op.SHL, bits, like(n.dtype.mantissa, bits)), n.dtype)


@in_float
def log_2(x: UOp) -> UOp:
    """The logarithm to base 2."""
    return multiply(elementwise(Op.LOG, x), 1.0 / log(2.0))


@in_float
def log_10(x: UOp) -> UOp:
    """The logarithm to base 10."""
    return multiply(elementwise(Op.LOG, x), 1.0 / log(10.0))


@in_float
def log1p(x: UOp) -> UOp:
    """log(1 + x), right for small x too: 2 artanh(x / (2 + x)) as a series there."""
    small = less(absolute(x), 0.4)
    near = _clear(x, small)
    s = divide(near, add(near, 2.0))
    series = [2.0 / (2 * k + 1) for k in range(_terms(x, 6, 13))]
    of_small = multiply(s, polynomial(multiply(s, s), series))
    return where(small, of_small, elementwise(Op.LOG, add(where(small, 1.0, x), 1.0)))


def _small_sinh(x: UOp) -> UOp:
    """sinh of |x| < 1 by its series."""
    series = [1.0 / factorial(2 * k + 1) for k in range(_terms(x, 6, 10))]
    return multiply(x, polynomial(multiply(x, x), series))


@in_float
def expm1(x: UOp) -> UOp:
    """exp(x) - 1, right for small x too: 2 sinh(x / 2) exp(x / 2) there."""
    small = less(absolute(x), 1.0)
    half = multiply(_clear(x, small), 0.5)
    of_small = multiply(multiply(_small_sinh(half), 2.0), elementwise(Op.EXP, half))
    return where(small, of_small, subtract(elementwise(Op.EXP, x), 1.0))


@in_float
def log_odds(x: UOp) -> UOp:
    """log(x / (1 - x)); NaN outside of 0 to 1."""
    rest = subtract(1.0, x)
    inside = less(-1.0, elementwise(Op.SQRT, multiply(x, rest)))  # a root is NaN or not below 0
    found = where(inside, elementwise(Op.LOG, divide(x, rest)), float("nan"))
    return slope(found, (x, where(inside, divide(1.0, absolute(multiply(x, rest))), float("nan"))))


# ---------------------------------------------------------------------------------- circle and hyperbola


@in_float
def sine(x: UOp) -> UOp:
    """The sine of x in radians."""
    return elementwise(Op.SIN, x)


@in_float
def cosine(x: UOp) -> UOp:
    """The cosine of x in radians: 1 - 2 sin²(x / 2)."""
    half = elementwise(Op.SIN, multiply(x, 0.5))
    return subtract(1.0, multiply(multiply(half, half), 2.0))


@in_float
def tangent(x: UOp) -> UOp:
    """sin x / cos x."""
    return divide(elementwise(Op.SIN, x), cosine(x))


@in_float
def cardinal_sine(x: UOp) -> UOp:
    """sin(πx) / πx; 1 at 0. Its slope by a series near 0, where it is a difference of nearly equal numbers."""
    u = multiply(x, pi)
    near = less(absolute(u), 0.3)
    away = where(near, 1.0, u)
    none = equal(u, 0.0)
    safe = where(none, 1.0, u)
    found = where(none, 1.0, divide(sine(safe), safe))
    small = _clear(u, near)
    series = [-1.0 / 3, 1.0 / 30, -1.0 / 840, 1.0 / 45360, -1.0 / 3991680]
    of_small = multiply(small, polynomial(multiply(small, small), series))
    of_large = divide(subtract(cosine(away), divide(sine(away), away)), away)
    return slope(found, (x, multiply(where(near, of_small, of_large), pi)))


@in_float
def sinh(x: UOp) -> UOp:
    """(exp(x) - exp(-x)) / 2, by its series for small x."""
    small = less(absolute(x), 1.0)
    # Halving the exponents apart keeps what is finite finite.
    far = where(small, 1.0, x)
    half, other = (elementwise(Op.EXP, multiply(far, sign)) for sign in (0.5, -0.5))
    large = subtract(multiply(multiply(half, 0.5), half), multiply(multiply(other, 0.5), other))
    return where(small, _small_sinh(_clear(x, small)), large)


@in_float
def cosh(x: UOp) -> UOp:
    """(exp(x) + exp(-x)) / 2."""
    half, other = (elementwise(Op.EXP, multiply(x, sign)) for sign in (0.5, -0.5))
    return add(multiply(multiply(half, 0.5), half), multiply(multiply(other, 0.5), other))


@in_float
def tanh(x: UOp) -> UOp:
    """The hyperbolic tangent, by expm1(-2 |x|): right for small x, and ±1 for large ones."""
    t = expm1(multiply(_sized(x), -2.0))
    return _odd(x, divide(negate(t), add(t, 2.0)))


@in_float
def arctangent(x: UOp) -> UOp:
    """The angle from -π/2 to π/2 whose tangent is x: of 1 / x beyond 1, halved twice, then by its series."""
    size = _sized(x)
    far = less(1.0, size)
    y = divide(where(far, 1.0, size), where(far, size, 1.0))
    for _ in range(2):
        y = divide(y, add(elementwise(Op.SQRT, add(multiply(y, y), 1.0)), 1.0))
    series = [4.0 * (-1) ** k / (2 * k + 1) for k in range(_terms(x, 6, 13))]
    angle = multiply(y, polynomial(multiply(y, y), series))
    return _odd(x, where(far, subtract(pi / 2, angle), angle))


@in_float
def arcsine(x: UOp) -> UOp:
    """The angle from -π/2 to π/2 whose sine is x; NaN beyond ±1."""
    rest = elementwise(Op.SQRT, multiply(subtract(1.0, x), add(x, 1.0)))
    return slope(arctangent(divide(x, rest)), (x, divide(1.0, rest)))


@in_float
def arccosine(x: UOp) -> UOp:
    """The angle from 0 to π whose cosine is x; NaN beyond ±1."""
    ratio = elementwise(Op.SQRT, divide(subtract(1.0, x), add(x, 1.0)))
    rest = elementwise(Op.SQRT, multiply(subtract(1.0, x), add(x, 1.0)))
    return slope(multiply(arctangent(ratio), 2.0), (x, divide(-1.0, rest)))


# --------------------------------------------------------------------------------------------- the error


# erf(x) / x for x² from 0 to 1 in Chebyshev polynomials of 2 x² - 1; and x erfc(x) exp(x²) for x from 1 on in those
# of (x - 5) / (x + 3). Interpolated at Chebyshev's points with 40 digits.
_ERF_NEAR = (
    *(0.9754769393826541, -0.14226120510371365, 0.010035582187599796, -0.0005768764699767485),
    *(2.741993125219606e-05, -1.1043175507344507e-06, 3.8488755420345036e-08, -1.1808582533875466e-09),
    *(3.2334215826050907e-11, -7.991015947004549e-13, 1.7990725113961456e-14, -3.718635487818693e-16),
)
_ERFC_FAR = (
    *(0.5270327699645345, 0.058438373634075017, -0.028760006767845146, 0.00942338429719674),
    *(-0.0023281563723139085, 0.00043730093384926333, -5.8303544643230866e-05, 4.043114560930833e-06),
    *(2.70898072771642e-07, -9.965420547129235e-08, 5.899419235825997e-09, 1.3859802863792783e-09),
    *(-2.3156333271134693e-10, -1.5604196875242842e-11, 6.283638983525689e-12, 1.2178727055545494e-13),
    *(-1.6752992531325616e-13, 3.133338732321978e-16, 4.754423145110417e-15, -2.4579810618655913e-17),
)


@in_float
def erfc(x: UOp) -> UOp:
    """1 - erf(x), right where that is small."""
    far = less(1.0, absolute(x))
    away = where(far, minimum(absolute(x), 30.0), 1.0)
    t = divide(subtract(away, 5.0), add(away, 3.0))
    tail = divide(chebyshev(t, _ERFC_FAR[: _terms(x, 12, 20)]), away)
    # exp(-x²) by a part of x whose square is exact, and the rest: rounding x² costs digits of large x.
    front = multiply(floor(multiply(away, 16.0)), 1 / 16)
    rest = multiply(subtract(away, front), add(away, front))
    fall = multiply(*(elementwise(Op.EXP, negate(part)) for part in (multiply(front, front), rest)))
    of_far = multiply(tail, fall)
    of_far = where(less(x, 0.0), subtract(2.0, of_far), of_far)
    found = where(is_nan(x), x, where(far, of_far, subtract(1.0, erf(_clear(x, less(absolute(x), 1.5))))))
    return slope(found, (x, multiply(elementwise(Op.EXP, negate(multiply(x, x))), -2.0 / sqrt(pi))))


@in_float
def erf(x: UOp) -> UOp:
    """The error function: 2/√π times the integral of exp(-t²) from 0 to x."""
    size = _sized(x)
    far = less(1.0, size)
    near = where(far, 0.0, size)
    square = subtract(multiply(multiply(near, near), 2.0), 1.0)
    of_near = multiply(near, chebyshev(square, _ERF_NEAR[: _terms(x, 8, 12)]))
    # Beyond 6 the function is 1 in every dtype.
    away = where(far, minimum(size, 6.0), 1.0)
    t = divide(subtract(away, 5.0), add(away, 3.0))
    tail = divide(chebyshev(t, _ERFC_FAR[: _terms(x, 12, 20)]), away)
    of_far = subtract(1.0, multiply(tail, elementwise(Op.EXP, negate(multiply(away, away)))))
    return _odd(x, where(far, of_far, of_near))


# ----------------------------------------------------------------------------------------- sign and range


def sign(x: UOp) -> UOp:
    """1, 0 or -1 in x's dtype; 0 of NaN, as in PyTorch."""
    if x.dtype is dt.bool_:
        return x
    below = like(0 if x.dtype.is_unsigned else -1, x)
    found = where(less(0, x), like(1, x), where(less(x, 0), below, like(0, x)))
    return slope(found, (x, like(0, x))) if x.dtype.is_float else found


def copy_sign(a: Term, b: Term) -> UOp:
    """|a| with b's sign, which -0 has too."""
    x, y = map(as_float, together(a, b))
    size = where(sign_bit(x), negate(x), x)
    return where(sign_bit(y), negate(size), size)


def clamp(x: UOp, low: Term | None, high: Term | None) -> UOp:
    """x held between low and high, of which one may be None; high where they cross; NaN stays NaN.

    ValueError where both are None.
    """
    if low is None and high is None:
        raise ValueError("clamp needs a lower or an upper limit")
    if low is not None:
        x = where(less(x, low), low, x) if not isinstance(low, UOp) else maximum(x, low)
    if high is not None:
        x = where(less(high, x), high, x) if not isinstance(high, UOp) else minimum(x, high)
    return x


def nan_to_num(x: UOp, nan: float, positive: float | None, negative: float | None) -> UOp:
    """NaN and the infinities replaced; those by the largest and lowest finite number where not said."""
    if not x.dtype.is_float:
        return x
    top = largest(x.dtype)
    found = where(is_nan(x), nan, x)
    found = where(equal(x, float("inf")), top if positive is None else positive, found)
    return where(equal(x, float("-inf")), -top if negative is None else negative, found)


def rounded(x: UOp, decimals: int, nearest: Callable[[UOp], UOp]) -> UOp:
    """`nearest` with some decimals kept."""
    if decimals == 0 or not x.dtype.is_float:
        return nearest(x)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return divide(nearest(multiply(x, scale)), scale)
    return multiply(nearest(divide(x, scale)), scale)


# --------------------------------------------------------------------------------------------- two numbers


def lerp(start: UOp, end: UOp, weight: Term) -> UOp:
    """start + weight (end - start), exact at both ends."""
    apart = subtract(end, start)
    near = add(start, multiply(apart, weight))
    far = subtract(end, multiply(apart, subtract(1.0, weight)))
    if not isinstance(weight, UOp):
        return near if weight < 0.5 else far
    return where(less(weight, 0.5), near, far)


def hypotenuse(a: Term, b: Term) -> UOp:
    """√(a² + b²) without overflow on the way."""
    x, y = map(absolute, map(as_float, together(a, b)))
    long, short = maximum(x, y), minimum(x, y)
    safe = where(logical_and(not_equal(long, 0.0), less(long, float("inf"))), long, 1.0)
    ratio = divide(where(equal(long, float("inf")), 0.0, short), safe)
    found = multiply(long, elementwise(Op.SQRT, add(multiply(ratio, ratio), 1.0)))
    return where(is_infinite(x), x, where(is_infinite(y), y, found))


def times_logarithm(x: UOp, y: UOp) -> UOp:
    """x log y; 0 where x is, unless y is NaN."""
    logs = logarithm(y)
    found = where(logical_and(equal(x, 0), equal(y, y)), 0.0, multiply(x, logs))
    return slope(found, (x, logs), (y, divide(x, y)))


def log_add_exp(a: Term, b: Term) -> UOp:
    """log(exp(a) + exp(b)) without overflow on the way."""
    x, y = map(as_float, together(a, b))
    long, short = maximum(x, y), minimum(x, y)
    alike = equal(long, short)  # two infinities have no difference
    below = where(alike, 0.0, subtract(short, long))
    return add(long, log1p(elementwise(Op.EXP, below)))


def arctangent2(a: Term, b: Term) -> UOp:
    """The angle from -π to π of the point (b, a); 0 at the origin."""
    y, x = map(as_float, together(a, b))
    infinite = logical_and(is_infinite(x), is_infinite(y))
    top, below = (where(infinite, copy_sign(1.0, v), v) for v in (y, x))
    nowhere = logical_and(equal(top, 0.0), equal(below, 0.0))
    angle = arctangent(divide(top, where(nowhere, 1.0, below)))
    turn = cast(where(sign_bit(y), -pi, pi), angle.dtype)
    found = where(sign_bit(x), add(turn, angle), angle)
    square = add(multiply(x, x), multiply(y, y))
    away = where(equal(square, 0.0), 1.0, square)
    return slope(found, (y, divide(x, away)), (x, divide(negate(y), away)))
