"""The C types of values, and constants as C."""

from __future__ import annotations

import math
import struct

from engine import dtype as dt
from engine.dtype import DType

# A name for each dtype that is computed in: the typedef's, and part of functions' names.
SHORT = {
    dt.bool_: "b8",
    dt.int8: "i8",
    dt.int16: "i16",
    dt.int32: "i32",
    dt.int64: "i64",
    dt.uint8: "u8",
    dt.uint16: "u16",
    dt.uint32: "u32",
    dt.uint64: "u64",
    dt.float32: "f32",
    dt.float64: "f64",
}
DTYPE = {short: dtype for dtype, short in SHORT.items()}
C_TYPES = {
    "b8": "unsigned char",
    "i8": "signed char",
    "i16": "short",
    "i32": "int",
    "i64": "long",
    "u8": "unsigned char",
    "u16": "unsigned short",
    "u32": "unsigned int",
    "u64": "unsigned long",
    "f32": "float",
    "f64": "double",
}
_SUFFIX = {"i64": "L", "u32": "U", "u64": "UL"}


def size_of(short: str) -> int:
    """Bytes of one element."""
    return DTYPE[short].itemsize


def is_float(short: str) -> bool:
    """Is it f32 or f64?"""
    return short.startswith("f")


def signed(short: str) -> str:
    """The signed integer of the same width: what comparisons of GNU vectors give."""
    return f"i{8 * size_of(short)}"


def unsigned(short: str) -> str:
    """The unsigned integer of the same width."""
    return f"u{8 * size_of(short)}"


def constant(dtype: DType, value: bool | int | float) -> str:
    """A constant, in parentheses if it is negative."""
    if dtype is dt.bool_:
        return str(int(value))
    if dtype.is_float:
        return _float(float(value), "f" if dtype is dt.float32 else "")
    suffix = _SUFFIX.get(SHORT[dtype], "")
    if value == dtype.low < 0:  # C has no negative literals
        return f"({int(value) + 1}{suffix} - 1)"
    return f"{value}{suffix}" if value >= 0 else f"({value}{suffix})"


def _float(value: float, suffix: str) -> str:
    if suffix and math.isfinite(value):
        value = as_float32(value)
    if math.isnan(value):
        return f'__builtin_nan{suffix}("")'
    if math.isinf(value):
        return f"__builtin_inf{suffix}()" if value > 0 else f"(-__builtin_inf{suffix}())"
    mantissa, exponent = value.hex().split("p")
    text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}{suffix}"
    return f"({text})" if text.startswith("-") else text


def as_float32(value: float) -> float:
    """The float32 nearest to `value`; an infinity beyond the largest."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
