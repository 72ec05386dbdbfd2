"""What stands between layers: functions of one number, and the soft ones over an axis."""

from __future__ import annotations

from math import pi, sqrt

from engine.arguments import axis_of
from engine.build import cast, elementwise, shrink
from engine.build import slope as declared
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    add,
    divide,
    less,
    like,
    logical_and,
    logical_or,
    multiply,
    negate,
    subtract,
    where,
)
from engine.functions.mathematics import clamp, erf, expm1, in_float, log1p, tanh
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of


def relu(x: UOp) -> UOp:
    """x above 0, else 0; NaN stays. Its slope at 0 is 0: less than the least number above 0 is not above it."""
    if not x.dtype.is_float:
        return where(less(x, 1), 0, x)
    least = 2.0 ** (2 - (1 << (x.dtype.exponent - 1)) - x.dtype.mantissa)
    return where(less(x, least), 0.0, x)


def relu6(x: UOp) -> UOp:
    """relu, and 6 above 6."""
    return between(relu(x), 0, 6)


def between(x: UOp, low: float, high: float) -> UOp:
    """`clamp` to two numbers, with the slope 0 also right at them, as PyTorch's hard functions have it."""
    found = clamp(x, low, high)
    if not found.dtype.is_float:
        return found
    number = cast(x, found.dtype)
    inside = logical_and(less(low, number), less(number, high))
    return declared(found, (number, where(inside, like(1.0, number), 0.0)))


def leaky_relu(x: UOp, slope: float) -> UOp:
    """x above 0, else slope · x."""
    return where(less(0.0, x), x, multiply(x, slope))


@in_float
def elu(x: UOp, alpha: float) -> UOp:
    """x above 0, else alpha (exp(x) - 1)."""
    above = less(0.0, x)
    return where(above, x, multiply(expm1(where(above, 0.0, x)), alpha))


@in_float
def selu(x: UOp) -> UOp:
    """elu scaled so that layers keep mean 0 and variance 1 (Klambauer and others, 2017)."""
    return multiply(elu(x, 1.6732632423543772), 1.0507009873554805)


@in_float
def sigmoid(x: UOp) -> UOp:
    """1 / (1 + exp(-x)), by exp(-|x|), which never overflows."""
    below = less(x, 0.0)
    power = elementwise(Op.EXP, where(below, x, negate(x)))
    return divide(where(below, power, 1.0), add(power, 1.0))


@in_float
def softplus(x: UOp, beta: float, threshold: float) -> UOp:
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
    scaled = multiply(x, beta)
    below = less(scaled, 0.0)
    power = elementwise(Op.EXP, where(below, scaled, negate(scaled)))
    soft = divide(add(where(below, 0.0, scaled), log1p(power)), beta)
    return where(less(threshold, scaled), x, soft)


def log_sigmoid(x: UOp) -> UOp:
    """log(sigmoid(x))."""
    return negate(softplus(negate(x), 1.0, float("inf")))


@in_float
def silu(x: UOp) -> UOp:
    """x · sigmoid(x), also named swish."""
    return multiply(x, sigmoid(x))


@in_float
def mish(x: UOp) -> UOp:
    """x · tanh(softplus(x))."""
    return multiply(x, tanh(softplus(x, 1.0, 20.0)))


@in_float
def gelu(x: UOp) -> UOp:
    """x times the normal distribution's probability of less than x."""
    return multiply(multiply(x, 0.5), add(erf(multiply(x, sqrt(0.5))), 1.0))


@in_float
def tanh_gelu(x: UOp) -> UOp:
    """gelu's approximation by tanh (Hendrycks and Gimpel, 2016)."""
    cube = multiply(multiply(x, x), x)
    inner = multiply(add(multiply(cube, 0.044715), x), sqrt(2.0 / pi))
    return multiply(multiply(x, 0.5), add(tanh(inner), 1.0))


@in_float
def softsign(x: UOp) -> UOp:
    """x / (1 + |x|)."""
    return divide(x, add(where(less(x, 0.0), negate(x), x), 1.0))


@in_float
def hard_sigmoid(x: UOp) -> UOp:
    """x / 6 + 1/2 held between 0 and 1."""
    return divide(between(add(x, 3.0), 0.0, 6.0), 6.0)


@in_float
def hard_swish(x: UOp) -> UOp:
    """x times `hard_sigmoid` of x."""
    found = multiply(x, hard_sigmoid(x))
    middle = add(divide(x, 3.0), 0.5)
    return declared(found, (x, where(less(-3.0, x), where(less(x, 3.0), middle, 1.0), 0.0)))


@in_float
def shrunk(x: UOp, width: float, soft: bool) -> UOp:
    """0 within ±width; beyond it x, or with `soft` x less the width."""
    outside = logical_or(less(width, x), less(x, -width))
    nearer = subtract(x, where(less(x, 0.0), -width, width)) if soft else x
    return where(outside, nearer, where(elementwise(Op.EQ, x, x), 0.0, x))


@in_float
def quick_gelu(x: UOp) -> UOp:
    """x · sigmoid(1.702 x)."""
    return multiply(x, sigmoid(multiply(x, 1.702)))


def gated(x: UOp, axis: int) -> UOp:
    """The first half of an axis times the sigmoid of the second; InvalidGraph for an axis of odd size."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    if shape[place] % 2:
        raise InvalidGraph(f"axis {axis} of {shape} has no halves", "glu")
    half = shape[place] // 2
    first, second = (
        shrink(x, [(lo, lo + half, 1) if i == place else (0, n, 1) for i, n in enumerate(shape)])
        for lo in (0, half)
    )
    return multiply(first, sigmoid(second))
