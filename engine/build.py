"""Small graph-building functions that Tensor and the named programs share: one way to write one thing."""

from __future__ import annotations

import struct

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import COMPARE, Op
from engine.shapes import Shape, shape_of

Scalar = bool | int | float


def round_to_float32(value: float) -> float:
    """The float32 nearest to `value`, as a Python float; beyond the largest it is an infinity."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def const(value: Scalar, dtype: DType, shape: Shape = ()) -> UOp:
    """A constant of `dtype`, spread over `shape`; a float is rounded to the dtype."""
    if dtype is dt.bool_:
        value = bool(value)
    elif dtype.is_int:
        value = int(value)
    else:
        value = round_to_float32(float(value))
    return broadcast(UOp(Op.CONST, dtype, (), value), shape)


def reshape(node: UOp, shape: Shape) -> UOp:
    """`node` seen in another shape of as many elements; itself when the shape is its own."""
    return node if shape_of(node) == shape else UOp(Op.RESHAPE, node.dtype, (node,), shape)


def expand(node: UOp, shape: Shape) -> UOp:
    """`node` with its size-1 axes grown to `shape`; itself when the shape is its own."""
    return node if shape_of(node) == shape else UOp(Op.EXPAND, node.dtype, (node,), shape)


def permute(node: UOp, axes: tuple[int, ...]) -> UOp:
    """`node` with its axes in another order; itself when the order is its own."""
    return node if axes == tuple(range(len(axes))) else UOp(Op.PERMUTE, node.dtype, (node,), axes)


def broadcast(node: UOp, shape: Shape) -> UOp:
    """NumPy's broadcasting of `node` to `shape`: missing leading axes are 1, axes of 1 grow."""
    old = shape_of(node)
    if len(old) > len(shape):
        raise InvalidGraph(f"cannot broadcast {old} to {shape}: it has more axes")
    return expand(reshape(node, (1,) * (len(shape) - len(old)) + old), shape)


def broadcast_shape(*shapes: Shape) -> Shape:
    """The shape that all `shapes` broadcast to; InvalidGraph when there is none."""
    length = max(map(len, shapes), default=0)
    padded = [(1,) * (length - len(shape)) + shape for shape in shapes]
    found = tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*padded, strict=True))
    if any(n not in (1, m) for shape in padded for n, m in zip(shape, found, strict=True)):
        raise InvalidGraph(f"shapes {' and '.join(map(str, shapes))} do not broadcast together")
    return found


def elementwise(op: Op, *src: UOp) -> UOp:
    """`op` on nodes of one shape and (WHERE's condition apart) one dtype."""
    dtype = dt.bool_ if op in COMPARE else src[-1].dtype
    return UOp(op, dtype, src)


def cast(node: UOp, dtype: DType) -> UOp:
    """`node` converted to `dtype`; itself when it is that already."""
    return node if node.dtype == dtype else UOp(Op.CAST, dtype, (node,))


def reduce(op: Op, node: UOp, axes: tuple[int, ...]) -> UOp:
    """`node` reduced with ADD, MUL, MAX or MIN over `axes`, which disappear."""
    return UOp(Op.REDUCE, node.dtype, (node,), (op, tuple(sorted(axes)))) if axes else node


def matmul(a: UOp, b: UOp) -> UOp:
    """(…, m, k) @ (…, k, n) → (…, m, n), leading axes broadcast: products over (…, m, n, k) summed over k."""
    (*batch_a, m, k), (*batch_b, rows, n) = shape_of(a), shape_of(b)
    if k != rows:
        raise InvalidGraph(f"cannot multiply {shape_of(a)} by {shape_of(b)}: {k} columns against {rows} rows")
    batch = broadcast_shape(tuple(batch_a), tuple(batch_b))
    rank_b = len(batch_b)
    turned = permute(b, (*range(rank_b), rank_b + 1, rank_b))
    left = broadcast(reshape(a, (*batch_a, m, 1, k)), (*batch, m, n, k))
    right = broadcast(reshape(turned, (*batch_b, 1, n, k)), (*batch, m, n, k))
    return reduce(Op.ADD, elementwise(Op.MUL, left, right), (len(batch) + 2,))


def param(slot: int, shape: Shape, dtype: DType) -> UOp:
    """A kernel's input number `slot`."""
    return UOp(Op.PARAM, dtype, (), (slot, shape))
