"""What the operators of Tensor mean in ops of the graph: promotion, broadcasting, and what is made of simpler ops.

Where a function takes a Term, a Python number may stand for a node: it takes the dtype of what it meets, lifted in
category but never in width.
"""

from __future__ import annotations

from engine import dtype as dt
from engine.bounds import limits
from engine.build import Scalar, bitcast, broadcast, broadcast_shape, cast, const, elementwise, slope
from engine.dtype import DType, promote
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of
from engine.sizes import Size

Term = UOp | Scalar

# ---------------------------------------------------------------------------------------------- promotion


def scalar_type(value: Scalar, other: DType) -> DType:
    """The type of a Python number beside a tensor of type `other`: its category may lift, its width never."""
    if isinstance(value, bool):
        return other
    if isinstance(value, int | Size):
        return dt.int64 if other is dt.bool_ else other
    return other if other.is_float else dt.float32


def common_type(*nodes: UOp) -> DType:
    """The dtype the nodes meet in. A 0-d node lifts the category of those with axes, and never their width.

    InvalidGraph where there is no such dtype, and for 8-bit floats, which are for storage.
    """
    large = [node.dtype for node in nodes if shape_of(node)]
    small = [node.dtype for node in nodes if not shape_of(node)]
    found = _promoted(large or small)
    if large and small:
        other = _promoted(small)
        if found is dt.bool_ or (other.is_float and not found.is_float):
            found = promote(found, other)
    if found.is_storage:
        raise InvalidGraph(f"{found.name} is for storage: cast it to a float to compute in", "dtype")
    return found


def _promoted(types: list[DType]) -> DType:
    found = types[0]
    for other in types[1:]:
        found = promote(found, other)
    return found


def terms(*values: Term) -> tuple[UOp, ...]:
    """Nodes for the values; numbers among them take the nodes' dtype, and all of them together one of their own."""
    nodes = [value for value in values if isinstance(value, UOp)]
    beside = common_type(*nodes) if nodes else dt.bool_
    return tuple(v if isinstance(v, UOp) else constant(v, scalar_type(v, beside)) for v in values)


def constant(value: Scalar, dtype: DType) -> UOp:
    """A 0-d constant; ValueError for an integer that `dtype` cannot hold."""
    if dtype.is_int:
        low, high = limits(dtype)
        if not low <= value <= high:
            raise ValueError(f"{value} does not fit {dtype.name}")
    return const(value, dtype)


def together(*values: Term) -> tuple[UOp, ...]:
    """The values in their common dtype and broadcast to their common shape."""
    nodes = terms(*values)
    dtype = common_type(*nodes)
    shape = broadcast_shape(*map(shape_of, nodes))
    return tuple(broadcast(cast(node, dtype), shape) for node in nodes)


def like(value: Scalar, node: UOp) -> UOp:
    """A constant of `node`'s dtype and shape."""
    return const(value, node.dtype, shape_of(node))


def as_float(node: UOp) -> UOp:
    """`node` itself if it is a float, else cast to float32. InvalidGraph for 8-bit floats."""
    return cast(node, common_type(node)) if node.dtype.is_float else cast(node, dt.float32)


def as_number(node: UOp) -> UOp:
    """bool as int32: for ops that bool has not. InvalidGraph for 8-bit floats."""
    common_type(node)
    return cast(node, dt.int32) if node.dtype is dt.bool_ else node


def wider(node: UOp) -> UOp:
    """A half-width float as float32, in which sums and compositions of its kind are computed.

    InvalidGraph for 8-bit floats, in which nothing is computed.
    """
    common_type(node)
    return cast(node, dt.float32) if node.dtype in (dt.float16, dt.bfloat16) else node


def _refuse_bool(op: str, node: UOp) -> None:
    if node.dtype is dt.bool_:
        raise InvalidGraph(f"{op} is not defined for bool; cast an operand with .int() or .float()", op)


# ---------------------------------------------------------------------------------------------- operators


def add(a: Term, b: Term) -> UOp:
    """a + b; of bools, a | b."""
    x, y = together(a, b)
    return elementwise(Op.OR if x.dtype is dt.bool_ else Op.ADD, x, y)


def subtract(a: Term, b: Term) -> UOp:
    """a - b; InvalidGraph for two bools, as in PyTorch."""
    x, y = together(a, b)
    _refuse_bool("SUB", x)
    return elementwise(Op.SUB, x, y)


def multiply(a: Term, b: Term) -> UOp:
    """a * b; of bools, a & b."""
    x, y = together(a, b)
    return elementwise(Op.AND if x.dtype is dt.bool_ else Op.MUL, x, y)


def divide(a: Term, b: Term) -> UOp:
    """a / b, always a float: x / 0 is an infinity or NaN."""
    x, y = together(a, b)
    return elementwise(Op.DIV, as_float(x), as_float(y))


def negate(x: UOp) -> UOp:
    """-x; InvalidGraph for bool, as in PyTorch."""
    _refuse_bool("NEG", x)
    common_type(x)
    return elementwise(Op.NEG, x)


