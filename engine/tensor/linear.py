"""Products of matrices."""

from __future__ import annotations

from typing import Self

from engine import build
from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.shapes import shape_of
from engine.tensor.value import Operand, Value


class Linear(Value):
    """Methods of linear algebra."""

    __slots__ = ()

    def matmul(self, other: Operand) -> Self:
        """Matrix product, leading axes broadcast; a 1-d operand is a row on the left, a column on the right."""
        return self._with(_matmul, other)

    def __matmul__(self, other: Operand) -> Self:
        return self.matmul(other)

    def __rmatmul__(self, other: Operand) -> Self:
        return self._after(_matmul, other)


def _matmul(a: UOp, b: UOp) -> UOp:
    """`build.matmul` of nodes of any dtype but bool, and of one axis or more."""
    rows, columns = shape_of(a), shape_of(b)
    if not rows or not columns:
        raise InvalidGraph(
            f"operands have shapes {rows} and {columns}; 0-d tensors multiply with *", "matmul"
        )
    dtype = dt.promote(a.dtype, b.dtype)
    if dtype is dt.bool_:
        raise InvalidGraph("is not defined for bool; cast with .int() or .float()", "matmul")
    left = build.reshape(build.cast(a, dtype), rows if len(rows) > 1 else (1, *rows))
    right = build.reshape(build.cast(b, dtype), columns if len(columns) > 1 else (*columns, 1))
    found = build.matmul(left, right)
    shape = shape_of(found)
    kept = shape[:-2] + shape[-2:-1] * (len(rows) > 1) + shape[-1:] * (len(columns) > 1)
    return build.reshape(found, kept)
