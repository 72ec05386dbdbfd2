"""float16, bfloat16 and the 8-bit floats as integers: every pattern decoded, every kind of number encoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import bitcast, cast, const, elementwise, param, reduce
from engine.dtype import DType
from engine.errors import VerifyError
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.lower import lower
from engine.ops import Op
from engine.opts import Opt, OptKind
from engine.places import settle_places
from engine.rounding import largest, round_array
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.schedule import replay
from engine.small_floats import widen
from engine.spec import Level, verify

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, np.dtype[Any]]
SMALL = [d for d in dt.DTYPES.values() if d.is_small]
VEC = (Opt(OptKind.VEC, "out", 0, 16),)


@pytest.fixture(scope="module")
def runtime() -> LlvmRuntime:
    return LlvmRuntime(detect())


def patterns(dtype: DType) -> Array:
    """Every number there is."""
    unsigned = np.dtype(f"u{dtype.itemsize}")
    return np.arange(1 << dtype.bits, dtype=np.int64).astype(unsigned).view(dtype.numpy)


def boundaries(dtype: DType) -> Array:
    """As float64: all finite numbers, the middles between neighbours, and what is a little beside those."""
    with np.errstate(all="ignore"):
        numbers = np.unique(patterns(dtype).astype(np.float64))
    numbers = numbers[np.isfinite(numbers)]
    middles = (numbers[1:] + numbers[:-1]) / 2
    top = largest(dtype)
    beyond = top + (top - numbers[-2]) * np.array([0.25, 0.5, 0.75, 1.0, 2.0])
    found = np.concatenate(
        [numbers, middles, beyond, -beyond, [np.inf, -np.inf, np.nan, 1e-300, 1e300, -0.0]]
    )
    return np.concatenate([found, np.nextafter(found, np.inf), np.nextafter(found, -np.inf)])


def same(got: Array, wanted: Array) -> None:
    """Equal, NaN for NaN and with the sign of zero."""
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_array_equal(a, b)
    numbers = ~np.isnan(b)
    np.testing.assert_array_equal(np.signbit(a[numbers]), np.signbit(b[numbers]))


@pytest.mark.parametrize("schedule", [(), VEC], ids=["scalar", "vector"])
@pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.name)
def test_every_pattern_is_decoded(dtype: DType, schedule: Any, runtime: LlvmRuntime) -> None:
    every = patterns(dtype)
    got = runtime.prepare(Kernel(cast(param(0, every.shape, dtype), dt.float32)), schedule)([every])
    with np.errstate(all="ignore"):
        same(got, every.astype(np.float32))


@pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.name)
def test_what_is_only_moved_keeps_its_bits(dtype: DType, runtime: LlvmRuntime) -> None:
    every = patterns(dtype)
    got = runtime.prepare(Kernel(param(0, every.shape, dtype)), VEC)([every])
    assert got.tobytes() == every.tobytes()


@pytest.mark.parametrize("schedule", [(), VEC], ids=["scalar", "vector"])
@pytest.mark.parametrize("source", [dt.float32, dt.float64], ids=lambda d: d.name)
@pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.name)
def test_floats_are_rounded_once_to_nearest_even(
    dtype: DType, source: DType, schedule: Any, runtime: LlvmRuntime
) -> None:
    rng = np.random.default_rng(5)
    drawn = rng.standard_normal(20_000) * 10.0 ** rng.integers(-50, 50, 20_000)
    with np.errstate(all="ignore"):
        values = np.concatenate([boundaries(dtype), drawn]).astype(source.numpy)
    got = runtime.prepare(Kernel(cast(param(0, values.shape, source), dtype)), schedule)([values])
    same(got, round_array(values.astype(np.float64), dtype).astype(dtype.numpy))


def test_a_float64_is_not_rounded_by_way_of_float32(runtime: LlvmRuntime) -> None:
    """1 + 2**-8 + 2**-40 lies above a middle of bfloat16; as a float32 it would be that middle."""
    value = np.array([1 + 2.0**-8 + 2.0**-40])
    got = runtime.prepare(Kernel(cast(param(0, (1,), dt.float64), dt.bfloat16)))([value])
    assert float(got[0]) == 1 + 2.0**-7


@pytest.mark.parametrize("source", [dt.int32, dt.uint32, dt.int64, dt.uint64], ids=lambda d: d.name)
@pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.name)
def test_wide_integers_are_rounded_as_the_interpreter_rounds_them(
    dtype: DType, source: DType, runtime: LlvmRuntime
) -> None:
    rng = np.random.default_rng(6)
    values = rng.integers(source.low, source.high, 5_000, source.numpy, endpoint=True)
    values = values >> rng.integers(0, source.bits, 5_000).astype(source.numpy)
    kernel = Kernel(cast(param(0, values.shape, source), dtype))
    same(runtime.prepare(kernel, VEC)([values]), evaluate(kernel, [values]))


@pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.name)
def test_a_cast_inside_an_expression_rounds(dtype: DType, runtime: LlvmRuntime) -> None:
    values = np.linspace(-3, 3, 1001, dtype=np.float32)
    x = param(0, values.shape, dt.float32)
    error = elementwise(Op.SUB, cast(cast(x, dtype), dt.float32), x)
    kernel = Kernel(error)
    got = runtime.prepare(kernel, VEC)([values])
    same(got, evaluate(kernel, [values]))
    assert np.abs(got).max() > 0


def test_arithmetic_between_casts_is_not_rounded(runtime: LlvmRuntime) -> None:
    """65504 + 65504 - 65504 overflows no float16: only what is stored is rounded."""
    x = param(0, (20,), dt.float16)
    kernel = Kernel(elementwise(Op.SUB, elementwise(Op.ADD, x, x), x))
    values = np.full(20, 65504, np.float16)
    same(runtime.prepare(kernel, VEC)([values]), values)


@pytest.mark.parametrize("target", [dt.bool_, dt.int8, dt.uint16, dt.int64], ids=lambda d: d.name)
@pytest.mark.parametrize("dtype", SMALL, ids=lambda d: d.name)
def test_they_become_integers_and_bools(dtype: DType, target: DType, runtime: LlvmRuntime) -> None:
    every = patterns(dtype)
    kernel = Kernel(cast(param(0, every.shape, dtype), target))
    np.testing.assert_array_equal(runtime.prepare(kernel, VEC)([every]), evaluate(kernel, [every]))


def test_a_bitcast_rounds_first(runtime: LlvmRuntime) -> None:
    x = param(0, (17,), dt.float16)
    kernel = Kernel(bitcast(elementwise(Op.ADD, x, const(0.3, dt.float16, (17,))), dt.int16))
    values = np.linspace(1, 9, 17).astype(np.float16)
    np.testing.assert_array_equal(runtime.prepare(kernel)([values]), evaluate(kernel, [values]))


def test_sums_are_accumulated_in_float32(runtime: LlvmRuntime) -> None:
    """4096 ones and a few: a float16 accumulator would stop at 2048."""
    kernel = Kernel(reduce(Op.ADD, param(0, (4099,), dt.float16), (0,)))
    assert float(runtime.prepare(kernel)([np.ones(4099, np.float16)])) == 4100.0  # 4099 is no float16


def test_a_guarded_load_gives_its_alternative(runtime: LlvmRuntime) -> None:
    """A ragged vector MAX reads nothing behind the end: what stands there is -inf, not 0."""
    kernel = Kernel(reduce(Op.MAX, param(0, (3, 21), dt.bfloat16), (1,)))
    values = np.full((3, 21), -5.0, dt.bfloat16.numpy)
    got = runtime.prepare(kernel, (Opt(OptKind.VEC, "r0", 0, 16),))([values])
    assert got.astype(np.float32).tolist() == [-5.0] * 3


def widened(node: UOp) -> UOp:
    kernel = Kernel(node)
    return widen(settle_places(lower(kernel, replay(kernel, ()))))


def test_no_small_float_is_left_and_the_spec_holds_it() -> None:
    node = elementwise(Op.MUL, param(0, (8,), dt.float16), param(1, (8,), dt.float16))
    before = settle_places(lower(Kernel(node), replay(Kernel(node), ())))
    after = widen(before)
    assert not any(n.dtype.is_small for n in toposort(after))
    verify(after, Level.WIDE, "small_floats")
    with pytest.raises(VerifyError, match="must be float32"):
        verify(before, Level.WIDE, "small_floats")


def test_what_was_just_cast_is_stored_without_encoding_it_twice() -> None:
    once = widened(cast(param(0, (8,), dt.float32), dt.float16))
    twice = widened(elementwise(Op.NEG, cast(param(0, (8,), dt.float32), dt.float16)))
    assert len(toposort(once)) < len(toposort(twice)) - 15


def test_a_kernel_without_small_floats_stays_as_it_is() -> None:
    node = elementwise(Op.NEG, param(0, (8,), dt.float32))
    before = settle_places(lower(Kernel(node), replay(Kernel(node), ())))
    assert widen(before) is before