def floor_divide(a: Term, b: Term) -> UOp:
    """a // b, rounded down: exact for integers (x // 0 is 0); of floats the nearest to that, x // 0 is x / 0."""
    x, y = map(as_number, together(a, b))
    if not x.dtype.is_float:
        return elementwise(Op.IDIV, x, y)
    wide, by = wider(x), wider(y)
    rest = elementwise(Op.FMOD, wide, by)
    quotient = elementwise(Op.DIV, elementwise(Op.SUB, wide, rest), by)  # a whole number but for rounding
    quotient = where(_falls_below(rest, by), subtract(quotient, 1), quotient)
    down = floor(quotient)
    down = where(less(0.5, subtract(quotient, down)), add(down, 1), down)
    plain = elementwise(Op.DIV, wide, by)
    zero = where(sign_bit(plain), -0.0, like(0.0, plain))
    found = cast(where(equal(by, 0), plain, where(equal(down, 0), zero, down)), x.dtype)
    return slope(found, (x, like(0, x)), (y, like(0, y)))


def remainder(a: Term, b: Term) -> UOp:
    """a % b, of b's sign: for integers x % 0 is 0, for floats NaN. Exact but for the sum with b where signs differ."""
    x, y = map(as_number, together(a, b))
    if not x.dtype.is_float:
        return elementwise(Op.MOD, x, y)
    wide, by = wider(x), wider(y)
    rest = elementwise(Op.FMOD, wide, by)
    return cast(where(_falls_below(rest, by), elementwise(Op.ADD, rest, by), rest), x.dtype)


def _falls_below(rest: UOp, divisor: UOp) -> UOp:
    """Where truncation has rounded up: there is a rest, of another sign than the divisor's."""
    apart = elementwise(Op.NE, less(rest, 0), less(divisor, 0))
    return logical_and(elementwise(Op.EQ, rest, rest), logical_and(not_equal(rest, 0), apart))


def truncated_quotient(a: Term, b: Term) -> UOp:
    """a / b towards zero: exact for integers (x / 0 is 0), of floats the division's result cut."""
    x, y = map(as_number, together(a, b))
    if x.dtype.is_float:
        return truncate(elementwise(Op.DIV, x, y))
    quotient = elementwise(Op.IDIV, subtract(x, truncated_remainder(x, y)), y)
    return where(equal(y, 0), 0, quotient)


def truncated_remainder(a: Term, b: Term) -> UOp:
    """C's fmod: the remainder of a's sign, exact."""
    x, y = map(as_number, together(a, b))
    if x.dtype.is_float:
        return elementwise(Op.FMOD, x, y)
    found = elementwise(Op.MOD, x, y)
    apart = elementwise(Op.NE, less(found, 0), less(x, 0))
    return where(logical_and(apart, not_equal(found, 0)), subtract(found, y), found)


# ----------------------------------------------------------------------------------------------- rounding


def truncate(x: UOp) -> UOp:
    """Rounded towards zero to a whole number."""
    return elementwise(Op.TRUNC, as_float(x)) if x.dtype.is_float else x


def floor(x: UOp) -> UOp:
    """The greatest whole number not above x."""
    if not x.dtype.is_float:
        return x
    cut = truncate(x)
    return elementwise(Op.SUB, cut, cast(elementwise(Op.LT, x, cut), x.dtype))


def ceil(x: UOp) -> UOp:
    """The least whole number not below x; -0 of what is above -1 and below 0."""
    if not x.dtype.is_float:
        return x
    cut = truncate(x)
    return elementwise(Op.SUB, cut, where(elementwise(Op.LT, cut, x), like(-1.0, x), like(0.0, x)))


def nearest(x: UOp) -> UOp:
    """The nearest whole number, of x's sign; of two the even one."""
    if not x.dtype.is_float:
        return x
    cut = truncate(x)
    beyond = magnitude(subtract(x, cut))  # exact, from 0 to below 1; NaN of an infinity, which stays
    odd = not_equal(multiply(truncate(multiply(cut, 0.5)), 2.0), cut)
    away = logical_or(less(0.5, beyond), logical_and(equal(beyond, 0.5), odd))
    step = where(less(x, 0.0), like(1.0, x), like(-1.0, x))
    return elementwise(Op.SUB, cut, where(away, step, like(0.0, x)))


def absolute(x: UOp) -> UOp:
    """|x|; the lowest integer stays itself, as nothing else fits."""
    if x.dtype is dt.bool_ or x.dtype.is_unsigned:
        return x
    size = magnitude(x)
    return elementwise(Op.ADD, size, like(0.0, x)) if x.dtype.is_float else size  # -0 + 0 is 0


def magnitude(x: UOp) -> UOp:
    """|x| of a signed number for comparisons: its zero may have a sign."""
    return elementwise(Op.MAX, x, elementwise(Op.NEG, x))


# ---------------------------------------------------------------------------------------------- comparison


