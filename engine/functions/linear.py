"""Products of matrices and of tensors. Half floats are multiplied and summed in float32 and rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from engine import build
from engine import dtype as dt
from engine.arguments import axis_of
from engine.build import cast, iota_along
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions.arithmetic import add, common_type, less_or_equal, where, wider
from engine.functions.movement import move_axes, transpose
from engine.ir import UOp
from engine.shapes import shape_of


def _factors(a: UOp, b: UOp, name: str) -> tuple[UOp, UOp, DType]:
    """Both in the type they are multiplied in, and the type of the result."""
    dtype = common_type(a, b)
    if dtype is dt.bool_:
        raise InvalidGraph("is not defined for bool; cast with .int() or .float()", name)
    return wider(cast(a, dtype)), wider(cast(b, dtype)), dtype


def matmul(a: UOp, b: UOp, dtype: DType | None = None) -> UOp:
    """Matrix product, leading axes broadcast; a 1-d node is a row on the left, a column on the right.

    `dtype`: cast to it before. InvalidGraph for 0-d nodes, bool, and sizes that do not meet.
    """
    rows, columns = shape_of(a), shape_of(b)
    if not rows or not columns:
        raise InvalidGraph(
            f"operands have shapes {rows} and {columns}; 0-d tensors multiply with *", "matmul"
        )
    if dtype is not None:
        a, b = cast(a, dtype), cast(b, dtype)
    left, right, wanted = _factors(a, b, "matmul")
    left = build.reshape(left, rows if len(rows) > 1 else (1, *rows))
    right = build.reshape(right, columns if len(columns) > 1 else (*columns, 1))
    if shape_of(left)[-1] != shape_of(right)[-2]:
        raise InvalidGraph(
            f"cannot multiply {rows} by {columns}: {shape_of(left)[-1]} columns against {shape_of(right)[-2]} rows"
        )
    found = build.matmul(left, right)
    shape = shape_of(found)
    kept = shape[:-2] + shape[-2:-1] * (len(rows) > 1) + shape[-1:] * (len(columns) > 1)
    return cast(build.reshape(found, kept), wanted)


def batched(a: UOp, b: UOp) -> UOp:
    """(n, i, k) @ (n, k, j); InvalidGraph for other shapes."""
    if len(shape_of(a)) != 3 or len(shape_of(b)) != 3 or shape_of(a)[0] != shape_of(b)[0]:
        raise InvalidGraph(f"{shape_of(a)} and {shape_of(b)} are not as many matrices", "bmm")
    return matmul(a, b)


def outer(a: UOp, b: UOp) -> UOp:
    """Every product of an element of one 1-d node with one of the other."""
    if len(shape_of(a)) != 1 or len(shape_of(b)) != 1:
        raise InvalidGraph(f"{shape_of(a)} and {shape_of(b)} are not 1-d", "outer")
    return matmul(build.reshape(a, (*shape_of(a), 1)), build.reshape(b, (1, *shape_of(b))))


def tensordot(a: UOp, b: UOp, axes: int | tuple[Sequence[int], Sequence[int]]) -> UOp:
    """Products summed over axes of both: so many last of a and first of b, or the pairs of axes named."""
    rank_a, rank_b = len(shape_of(a)), len(shape_of(b))
    if isinstance(axes, int):
        if not 0 <= axes <= min(rank_a, rank_b):
            raise InvalidGraph(
                f"{shape_of(a)} and {shape_of(b)} have not {axes} axes to sum over", "tensordot"
            )
        axes = (range(rank_a - axes, rank_a), range(axes))
    of_a = [axis_of(axis, rank_a) for axis in axes[0]]
    of_b = [axis_of(axis, rank_b) for axis in axes[1]]
    sizes = [shape_of(a)[axis] for axis in of_a]
    if sizes != [shape_of(b)[axis] for axis in of_b]:
        raise InvalidGraph(
            f"axes {of_a} of {shape_of(a)} are not of the sizes of axes {of_b} of {shape_of(b)}", "tensordot"
        )
    left = move_axes(a, of_a, range(rank_a - len(of_a), rank_a))
    right = move_axes(b, of_b, range(len(of_b)))
    front, behind = shape_of(left)[: rank_a - len(of_a)], shape_of(right)[len(of_b) :]
    found = matmul(
        build.reshape(left, (prod(front), prod(sizes))), build.reshape(right, (prod(sizes), prod(behind)))
    )
    return build.reshape(found, (*front, *behind))


def affine(x: UOp, weight: UOp, bias: UOp | None) -> UOp:
    """x times the transposed weight (out, in), plus the bias: a layer."""
    found = matmul(x, transpose(weight, 0, 1) if len(shape_of(weight)) == 2 else weight)
    return found if bias is None else add(found, bias)


def triangle(x: UOp, offset: int, lower: bool) -> UOp:
    """The last two axes with 0 above (`lower`) or below the diagonal that is `offset` above the main one."""
    shape = shape_of(x)
    if len(shape) < 2:
        raise InvalidGraph(f"{shape} has no two axes", "tril" if lower else "triu")
    row, column = iota_along(shape, len(shape) - 2), iota_along(shape, len(shape) - 1)
    shifted = add(row, offset)
    inside = less_or_equal(column, shifted) if lower else less_or_equal(shifted, column)
    return where(inside, x, build.const(0, x.dtype, shape))
