"""What every op means, on NumPy arrays: slow, and right by being obvious.

Values are in their *working* type: float64 for floats, their own for integers and bool. Floats are rounded where
they are cast, stored, compared or looked at bit by bit, and nowhere else: what is compared may have been stored on one
side and be computed anew on the other, and must be equal then. Integers wrap. x // 0 and x % 0 are 0, // and %
floor, a shift by the width or more (or by less than 0) leaves 0 or the sign, MAX and MIN propagate NaN, float →
int truncates and saturates with NaN → 0. Indices are not trusted: one that points nowhere reads 0 and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.ops import COMPARE, Op
from engine.rounding import round_array

Array = np.ndarray[Any, np.dtype[Any]]


def working(dtype: DType) -> np.dtype[Any]:
    """The NumPy type a dtype's values have inside the interpreter: float64 for floats, else their own."""
    return np.dtype(np.float64) if dtype.is_float else dtype.numpy


def stored(value: Array, dtype: DType) -> Array:
    """A working value as it lies in memory: floats rounded once."""
    if not dtype.is_float:
        return value
    with np.errstate(all="ignore"):
        return round_array(value, dtype).astype(dtype.numpy)


def _shifted(shift: Callable[..., Array], value: Array, by: Array, beyond: Array | int) -> Array:
    """`shift` where `by` is from 0 to the width; elsewhere `beyond`."""
    inside = (by >= 0) & (by < 8 * value.dtype.itemsize)
    return np.where(inside, shift(value, np.where(inside, by, 0).astype(value.dtype)), beyond).astype(
        value.dtype
    )


def _left(value: Array, by: Array) -> Array:
    return _shifted(np.left_shift, value, by, 0)


def _right(value: Array, by: Array) -> Array:
    return _shifted(np.right_shift, value, by, np.where(value < 0, -1, 0) if value.dtype.kind == "i" else 0)


UFUNCS: dict[Op, Callable[..., Array]] = {
    Op.NEG: np.negative,
    Op.EXP: np.exp,
    Op.LOG: np.log,
    Op.SQRT: np.sqrt,
    Op.SIN: np.sin,
    Op.TRUNC: np.trunc,
    Op.NOT: np.invert,
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
    Op.IDIV: np.floor_divide,  # of integers: x // 0 is 0 in NumPy
    Op.MOD: np.remainder,  # of integers: x % 0 is 0 in NumPy
    Op.FMOD: np.fmod,
    Op.MAX: np.maximum,
    Op.MIN: np.minimum,
    Op.LT: np.less,
    Op.EQ: np.equal,
    Op.NE: np.not_equal,
    Op.AND: np.bitwise_and,
    Op.OR: np.bitwise_or,
    Op.XOR: np.bitwise_xor,
    Op.SHL: _left,
    Op.SHR: _right,
    Op.WHERE: np.where,
}
REDUCERS: dict[Op, np.ufunc] = {Op.ADD: np.add, Op.MUL: np.multiply, Op.MAX: np.maximum, Op.MIN: np.minimum}


def apply(op: Op, dtype: DType, values: Sequence[Array], source: DType) -> Array:
    """One element-wise op, giving `dtype`, on values in their working types, the first of type `source`.

    The caller silences floating-point warnings.
    """
    if op is Op.CAST:
        return convert(values[0], dtype)
    if op is Op.BITCAST:
        bits = np.ascontiguousarray(stored(values[0], source)).view(dtype.numpy)
        return bits.astype(working(dtype)).reshape(np.shape(values[0]))
    if op is Op.MULACC:
        return np.add(np.multiply(values[0], values[1]), values[2])
    if op in COMPARE and source.is_float:
        values = [round_array(value, source) for value in values]
    return UFUNCS[op](*values)


def convert(value: Array, dtype: DType) -> Array:
    """CAST: `value` (in a working type) rounded to `dtype`, in the working type of that."""
    if dtype is dt.bool_:
        return np.not_equal(value, 0)
    if dtype.is_float:
        if value.dtype.kind == "f" or dtype.numpy.kind != "f":
            return round_array(_to_odd(value).astype(np.float64), dtype)
        return value.astype(dtype.numpy).astype(np.float64)
    if value.dtype.kind == "f":
        return _saturate(value, dtype)
    return value.astype(dtype.numpy)


def _to_odd(value: Array) -> Array:
    """Integers beyond 2**53 cut to what float64 holds, the lowest bit set if any was lost: rounding again is right."""
    if value.dtype.itemsize < 8 or value.dtype.kind == "f":
        return value
    lost = (value & 2047) != 0
    is_large = (value >= 1 << 53) | (value <= -(1 << 53)) if value.dtype.kind == "i" else value >= 1 << 53
    return np.where(is_large & lost, ((value >> 11) | 1) << 11, value)


def _saturate(value: Array, dtype: DType) -> Array:
    low, top = float(dtype.low), float(dtype.high)
    top += 1.0 if dtype.itemsize < 8 else 0.0  # of 64 bits the highest is no float64: it is rounded up
    inside = np.where((value > low) & (value < top), value, 0.0).astype(dtype.numpy)
    return np.where(
        value >= top,
        dtype.numpy.type(dtype.high),
        np.where(value <= low, dtype.numpy.type(dtype.low), inside),
    )


def identity(op: Op, dtype: DType) -> Any:
    """What a reduction starts from: 0, 1, or the lowest or highest value."""
    if op in (Op.ADD, Op.MUL):
        return 0 if op is Op.ADD else 1
    if dtype.is_float:
        return -np.inf if op is Op.MAX else np.inf
    return dtype.low if op is Op.MAX else dtype.high


def gather(values: Array, index: Array, axis: int) -> Array:
    """GATHER of whole arrays."""
    n = values.shape[axis]
    inside = (index >= 0) & (index < n)
    if n == 0:
        return np.zeros(index.shape, values.dtype)
    found = np.take_along_axis(values, np.where(inside, index, 0).astype(np.int64), axis)
    return np.where(inside, found, np.zeros((), values.dtype))


def scatter(start: Array, index: Array, updates: Array, axis: int, how: str) -> Array:
    """SCATTER of whole arrays: one position along the axis after the other."""
    found = np.moveaxis(start.copy(), axis, 0)
    places, values = np.moveaxis(index, axis, 0), np.moveaxis(updates, axis, 0)
    others = np.indices(places.shape[1:], sparse=True)
    for place, value in zip(places, values, strict=True):
        inside = (place >= 0) & (place < found.shape[0])
        if found.shape[0] == 0:
            break
        where = (np.where(inside, place, 0).astype(np.int64), *others)
        old = found[where]
        new = value if how == "set" else REDUCERS[Op.ADD if how == "add" else Op.MAX](old, value)
        found[where] = np.where(inside, new, old)
    return np.moveaxis(found, 0, axis)


def pad(value: Array, widths: Sequence[tuple[int, int, int]]) -> Array:
    """PAD of a whole array."""
    shape = [
        low + n + max(n - 1, 0) * b + high for n, (low, high, b) in zip(value.shape, widths, strict=True)
    ]
    found = np.zeros(shape, value.dtype)
    places = [
        slice(low, low + n + max(n - 1, 0) * b, b + 1)
        for n, (low, _, b) in zip(value.shape, widths, strict=True)
    ]
    found[tuple(places)] = value
    return found


def flip(value: Array, axes: Sequence[int]) -> Array:
    """FLIP of a whole array."""
    return np.flip(value, tuple(axes))
