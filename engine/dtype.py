"""Element types: their size, their category for promotion, and their NumPy equivalents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class DType:
    """An element type. `rank` orders promotion (bool < int < float); `itemsize` is in bytes."""

    name: str
    itemsize: int
    rank: int

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype of the same layout."""
        return np.dtype(self.name)

    @property
    def is_float(self) -> bool:
        """True for floating-point types."""
        return self.rank >= 20

    @property
    def is_int(self) -> bool:
        """True for integer types; bool is not one."""
        return 10 <= self.rank < 20

    def __repr__(self) -> str:
        return f"dtype.{self.name}"


bool_ = DType("bool", 1, 0)
int32 = DType("int32", 4, 12)
int64 = DType("int64", 8, 13)
float32 = DType("float32", 4, 22)
# The type of a tensor-less node (a RANGE's end, a STORE): it has no value.
void = DType("void", 0, -1)

# What a Tensor may hold. int64 exists because sums of bool and int32 are int64, as PyTorch's are.
DTYPES: dict[str, DType] = {d.name: d for d in (bool_, int32, int64, float32)}


def promote(a: DType, b: DType) -> DType:
    """The type two operands meet in: the higher of the two ranks (PyTorch's rule for these types)."""
    return a if a.rank >= b.rank else b


def from_numpy(dtype: np.dtype) -> DType:
    """The engine's type for a NumPy dtype; ValueError names the types there are."""
    found = DTYPES.get(dtype.name)
    if found is None:
        raise ValueError(f"dtype {dtype.name} is not supported; use one of {', '.join(DTYPES)}")
    return found
