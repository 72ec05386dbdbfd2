"""The running log Σ exp(x) along an axis, in blocks as engine.functions.scan, safe for large x."""

from __future__ import annotations

from engine import build
from engine.arguments import axis_of
from engine.build import cast, iota_along
from engine.functions.arithmetic import as_float, equal, less, logical_or, where, wider
from engine.functions.mathematics import log_add_exp
from engine.functions.movement import move_axes
from engine.functions.reduction import log_sum_exp
from engine.functions.scan import BLOCK
from engine.ir import UOp
from engine.shapes import shape_of

NONE = float("-inf")


def running_log_sum_exp(x: UOp, axis: int) -> UOp:
    """At each place, log Σ exp of the axis from its start up to there."""
    number = as_float(x)
    if not shape_of(x):
        axis_of(axis, 1)
        return number
    place = axis_of(axis, len(shape_of(x)))
    last = move_axes(wider(number), [place], [len(shape_of(x)) - 1])
    return cast(move_axes(_along_last(last), [len(shape_of(x)) - 1], [place]), number.dtype)


def _along_last(x: UOp) -> UOp:
    *left, n = shape_of(x)
    if n <= BLOCK:
        return _triangular(x)
    blocks = -(-n // BLOCK)
    padded = build.pad(x, [(0, 0, 0)] * len(left) + [(0, blocks * BLOCK - n, 0)])
    cut = build.reshape(padded, (*left, blocks, BLOCK))
    totals = _along_last(log_sum_exp(cut, -1, False))
    # What stands before each block: nothing before the first, which is therefore left as it is.
    earlier = build.shrink(totals, [(0, m, 1) for m in left] + [(0, blocks - 1, 1)])
    before = build.pad(earlier, [(0, 0, 0)] * len(left) + [(1, 0, 0)])
    before = build.expand(build.reshape(before, (*left, blocks, 1)), (*left, blocks, BLOCK))
    inside = _triangular(cut)
    is_first = equal(iota_along((*left, blocks, BLOCK), len(left)), 0)
    joined = where(is_first, inside, log_add_exp(before, inside))
    found = build.reshape(joined, (*left, blocks * BLOCK))
    return build.shrink(found, [(0, m, 1) for m in left] + [(0, n, 1)])


def _triangular(x: UOp) -> UOp:
    *left, n = shape_of(x)
    square = (*left, n, n)
    spread = build.expand(build.reshape(x, (*left, 1, n)), square)
    place, other = iota_along(square, len(left)), iota_along(square, len(left) + 1)
    seen = logical_or(less(other, place), equal(other, place))
    return log_sum_exp(where(seen, spread, NONE), -1, False)
