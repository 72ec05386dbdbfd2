"""Tensors made from a rule instead of data; most of them store nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Self

import numpy as np

from engine import build
from engine import dtype as dt
from engine.arguments import constant, python_type, sizes
from engine.build import Scalar
from engine.device import canonical
from engine.dtype import DType
from engine.functions import linear
from engine.functions.arithmetic import add, equal, multiply
from engine.sizes import fixed, is_open
from engine.tensor.value import Value


class Creation(Value):
    """Constructors. `device`: see engine.device; None is the environment's DEV."""

    __slots__ = ()

    @classmethod
    def full(
        cls,
        shape: int | Sequence[int],
        value: Scalar,
        dtype: DType | None = None,
        device: str | None = None,
        requires_grad: bool = False,
    ) -> Self:
        """A tensor of `shape` with `value` everywhere; nothing is stored."""
        found = cls._of(constant(value, dtype or python_type(value), sizes((shape,))), canonical(device))
        found.requires_grad = requires_grad
        return found

    @classmethod
    def zeros(
        cls, *shape: Any, dtype: DType = dt.float32, device: str | None = None, requires_grad: bool = False
    ) -> Self:
        """A tensor of zeros."""
        return cls.full(sizes(shape), 0, dtype, device, requires_grad)

    @classmethod
    def ones(
        cls, *shape: Any, dtype: DType = dt.float32, device: str | None = None, requires_grad: bool = False
    ) -> Self:
        """A tensor of ones."""
        return cls.full(sizes(shape), 1, dtype, device, requires_grad)

    @classmethod
    def empty(cls, *shape: Any, dtype: DType = dt.float32, device: str | None = None) -> Self:
        """A tensor whose values are not to be read; they are zeros."""
        return cls.zeros(*shape, dtype=dtype, device=device)

    def full_like(self, value: Scalar, dtype: DType | None = None) -> Self:
        """`value` in this tensor's shape, dtype (unless given) and device."""
        return type(self).full(self.shape, value, dtype or self.dtype, self.device)

    def zeros_like(self, dtype: DType | None = None) -> Self:
        """Zeros in this tensor's shape, dtype (unless given) and device."""
        return self.full_like(0, dtype)

    def ones_like(self, dtype: DType | None = None) -> Self:
        """Ones in this tensor's shape, dtype (unless given) and device."""
        return self.full_like(1, dtype)

    empty_like = zeros_like

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
        first: float = 0 if stop is None else start
        last: Any = start if stop is None else stop
        if step == 0:
            raise ValueError("step must not be 0")
        wanted = dtype or python_type(first + last + step)
        if is_open(last) and (first, step) == (0, 1):
            return cls._of(build.cast(build.iota(last), wanted), canonical(device))
        last = fixed(last)
        if all(isinstance(number, int) for number in (first, last, step)):
            count = len(range(int(first), int(last), int(step)))
            steps = add(multiply(build.iota(count), int(step)), int(first))
        else:
            count = max(0, ceil((last - first) / step))
            apart = first + step - first  # as NumPy steps, which this rounds as
            steps = add(multiply(build.cast(build.iota(count), dt.float64), apart), float(first))
        return cls._of(build.cast(steps, wanted), canonical(device))

    @classmethod
    def linspace(
        cls, start: float, stop: float, steps: int, dtype: DType = dt.float32, device: str | None = None
    ) -> Self:
        """`steps` numbers from start to stop, both of them there, evenly apart."""
        return cls(np.linspace(start, stop, steps), dtype, device)

    @classmethod
    def logspace(
        cls,
        start: float,
        stop: float,
        steps: int,
        base: float = 10.0,
        dtype: DType = dt.float32,
        device: str | None = None,
    ) -> Self:
        """base ** each of `steps` numbers from start to stop."""
        return cls(base ** np.linspace(start, stop, steps), dtype, device)

    @classmethod
    def triu_indices(cls, row: int, col: int, offset: int = 0, device: str | None = None) -> Self:
        """int64 (2, n): the places (rows, columns) of a matrix on and above a diagonal."""
        return cls(np.stack(np.triu_indices(row, offset, col)), dt.int64, device)

    @classmethod
    def tril_indices(cls, row: int, col: int, offset: int = 0, device: str | None = None) -> Self:
        """int64 (2, n): the places (rows, columns) of a matrix on and below a diagonal."""
        return cls(np.stack(np.tril_indices(row, offset, col)), dt.int64, device)

    @classmethod
    def eye(cls, n: int, m: int | None = None, dtype: DType = dt.float32, device: str | None = None) -> Self:
        """(n, m or n) with ones on the diagonal and zeros elsewhere."""
        shape = sizes((n, n if m is None else m))
        on = equal(build.iota_along(shape, 0), build.iota_along(shape, 1))
        return cls._of(build.cast(on, dtype), canonical(device))

    @classmethod
    def tri(
        cls,
        rows: int,
        columns: int | None = None,
        diagonal: int = 0,
        dtype: DType = dt.float32,
        device: str | None = None,
    ) -> Self:
        """Ones on and below the diagonal that is so far above the main one, zeros above it."""
        shape = sizes((rows, rows if columns is None else columns))
        return cls._of(linear.triangle(build.const(1, dtype, shape), diagonal, True), canonical(device))
