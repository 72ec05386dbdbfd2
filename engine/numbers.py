"""What a dtype can hold, by PyTorch's names: finfo and iinfo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph


@dataclass(frozen=True, init=False)
class finfo:
    """Of a float dtype: its limits, the least normal number, and the distance from 1 to the next number."""

    dtype: str
    bits: int
    min: float
    max: float
    eps: float
    tiny: float
    smallest_normal: float
    resolution: float

    def __init__(self, dtype: DType = dt.float32) -> None:
        if not dtype.is_float:
            raise InvalidGraph(f"{dtype.name} is no float dtype: use iinfo", "finfo")
        limits: Any = ml_dtypes.finfo
        found = limits(dtype.numpy)
        given = {"min": found.min, "max": found.max, "eps": found.eps, "resolution": found.resolution}
        given |= {"tiny": found.smallest_normal, "smallest_normal": found.smallest_normal}
        for name, value in given.items():
            object.__setattr__(self, name, float(value))
        object.__setattr__(self, "dtype", dtype.name)
        object.__setattr__(self, "bits", dtype.bits)


@dataclass(frozen=True, init=False)
class iinfo:
    """Of an integer dtype: its limits."""

    dtype: str
    bits: int
    min: int
    max: int

    def __init__(self, dtype: DType) -> None:
        if not dtype.is_int:
            raise InvalidGraph(f"{dtype.name} is no integer dtype: use finfo", "iinfo")
        for name, value in (
            ("dtype", dtype.name),
            ("bits", dtype.bits),
            ("min", dtype.low),
            ("max", dtype.high),
        ):
            object.__setattr__(self, name, value)
