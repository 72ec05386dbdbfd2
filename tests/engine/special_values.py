"""Every element-wise op on every dtype at its edges: NaN, infinities, -0, denormals, INT_MIN, wide shifts, divisors of -1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.build import bitcast, cast, elementwise, param
from engine.dtype import DTYPES, DType
from engine.kernel import Kernel
from engine.ops import BINARY, UNARY, Op
from engine.opts import Opt, OptKind, Schedule
from engine.rounding import largest, round_array
from engine.runtime.interp import evaluate
from engine.spec import Level, problem

Array = np.ndarray[Any, np.dtype[Any]]
Run = Callable[[Kernel, Schedule, Sequence[Array]], Array]

# What the interpreter rounds once, at the end, and float32 rounds as well: the same bits.
INEXACT = frozenset({Op.EXP, Op.LOG, Op.SIN})
SIGN_OF_ZERO_IS_FREE = frozenset({Op.MAX, Op.MIN})
SCHEDULES: dict[str, Schedule] = {
    "scalar": (),
    "x4": (Opt(OptKind.VEC, "out", 0, 4),),
    "x16": (Opt(OptKind.VEC, "out", 0, 16),),
}


@dataclass(frozen=True)
class Edge:
    """A kernel of one op and inputs at the edges of its dtypes; `op` is what it tests."""

    name: str
    op: Op
    kernel: Kernel
    inputs: tuple[Array, ...]

    def problem(self, got: Array) -> str:
        """What is wrong with an output; "" if nothing is."""
        wanted = evaluate(self.kernel, self.inputs)
        wrong = ~_same(got, wanted, self.op, self.kernel.dtype)
        if not wrong.any():
            return ""
        place = int(np.flatnonzero(wrong)[0])
        inputs = ", ".join(str(array[place]) for array in self.inputs)
        return f"{self.name}({inputs}) is {got[place]}, not {wanted[place]}; {wrong.sum()} wrong"


def _same(got: Array, wanted: Array, op: Op, dtype: DType) -> Array:
    if not dtype.is_float:
        return np.asarray(got == wanted)
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), wanted.astype(np.float64)
        if op in INEXACT:
            ulp = 2.0**-dtype.mantissa * np.abs(b) + 2.0 ** (2 - (1 << (dtype.exponent - 1)) - dtype.mantissa)
            return (np.abs(a - b) <= 2 * ulp) | (a == b) | (np.isnan(a) & np.isnan(b))
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        signs = np.signbit(a) == np.signbit(b)
        return equal & (signs | (a != 0) | (op in SIGN_OF_ZERO_IS_FREE))


def values_of(dtype: DType) -> Array:
    """Numbers at the edges of a dtype."""
    if dtype is dt.bool_:
        return np.array([False, True])
    if dtype.is_float:
        return _floats(dtype)
    numbers = [0, 1, 2, 7, 100, -1, -2, -7, dtype.low, dtype.low + 1, dtype.high, dtype.high - 1]
    numbers += [dtype.bits - 1, dtype.bits, dtype.bits + 1, 1 << 24, (1 << 24) + 1, (1 << 53) + 1]
    return np.array([n for n in dict.fromkeys(numbers) if dtype.low <= n <= dtype.high], dtype.numpy)


def _floats(dtype: DType) -> Array:
    bias = (1 << (dtype.exponent - 1)) - 1
    normal, denormal = 2.0 ** (1 - bias), 2.0 ** (1 - bias - dtype.mantissa)
    positive = [
        0.0,
        1.0,
        1.5,
        2.5,
        0.1,
        3.0,
        1e20,
        3e9,
        127.5,
        128.0,
        255.5,
        32767.5,
        65535.0,
        2.0**31,
        2.0**63,
        2.0**64,
    ]
    positive += [largest(dtype), normal, denormal, 3 * denormal, normal - denormal, np.inf, np.nan]
    found = round_array(np.array([sign * n for n in positive for sign in (1, -1)]), dtype)
    return found.astype(dtype.numpy)


def _pairs(a: Array, b: Array) -> tuple[Array, Array]:
    first, second = zip(*product(range(len(a)), range(len(b))), strict=True)
    return a[list(first)], b[list(second)]


def _ragged(arrays: Sequence[Array]) -> tuple[Array, ...]:
    """One element more than a multiple of 16, so that the last vector is not full."""
    size = -(-len(arrays[0]) // 16) * 16 + 1
    return tuple(np.ascontiguousarray(np.resize(array, size)) for array in arrays)


def _edge(
    name: str, op: Op, build: Callable[..., Any], arrays: Sequence[Array], dtypes: Sequence[DType]
) -> Edge:
    inputs = _ragged(arrays)
    params = [param(i, array.shape, d) for i, (array, d) in enumerate(zip(inputs, dtypes, strict=True))]
    return Edge(name, op, Kernel(build(*params)), inputs)


def arithmetic() -> Iterator[Edge]:
    """Unary and binary ops and WHERE, on every dtype that the spec allows."""
    for op, dtype in product(sorted(UNARY | BINARY), DTYPES.values()):
        values = values_of(dtype)
        arrays = (values,) if op in UNARY else _pairs(values, values)
        dtypes = [dtype] * len(arrays)
        node = elementwise(op, *(param(i, (1,), d) for i, d in enumerate(dtypes)))
        if not problem(node, Level.DEFINITION):
            yield _edge(
                f"{op.value} {dtype.name}", op, lambda *src, op=op: elementwise(op, *src), arrays, dtypes
            )
    for dtype in DTYPES.values():
        a, b = _pairs(values_of(dtype), values_of(dtype))
        condition = np.resize(np.array([True, False, False]), len(a))
        yield _edge(
            f"WHERE {dtype.name}",
            Op.WHERE,
            lambda *src: elementwise(Op.WHERE, *src),
            (condition, a, b),
            (dt.bool_, dtype, dtype),
        )


def casts() -> Iterator[Edge]:
    """CASTs between all dtypes, and BITCASTs between those of one size."""
    for source, target in product(DTYPES.values(), DTYPES.values()):
        if source is target:
            continue
        values = values_of(source)
        if source.is_float and not target.is_float:
            values = np.concatenate([values, _near(target, source)])
        yield _edge(
            f"CAST {source.name} to {target.name}",
            Op.CAST,
            lambda x, target=target: cast(x, target),
            (values,),
            (source,),
        )
        if source.itemsize == target.itemsize and dt.bool_ not in (source, target):
            yield _bitcast(source, target)


def _near(target: DType, source: DType) -> Array:
    """Floats round the limits of an integer type."""
    ends = np.array([float(target.low), float(target.high), float(target.high) + 1])
    numbers = np.concatenate([ends + d for d in (-1.0, -0.5, 0.0, 0.5, 1.0)])
    return round_array(numbers, source).astype(source.numpy)


def _bitcast(source: DType, target: DType) -> Edge:
    values = values_of(source)
    if source.is_float:  # which NaN it is, no op says
        values = values[~np.isnan(values.astype(np.float64))]
    return _edge(
        f"BITCAST {source.name} to {target.name}",
        Op.BITCAST,
        lambda x: bitcast(x, target),
        (values,),
        (source,),
    )


def problems(edges: Sequence[Edge], run: Run, schedules: Sequence[str] = tuple(SCHEDULES)) -> list[str]:
    """What `run` gets wrong."""
    return [
        f"{name}: {text}"
        for edge in edges
        for name in schedules
        if (text := edge.problem(run(edge.kernel, SCHEDULES[name], edge.inputs)))
    ]
