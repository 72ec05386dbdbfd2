"""Sums with products of matrices, diagonals, and differences, by PyTorch's names."""

from __future__ import annotations

from typing import Self

from engine import build
from engine.arguments import Axes, axis_of, takes_dim
from engine.errors import InvalidGraph
from engine.functions import arithmetic, linear, movement, reduction
from engine.ir import UOp
from engine.shapes import shape_of
from engine.tensor.value import Operand, Value


class Matrices(Value):
    """Methods of matrices that are made of the others."""

    __slots__ = ()

    def addmm(self, mat1: Operand, mat2: Operand, beta: float = 1, alpha: float = 1) -> Self:
        """beta · self + alpha · mat1 @ mat2; self is broadcast."""
        product = linear.matmul(self._operand(mat1), self._operand(mat2))
        product = product if alpha == 1 else arithmetic.multiply(product, alpha)
        if beta == 0:
            return self._new(product)  # whatever self is, NaN too
        own = self._node if beta == 1 else arithmetic.multiply(self._node, beta)
        return self._new(arithmetic.add(own, product))

    addmv = baddbmm = addmm

    def diag(self, diagonal: int = 0) -> Self:
        """Of a vector the matrix that has it on a diagonal, of a matrix that diagonal."""
        if self.ndim == 1:
            return self.diag_embed(diagonal)
        if self.ndim != 2:
            raise InvalidGraph(f"takes a vector or a matrix, not {self.shape}", "diag")
        return self._new(movement.diagonal(self._node, diagonal, 0, 1))

    def diag_embed(self, offset: int = 0) -> Self:
        """(…, n) → (…, n + |offset|, n + |offset|): the last axis on a diagonal, 0 elsewhere."""
        n = self.shape[-1]
        size = n + abs(offset)
        shape = (*self.shape[:-1], size, size)
        before, behind = max(-offset, 0), max(offset, 0)
        rows = movement.pad(self._node, [*[(0, 0)] * (self.ndim - 1), (before, behind)], "constant", 0)
        spread = build.expand(build.reshape(rows, (*self.shape[:-1], size, 1)), shape)
        row, column = (build.iota_along(shape, axis) for axis in (self.ndim - 1, self.ndim))
        on = arithmetic.equal(arithmetic.subtract(column, row), offset)
        return self._new(arithmetic.where(on, spread, arithmetic.like(0, spread)))

    def diagflat(self, offset: int = 0) -> Self:
        """All elements in order on the diagonal of a matrix."""
        return self._new(movement.flatten(self._node, 0, -1)).diag(offset)

    def trace(self) -> Self:
        """The sum of a matrix's diagonal."""
        if self.ndim != 2:
            raise InvalidGraph(f"takes a matrix, not {self.shape}", "trace")
        return self._new(reduction.total(movement.diagonal(self._node, 0, 0, 1)))

    @takes_dim
    def diff(self, n: int = 1, axis: int = -1, prepend: Operand = None, append: Operand = None) -> Self:
        """Each element of an axis less the one before it, n times over."""
        parts = [other for other in (prepend, self, append) if other is not None]
        place = axis_of(axis, self.ndim)
        found = movement.cat([self._operand(part) for part in parts], place)
        for _ in range(n):
            size = shape_of(found)[place]
            cut = max(size - 1, 0)
            later = movement.part(found, place, min(1, size), size)
            earlier = movement.part(found, place, 0, cut)
            same = arithmetic.not_equal if found.dtype.name == "bool" else arithmetic.subtract
            found = same(later, earlier)
        return self._new(found)

    def kron(self, other: Operand) -> Self:
        """Kronecker's product: every element times the whole other tensor, side by side."""
        node = self._operand(other)
        ndim = max(self.ndim, len(shape_of(node)))
        left, right = ((1,) * (ndim - len(s)) + s for s in (self.shape, shape_of(node)))
        a = build.reshape(self._node, tuple(n for size in left for n in (size, 1)))
        b = build.reshape(node, tuple(n for size in right for n in (1, size)))
        sizes = tuple(m * n for m, n in zip(left, right, strict=True))
        return self._new(build.reshape(arithmetic.multiply(a, b), sizes))

    @takes_dim
    def cross(self, other: Operand, axis: int = -1) -> Self:
        """The vector product along an axis of size 3."""
        a, b = arithmetic.together(self._node, self._operand(other))
        place = axis_of(axis, len(shape_of(a)))
        if shape_of(a)[place] != 3:
            raise InvalidGraph(f"axis {axis} of {shape_of(a)} is not of size 3", "cross")
        one, two = (movement.roll(node, [-1], place) for node in (a, b))
        found = arithmetic.subtract(arithmetic.multiply(a, two), arithmetic.multiply(one, b))
        return self._new(movement.roll(found, [-1], place))

    def dist(self, other: Operand, p: float = 2) -> Self:
        """The p-norm of the difference."""
        return self._new(
            reduction.norm(arithmetic.subtract(self._node, self._operand(other)), p, None, False)
        )

    @takes_dim
    def nansum(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The sum of what is not NaN."""
        return self._new(reduction.total(self._numbers(), axis, keepdim))

    @takes_dim
    def nanmean(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The mean of what is not NaN; NaN where nothing else is."""
        there = arithmetic.logical_not(arithmetic.is_nan(self._node))
        count = build.cast(reduction.total(there, axis, keepdim), self.dtype)
        return self._new(arithmetic.divide(reduction.total(self._numbers(), axis, keepdim), count))

    def _numbers(self) -> UOp:
        return arithmetic.where(arithmetic.is_nan(self._node), 0, self._node)

    def fliplr(self) -> Self:
        """The second axis reversed."""
        return self._new(movement.flip(self._node, 1))

    def flipud(self) -> Self:
        """The first axis reversed."""
        return self._new(movement.flip(self._node, 0))
