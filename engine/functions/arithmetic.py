"""What the operators of Tensor mean in ops of the graph: promotion, broadcasting, and what is made of simpler ops."""

from __future__ import annotations

from engine import dtype as dt
from engine.build import Scalar, broadcast, broadcast_shape, cast, const, elementwise
from engine.dtype import DType, promote
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of


def scalar_type(value: Scalar, other: DType) -> DType:
    """The type of a Python number beside a tensor of type `other`: its category may lift, its width never."""
    if isinstance(value, bool):
        return other
    if isinstance(value, int):
        return dt.int64 if other is dt.bool_ else other
    return other if other.is_float else dt.float32


def together(*nodes: UOp) -> tuple[UOp, ...]:
    """The nodes in their common dtype (bool < int < float) and broadcast to their common shape."""
    dtype = nodes[0].dtype
    for node in nodes[1:]:
        dtype = promote(dtype, node.dtype)
    shape = broadcast_shape(*map(shape_of, nodes))
    return tuple(broadcast(cast(node, dtype), shape) for node in nodes)


def like(value: Scalar, node: UOp) -> UOp:
    """A constant of `node`'s dtype and shape."""
    return const(value, node.dtype, shape_of(node))


def as_float(node: UOp) -> UOp:
    """`node` itself if it is a float, else cast to float32."""
    return node if node.dtype.is_float else cast(node, dt.float32)


def as_number(node: UOp) -> UOp:
    """bool as int32: for ops that bool has not."""
    return cast(node, dt.int32) if node.dtype is dt.bool_ else node


def _refuse_bool(op: str, node: UOp) -> None:
    if node.dtype is dt.bool_:
        raise InvalidGraph(f"{op} is not defined for bool; cast an operand with .int() or .float()", op)


def add(a: UOp, b: UOp) -> UOp:
    """a + b; of bools, a | b."""
    a, b = together(a, b)
    return elementwise(Op.OR if a.dtype is dt.bool_ else Op.ADD, a, b)


def subtract(a: UOp, b: UOp) -> UOp:
    """a - b; InvalidGraph for two bools, as in PyTorch."""
    a, b = together(a, b)
    _refuse_bool("SUB", a)
    return elementwise(Op.SUB, a, b)


def multiply(a: UOp, b: UOp) -> UOp:
    """a * b; of bools, a & b."""
    a, b = together(a, b)
    return elementwise(Op.AND if a.dtype is dt.bool_ else Op.MUL, a, b)


def divide(a: UOp, b: UOp) -> UOp:
    """a / b, always a float: x / 0 is an infinity or NaN."""
    a, b = together(as_float(a), as_float(b))
    return elementwise(Op.DIV, a, b)


def floor_divide(a: UOp, b: UOp) -> UOp:
    """a // b, rounded down: exact for integers (x // 0 is 0); for floats floor(a / b)."""
    a, b = together(as_number(a), as_number(b))
    return floor(divide(a, b)) if a.dtype.is_float else elementwise(Op.IDIV, a, b)


def remainder(a: UOp, b: UOp) -> UOp:
    """a % b, of b's sign: for integers x % 0 is 0; for floats a - floor(a / b) * b."""
    a, b = together(as_number(a), as_number(b))
    if a.dtype.is_float:
        return elementwise(Op.SUB, a, elementwise(Op.MUL, floor_divide(a, b), b))
    return elementwise(Op.MOD, a, b)


def floor(x: UOp) -> UOp:
    """The greatest whole number not above x. Floats of 2**23 and more are whole already, and NaN stays NaN."""
    if not x.dtype.is_float:
        return x
    cut = cast(cast(x, dt.int64), x.dtype)
    down = elementwise(Op.SUB, cut, cast(elementwise(Op.LT, x, cut), x.dtype))
    return elementwise(Op.WHERE, elementwise(Op.LT, absolute(x), like(2.0**23, x)), down, x)


def absolute(x: UOp) -> UOp:
    """|x|; the lowest integer stays itself, as nothing else fits."""
    return x if x.dtype is dt.bool_ else elementwise(Op.MAX, x, negate(x))


def negate(x: UOp) -> UOp:
    """-x; InvalidGraph for bool, as in PyTorch."""
    _refuse_bool("NEG", x)
    return elementwise(Op.NEG, x)


def power(x: UOp, exponent: Scalar) -> UOp:
    """x ** exponent for a whole number (by squaring) or 0.5; of integers, a whole number of 0 or more."""
    if exponent == 0.5:
        return elementwise(Op.SQRT, as_float(x))
    if exponent != int(exponent):
        raise InvalidGraph(f"exponent {exponent} must be whole or 0.5; use (x.log() * exponent).exp()", "**")
    x, times = as_number(x), int(exponent)
    if times < 0 and not x.dtype.is_float:
        raise InvalidGraph(f"an integer to the {exponent} is no integer; use .float() first", "**")
    found = _whole_power(x, abs(times))
    return elementwise(Op.DIV, like(1, x), found) if times < 0 else found


def _whole_power(x: UOp, times: int) -> UOp:
    found: UOp | None = None
    square = x
    while times:
        if times & 1:
            found = square if found is None else elementwise(Op.MUL, found, square)
        times >>= 1
        square = elementwise(Op.MUL, square, square) if times else square
    return like(1, x) if found is None else found


def less(a: UOp, b: UOp) -> UOp:
    """a < b: false where either is NaN."""
    a, b = together(a, b)
    return elementwise(Op.LT, as_number(a), as_number(b))


def less_or_equal(a: UOp, b: UOp) -> UOp:
    """a <= b: false where either is NaN."""
    a, b = together(a, b)
    return elementwise(Op.OR, less(a, b), elementwise(Op.EQ, a, b))


def equal(a: UOp, b: UOp) -> UOp:
    """a == b."""
    return elementwise(Op.EQ, *together(a, b))


def not_equal(a: UOp, b: UOp) -> UOp:
    """a != b: true where either is NaN."""
    return elementwise(Op.NE, *together(a, b))


def maximum(a: UOp, b: UOp) -> UOp:
    """The greater; NaN where either is NaN. Of bools, a | b."""
    a, b = together(a, b)
    return elementwise(Op.OR if a.dtype is dt.bool_ else Op.MAX, a, b)


def minimum(a: UOp, b: UOp) -> UOp:
    """The lesser; NaN where either is NaN. Of bools, a & b."""
    a, b = together(a, b)
    return elementwise(Op.AND if a.dtype is dt.bool_ else Op.MIN, a, b)


def bitwise(op: Op, a: UOp, b: UOp) -> UOp:
    """AND, OR or XOR of bools or integers; InvalidGraph for floats."""
    a, b = together(a, b)
    if a.dtype.is_float:
        raise InvalidGraph("is defined for bool and integers, not for floats", op.value)
    return elementwise(op, a, b)


def invert(x: UOp) -> UOp:
    """not x of a bool, ~x of an integer; InvalidGraph for floats."""
    if x.dtype.is_float:
        raise InvalidGraph("is defined for bool and integers, not for floats", "NOT")
    return elementwise(Op.NOT, x)


def where(condition: UOp, a: UOp, b: UOp) -> UOp:
    """a where the condition (cast to bool) holds, else b; broadcast, in the common dtype of a and b."""
    a, b = together(a, b)
    shape = broadcast_shape(shape_of(condition), shape_of(a))
    chosen = broadcast(cast(condition, dt.bool_), shape)
    return elementwise(Op.WHERE, chosen, broadcast(a, shape), broadcast(b, shape))
