"""Python's operators, and the same by PyTorch's names."""

from __future__ import annotations

from typing import Self

from engine.errors import InvalidGraph
from engine.functions import arithmetic, powers
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

    def __pow__(self, exponent: Operand) -> Self:
        if isinstance(exponent, bool | int | float):
            return self._new(powers.power(self._node, exponent))
        return self._with(powers.power, exponent)

    def __rpow__(self, other: Operand) -> Self:
        return self._after(powers.power, other)

    def __neg__(self) -> Self:
        return self._new(arithmetic.negate(self._node))

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return self._new(arithmetic.absolute(self._node))

    def __invert__(self) -> Self:
        return self._new(arithmetic.invert(self._node))

    def __and__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.bitwise(Op.AND, a, b), other)

    def __or__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.bitwise(Op.OR, a, b), other)

    def __xor__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.bitwise(Op.XOR, a, b), other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __lshift__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.shift(Op.SHL, a, b), other)

    def __rlshift__(self, other: Operand) -> Self:
        return self._after(lambda a, b: arithmetic.shift(Op.SHL, a, b), other)

    def __rshift__(self, other: Operand) -> Self:
        return self._with(lambda a, b: arithmetic.shift(Op.SHR, a, b), other)

    def __rrshift__(self, other: Operand) -> Self:
        return self._after(lambda a, b: arithmetic.shift(Op.SHR, a, b), other)

    def __lt__(self, other: Operand) -> Self:
        return self._with(arithmetic.less, other)

    def __gt__(self, other: Operand) -> Self:
        return self._after(arithmetic.less, other)

    def __le__(self, other: Operand) -> Self:
        return self._with(arithmetic.less_or_equal, other)

    def __ge__(self, other: Operand) -> Self:
        return self._after(arithmetic.less_or_equal, other)

    def __eq__(self, other: object) -> Self:  # type: ignore[override]
        if other is None:
            return False  # type: ignore[return-value]  # no tensor is None: `x == None` is one answer, not one each
        return self._with(arithmetic.equal, other)

    def __ne__(self, other: object) -> Self:  # type: ignore[override]
        if other is None:
            return True  # type: ignore[return-value]
        return self._with(arithmetic.not_equal, other)

    __hash__ = object.__hash__  # == gives a Tensor, so a tensor is hashed by identity

    def add(self, other: Operand, *, alpha: float = 1) -> Self:
        """self + alpha · other."""
        return self + other if alpha == 1 else self + self._scaled(other, alpha)

    def sub(self, other: Operand, *, alpha: float = 1) -> Self:
        """self - alpha · other."""
        return self - other if alpha == 1 else self - self._scaled(other, alpha)

    def _scaled(self, other: Operand, alpha: float) -> Self:
        return self._new(arithmetic.multiply(self._operand(other), alpha))

    def div(self, other: Operand, *, rounding_mode: str | None = None) -> Self:
        """self / other; with "floor" or "trunc" rounded so, in the operands' dtype."""
        if rounding_mode is None:
            return self.__truediv__(other)
        if rounding_mode == "floor":
            return self.__floordiv__(other)
        if rounding_mode != "trunc":
            raise InvalidGraph(f"{rounding_mode!r} is not None, 'floor' or 'trunc'", "rounding_mode")
        return self._with(arithmetic.truncated_quotient, other)

    def __divmod__(self, other: Operand) -> tuple[Self, Self]:
        return self // other, self % other

    mul, pow, neg = __mul__, __pow__, __neg__
    subtract, multiply, divide, true_divide, negative = sub, __mul__, div, div, __neg__
    floor_divide, remainder = __floordiv__, __mod__
    lt, le, gt, ge, eq, ne = __lt__, __le__, __gt__, __ge__, __eq__, __ne__
    less, less_equal, greater, greater_equal, not_equal = __lt__, __le__, __gt__, __ge__, __ne__
    bitwise_and, bitwise_or, bitwise_xor, bitwise_not = __and__, __or__, __xor__, __invert__
    bitwise_left_shift, bitwise_right_shift = __lshift__, __rshift__

    def fmod(self, other: Operand) -> Self:
        """The remainder that has this tensor's sign; % has the divisor's."""
        return self._with(arithmetic.truncated_remainder, other)

    def logical_not(self) -> Self:
        """True where x is 0."""
        return self._new(arithmetic.logical_not(self._node))

    def logical_and(self, other: Operand) -> Self:
        """True where both are true (not 0)."""
        return self._with(arithmetic.logical_and, other)

    def logical_or(self, other: Operand) -> Self:
        """True where either is true (not 0)."""
        return self._with(arithmetic.logical_or, other)

    def logical_xor(self, other: Operand) -> Self:
        """True where just one is true (not 0)."""
        return self._with(arithmetic.logical_xor, other)
