"""Scalars by Python's own numbers: what one element of an element-wise op must be, with nothing of the engine.

Integers are Python's, wrapped at the end; floats are float64 and rounded once, by exact fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.ops import COMPARE, Op

Number = bool | int | float
Array = np.ndarray[Any, np.dtype[Any]]


def wrapped(value: int, dtype: DType) -> int:
    """`value` in two's complement."""
    bits = 8 * dtype.itemsize
    value %= 1 << bits
    return value - (1 << bits) if not dtype.is_unsigned and value >> (bits - 1) else value


def nearest(value: float, dtype: DType) -> float:
    """The number of a float type nearest to `value` (a float or an int of any size), ties to the even one."""
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value) or value == 0):
        return math.nan if math.isinf(value) and not dtype.has_infinity else value
    exact, bias = Fraction(value), (1 << (dtype.exponent - 1)) - 1
    unit = Fraction(2) ** (max(_exponent(abs(exact)), 1 - bias) - dtype.mantissa)
    found = round(exact / unit) * unit  # Python rounds a Fraction's half to even
    most = Fraction(top(dtype))
    if abs(found) > most:
        return math.copysign(math.inf, value) if dtype.has_infinity else math.nan
    return math.copysign(float(abs(found)), value)


def _exponent(value: Fraction) -> int:
    """e with 2**e <= value < 2**(e + 1)."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


@lru_cache
def top(dtype: DType) -> float:
    """The largest finite number of a float type."""
    if dtype in (dt.float32, dt.float64):
        return float(np.finfo(dtype.numpy).max)
    return float(finite_numbers(dtype)[-1])


@lru_cache
def finite_numbers(dtype: DType) -> Array:
    """Every finite number of an 8- or 16-bit float type, once and in order, as float64."""
    bits = np.arange(1 << (8 * dtype.itemsize), dtype=np.uint32).astype(f"u{dtype.itemsize}")
    with np.errstate(all="ignore"):
        values = bits.view(dtype.numpy).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def nearest_array(values: Array, dtype: DType) -> Array:
    """`nearest` of float64 values, by looking them up among all numbers of an 8- or 16-bit type."""
    if dtype is dt.float64:
        return values
    if dtype is dt.float32:
        with np.errstate(all="ignore"):
            return values.astype(np.float32).astype(np.float64)
    numbers = finite_numbers(dtype)
    step = numbers[-1] - numbers[-2]
    numbers = np.concatenate(([-numbers[-1] - step], numbers, [numbers[-1] + step]))
    place = np.clip(np.searchsorted(numbers, values), 1, len(numbers) - 1)
    below, above = numbers[place - 1], numbers[place]
    with np.errstate(all="ignore"):
        down, up = values - below, above - values
        # Numbers lie in the order of their bit patterns: every second one is even. Zero stands in the middle.
        even_below = (place - 1 - len(numbers) // 2) % 2 == 0
        found = np.where((down < up) | ((down == up) & even_below), below, above)
        beyond = np.abs(found) > numbers[-2]
        found = np.where(beyond, np.copysign(np.inf if dtype.has_infinity else np.nan, found), found)
        found = np.where(np.isnan(values) | (values == 0), values, np.copysign(found, values))
        infinite = values if dtype.has_infinity else np.full_like(values, np.nan)
        return np.where(np.isinf(values), infinite, found)


def scalar(op: Op, dtype: DType, source: DType, *values: Number) -> Number:
    """One element of `op`, which gives `dtype`, for Python numbers; the sources (WHERE's apart) are of `source`."""
    if op is Op.CAST:
        return converted(values[0], dtype)
    if op is Op.WHERE:
        return values[1] if values[0] else values[2]
    if op in COMPARE:
        a, b = values
        return a < b if op is Op.LT else a == b if op is Op.EQ else a != b
    if source is dt.bool_:
        return _BOOLS[op](*map(bool, values))
    if source.is_float:
        return nearest(_FLOATS[op](*map(float, values)), dtype)
    if op in (Op.SHL, Op.SHR):
        return wrapped(_shifted(op, source, *map(int, values)), dtype)
    return wrapped(_INTS[op](*map(int, values)), dtype)


def converted(value: Number, dtype: DType) -> Number:
    """CAST of one number."""
    if dtype is dt.bool_:
        return value != 0
    if dtype.is_float:
        return nearest(value if isinstance(value, float) else int(value), dtype)
    if not isinstance(value, float):
        return wrapped(int(value), dtype)
    if math.isnan(value):
        return 0
    bits = 8 * dtype.itemsize
    low, high = (0, (1 << bits) - 1) if dtype.is_unsigned else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if math.isinf(value):
        return high if value > 0 else low
    return min(max(math.trunc(value), low), high)


def _shifted(op: Op, dtype: DType, value: int, by: int) -> int:
    if 0 <= by < 8 * dtype.itemsize:
        return value << by if op is Op.SHL else value >> by
    return -1 if op is Op.SHR and value < 0 else 0


def _quotient(a: float, b: float) -> float:
    if b != 0 or math.isnan(a):
        return a / b if b else math.nan
    return math.nan if a == 0 else math.copysign(math.inf, a) * math.copysign(1.0, b)


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def _sqrt(x: float) -> float:
    return math.nan if x < 0 else math.sqrt(x)


def _sin(x: float) -> float:
    return math.nan if math.isinf(x) else math.sin(x)


def _trunc(x: float) -> float:
    return x if math.isnan(x) or math.isinf(x) else math.copysign(float(math.trunc(x)), x)


def _extreme(choose: Callable[..., float]) -> Callable[[float, float], float]:
    return lambda a, b: math.nan if math.isnan(a) or math.isnan(b) else choose(a, b)


def _fmod(x: float, y: float) -> float:
    if math.isnan(x) or math.isnan(y) or math.isinf(x) or y == 0:
        return math.nan
    return math.fmod(x, y)


_FLOATS: dict[Op, Callable[..., float]] = {
    Op.NEG: lambda a: -a,
    Op.EXP: _exp,
    Op.LOG: _log,
    Op.SQRT: _sqrt,
    Op.SIN: _sin,
    Op.TRUNC: _trunc,
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV: _quotient,
    Op.FMOD: _fmod,
    Op.MAX: _extreme(max),
    Op.MIN: _extreme(min),
}
_INTS: dict[Op, Callable[..., int]] = {
    Op.NEG: lambda a: -a,
    Op.NOT: lambda a: ~a,
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.IDIV: lambda a, b: a // b if b else 0,
    Op.MOD: lambda a, b: a % b if b else 0,
    Op.MAX: max,
    Op.MIN: min,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
}
_BOOLS: dict[Op, Callable[..., bool]] = {
    Op.NOT: lambda a: not a,
    Op.AND: lambda a, b: a and b,
    Op.OR: lambda a, b: a or b,
    Op.XOR: lambda a, b: a != b,
}


def special_values(dtype: DType) -> Array:
    """Numbers of a dtype at which ops go wrong: limits, zeros of both signs, NaN, infinities, denormals, shifts."""
    if dtype is dt.bool_:
        return np.array([False, True])
    if dtype.is_float:
        return _special_floats(dtype)
    bits = 8 * dtype.itemsize
    candidates = [0, 1, 2, 3, 7, bits - 1, bits, bits + 1, -1, -2, -7, dtype.low, dtype.low + 1, dtype.high]
    return np.array(sorted({c for c in candidates if dtype.low <= c <= dtype.high}), dtype.numpy)


def _special_floats(dtype: DType) -> Array:
    bias = (1 << (dtype.exponent - 1)) - 1
    tiny, denormal = 2.0 ** (1 - bias), 2.0 ** (1 - bias - dtype.mantissa)
    found = [0.0, 0.5, 1.0, 1 + 2.0**-dtype.mantissa, 2.5, 3.0, 100.0, tiny, denormal, 3 * denormal]
    found += [top(dtype), 0.7, 127.9, 255.5] + ([math.inf] if dtype.has_infinity else [])
    with np.errstate(all="ignore"):
        values = np.array([nearest(v, dtype) for v in found], np.float64)
        return np.concatenate((values, -values, [math.nan])).astype(dtype.numpy)
