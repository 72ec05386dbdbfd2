"""Sizes that a recording leaves open: numbers that are known when a call comes, and not before (see engine.jit).

A `Size` stands in shapes where a plain function would find an integer. What is computed with it stays right for every
value that it may have, because a number made of it (an `Amount`, or another Size) knows the graph node that gives it
at run time. What cannot be decided for all values at once (`if n > 10`, float(n), range(n)) is an InvalidGraph that
names the size and its bounds.

Neither is a Python number but to a type checker: int and float would take one for theirs and forget the node.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard, TypeVar

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import Op


@dataclass(frozen=True, slots=True)
class Var:
    """A leading size: any whole number from `min` to `max`. ValueError for bounds that are none."""

    name: str
    min: int
    max: int

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"Var name {self.name!r} must be an identifier, such as n")
        for field, value in (("min", self.min), ("max", self.max)):
            if type(value) is not int:
                raise ValueError(f"Var {self.name}: {field} must be an int, not {value!r}")
        if not 1 <= self.min < self.max:
            raise ValueError(f"Var {self.name}: 1 <= min < max must hold, not {self.min} and {self.max}")

    def __str__(self) -> str:
        return f"{self.name} ({self.min} to {self.max})"


@dataclass(frozen=True, slots=True)
class Count:
    """A Var as one recording has it: `node` is the int64 BUFFER, of shape (), that holds a call's value."""

    var: Var
    node: UOp


N = TypeVar("N", int, float)
Terms = tuple[tuple[Count, int], ...]  # Σ count · factor


class Sized(tuple[int, ...]):
    """A shape in which some size is left open: told from a plain tuple by its type."""

    __slots__ = ()


if TYPE_CHECKING:
    from builtins import float as _Float
    from builtins import int as _Int
