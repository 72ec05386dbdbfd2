"""Products of matrices and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeVar

from engine.dtype import DType
from engine.functions import einsum, linear
from engine.tensor.value import Operand, Value

One = TypeVar("One", bound=Value)


class Linear(Value):
    """Methods of linear algebra. float16 and bfloat16 are multiplied and summed in float32, and rounded once."""

    __slots__ = ()

    def matmul(self, other: Operand, dtype: DType | None = None) -> Self:
        """Matrix product, leading axes broadcast; a 1-d operand is a row on the left, a column on the right.

        `dtype`: what both are cast to before, and the result is of.
        """
        return self._new(linear.matmul(self._node, self._operand(other), dtype))

    dot = mm = mv = vdot = matmul

    def __matmul__(self, other: Operand) -> Self:
        return self.matmul(other)

    def __rmatmul__(self, other: Operand) -> Self:
        return self._after(linear.matmul, other)

    def bmm(self, other: Operand) -> Self:
        """The products of as many matrices: (n, i, k) @ (n, k, j)."""
        return self._with(linear.batched, other)

    def outer(self, other: Operand) -> Self:
        """Every product of an element of one 1-d tensor with one of the other."""
        return self._with(linear.outer, other)

    ger = outer

    def tensordot(self, other: Operand, dims: int | tuple[Sequence[int], Sequence[int]] = 2) -> Self:
        """Products summed over so many last axes of this and first of the other, or over the axes named of each."""
        return self._new(linear.tensordot(self._node, self._operand(other), dims))

    def linear(self, weight: Operand, bias: Operand = None) -> Self:
        """x @ weight.T + bias, the weight of shape (out, in)."""
        added = None if bias is None else self._operand(bias)
        return self._new(linear.affine(self._node, self._operand(weight), added))

    @staticmethod
    def einsum(formula: str, *operands: Any) -> Any:
        """The sum that a formula such as "...ij,jk->...ik" names, of so many tensors."""
        given: tuple[Any, ...] = (
            tuple(operands[0]) if len(operands) == 1 and not isinstance(operands[0], Value) else operands
        )
        first = next((operand for operand in given if isinstance(operand, Value)), None)
        if first is None:
            raise TypeError("operands of einsum must be Tensors")
        return first._new(einsum.einsum(formula, [first._operand(operand) for operand in given]))

    def tril(self, diagonal: int = 0) -> Self:
        """The last two axes with 0 above the diagonal that is so far above the main one."""
        return self._new(linear.triangle(self._node, diagonal, True))

    def triu(self, diagonal: int = 0) -> Self:
        """The last two axes with 0 below the diagonal that is so far above the main one."""
        return self._new(linear.triangle(self._node, diagonal, False))
