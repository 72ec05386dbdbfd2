"""Nodes with Python's operators, for formulas that are to be read as formulas. No promotion, no broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine import build
from engine.build import Scalar
from engine.dtype import DType
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape


@dataclass(frozen=True, slots=True)
class Term:
    """A node of `shape`, () at the kernel level; a Python number beside it is a constant of its dtype and shape.

    Both sides of an operator have one dtype. Integers wrap; >> is arithmetic where the dtype has a sign.
    """

    node: UOp
    shape: Shape = ()

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.node.dtype

    def constant(self, value: Scalar, dtype: DType | None = None) -> Term:
        """A number in the place of this term, of its dtype or another."""
        return Term(build.const(value, dtype or self.dtype, self.shape), self.shape)

    def _with(self, op: Op, other: Term | Scalar) -> Term:
        right = other if isinstance(other, Term) else self.constant(other)
        return Term(build.elementwise(op, self.node, right.node), self.shape)

    def __add__(self, other: Term | Scalar) -> Term:
        return self._with(Op.ADD, other)

    def __sub__(self, other: Term | Scalar) -> Term:
        return self._with(Op.SUB, other)

    def __mul__(self, other: Term | Scalar) -> Term:
        return self._with(Op.MUL, other)

    def __truediv__(self, other: Term | Scalar) -> Term:
        return self._with(Op.DIV, other)

    def __and__(self, other: Term | Scalar) -> Term:
        return self._with(Op.AND, other)

    def __or__(self, other: Term | Scalar) -> Term:
        return self._with(Op.OR, other)

    def __xor__(self, other: Term | Scalar) -> Term:
        return self._with(Op.XOR, other)

    def __lshift__(self, other: Term | Scalar) -> Term:
        return self._with(Op.SHL, other)

    def __rshift__(self, other: Term | Scalar) -> Term:
        return self._with(Op.SHR, other)

    def __lt__(self, other: Term | Scalar) -> Term:
        return self._with(Op.LT, other)

    def equals(self, other: Term | Scalar) -> Term:
        """Where the two are equal: a bool."""
        return self._with(Op.EQ, other)

    def at_most(self, other: Term | Scalar) -> Term:
        """The lesser; NaN where either is."""
        return self._with(Op.MIN, other)

    def at_least(self, other: Term | Scalar) -> Term:
        """The greater; NaN where either is."""
        return self._with(Op.MAX, other)

    def __neg__(self) -> Term:
        return Term(build.elementwise(Op.NEG, self.node), self.shape)

    def truncated(self) -> Term:
        """Towards zero, to a whole number, of the same dtype."""
        return Term(build.elementwise(Op.TRUNC, self.node), self.shape)

    def root(self) -> Term:
        """The square root."""
        return Term(build.elementwise(Op.SQRT, self.node), self.shape)

    def cast(self, dtype: DType) -> Term:
        """Converted to `dtype`."""
        return Term(build.cast(self.node, dtype), self.shape)

    def bits(self, dtype: DType) -> Term:
        """The same bits as `dtype`."""
        return Term(build.bitcast(self.node, dtype), self.shape)

    def where(self, if_true: Term | Scalar, if_false: Term) -> Term:
        """`if_true` where this term, a bool, holds, else `if_false`."""
        chosen = if_true if isinstance(if_true, Term) else if_false.constant(if_true)
        return Term(build.elementwise(Op.WHERE, self.node, chosen.node, if_false.node), self.shape)


def polynomial(x: Term, coefficients: Sequence[float]) -> Term:
    """c0 + c1·x + c2·x² + …, by Horner's rule."""
    found = x.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        found = found * x + coefficient
    return found
