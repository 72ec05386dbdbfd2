"""Element types: their size, category, range, promotion, and their NumPy equivalents.

bfloat16 and the two 8-bit floats exist in NumPy by way of ml_dtypes. The 8-bit floats are for storage: they are
loaded, stored and cast, nothing is computed in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import ml_dtypes
import numpy as np

from engine.errors import InvalidGraph


class Category(IntEnum):
    """What kind of number; promotion goes to the higher one."""

    VOID = -1
    BOOL = 0
    UNSIGNED = 1
    SIGNED = 2
    FLOAT = 3


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """An element type. `itemsize` is in bytes; floats say the bits of exponent and of (stored) mantissa.

    There is one of each name, also after copying and pickling: every node that is built asks for its hash.
    """

    name: str
    itemsize: int
    category: Category
    exponent: int = 0
    mantissa: int = 0
    has_infinity: bool = True
    # Every pass asks these of every node.
    is_float: bool = field(init=False)
    is_small: bool = field(init=False)  # a float that is computed in float32

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_float", self.category is Category.FLOAT)
        object.__setattr__(self, "is_small", self.is_float and self.itemsize < 4)

    def __reduce__(self) -> tuple[Any, ...]:
        return _named, (self.name,)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the same layout."""
        return _NUMPY[self.name]

    @property
    def is_int(self) -> bool:
        """True for integer types; bool is not one."""
        return self.category in (Category.SIGNED, Category.UNSIGNED)

    @property
    def is_unsigned(self) -> bool:
        """True for integer types without negative values."""
        return self.category is Category.UNSIGNED

    @property
    def is_floating_point(self) -> bool:
        """As `is_float`, by PyTorch's name."""
        return self.is_float

    @property
    def is_storage(self) -> bool:
        """True for types that can be loaded, stored and cast, but not computed in."""
        return self.is_float and self.itemsize == 1

    @property
    def bits(self) -> int:
        """The width in bits."""
        return 8 * self.itemsize

    @property
    def low(self) -> int:
        """The least value of an integer type or bool."""
        return -(1 << (self.bits - 1)) if self.category is Category.SIGNED else 0

    @property
    def high(self) -> int:
        """The greatest value of an integer type or bool."""
        if self.category is Category.BOOL:
            return 1
        return (1 << (self.bits - (self.category is Category.SIGNED))) - 1

    def __repr__(self) -> str:
        return f"dtype.{self.name}"


bool_ = DType("bool", 1, Category.BOOL)
int8 = DType("int8", 1, Category.SIGNED)
int16 = DType("int16", 2, Category.SIGNED)
int32 = DType("int32", 4, Category.SIGNED)
int64 = DType("int64", 8, Category.SIGNED)
uint8 = DType("uint8", 1, Category.UNSIGNED)
uint16 = DType("uint16", 2, Category.UNSIGNED)
uint32 = DType("uint32", 4, Category.UNSIGNED)
uint64 = DType("uint64", 8, Category.UNSIGNED)
float8_e4m3fn = DType("float8_e4m3fn", 1, Category.FLOAT, 4, 3, has_infinity=False)
float8_e5m2 = DType("float8_e5m2", 1, Category.FLOAT, 5, 2)
float16 = DType("float16", 2, Category.FLOAT, 5, 10)
bfloat16 = DType("bfloat16", 2, Category.FLOAT, 8, 7)
float32 = DType("float32", 4, Category.FLOAT, 8, 23)
float64 = DType("float64", 8, Category.FLOAT, 11, 52)
# The type of a tensor-less node (a RANGE's end, a STORE): it has no value.
void = DType("void", 0, Category.VOID)

# What a Tensor may hold.
DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        *(bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64),
        *(float8_e4m3fn, float8_e5m2, float16, bfloat16, float32, float64),
    )
}


def _named(name: str) -> DType:
    return void if name == void.name else DTYPES[name]


_NUMPY: dict[str, np.dtype[Any]] = {
    name: np.dtype(getattr(ml_dtypes, name) if name.startswith(("bfloat", "float8")) else name)
    for name in DTYPES
}


def checked(dtype: object) -> DType:
    """`dtype` itself. TypeError if it is none of the engine's, as a name, or another library's, is not."""
    if isinstance(dtype, DType):
        return dtype
    raise TypeError(f"dtype must be a DType, such as engine.dtypes.float32, not {dtype!r}")


def promote(a: DType, b: DType) -> DType:
    """The type two operands meet in (PyTorch's rule): the higher category's, and of one category the wider.

    float16 with bfloat16 is float32; an unsigned with a signed integer is the signed one, widened until it holds
    both. InvalidGraph where no type does: uint64 with a signed integer, and 8-bit floats with anything else.
    """
    if a == b:
        return a
    if a.is_storage or b.is_storage:
        raise InvalidGraph(f"{a.name} and {b.name} do not meet: cast the 8-bit float first", "dtype")
    if a.is_float or b.is_float or bool_ in (a, b):
        return _of_floats(a, b)
    if a.category is b.category:
        return a if a.itemsize > b.itemsize else b
    unsigned, signed = (a, b) if a.is_unsigned else (b, a)
    width = max(signed.bits, 2 * unsigned.bits)
    if width > 64:
        raise InvalidGraph(f"no integer type holds both {a.name} and {b.name}: cast one of them", "dtype")
    return DTYPES[f"int{width}"]


def _of_floats(a: DType, b: DType) -> DType:
    """At least one is a float, or one is bool."""
    if not (a.is_float and b.is_float):
        return a if a.is_float or b is bool_ else b
    if a.itemsize == b.itemsize:
        return float32
    return a if a.itemsize > b.itemsize else b


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The engine's type for a NumPy dtype; ValueError names the types there are."""
    found = DTYPES.get(dtype.name)
    if found is None:
        raise ValueError(f"dtype {dtype.name} is not supported; use one of {', '.join(DTYPES)}")
    return found
