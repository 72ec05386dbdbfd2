"""Functions of each element: right near the points where the obvious formula is not, in every dtype."""

from __future__ import annotations

from collections.abc import Callable
from math import atan2, erf, fmod, inf, log1p, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, equal, integers, normal, same
from tests.engine.tensor.narrow import rounded_at_every_op

SPREAD = np.concatenate(
    [normal(300, seed=i) * s for i, s in enumerate((1e-30, 1e-6, 1e-3, 0.1, 1, 3, 10, 60))]
    + [np.linspace(-6, 6, 1201, dtype=np.float32), np.float32([0, -0.0, 1, -1, 0.5, -0.5, 88, -88])]
)
SPECIAL = np.array([nan, inf, -inf, 0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 1e-30, -1e30], np.float32)


def _sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1.0) / (1.0 + np.exp(-np.abs(x)))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


_erf = np.vectorize(erf)

# name → (what it is in float64, ulp that float32 may be off when every op is rounded)
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "exp2": (np.exp2, 1),
    "expm1": (np.expm1, 2),
    "log2": (np.log2, 2),
    "log10": (np.log10, 2),
    "log1p": (np.log1p, 2),
    "erf": (_erf, 2),
    "asin": (np.arcsin, 4),
    "acos": (np.arccos, 4),
    "atan": (np.arctan, 3),
    "sinh": (np.sinh, 3),
    "cosh": (np.cosh, 3),
    "tanh": (np.tanh, 3),
    "sigmoid": (_sigmoid, 2),
    "logsigmoid": (lambda x: -_softplus(-x), 3),
    "softplus": (lambda x: np.where(x > 20, x, _softplus(x)), 3),
    "silu": (lambda x: x * _sigmoid(x), 3),
    "mish": (lambda x: x * np.tanh(_softplus(x)), 5),
    "softsign": (lambda x: x / (1 + np.abs(x)), 2),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 2),
    "rsqrt": (lambda x: 1 / np.sqrt(x), 2),
    "reciprocal": (lambda x: 1 / x, 1),
    "square": (np.square, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_function_is_good_to_a_few_ulp_when_every_op_is_rounded(name: str, dtype: Any) -> None:
    function, ulp = FUNCTIONS[name]
    x = SPREAD.astype(dtype)
    with np.errstate(all="ignore"):
        wanted = function(x.astype(np.float64))
        error = np.abs(rounded_at_every_op(getattr(Tensor(x), name)().node).astype(np.float64) - wanted)
    # Near the least normal number a factor of the result is denormal, and has fewer bits.
    normal_range = (np.abs(wanted) > 256 * np.finfo(dtype).tiny) & (np.abs(wanted) < np.finfo(dtype).max)
    relative = error[normal_range] / np.abs(wanted[normal_range]) / np.finfo(dtype).eps
    assert relative.max() <= (ulp if dtype is np.float32 else 2 * ulp + 2)


@pytest.mark.parametrize("name", ["cos", "tan", "gelu"])
def test_a_function_with_zeros_between_is_good_to_its_scale(name: str) -> None:
    x = SPREAD[np.abs(SPREAD) < (1.5 if name == "tan" else 20)]
    exact = {"cos": np.cos, "tan": np.tan, "gelu": lambda v: v * 0.5 * (1 + _erf(v * np.sqrt(0.5)))}[name]
    got = rounded_at_every_op(getattr(Tensor(x), name)().node)
    np.testing.assert_allclose(got, exact(x.astype(np.float64)), rtol=4e-6, atol=3e-7)


@pytest.mark.parametrize(
    ("name", "numpys"),
    [
        ("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc), ("round", np.rint), ("abs", np.abs),
        ("signbit", np.signbit), ("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite),
        ("sqrt", np.sqrt), ("exp2", np.exp2), ("tanh", np.tanh), ("atan", np.arctan), ("log1p", np.log1p),
        ("expm1", np.expm1), ("nan_to_num", np.nan_to_num), ("logical_not", np.logical_not), ("erf", _erf),
        ("asin", np.arcsin), ("acos", np.arccos), ("log2", np.log2), ("sinh", np.sinh), ("cosh", np.cosh),
        ("sign", lambda x: np.nan_to_num(np.sign(x), nan=0.0)), ("relu", lambda x: np.maximum(x, 0)),
    ],
)  # fmt: skip
def test_special_values(name: str, numpys: Callable[[Array], Array]) -> None:
    with np.errstate(all="ignore"):
        same(getattr(Tensor(SPECIAL), name)(), numpys(SPECIAL), rtol=2e-6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8))
@pytest.mark.slow
def test_rounding_is_to_even(numbers: list[float]) -> None:
    halves = np.concatenate([np.float32(numbers), np.rint(np.float32(numbers) / 8) + np.float32(0.5)])
    equal(Tensor(halves).round(), np.rint(halves))
    same(Tensor(halves).round(-2), np.round(halves, -2))


def test_integers_keep_their_dtype_or_become_float32() -> None:
    x = Tensor(integers(5))
    for name in ("floor", "ceil", "round", "trunc", "abs", "sign", "relu"):
        assert getattr(x, name)().dtype is dt.int32
    for name in ("exp", "sqrt", "sin", "sigmoid", "tanh", "reciprocal", "softmax"):
        assert getattr(x, name)().dtype is dt.float32
    assert x.isnan().dtype is x.isfinite().dtype is dt.bool_
    assert Tensor([3, 0], dtype=dt.uint8).sign().tolist() == [1, 0]
    assert Tensor([200], dtype=dt.uint8).abs().tolist() == [200]


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_half_floats_are_computed_in_float32_and_rounded_once(dtype: DType) -> None:
    x = Tensor(SPREAD[np.abs(SPREAD) < 8]).cast(dtype)
    for name in ("tanh", "sigmoid", "gelu", "erf", "log1p", "silu", "exp"):
        got = getattr(x, name)()
        assert got.dtype is dtype
        wanted = getattr(x.double(), name)().cast(dtype)
        np.testing.assert_allclose(
            got.double().numpy(), wanted.double().numpy(), rtol=2 * 2.0**-dtype.mantissa, atol=2e-7
        )


# ------------------------------------------------------------------------------------------ two operands


@settings(max_examples=150, deadline=None)
@given(st.floats(-1e5, 1e5, width=32), st.floats(-1e3, 1e3, width=32))
@pytest.mark.slow
def test_floor_division_and_remainders_are_exact(a: float, b: float) -> None:
    x, y = Tensor([a]), Tensor([b])
    if b == 0 or abs(a / b) > 2.0**29:
        return
    exact, rest = divmod(a, b)
    assert (x // y).tolist() == np.float32([exact]).tolist()
    assert (x % y).tolist() == np.float32([rest]).tolist()
    assert x.fmod(y).tolist() == np.float32([fmod(a, b)]).tolist()


def test_division_by_zero_and_by_infinity() -> None:
    x = Tensor([-5.0, 5.0, 0.0])
    same(x // 0.0, [-inf, inf, nan])
    same(x % 0.0, [nan] * 3)
    same(x // inf, [-1, 0, 0])
    same(x % inf, [inf, 5, 0])
    same(Tensor([inf, nan]) % 2.0, [nan, nan])
    assert Tensor([-7, 7]).fmod(3).tolist() == [-1, 1]
    assert Tensor([-7, 7]).fmod(-3).tolist() == [-1, 1]


@pytest.mark.slow
def test_integer_powers_wrap_as_products_do() -> None:
    bases = [0, 1, -1, 2, -2, 3, -7, 10, 12345, -(2**31), 2**31 - 1]
    exponents = [*range(9), 31, 32, 33, 64, 1001]
    wanted = [[(pow(b, e, 2**32) + 2**31) % 2**32 - 2**31 for e in exponents] for b in bases]
    x = Tensor(bases, dtype=dt.int32).unsqueeze(1)
    assert (x ** Tensor(exponents, dtype=dt.int32)).tolist() == wanted
    for i, exponent in enumerate(exponents):
        assert (x**exponent).flatten().tolist() == [row[i] for row in wanted]


def test_powers_at_their_corners() -> None:
    ones = (
        Tensor([nan, inf, 0.0]) ** Tensor(0.0),
        1 ** Tensor([nan, inf, -inf]),
        Tensor(-1.0) ** Tensor([inf] * 3),
    )
    for x in ones:
        assert x.tolist() == [1, 1, 1]
    same(Tensor([-2.0, -2.0, -8.0]) ** Tensor([3.0, 2.0, 1 / 3]), [-8, 4, nan])
    same(Tensor([0.0, -0.0, 0.0, -0.0]) ** Tensor([-1.0, -1.0, 2.5, -3.0]), [inf, -inf, 0, -inf])
    same(Tensor([2.0, 0.5, -inf, -inf]) ** Tensor([inf, inf, 3.0, 2.0]), [inf, 0, -inf, inf])
    same(2 ** Tensor([1, 2, 10]), [2, 4, 1024])
    same(Tensor([4.0, 2.0]) ** -0.5, [0.5, 0.5**0.5])
    assert (Tensor([1, -1, 5, -1], dtype=dt.int32) ** Tensor([-3, -3, -3, -2], dtype=dt.int32)).tolist() == [
        1,
        -1,
        0,
        1,
    ]
    with pytest.raises(InvalidGraph, match=r"integer to the -2"):
        Tensor([2]) ** -2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_powers_are_exact_and_others_good(dtype: Any) -> None:
    x = np.arange(-12, 13, dtype=dtype)
    for exponent in (2, 3, 5, -1, -2):
        with np.errstate(all="ignore"):
            equal(Tensor(x) ** exponent, x**exponent if exponent > 0 else 1 / x**-exponent)
            equal(Tensor(x) ** Tensor(x * 0 + exponent), x**exponent if exponent > 0 else 1 / x**-exponent)
    y = np.linspace(0.1, 30, 50, dtype=dtype)
    same(Tensor(y) ** 1.7, y**1.7, rtol=3e-7 if dtype is np.float32 else 1e-14)


@pytest.mark.parametrize("name", ["copysign", "hypot", "logaddexp", "atan2", "maximum", "minimum"])
def test_functions_of_two_at_special_values(name: str) -> None:
    numpys = {"atan2": np.arctan2}.get(name) or getattr(np, name)
    pairs = np.meshgrid(SPECIAL, SPECIAL)
    with np.errstate(all="ignore"):
        same(getattr(Tensor(pairs[0]), name)(Tensor(pairs[1])), numpys(*pairs), rtol=2e-6)
    assert Tensor([1.0]).atan2(Tensor([-1.0])).item() == pytest.approx(atan2(1, -1))
    assert Tensor([0.0]).logaddexp(-20.0).item() == pytest.approx(log1p(np.exp(-20.0)), rel=1e-6)


def test_shifts_beyond_the_width_and_of_signs() -> None:
    x = Tensor([1, -8], dtype=dt.int32)
    assert (x << 3).tolist() == [8, -64]
    assert (x >> 1).tolist() == [0, -4]
    assert (x << 32).tolist() == [0, 0]
    assert (x >> 99).tolist() == [0, -1]
    assert (x << -1).tolist() == [0, 0]
    assert (1 << Tensor([0, 4])).tolist() == [1, 16]
    assert (256 >> Tensor([0, 4])).tolist() == [256, 16]
    with pytest.raises(InvalidGraph, match="for integers, not for float32"):
        Tensor([1.0]) << 1


def test_limits_lerp_and_closeness() -> None:
    x = Tensor([-2.0, 0.5, nan, 3.0])
    same(x.clamp(-1, 1), [-1, 0.5, nan, 1])
    same(x.clip(min=0), [0, 0.5, nan, 3])
    same(x.clamp(max=Tensor([0.0, 0.0, 0.0, 9.0])), [-2, 0, nan, 3])
    same(x.clamp(2, 1), [1, 1, nan, 1])
    assert Tensor([1, 5]).clamp(2, 3).dtype is dt.int64
    with pytest.raises(ValueError, match="limit"):
        x.clamp()
    same(Tensor([0.0, 10.0]).lerp(Tensor([10.0, 0.0]), 0.25), [2.5, 7.5])
    same(Tensor([1.0]).lerp(Tensor([3.0]), Tensor([1.0])), [3.0])
    assert Tensor([1.0, nan, inf, 1.0]).isclose(Tensor([1.0 + 1e-7, nan, inf, 2.0]), equal_nan=True).tolist() == [
        True, True, True, False,
    ]  # fmt: skip


def test_logic_takes_anything_for_truth() -> None:
    x, y = Tensor([0, 2, 3]), Tensor([0.0, 0.0, nan])
    assert x.logical_and(y).tolist() == [False, False, True]
    assert x.logical_or(y).tolist() == [False, True, True]
    assert x.logical_xor(y).tolist() == [False, True, False]


def test_a_choice_of_approximation_is_named() -> None:
    with pytest.raises(InvalidGraph, match="'none' or 'tanh', not 'sigmoid'"):
        Tensor([1.0]).gelu("sigmoid")
    x = SPREAD[np.abs(SPREAD) < 5].astype(np.float64)
    wanted = x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    same(Tensor(x).gelu("tanh"), wanted, rtol=1e-12)


# --------------------------------------------------------------------------------------------- promotion


@pytest.mark.parametrize(
    ("tensor", "zero_d", "wanted"),
    [
        (dt.float16, dt.float32, dt.float16),
        (dt.float32, dt.float64, dt.float32),
        (dt.uint8, dt.int64, dt.uint8),
        (dt.int32, dt.float64, dt.float64),
        (dt.bool_, dt.int32, dt.int32),
        (dt.int8, dt.bool_, dt.int8),
        (dt.float32, dt.int64, dt.float32),
    ],
)
def test_a_tensor_of_no_axes_lifts_the_category_and_never_the_width(
    tensor: DType, zero_d: DType, wanted: DType
) -> None:
    x, y = Tensor.ones(2, dtype=tensor), Tensor.ones(dtype=zero_d)
    assert (x + y).dtype is (y * x).dtype is (x > 0).where(x, y).dtype is wanted


def test_numbers_of_numpy_are_numbers() -> None:
    assert (Tensor.ones(2, dtype=dt.float16) * np.float64(2)).dtype is dt.float16
    assert (Tensor.ones(2, dtype=dt.int32) + np.int64(2)).dtype is dt.int32


def test_eight_bit_floats_are_stored_and_cast_and_nothing_else() -> None:
    x = Tensor([1.0, 300.0]).cast(dt.float8_e4m3fn)
    assert x.float().tolist() == [1.0, 288.0]
    assert x.reshape(2, 1).dtype is dt.float8_e4m3fn
    for wrong in (lambda: x + 1, lambda: x.exp(), lambda: -x, lambda: x.sum(), lambda: x < 1):
        with pytest.raises(InvalidGraph, match="storage"):
            wrong()


def test_casts_by_name() -> None:
    x = Tensor([1.7, -1.0])
    names = {
        "half": dt.float16,
        "bfloat16": dt.bfloat16,
        "double": dt.float64,
        "char": dt.int8,
        "short": dt.int16,
    }
    names |= {"long": dt.int64, "byte": dt.uint8, "float": dt.float32, "int": dt.int32, "bool": dt.bool_}
    for name, dtype in names.items():
        assert getattr(x, name)().dtype is x.to(dtype).dtype is dtype
    assert x.float().bitcast(dt.int32).tolist() == np.float32([1.7, -1.0]).view(np.int32).tolist()
    with pytest.raises(InvalidGraph, match=r"float32 \(32 bits\) is not int16 \(16 bits\)"):
        x.bitcast(dt.int16)
    with pytest.raises(TypeError, match="dtype must be"):
        x.cast("float32")  # type: ignore[arg-type]
