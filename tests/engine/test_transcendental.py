"""EXP, LOG and SIN in basic ops: errors in units in the last place, as a machine that rounds every op makes them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import const, param
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.ops import Op
from engine.runtime.meaning import UFUNCS, convert
from engine.transcendental import expand

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = [
    (Op.EXP, dt.float32),
    (Op.LOG, dt.float32),
    (Op.SIN, dt.float32),
    (Op.EXP, dt.float64),
    (Op.LOG, dt.float64),
]
EXACT: dict[Op, Callable[[Array], Array]] = {Op.EXP: np.exp, Op.LOG: np.log, Op.SIN: np.sin}
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    np.inf,
    -np.inf,
    np.nan,
    1e-45,
    -1e-45,
    1.1754944e-38,
    3.4028235e38,
    -3.4028235e38,
]


def on_a_machine(op: Op, dtype: DType, x: Array) -> Array:
    """The expansion computed with every op rounded to its own dtype (the interpreter rounds seldom)."""
    leaf = param(0, x.shape, dtype)
    root = expand(UOp(op, dtype, (leaf,)), x.shape)
    values: dict[UOp, Array] = {leaf: x}
    with np.errstate(all="ignore"):
        for node in toposort(root):
            if node not in values:
                values[node] = _rounded(node, [values[source] for source in node.src])
                assert values[node].dtype == node.dtype.numpy
    return values[root]


def _rounded(node: UOp, src: list[Array]) -> Array:
    match node.op:
        case Op.CONST:
            return np.asarray(node.arg, node.dtype.numpy)
        case Op.RESHAPE:
            return src[0].reshape(node.arg)
        case Op.EXPAND:
            return np.broadcast_to(src[0], node.arg)
        case Op.BITCAST:
            return src[0].view(node.dtype.numpy)
        case Op.CAST:
            return convert(src[0], node.dtype).astype(node.dtype.numpy)
    assert node.op not in EXACT, "an expansion is made of basic ops"
    return UFUNCS[node.op](*src)


def units(found: Array, exact: Array) -> float:
    """The greatest error in units in the last place of the exact (wider) values; both finite."""
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(exact).astype(found.dtype)).astype(exact.dtype)
        return float(np.max(np.abs(found.astype(exact.dtype) - exact) / unit))


def sample(op: Op, dtype: DType, rng: np.random.Generator) -> Array:
    n = 200_000
    if op is Op.EXP:
        low, high = (-103, 88.5) if dtype is dt.float32 else (-740, 709)
        x = np.concatenate([rng.uniform(low, high, n), rng.uniform(-1, 1, n), 10.0 ** rng.uniform(-9, 0, n)])
    elif op is Op.LOG:
        low, high = (-44, 38) if dtype is dt.float32 else (-320, 308)
        x = np.concatenate(
            [10.0 ** rng.uniform(low, high, n), rng.uniform(0.5, 2, n), 1 + rng.uniform(-1e-3, 1e-3, n)]
        )
    else:
        x = np.concatenate(
            [rng.uniform(-1e5, 1e5, n), rng.uniform(-7, 7, n), np.arange(-1000, 1000) * np.pi / 2]
        )
    return x.astype(dtype.numpy)


@pytest.mark.parametrize(("op", "dtype"), KINDS, ids=[f"{op.value}-{d.name}" for op, d in KINDS])
def test_errors_are_below_two_units(op: Op, dtype: DType) -> None:
    x = sample(op, dtype, np.random.default_rng(1))
    wide = x.astype(np.float64 if dtype is dt.float32 else np.longdouble)
    assert units(on_a_machine(op, dtype, x), EXACT[op](wide)) <= 1.6


@pytest.mark.parametrize(("op", "dtype"), KINDS, ids=[f"{op.value}-{d.name}" for op, d in KINDS])
def test_special_values_are_those_of_the_standard(op: Op, dtype: DType) -> None:
    with np.errstate(all="ignore"):
        x = np.array([*SPECIAL, 5e-324, 1e308, -1e308], dtype.numpy)
        found, exact = on_a_machine(op, dtype, x), EXACT[op](x.astype(np.float64)).astype(dtype.numpy)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(exact))
    plain = np.isfinite(exact) & np.isfinite(found)
    np.testing.assert_array_max_ulp(found[plain], exact[plain], 2)
    np.testing.assert_array_equal(np.signbit(found[plain]), np.signbit(exact[plain]))


def test_the_exponential_passes_through_the_denormals_to_zero_and_to_infinity() -> None:
    x = np.linspace(-110, 90, 100_001, dtype=np.float32)
    found = on_a_machine(Op.EXP, dt.float32, x)
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(found == 0, exact == 0)
    np.testing.assert_array_equal(np.isinf(found), np.isinf(exact))
    np.testing.assert_array_max_ulp(found[np.isfinite(exact)], exact[np.isfinite(exact)], 2)


def exact_sine(x: float) -> float:
    """sin x by 90 digits: reduced by a π computed by Machin's formula, then Taylor's series."""
    with localcontext() as context:
        context.prec = 90
        x_ = Decimal(x)
        turn = 2 * _pi()
        rest = x_ - turn * (x_ / turn).to_integral_value()
        term, total = rest, rest
        for i in range(1, 60):
            term = -term * rest * rest / ((2 * i) * (2 * i + 1))
            total += term
        return float(total)


def _pi() -> Decimal:
    def arctan(inverse: int) -> Decimal:
        term = Decimal(1) / inverse
        total, i = term, 1
        while abs(term) > Decimal(10) ** -95:
            term = -term / (inverse * inverse)
            total += term / (2 * i + 1)
            i += 1
        return total

    return 4 * (4 * arctan(5) - arctan(239))


def test_the_sine_of_huge_numbers_is_right() -> None:
    rng = np.random.default_rng(2)
    x = (2.0 ** rng.uniform(17, 127.9, 1500) * rng.choice([-1, 1], 1500)).astype(np.float32)
    # 16367173 · 2**72 is the float32 that comes nearest to a multiple of π/2.
    x = np.append(x, np.float32(16367173 * 2.0**72))
    exact = np.array([exact_sine(float(value)) for value in x])
    assert units(on_a_machine(Op.SIN, dt.float32, x), exact) <= 1.6


def test_other_nodes_stay_as_they_are() -> None:
    wide = UOp(Op.SIN, dt.float64, (const(1.0, dt.float64),))
    root = UOp(Op.SQRT, dt.float32, (const(1.0, dt.float32),))
    assert expand(wide) is wide
    assert expand(root) is root
