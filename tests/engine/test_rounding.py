"""engine.rounding: one rounding from float64, to nearest and ties to even, held against ml_dtypes and fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine import dtype as dt
from engine.dtype import DType
from engine.rounding import largest, round_array, rounded
from tests.exact import finite_numbers, nearest, nearest_array

SMALL = [dt.float8_e4m3fn, dt.float8_e5m2, dt.float16, dt.bfloat16]
FLOATS = [*SMALL, dt.float32, dt.float64]


def same(got: np.ndarray, wanted: np.ndarray) -> None:
    """Equal as numbers, NaN as NaN, and zeros of the same sign."""
    np.testing.assert_array_equal(got, wanted)
    known = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(wanted)[known])


def between(dtype: DType) -> np.ndarray:
    """Every number of the type, every midpoint between neighbours, and what lies just beside both, in float32."""
    numbers = finite_numbers(dtype)
    points = np.concatenate((numbers, (numbers[:-1] + numbers[1:]) / 2))
    if dtype is not dt.bfloat16:  # beyond its largest number float32 has none either
        step = numbers[-1] - numbers[-2]
        points = np.concatenate((points, numbers[-1] + step * np.array([0.5, 1, 2]), [np.inf]))
        points = np.concatenate((points, -points))
    single = points.astype(np.float32)
    assert (single == points).all(), "midpoints of 16-bit floats are float32 numbers"
    with np.errstate(all="ignore"):
        below, above = np.nextafter(single, np.float32(-np.inf)), np.nextafter(single, np.float32(np.inf))
    return np.concatenate((single, below, above, np.array([np.nan, 0.0, -0.0], np.float32)))


@pytest.mark.parametrize("dtype", SMALL, ids=repr)
def test_every_midpoint_of_float32_rounds_as_ml_dtypes_does(dtype: DType) -> None:
    values = between(dtype)
    with np.errstate(all="ignore"):
        wanted = values.astype(dtype.numpy).astype(np.float64)
    same(round_array(values.astype(np.float64), dtype), wanted)


@pytest.mark.parametrize("dtype", SMALL, ids=repr)
def test_every_midpoint_rounds_once_though_float64_lies_closer_to_it_than_float32_can(dtype: DType) -> None:
    numbers = finite_numbers(dtype)
    middles = (numbers[:-1] + numbers[1:]) / 2
    below, above = np.nextafter(middles, -np.inf), np.nextafter(middles, np.inf)
    same(round_array(below, dtype), np.where(numbers[:-1] == 0, np.copysign(0.0, below), numbers[:-1]))
    wanted = np.where(numbers[1:] == 0, np.copysign(0.0, above), numbers[1:])
    same(round_array(above, dtype), wanted)


def doubles(seed: int) -> np.ndarray:
    """float64 numbers of all magnitudes, many of them close to where the narrower types round either way."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 64, 600, dtype=np.uint64).view(np.float64)
    near = rng.integers(-255, 256, 1200) * 2.0 ** rng.integers(-140, 140, 1200)
    ties = near * (1 + 2.0 ** -rng.integers(4, 54, 1200).astype(np.float64))
    return np.concatenate((bits, near, ties, np.nextafter(ties, 0), [5e-324, -5e-324, 1.7e308, -0.0, 0.0]))


@pytest.mark.parametrize("dtype", FLOATS, ids=repr)
def test_float64_rounds_as_exact_fractions_say(dtype: DType) -> None:
    values = doubles(seed=7)
    wanted = np.array([nearest(value, dtype) for value in values.tolist()])
    same(round_array(values, dtype), wanted)
    assert [rounded(v, dtype) for v in values[:20].tolist()] == pytest.approx(
        wanted[:20].tolist(), nan_ok=True, abs=0
    )


@pytest.mark.parametrize("dtype", FLOATS, ids=repr)
def test_looking_a_number_up_gives_what_fractions_do(dtype: DType) -> None:
    values = np.concatenate((doubles(seed=8), [np.nan, np.inf, -np.inf]))
    same(nearest_array(values, dtype), np.array([nearest(value, dtype) for value in values.tolist()]))


@pytest.mark.parametrize("dtype", SMALL, ids=repr)
def test_the_largest_number_is_the_last_finite_one(dtype: DType) -> None:
    assert largest(dtype) == finite_numbers(dtype)[-1]


def test_the_largest_number_of_the_wide_types_is_numpys() -> None:
    assert [largest(d) for d in (dt.float32, dt.float64)] == [
        float(np.finfo(np.float32).max),
        float(np.finfo(np.float64).max),
    ]


def test_beyond_the_largest_number_is_infinity_or_where_there_is_none_nan() -> None:
    assert rounded(65519.99, dt.float16) == 65504
    assert rounded(65520.0, dt.float16) == math.inf
    assert rounded(-1e300, dt.bfloat16) == -math.inf
    assert rounded(464.0, dt.float8_e4m3fn) == 448
    assert math.isnan(rounded(464.1, dt.float8_e4m3fn))
    assert math.isnan(rounded(math.inf, dt.float8_e4m3fn))
    assert rounded(math.inf, dt.float8_e5m2) == math.inf
