"""Tensors made from a rule instead of data; most of them store nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from engine import dtype as dt
from engine.arguments import constant, python_type, sizes
from engine.build import Scalar
from engine.device import canonical
from engine.dtype import DType
from engine.tensor.value import Value


class Creation(Value):
    """Constructors."""

    __slots__ = ()

    @classmethod
    def full(
        cls, shape: int | Sequence[int], value: Scalar, dtype: DType | None = None, device: str | None = None
    ) -> Self:
        """A tensor of `shape` with `value` everywhere; nothing is stored."""
        return cls._of(constant(value, dtype or python_type(value), sizes((shape,))), canonical(device))

    @classmethod
    def zeros(cls, *shape: int, dtype: DType = dt.float32, device: str | None = None) -> Self:
        """A tensor of zeros."""
        return cls.full(sizes(shape), 0, dtype, device)

    @classmethod
    def ones(cls, *shape: int, dtype: DType = dt.float32, device: str | None = None) -> Self:
        """A tensor of ones."""
        return cls.full(sizes(shape), 1, dtype, device)

    @classmethod
    def arange(
        cls,
        start: float,
        stop: float | None = None,
        step: float = 1,
        dtype: DType | None = None,
        device: str | None = None,
    ) -> Self:
        """start, start + step, … before stop; with one number, 0 … before it. int64 unless a float is given."""
        first, last = (0, start) if stop is None else (start, stop)
        if step == 0:
            raise ValueError("step must not be 0")
        return cls(np.arange(first, last, step).tolist(), dtype or python_type(first + last + step), device)
