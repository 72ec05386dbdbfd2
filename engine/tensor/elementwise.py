"""Functions of each element."""

from __future__ import annotations

from typing import Self

from engine import build
from engine import dtype as dt
from engine.functions import arithmetic
from engine.ir import UOp
from engine.ops import Op
from engine.tensor.value import Operand, Value


class Elementwise(Value):
    """Methods that look at one element at a time."""

    __slots__ = ()

    def maximum(self, other: Operand) -> Self:
        """The greater of the two, NaN where either is."""
        return self._with(arithmetic.maximum, other)

    def minimum(self, other: Operand) -> Self:
        """The lesser of the two, NaN where either is."""
        return self._with(arithmetic.minimum, other)

    def where(self, if_true: Operand, if_false: Operand) -> Self:
        """`if_true` where this tensor is true (not 0), else `if_false`."""
        return self._new(arithmetic.where(self._node, *self._choices(if_true, if_false)))

    def _choices(self, a: Operand, b: Operand) -> tuple[UOp, UOp]:
        """Two values of `where`: a number beside a tensor takes its type, two numbers have one of their own."""
        for value in (a, b):
            if isinstance(value, Value):
                return value._operand(a), value._operand(b)
        beside = self._new(build.const(False, dt.bool_))
        return beside._operand(a), beside._operand(b)

    def _float_op(self, op: Op) -> Self:
        return self._new(build.elementwise(op, arithmetic.as_float(self._node)))

    def exp(self) -> Self:
        """e ** x; integers and bool as float32."""
        return self._float_op(Op.EXP)

    def log(self) -> Self:
        """The natural logarithm; -infinity of 0, NaN of less."""
        return self._float_op(Op.LOG)

    def sqrt(self) -> Self:
        """The square root; NaN of less than 0."""
        return self._float_op(Op.SQRT)

    def sin(self) -> Self:
        """The sine of x in radians."""
        return self._float_op(Op.SIN)

    def floor(self) -> Self:
        """The greatest whole number not above x."""
        return self._new(arithmetic.floor(self._node))

    def relu(self) -> Self:
        """max(x, 0); NaN stays."""
        return self.maximum(0)

    def abs(self) -> Self:
        """|x|."""
        return self._new(arithmetic.absolute(self._node))

    __abs__ = abs
