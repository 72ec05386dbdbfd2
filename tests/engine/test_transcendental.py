"""EXP, LOG and SIN in basic ops: errors in units in the last place, as a machine that rounds every op makes them.

Of float32 also as compiled code makes them, for every number there is in the soak and one in 4,099 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from engine import device
from engine import dtype as dt
from engine.build import cast, const, elementwise, param
from engine.dtype import DType
from engine.errors import VerifyError
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.lower import lower
from engine.ops import Op
from engine.places import settle_places
from engine.runtime.meaning import UFUNCS, convert
from engine.schedule import replay
from engine.spec import Level, verify
from engine.transcendental import expand, expand_all, is_expanded

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = [
    (Op.EXP, dt.float32),
    (Op.LOG, dt.float32),
    (Op.SIN, dt.float32),
    (Op.EXP, dt.float64),
    (Op.LOG, dt.float64),
]
EXACT: dict[Op, Callable[[Array], Array]] = {Op.EXP: np.exp, Op.LOG: np.log, Op.SIN: np.sin}
WORST = {Op.EXP: 0.95, Op.LOG: 0.95, Op.SIN: 1.6}
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


def on_a_machine(op: Op, dtype: DType, x: Array, fma: bool = False) -> Array:
    """The expansion computed with every op rounded to its own dtype (the interpreter rounds seldom)."""
    leaf = param(0, (), dtype)
    root = expand_all(UOp(op, dtype, (leaf,)), fma=fma)
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
        case Op.MULACC:
            a, b, c = (
                value.astype(np.float64 if node.dtype is dt.float32 else np.longdouble) for value in src
            )
            return (a * b + c).astype(node.dtype.numpy)
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


each_kind = pytest.mark.parametrize(
    ("op", "dtype", "fma"),
    [(*kind, fma) for kind in KINDS for fma in (False, True)],
    ids=[f"{op.value}-{d.name}{fused}" for op, d in KINDS for fused in ("", "-fma")],
)


@each_kind
def test_errors_are_of_about_a_unit_at_most(op: Op, dtype: DType, fma: bool) -> None:
    x = sample(op, dtype, np.random.default_rng(1))
    wide = x.astype(np.float64 if dtype is dt.float32 else np.longdouble)
    assert units(on_a_machine(op, dtype, x, fma), EXACT[op](wide)) <= WORST[op]


@each_kind
def test_special_values_are_those_of_the_standard(op: Op, dtype: DType, fma: bool) -> None:
    with np.errstate(all="ignore"):
        x = np.array([*SPECIAL, 5e-324, 1e308, -1e308], dtype.numpy)
        found, exact = on_a_machine(op, dtype, x, fma), EXACT[op](x.astype(np.float64)).astype(dtype.numpy)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(exact))
    plain = np.isfinite(exact) & np.isfinite(found)
    np.testing.assert_array_max_ulp(found[plain], exact[plain], 2)
    np.testing.assert_array_equal(np.signbit(found[plain]), np.signbit(exact[plain]))


@pytest.mark.parametrize("fma", [False, True])
@pytest.mark.parametrize(("dtype", "low", "high"), [(dt.float32, -110, 90), (dt.float64, -750, 712)])
def test_the_exponential_passes_through_the_denormals_to_zero_and_to_infinity(
    dtype: DType, low: float, high: float, fma: bool
) -> None:
    x = np.linspace(low, high, 100_001, dtype=dtype.numpy)
    found = on_a_machine(Op.EXP, dtype, x, fma)
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.longdouble)).astype(dtype.numpy)
    np.testing.assert_array_equal(found == 0, exact == 0)
    np.testing.assert_array_equal(np.isinf(found), np.isinf(exact))
    np.testing.assert_array_max_ulp(found[np.isfinite(exact)], exact[np.isfinite(exact)], 1)


def compiled(name: str, op: Op, x: Array) -> Array:
    """The function of float32 as a device compiles it."""
    return device.get(name).run(Kernel(UOp(op, dt.float32, (param(0, x.shape, dt.float32),))), [x])


def assert_near(op: Op, x: Array, found: Array) -> None:
    """Errors as WORST says, special values, zeros and signs those of the exact values."""
    with np.errstate(all="ignore"):
        exact = EXACT[op](x.astype(np.float64))
        near = exact.astype(np.float32)
    for is_special in (np.isnan, np.isinf, lambda values: values == 0):
        np.testing.assert_array_equal(is_special(found), is_special(near))
    same_sign = (np.signbit(found) == np.signbit(near)) | np.isnan(near)
    assert same_sign.all()
    plain = np.isfinite(near)
    assert not plain.any() or units(found[plain], exact[plain]) <= WORST[op]


@pytest.mark.slow
@pytest.mark.parametrize("op", EXACT)
def test_compiled_functions_are_near(op: Op) -> None:
    x = np.arange(0, 1 << 32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    found = compiled("CPU:LLVM", op, x)
    assert_near(op, x, found)
    np.testing.assert_array_equal(found, compiled("CPU:C", op, x))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
@pytest.mark.parametrize("op", EXACT)
def test_compiled_functions_are_near_for_every_number(op: Op, part: int) -> None:
    for start in range(part << 29, (part + 1) << 29, 1 << 22):
        x = np.arange(start, start + (1 << 22), dtype=np.uint32).view(np.float32)
        assert_near(op, x, compiled("CPU:LLVM", op, x))


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


@pytest.mark.parametrize("fma", [False, True])
def test_the_sine_of_huge_numbers_is_right(fma: bool) -> None:
    rng = np.random.default_rng(2)
    x = (2.0 ** rng.uniform(17, 127.9, 1500) * rng.choice([-1, 1], 1500)).astype(np.float32)
    # 16367173 · 2**72 is the float32 that comes nearest to a multiple of π/2.
    x = np.append(x, np.float32(16367173 * 2.0**72))
    exact = np.array([exact_sine(float(value)) for value in x])
    assert units(on_a_machine(Op.SIN, dt.float32, x, fma), exact) <= WORST[Op.SIN]


def test_other_nodes_stay_as_they_are() -> None:
    wide = UOp(Op.SIN, dt.float64, (const(1.0, dt.float64),))
    root = UOp(Op.SQRT, dt.float32, (const(1.0, dt.float32),))
    assert expand(wide) is wide
    assert expand(root) is root


def lowered(node: UOp) -> UOp:
    kernel = Kernel(node)
    return settle_places(lower(kernel, replay(kernel, ())))


def test_no_function_with_an_expansion_is_left_and_the_spec_holds_it() -> None:
    x = param(0, (8,), dt.float32)
    node = elementwise(Op.SIN, elementwise(Op.LOG, elementwise(Op.EXP, x)))
    before = lowered(cast(elementwise(Op.SIN, cast(node, dt.float64)), dt.float32))
    after = expand_all(before, fma=True)
    left = [n for n in toposort(after) if n.op in EXACT]
    assert [(n.op, n.dtype) for n in left] == [(Op.SIN, dt.float64)]
    assert not is_expanded(left[0])
    verify(after, Level.BASIC, "transcendental")
    with pytest.raises(VerifyError, match="must be basic ops"):
        verify(before, Level.BASIC, "transcendental")


def test_products_are_fused_only_where_they_are_told_to() -> None:
    before = lowered(elementwise(Op.EXP, param(0, (8,), dt.float32)))
    ops = [[n.op for n in toposort(expand_all(before, fma=fma))] for fma in (False, True)]
    assert Op.MULACC not in ops[0]
    assert ops[1].count(Op.MULACC) >= 7
    assert len(ops[1]) < len(ops[0]) - 6


def test_a_kernel_without_functions_stays_as_it_is() -> None:
    before = lowered(elementwise(Op.SQRT, param(0, (8,), dt.float32)))
    assert expand_all(before, fma=True) is before
