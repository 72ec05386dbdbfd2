"""Running sums, products and extremes along an axis.

An axis is cut into blocks: within each a triangular reduction, over their totals the same again. n elements cost
about BLOCK · n operations and no more memory than n.
"""

from __future__ import annotations

from engine import build
from engine import dtype as dt
from engine.arguments import axis_of
from engine.build import Scalar, cast, const, iota_along
from engine.dtype import DType
from engine.functions.arithmetic import (
    add,
    as_number,
    equal,
    is_nan,
    logical_or,
    maximum,
    minimum,
    multiply,
    where,
    wider,
)
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of

BLOCK = 64
_COMBINE = {Op.ADD: add, Op.MUL: multiply, Op.MAX: maximum, Op.MIN: minimum}


def _identity(op: Op, dtype: DType) -> Scalar:
    if op in (Op.ADD, Op.MUL):
        return 0 if op is Op.ADD else 1
    if dtype.is_float:
        return float("-inf" if op is Op.MAX else "inf")
    return dtype.low if op is Op.MAX else dtype.high


def scan(op: Op, x: UOp, axis: int) -> UOp:
    """At each place, x reduced with `op` from the start of the axis up to there."""
    shape = shape_of(x)
    if not shape:
        axis_of(axis, 1)
        return x
    place = axis_of(axis, len(shape))
    if x.dtype is dt.bool_:
        return cast(scan(op, as_number(x), place), dt.bool_)
    order = (*(i for i in range(len(shape)) if i != place), place)
    back = tuple(order.index(i) for i in range(len(shape)))
    return build.permute(_scan_last(op, build.permute(x, order), False), back)


def _scan_last(op: Op, x: UOp, exclusive: bool) -> UOp:
    """Along the last axis; `exclusive` leaves out the place itself."""
    *left, n = shape_of(x)
    if n <= BLOCK:
        return _triangular(op, x, exclusive)
    blocks = -(-n // BLOCK)
    # Places behind the end are read by none before it, so what stands there is of no matter.
    padded = build.pad(x, [(0, 0, 0)] * len(left) + [(0, blocks * BLOCK - n, 0)])
    cut = build.reshape(padded, (*left, blocks, BLOCK))
    inside = _triangular(op, cut, exclusive)
    before = _scan_last(op, build.reduce(op, cut, (len(left) + 1,)), True)
    before = build.expand(build.reshape(before, (*left, blocks, 1)), (*left, blocks, BLOCK))
    found = build.reshape(_COMBINE[op](before, inside), (*left, blocks * BLOCK))
    return build.shrink(found, [(0, m, 1) for m in left] + [(0, n, 1)])


def _triangular(op: Op, x: UOp, exclusive: bool) -> UOp:
    *left, n = shape_of(x)
    square = (*left, n, n)
    spread = build.expand(build.reshape(x, (*left, 1, n)), square)
    place, other = iota_along(square, len(left)), iota_along(square, len(left) + 1)
    seen = build.elementwise(Op.LT, other, place)
    seen = seen if exclusive else logical_or(seen, equal(other, place))
    none = const(_identity(op, x.dtype), x.dtype, square)
    return build.reduce(op, build.elementwise(Op.WHERE, seen, spread, none), (len(left) + 1,))


def accumulated(op: Op, x: UOp, axis: int, dtype: DType | None) -> UOp:
    """Running sum or product: of bool and integers int64; half floats accumulate in float32."""
    wanted = dtype or (x.dtype if x.dtype.is_float else dt.int64)
    return cast(scan(op, wider(cast(x, wanted)), axis), wanted)


def running_extreme(op: Op, x: UOp, axis: int) -> tuple[UOp, UOp]:
    """(running MAX or MIN, the int64 place of each: the last of equals). From the first NaN on it is NaN."""
    values = cast(scan(op, as_number(x), axis), x.dtype)
    shape = shape_of(x)
    if not shape:
        return values, const(0, dt.int64)
    place = axis_of(axis, len(shape))
    here = logical_or(equal(x, values), is_nan(x))
    seen = where(here, iota_along(shape, place), 0)
    return values, scan(Op.MAX, seen, place)
