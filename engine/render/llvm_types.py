"""LLVM's types for values, and constants as LLVM assembly."""

from __future__ import annotations

import math
import struct

from engine import dtype as dt
from engine.dtype import DType
from engine.render.c_types import as_float32


def scalar_type(dtype: DType) -> str:
    """The type of one value: a bool is one bit."""
    if dtype is dt.bool_:
        return "i1"
    if dtype.is_float:
        return "float" if dtype is dt.float32 else "double"
    return f"i{dtype.bits}"


def type_of(dtype: DType, lanes: int = 1) -> str:
    """The type of a value of some lanes."""
    scalar = scalar_type(dtype)
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def memory_type(dtype: DType, lanes: int = 1) -> str:
    """How it lies in memory: a bool is a byte."""
    return type_of(dt.uint8 if dtype is dt.bool_ else dtype, lanes)


def suffix(dtype: DType, lanes: int = 1) -> str:
    """The type in an intrinsic's name: f32, v16i8."""
    scalar = f"f{dtype.bits}" if dtype.is_float else scalar_type(dtype)
    return scalar if lanes == 1 else f"v{lanes}{scalar}"


def constant(dtype: DType, value: bool | int | float, lanes: int = 1) -> str:
    """A constant, the same in every lane, without its type."""
    text = _scalar(dtype, value)
    if lanes == 1:
        return text
    return listed(dtype, [text] * lanes)


def listed(dtype: DType, texts: list[str]) -> str:
    """A vector of constants."""
    scalar = scalar_type(dtype)
    return f"<{', '.join(f'{scalar} {text}' for text in texts)}>"


def _scalar(dtype: DType, value: bool | int | float) -> str:
    if dtype is dt.bool_:
        return "true" if value else "false"
    if not dtype.is_float:
        return str(int(value))
    number = float(value)
    if dtype is dt.float32 and math.isfinite(number):
        number = as_float32(number)
    if math.isnan(number):
        number = math.nan
    # both types are written as the bits of a double
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