def less(a: Term, b: Term) -> UOp:
    """a < b: false where either is NaN."""
    x, y = together(a, b)
    return elementwise(Op.LT, as_number(x), as_number(y))


def less_or_equal(a: Term, b: Term) -> UOp:
    """a <= b: false where either is NaN."""
    x, y = together(a, b)
    return elementwise(Op.OR, less(x, y), elementwise(Op.EQ, x, y))


def equal(a: Term, b: Term) -> UOp:
    """a == b."""
    return elementwise(Op.EQ, *together(a, b))


def not_equal(a: Term, b: Term) -> UOp:
    """a != b: true where either is NaN."""
    return elementwise(Op.NE, *together(a, b))


def is_nan(x: UOp) -> UOp:
    """True where x is no number."""
    return elementwise(Op.NE, x, x) if x.dtype.is_float else const(False, dt.bool_, shape_of(x))


def is_finite(x: UOp) -> UOp:
    """True where x is neither NaN nor infinite."""
    return less(magnitude(x), float("inf")) if x.dtype.is_float else const(True, dt.bool_, shape_of(x))


def is_infinite(x: UOp) -> UOp:
    """True where x is an infinity."""
    return equal(magnitude(x), float("inf")) if x.dtype.is_float else const(False, dt.bool_, shape_of(x))


def sign_bit(x: UOp) -> UOp:
    """True where x is negative, -0 and negative NaN included."""
    if not x.dtype.is_float:
        return less(x, 0)
    integers = {2: dt.int16, 4: dt.int32, 8: dt.int64}
    return less(bitcast(x, integers[x.dtype.itemsize]), 0)


def maximum(a: Term, b: Term) -> UOp:
    """The greater; NaN where either is NaN. Of bools, a | b."""
    x, y = together(a, b)
    return elementwise(Op.OR if x.dtype is dt.bool_ else Op.MAX, x, y)


def greater_number(a: Term, b: Term) -> UOp:
    """The greater; where one is NaN the other."""
    x, y = together(a, b)
    return where(logical_or(less_or_equal(y, x), is_nan(y)), x, y) if x.dtype.is_float else maximum(x, y)


def lesser_number(a: Term, b: Term) -> UOp:
    """The lesser; where one is NaN the other."""
    x, y = together(a, b)
    return where(logical_or(less_or_equal(x, y), is_nan(y)), x, y) if x.dtype.is_float else minimum(x, y)


def minimum(a: Term, b: Term) -> UOp:
    """The lesser; NaN where either is NaN. Of bools, a & b."""
    x, y = together(a, b)
    return elementwise(Op.AND if x.dtype is dt.bool_ else Op.MIN, x, y)


# --------------------------------------------------------------------------------------------------- bits


def bitwise(op: Op, a: Term, b: Term) -> UOp:
    """AND, OR or XOR of bools or integers; InvalidGraph for floats."""
    x, y = together(a, b)
    if x.dtype.is_float:
        raise InvalidGraph("is defined for bool and integers, not for floats", op.value)
    return elementwise(op, x, y)


def shift(op: Op, a: Term, b: Term) -> UOp:
    """SHL or SHR of integers: 0 where the shift is the width or more, or negative; the sign for SHR of signed ones."""
    x, y = together(a, b)
    if not x.dtype.is_int:
        raise InvalidGraph(f"is defined for integers, not for {x.dtype.name}", op.value)
    return elementwise(op, x, y)


def invert(x: UOp) -> UOp:
    """not x of a bool, ~x of an integer; InvalidGraph for floats."""
    if x.dtype.is_float:
        raise InvalidGraph("is defined for bool and integers, not for floats", "NOT")
    return elementwise(Op.NOT, x)


def logical_and(a: UOp, b: UOp) -> UOp:
    """Both true, as bool; broadcast."""
    return elementwise(Op.AND, *together(cast(a, dt.bool_), cast(b, dt.bool_)))


def logical_or(a: UOp, b: UOp) -> UOp:
    """Either true, as bool; broadcast."""
    return elementwise(Op.OR, *together(cast(a, dt.bool_), cast(b, dt.bool_)))


def logical_xor(a: UOp, b: UOp) -> UOp:
    """Just one true, as bool; broadcast."""
    return elementwise(Op.NE, *together(cast(a, dt.bool_), cast(b, dt.bool_)))


def logical_not(x: UOp) -> UOp:
    """Not true, as bool."""
    return elementwise(Op.NOT, cast(x, dt.bool_))


def where(condition: UOp, a: Term, b: Term) -> UOp:
    """a where the condition (cast to bool) holds, else b; broadcast, in the common dtype of a and b."""
    x, y = terms(a, b)
    dtype = x.dtype if x.dtype == y.dtype else common_type(x, y)
    shape = broadcast_shape(shape_of(condition), shape_of(x), shape_of(y))
    chosen = broadcast(cast(condition, dt.bool_), shape)
    return elementwise(Op.WHERE, chosen, *(broadcast(cast(v, dtype), shape) for v in (x, y)))
