"""The soft maximum over an axis, and its logarithm."""

from __future__ import annotations

from engine.arguments import axis_of
from engine.build import cast, detach
from engine.functions.arithmetic import as_float, multiply, subtract, wider
from engine.functions.mathematics import exp, logarithm, reciprocal
from engine.functions.reduction import extreme, total
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of


def _shifted(x: UOp, axis: int) -> tuple[UOp, int]:
    """x less its greatest along the axis, so that exp does not overflow."""
    shape = shape_of(x)
    place = axis_of(axis, max(1, len(shape)))
    wide = wider(as_float(x))
    if not shape:
        return subtract(wide, wide), place
    # What is taken away cancels: to gradients it is a constant.
    return (subtract(wide, extreme(Op.MAX, detach(wide), place, True)) if shape[place] else wide), place


def softmax(x: UOp, axis: int) -> UOp:
    """exp(x) / Σ exp(x), by one division for each row: the total is from 1 to their number, if it is any."""
    shifted, place = _shifted(x, axis)
    powers = exp(shifted)
    found = multiply(powers, reciprocal(total(powers, place, True))) if shape_of(x) else powers
    return cast(found, as_float(x).dtype)


def log_softmax(x: UOp, axis: int) -> UOp:
    """x less log Σ exp(x)."""
    shifted, place = _shifted(x, axis)
    found = subtract(shifted, logarithm(total(exp(shifted), place, True))) if shape_of(x) else shifted
    return cast(found, as_float(x).dtype)