else:
    _Int = _Float = object


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Size(_Int):
    """Σ count · factor + offset; or another function of counts, whose `terms` are None.

    `node` gives it at run time, `least` and `most` bound it. Arithmetic with integers and Sizes gives Sizes, and with
    floats, or `/`, Amounts.
    """

    __array_ufunc__ = None  # NumPy's numbers leave the operators to us
    terms: Terms | None
    offset: int
    node: UOp
    least: int
    most: int
    text: str = ""  # what it is, where terms do not say

    @property
    def rows(self) -> tuple[Count, int] | None:
        """(count, unit) if it is count · unit: only such a size may be an axis's."""
        if self.terms is None or self.offset or len(self.terms) != 1 or self.terms[0][1] < 1:
            return None
        return self.terms[0]

    def __repr__(self) -> str:
        if self.terms is None:
            return self.text
        parts = [f"{factor}*" * (factor != 1) + count.var.name for count, factor in self.terms]
        return " + ".join([*parts, *[str(self.offset)] * (self.offset != 0)]).replace("+ -", "- ")

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __hash__(self) -> int:
        return hash(self.most)

    def __eq__(self, other: object) -> bool:
        """With an integer: is it an axis of so many at the most? With others it must be decided for all counts."""
        if isinstance(other, Size):
            return self.node is other.node
        if not isinstance(other, int | float):
            return NotImplemented
        if not self.least <= other <= self.most:
            return False
        if self.rows and other in (1, self.most):  # no axis of it is taken for one of size 1
            return bool(other == self.most)
        return _undecided(self, f"== {other}")

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __bool__(self) -> bool:
        return self != 0

    def __lt__(self, other: Any) -> bool:
        low, high = _ends(self - other)
        return self._is(other, "<", high < 0, low >= 0)

    def __le__(self, other: Any) -> bool:
        low, high = _ends(self - other)
        return self._is(other, "<=", high <= 0, low > 0)

    def __gt__(self, other: Any) -> bool:
        low, high = _ends(self - other)
        return self._is(other, ">", low > 0, high <= 0)

    def __ge__(self, other: Any) -> bool:
        low, high = _ends(self - other)
        return self._is(other, ">=", low >= 0, high < 0)

    def _is(self, other: Any, sign: str, yes: bool, no: bool) -> bool:
        return yes if yes or no else _undecided(self, f"{sign} {other}")

    def __add__(self, other: Any) -> Any:
        return _arithmetic(Op.ADD, self, other)

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __sub__(self, other: Any) -> Any:
        return _arithmetic(Op.SUB, self, other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __neg__(self) -> Any:
        return self * -1

    def __mul__(self, other: Any) -> Any:
        return _arithmetic(Op.MUL, self, other)

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __floordiv__(self, other: Any) -> Any:
        return _quotient(self, other)

    def __mod__(self, other: Any) -> Any:
        if _multiple(self, other) is None:
            raise InvalidGraph(f"{self} is no multiple of {other} for each {_vars(self)}", "leading")
        return 0

    def __rmod__(self, other: Any) -> Any:
        if not isinstance(other, int) or not -self.least <= other < self.least:
            _unknown(self)
        return other if other >= 0 else self + other

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __truediv__(self, other: Any) -> Any:
        return Amount.of(Op.DIV, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return Amount.of(Op.DIV, other, self)

    def __pow__(self, power: Any, modulus: Any = None) -> Any:
        return self * self if power == 2 and modulus is None else _power(self, power)

    def _refused(self, *_others: Any) -> NoReturn:
        _unknown(self)

    __float__ = __int__ = __index__ = __rfloordiv__ = __rpow__ = bit_length = _refused


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Amount(_Float):
    """A float64 made of sizes, which `node` gives at run time."""

    __array_ufunc__ = None
    node: UOp

    @classmethod
    def of(cls, op: Op, *operands: Any) -> Any:
        """`op` (arithmetic) on numbers, some of which are Sizes or Amounts."""
        operands = tuple(each.item() if isinstance(each, np.generic) else each for each in operands)
        if any(not isinstance(each, int | float | Size | Amount) for each in operands):
            return NotImplemented
        return cls(UOp(op, dt.float64, tuple(number_node(each, dt.float64) for each in operands)))

    def __repr__(self) -> str:
        return "a number made of an open size"

    __str__ = __repr__

    def __add__(self, other: Any) -> Any:
        return Amount.of(Op.ADD, self, other)

    def __sub__(self, other: Any) -> Any:
        return Amount.of(Op.SUB, self, other)

    def __rsub__(self, other: Any) -> Any:
        return Amount.of(Op.SUB, other, self)

    def __mul__(self, other: Any) -> Any:
        return Amount.of(Op.MUL, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Any:
        return Amount.of(Op.DIV, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return Amount.of(Op.DIV, other, self)

    def __neg__(self) -> Any:
        return Amount.of(Op.NEG, self)

    def __pow__(self, power: Any, modulus: Any = None) -> Any:
        return _power(self, power)

    def _refused(self, *_others: Any) -> NoReturn:
        _unknown(self)

    __float__ = __int__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refused
    __hash__ = None  # type: ignore[assignment]


def open_size(count: Count, unit: int = 1) -> Size:
    """The size of an axis of count · unit elements."""
    found = _linear(((count, unit),), 0)
    assert isinstance(found, Size)
    return found


def is_open(number: object) -> bool:
    """Is it a number that is not known before a call?"""
    return isinstance(number, Size | Amount)


def is_number(value: object) -> TypeGuard[float]:
    """Is it a Python number, or one that is not known before a call?"""
    return isinstance(value, bool | int | float | Size | Amount) and not isinstance(value, np.generic)


def plain(shape: Iterable[int]) -> tuple[int, ...]:
    """The shape with each open size as large as it may be. InvalidGraph for a size that no axis may have."""
    found = tuple(shape)
    for n in found:
        if type(n) is not int:
            return tuple(map(extent, found))
    return found


def extent(n: int) -> int:
    """A size at its largest. InvalidGraph for an open one that is not a multiple of a leading size."""
    if isinstance(n, Size) and n.rows is None:
        raise InvalidGraph(f"an axis of {n}: only a leading size or a multiple of it can be one", "leading")
    return n.most if isinstance(n, Size) else n


def least(n: int) -> int:
    """The least that a size may be."""
    return _ends(n)[0]


def fixed(n: N) -> N:
    """A number that must be the same in every call. InvalidGraph if it is not."""
    return _unknown(n) if is_open(n) else n


def at_least(low: float, number: float) -> float:
    """The greater of both, `number` perhaps an open one."""
    found: float = Amount.of(Op.MAX, number, low) if is_open(number) else float(max(low, number))
    return found


def number_node(number: float, dtype: DType) -> UOp:
    """A scalar node of `dtype` for a number, which may be an open one."""
    if isinstance(number, Size | Amount):
        return number.node if number.node.dtype == dtype else UOp(Op.CAST, dtype, (number.node,))
    return UOp(Op.CONST, dtype, (), number if dtype.is_int else float(number))


def _linear(terms: Terms, offset: int) -> int:
    """Σ terms + offset; a plain int if no term is left."""
    terms = tuple((count, factor) for count, factor in terms if factor)
    if not terms:
        return offset
    node: UOp | None = None
    for count, factor in terms:
        part = count.node if factor == 1 else _int64(Op.MUL, count.node, number_node(factor, dt.int64))
        node = part if node is None else _int64(Op.ADD, node, part)
    assert node is not None
    node = node if offset == 0 else _int64(Op.ADD, node, number_node(offset, dt.int64))
    ends = [sorted((factor * count.var.min, factor * count.var.max)) for count, factor in terms]
    return Size(
        terms, offset, node, sum(low for low, _ in ends) + offset, sum(high for _, high in ends) + offset
    )


def _int64(op: Op, *src: UOp) -> UOp:
    return UOp(op, dt.int64, src)


def _terms(n: int) -> tuple[Terms | None, int]:
    return (n.terms, n.offset) if isinstance(n, Size) else ((), n)


def _arithmetic(op: Op, a: Any, b: Any) -> Any:
    """a op b: a Size if both are whole, else an Amount."""
    b = b.item() if isinstance(b, np.generic) else b
    if not _is_whole(b):
        return Amount.of(op, a, b)
    return _product(a, b) if op is Op.MUL else _sum(a, b, 1 if op is Op.ADD else -1)


def _sum(a: int, b: int, sign: int) -> int:
    (left, offset), (right, other) = _terms(a), _terms(b)
    if left is None or right is None:
        low, high = sorted(sign * end for end in _ends(b))
        bounds = _ends(a)[0] + low, _ends(a)[1] + high
        return _other(Op.ADD if sign == 1 else Op.SUB, a, b, bounds)
    total = dict(left)
    for count, factor in right:
        total[count] = total.get(count, 0) + sign * factor
    return _linear(tuple(total.items()), offset + sign * other)


def _product(a: int, b: int) -> int:
    sized, factor = (a, b) if isinstance(a, Size) else (b, a)
    terms, offset = _terms(sized)
    if terms is not None and not isinstance(factor, Size):
        return _linear(tuple((count, by * factor) for count, by in terms), offset * factor)
    ends = [x * y for x in _ends(a) for y in _ends(b)]
    return _other(Op.MUL, a, b, (min(ends), max(ends)))


def _quotient(a: int, b: Any) -> Any:
    exact = _multiple(a, b)
    if exact is not None:
        return exact
    if not isinstance(b, int) or b < 1:
        _unknown(a)
    low, high = _ends(a)
    return _other(Op.IDIV, a, b, (low // b, high // b))


def _other(op: Op, a: int, b: int, bounds: tuple[int, int]) -> Size:
    node = _int64(op, number_node(a, dt.int64), number_node(b, dt.int64))
    left, right = (f"({n})" if " " in str(n) else str(n) for n in (a, b))
    return Size(None, 0, node, *bounds, f"{left} {_SIGNS[op]} {right}")


_SIGNS = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "*", Op.IDIV: "//"}


def _is_whole(number: object) -> bool:
    return isinstance(number, int | Size)


def _multiple(a: int, b: Any) -> int | None:
    """a / b where that is a whole number for all values of the counts; None if it is not."""
    (terms, offset), (divisor, constant) = _terms(a), _terms(b) if _is_whole(b) else (None, 0)
    if terms is None or divisor is None:
        return None
    if not divisor:
        factors = [offset, *(factor for _, factor in terms)]
        if constant == 0 or any(factor % constant for factor in factors):
            return None
        return _linear(tuple((count, factor // constant) for count, factor in terms), offset // constant)
    (count, unit), *more = divisor
    mine = dict(terms).get(count, 0)
    same = not more and not constant and len(terms) == 1 and not offset
    return mine // unit if same and mine and mine % unit == 0 else None


def _power(number: Any, power: Any) -> Any:
    if power == 2:
        return Amount.of(Op.MUL, number, number)
    if power in (0.5, -0.5):
        root = Amount.of(Op.SQRT, number)
        return root if power > 0 else Amount.of(Op.DIV, 1.0, root)
    return Amount.of(Op.DIV, 1.0, number) if power == -1 else _unknown(number)


def _ends(n: Any) -> tuple[int, int]:
    if isinstance(n, Amount):
        _unknown(n)
    return (n.least, n.most) if isinstance(n, Size) else (n, n)


def _vars(size: Size) -> str:
    return (
        ", ".join(str(count.var) for count, _ in size.terms or ()) or f"{size} ({size.least} to {size.most})"
    )


def _undecided(size: Size, question: str) -> NoReturn:
    raise InvalidGraph(
        f"{size} {question} holds for some sizes of {_vars(size)} and not for others: one recording serves all of "
        "them, so the function must not ask",
        "leading",
    )


def _unknown(number: Any) -> NoReturn:
    name = _vars(number) if isinstance(number, Size) else number
    raise InvalidGraph(
        f"{name} is not known before a call: compute with tensors, or with + - * / of the size itself",
        "leading",
    )
