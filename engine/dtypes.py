"""The element types under the names that users write: `dtypes.float32`, `dtypes.half`, `dtypes.bool`, `dtypes.long`."""

from engine.dtype import (
    DType,
    bfloat16,
    bool_,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)

__all__ = [
    "DType", "bfloat16", "bool", "bool_", "char", "double", "float", "float8_e4m3fn", "float8_e5m2", "float16",
    "float32", "float64", "half", "int", "int8", "int16", "int32", "int64", "long", "short", "uchar", "uint",
    "uint8", "uint16", "uint32", "uint64", "ulong", "ushort",
]  # fmt: skip

bool = bool_
char, short, int, long = int8, int16, int32, int64
uchar, ushort, uint, ulong = uint8, uint16, uint32, uint64
half, float, double = float16, float32, float64
