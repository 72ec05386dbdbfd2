"""Losses: how far a prediction is from its target, reduced to their mean, their sum, or not at all."""

from __future__ import annotations

from engine import build
from engine import dtype as dt
from engine.build import cast
from engine.errors import InvalidGraph
from engine.functions.activation import log_sigmoid
from engine.functions.arithmetic import (
    absolute,
    add,
    as_float,
    divide,
    equal,
    less,
    logical_and,
    logical_or,
    multiply,
    negate,
    not_equal,
    subtract,
    together,
    where,
    wider,
)
from engine.functions.mathematics import clamp, exp, logarithm
from engine.functions.reduction import mean, one_hot_chosen, total
from engine.functions.softmax import log_softmax
from engine.ir import UOp
from engine.shapes import shape_of


def reduced(losses: UOp, how: str) -> UOp:
    """mean, sum or none of the losses; InvalidGraph for another word."""
    if how == "none":
        return losses
    if how not in ("mean", "sum"):
        raise InvalidGraph(f"{how!r} is not mean, sum or none", "reduction")
    return mean(losses) if how == "mean" else total(losses)


def _alike(x: UOp, target: UOp, name: str) -> tuple[UOp, UOp]:
    if shape_of(x) != shape_of(target):
        raise InvalidGraph(f"input {shape_of(x)} and target {shape_of(target)} must have one shape", name)
    a, b = together(x, target)
    return as_float(a), as_float(b)


def squared_error(x: UOp, target: UOp, how: str) -> UOp:
    """(x - target)²."""
    apart = subtract(*_alike(x, target, "mse_loss"))
    return reduced(multiply(apart, apart), how)


def absolute_error(x: UOp, target: UOp, how: str) -> UOp:
    """|x - target|."""
    return reduced(absolute(subtract(*_alike(x, target, "l1_loss"))), how)


def smooth_error(x: UOp, target: UOp, how: str, beta: float) -> UOp:
    """Half the square over beta where nearer than beta, else |x - target| - beta / 2."""
    size = absolute(subtract(*_alike(x, target, "smooth_l1_loss")))
    if beta <= 0:
        return reduced(size, how)
    near = divide(multiply(multiply(size, size), 0.5), beta)
    return reduced(where(less(size, beta), near, subtract(size, 0.5 * beta)), how)


def divergence(x: UOp, target: UOp, how: str, is_logarithm: bool) -> UOp:
    """Kullback and Leibler's: target (log target - x), 0 where the target is; x is a logarithm, the target perhaps."""
    logs, t = _alike(x, target, "kl_div")
    if is_logarithm:
        losses = multiply(exp(t), subtract(t, logs))
    else:
        none = equal(t, 0.0)
        losses = where(none, 0.0, multiply(t, subtract(logarithm(where(none, 1.0, t)), logs)))
    if how == "batchmean":
        return divide(total(losses), float(shape_of(x)[0]))
    return reduced(losses, how)


def binary_cross_entropy(x: UOp, target: UOp, weight: UOp | None, how: str) -> UOp:
    """-(target log x + (1 - target) log(1 - x)) of probabilities; logarithms are held above -100."""
    p, t = _alike(x, target, "binary_cross_entropy")
    yes, no = (clamp(logarithm(part), -100.0, None) for part in (p, subtract(1.0, p)))
    losses = negate(add(multiply(t, yes), multiply(subtract(1.0, t), no)))
    return reduced(losses if weight is None else multiply(losses, weight), how)


def binary_cross_entropy_with_logits(
    x: UOp, target: UOp, weight: UOp | None, how: str, pos_weight: UOp | None
) -> UOp:
    """`binary_cross_entropy` of sigmoid(x), safe for large x; `pos_weight` multiplies the loss of what is true."""
    logit, t = _alike(x, target, "binary_cross_entropy_with_logits")
    yes = multiply(t, log_sigmoid(logit))
    if pos_weight is not None:
        yes = multiply(yes, pos_weight)
    losses = negate(add(yes, multiply(subtract(1.0, t), log_sigmoid(negate(logit)))))
    return reduced(losses if weight is None else multiply(losses, weight), how)


