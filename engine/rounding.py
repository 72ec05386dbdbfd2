"""Rounding float64 to the other float types: to nearest, ties to even, in one step.

NumPy rounds to float16 and float32 so; ml_dtypes goes to bfloat16 by way of float32, which rounds twice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import dtype as dt
from engine.dtype import DType

Array = np.ndarray[Any, np.dtype[Any]]


def rounded(value: float, dtype: DType) -> float:
    """The number of a float type nearest to `value`, as a Python float."""
    return float(round_array(np.float64(value), dtype))


def round_array(values: Array | np.float64, dtype: DType) -> Array:
    """float64 `values` rounded to a float type, still as float64.

    Beyond the largest finite number is an infinity; float8_e4m3fn, which has none, gives NaN there.
    """
    if dtype is dt.float64:
        return np.asarray(values)
    with np.errstate(all="ignore"):
        if dtype in (dt.float32, dt.float16):
            return np.asarray(values).astype(dtype.numpy).astype(np.float64)
        return _round(np.asarray(values), dtype)


def _round(values: Array, dtype: DType) -> Array:
    """By adding and taking away a power of two that leaves just the mantissa's bits."""
    unit = ulp(values, dtype)
    found = np.where(np.isfinite(values), np.rint(values / unit) * unit, values)
    return _overflow(np.where(values == 0, values, found), dtype)


def ulp(values: Array, dtype: DType) -> Array:
    """The distance between neighbours of a float type at float64 `values` (finite ones), as float64."""
    bias = (1 << (dtype.exponent - 1)) - 1
    _, exponents = np.frexp(values)  # values = m · 2**e with 0.5 ≤ |m| < 1
    # The weight of the last kept bit; below the least normal number it stays (denormals).
    unit: Array = np.ldexp(1.0, np.maximum(exponents - 1, 1 - bias) - dtype.mantissa)
    return unit


def unit_roundoff(dtype: DType) -> float:
    """The largest relative error of rounding a number (no denormal) to a float type."""
    return 2.0 ** -(dtype.mantissa + 1)


def _overflow(values: Array, dtype: DType) -> Array:
    beyond = np.abs(values) > largest(dtype)
    if not dtype.has_infinity:
        return np.where(beyond, np.nan, values)
    return np.where(beyond & ~np.isnan(values), np.copysign(np.inf, values), values)


def largest(dtype: DType) -> float:
    """The largest finite number of a float type."""
    bias = (1 << (dtype.exponent - 1)) - 1
    if dtype.has_infinity:
        return float(np.ldexp(2.0 - 2.0**-dtype.mantissa, bias))
    return float(np.ldexp(2.0 - 2.0 ** (1 - dtype.mantissa), bias + 1))  # all ones is NaN
