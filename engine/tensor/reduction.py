"""Reductions: axes that disappear."""

from __future__ import annotations

from math import prod
from typing import Self

from engine import build
from engine import dtype as dt
from engine.arguments import Axes, axes_of
from engine.functions import arithmetic
from engine.ir import UOp
from engine.ops import Op
from engine.tensor.casting import Casting


class Reduction(Casting):
    """Methods that reduce."""

    __slots__ = ()

    def _reduce(self, op: Op, node: UOp, axis: Axes, keepdim: bool) -> Self:
        axes = axes_of(axis, self.ndim)
        found = build.reduce(op, node, axes)
        kept = tuple(1 if i in axes else n for i, n in enumerate(self.shape))
        return self._new(build.reshape(found, kept) if keepdim else found)

    def _wide(self) -> UOp:
        return self._node if self.dtype.is_float else build.cast(self._node, dt.int64)

    def sum(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The sum over the axes (all without any); of bool and integers an int64. Of nothing, 0."""
        return self._reduce(Op.ADD, self._wide(), axis, keepdim)

    def prod(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The product over the axes; of bool and integers an int64. Of nothing, 1."""
        return self._reduce(Op.MUL, self._wide(), axis, keepdim)

    def max(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The greatest value over the axes, NaN if any is; ValueError of no elements."""
        return self._extreme(Op.MAX, axis, keepdim)

    def min(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The least value over the axes, NaN if any is; ValueError of no elements."""
        return self._extreme(Op.MIN, axis, keepdim)

    def _extreme(self, op: Op, axis: Axes, keepdim: bool) -> Self:
        kept = [n for i, n in enumerate(self.shape) if i not in axes_of(axis, self.ndim)]
        if self.numel() == 0 and prod(kept) > 0:
            raise ValueError(f"{op.value.lower()} over no elements: shape {self.shape}, axis {axis}")
        return self._reduce(op, arithmetic.as_number(self._node), axis, keepdim).cast(self.dtype)

    def mean(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The mean over the axes, a float; of nothing, NaN."""
        count = prod(self.shape[i] for i in axes_of(axis, self.ndim))
        return self._new(
            arithmetic.divide(self.float().sum(axis, keepdim)._node, build.const(float(count), dt.float32))
        )