def nll_loss(logs: UOp, target: UOp, weight: UOp | None, ignore_index: int, how: str) -> UOp:
    """-logs at the target's class, from logs (batch, classes, …) or (classes,); targets to be ignored give 0,
    those that are no class NaN.

    The mean is over the weights of the targets that are not ignored.
    """
    axis = _class_axis(logs, target, "nll_loss")
    chosen = negate(one_hot_chosen(logs, target, axis))
    scale = _weights(logs, target, weight, ignore_index, axis)
    losses = where(less(0.0, absolute(scale)), multiply(chosen, scale), 0.0)
    place = cast(target, dt.int64)
    outside = logical_or(less(place, 0), less(shape_of(logs)[axis] - 1, place))
    losses = where(logical_and(outside, not_equal(place, ignore_index)), float("nan"), losses)
    return divide(total(losses), total(scale)) if how == "mean" else reduced(losses, how)


def _class_axis(x: UOp, target: UOp, name: str) -> int:
    shape = shape_of(x)
    axis = 0 if len(shape) == 1 else 1
    if not shape or shape_of(target) != (*shape[:axis], *shape[axis + 1 :]):
        raise InvalidGraph(
            f"target {shape_of(target)} is not input {shape} without its axis of classes", name
        )
    if not target.dtype.is_int:
        raise TypeError(f"target of {name} must be of integers, not {target.dtype.name}")
    return axis


def _weights(x: UOp, target: UOp, weight: UOp | None, ignore_index: int, axis: int) -> UOp:
    """What the loss of each target counts: its class's weight (1 without any), 0 where it is ignored."""
    classes = shape_of(x)[axis]
    if weight is None:
        found = build.const(1.0, x.dtype, shape_of(target))
    else:
        if shape_of(weight) != (classes,):
            raise InvalidGraph(
                f"weight {shape_of(weight)} is not one number for each of {classes} classes", "weight"
            )
        along = build.reshape(weight, tuple(classes if i == axis else 1 for i in range(len(shape_of(x)))))
        found = one_hot_chosen(build.expand(cast(along, x.dtype), shape_of(x)), target, axis)
    return where(not_equal(cast(target, dt.int64), ignore_index), found, 0.0)


def cross_entropy(
    x: UOp, target: UOp, weight: UOp | None, ignore_index: int, how: str, label_smoothing: float
) -> UOp:
    """-log softmax(x) at the target's class, from scores (batch, classes, …) or (classes,).

    A target of x's shape holds probabilities. `label_smoothing`: so much of the target spread over all classes.
    """
    if not 0 <= label_smoothing <= 1:
        raise InvalidGraph(f"{label_smoothing} is not from 0 to 1", "label_smoothing")
    number = as_float(x)
    logs = log_softmax(wider(number), 0 if len(shape_of(x)) == 1 else 1)
    if shape_of(target) == shape_of(x) and target.dtype.is_float:
        return cast(_soft(logs, wider(target), weight, how, label_smoothing), number.dtype)
    hard = nll_loss(logs, target, weight, ignore_index, how)
    if label_smoothing:
        smooth = _smooth(logs, target, weight, ignore_index, how)
        share = label_smoothing / shape_of(x)[0 if len(shape_of(x)) == 1 else 1]
        hard = add(multiply(hard, 1.0 - label_smoothing), multiply(smooth, share))
    return cast(hard, number.dtype)


def _per_class(weight: UOp | None, logs: UOp, axis: int) -> UOp:
    if weight is None:
        return logs
    along = tuple(n if i == axis else 1 for i, n in enumerate(shape_of(logs)))
    return multiply(logs, build.reshape(weight, along))


def _smooth(logs: UOp, target: UOp, weight: UOp | None, ignore_index: int, how: str) -> UOp:
    """The sum over all classes instead of the target's, reduced as `nll_loss` does."""
    axis = _class_axis(logs, target, "cross_entropy")
    losses = negate(total(_per_class(weight, logs, axis), axis))
    counted = not_equal(cast(target, dt.int64), ignore_index)
    losses = where(counted, losses, 0.0)
    if how != "mean":
        return reduced(losses, how)
    return divide(total(losses), total(_weights(logs, target, weight, ignore_index, axis)))


def _soft(logs: UOp, target: UOp, weight: UOp | None, how: str, smoothing: float) -> UOp:
    axis = 0 if len(shape_of(logs)) == 1 else 1
    classes = shape_of(logs)[axis]
    if smoothing:
        target = add(multiply(target, 1.0 - smoothing), smoothing / classes)
    losses = negate(total(multiply(target, _per_class(weight, logs, axis)), axis))
    return reduced(losses, how)
