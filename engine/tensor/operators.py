"""Python's operators."""

from __future__ import annotations

from typing import Self

from engine.build import Scalar
from engine.functions import arithmetic
from engine.ops import Op
from engine.tensor.value import Operand, Value


class Operators(Value):
    """Arithmetic, comparison and bits, as operators."""

    __slots__ = ()

    def __add__(self, other: Operand) -> Self:
        return self._with(arithmetic.add, other)

    def __sub__(self, other: Operand) -> Self:
        return self._with(arithmetic.subtract, other)

    def __rsub__(self, other: Operand) -> Self:
        return self._after(arithmetic.subtract, other)

    def __mul__(self, other: Operand) -> Self:
        return self._with(arithmetic.multiply, other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Operand) -> Self:
        return self._with(arithmetic.divide, other)

    def __rtruediv__(self, other: Operand) -> Self:
        return self._after(arithmetic.divide, other)

    def __floordiv__(self, other: Operand) -> Self:
        return self._with(arithmetic.floor_divide, other)

    def __rfloordiv__(self, other: Operand) -> Self:
        return self._after(arithmetic.floor_divide, other)

    def __mod__(self, other: Operand) -> Self:
        return self._with(arithmetic.remainder, other)

    def __rmod__(self, other: Operand) -> Self:
        return self._after(arithmetic.remainder, other)

    def __pow__(self, exponent: Scalar) -> Self:
        return self._new(arithmetic.power(self._node, exponent))

    def __neg__(self) -> Self:
        return self._new(arithmetic.negate(self._node))

    def __invert__(self) -> Self:
        return self._new(arithmetic.invert(self._node))

    def __and__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.bitwise(Op.AND, a, b), other)

    def __or__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.bitwise(Op.OR, a, b), other)

    def __xor__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.bitwise(Op.XOR, a, b), other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __lt__(self, other: Operand) -> Self:
        return self._with(arithmetic.less, other)

    def __gt__(self, other: Operand) -> Self:
        return self._after(arithmetic.less, other)

    def __le__(self, other: Operand) -> Self:
        return self._with(arithmetic.less_or_equal, other)

    def __ge__(self, other: Operand) -> Self:
        return self._after(arithmetic.less_or_equal, other)

    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        return self._with(arithmetic.equal, other)

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        return self._with(arithmetic.not_equal, other)

    __hash__ = object.__hash__  # == gives a Tensor, so a tensor is hashed by identity
