"""Layers' means taken away and their deviations divided out. Half floats are computed in float32."""

from __future__ import annotations

from math import prod

from engine import build
from engine.build import cast
from engine.errors import InvalidGraph
from engine.functions.arithmetic import add, as_float, multiply, subtract, wider
from engine.functions.mathematics import reciprocal_root
from engine.functions.reduction import mean, variance
from engine.ir import UOp
from engine.shapes import Shape, shape_of


def normalized(x: UOp, axes: tuple[int, ...], eps: float) -> UOp:
    """(x - mean) / √(variance + eps) over the axes, the variance over all (no correction)."""
    apart = subtract(x, mean(x, axes, True))
    spread = mean(multiply(apart, apart), axes, True)
    return multiply(apart, reciprocal_root(add(spread, eps)))


def _scaled(found: UOp, weight: UOp | None, bias: UOp | None, shape: Shape) -> UOp:
    if weight is not None:
        found = multiply(found, build.reshape(weight, shape))
    return found if bias is None else add(found, build.reshape(bias, shape))


def _last_axes(x: UOp, shape: Shape, name: str) -> tuple[int, ...]:
    if not shape or shape_of(x)[-len(shape) :] != shape:
        raise InvalidGraph(f"{shape_of(x)} does not end in {shape}", name)
    ndim = len(shape_of(x))
    return tuple(range(ndim - len(shape), ndim))


def _of_shape(node: UOp | None, shape: Shape, what: str, name: str) -> None:
    if node is not None and shape_of(node) != shape:
        raise InvalidGraph(f"{what} has shape {shape_of(node)}, not {shape}", name)


def layer_norm(x: UOp, shape: Shape, weight: UOp | None, bias: UOp | None, eps: float) -> UOp:
    """Normalized over the last axes, which are of `shape`; then times the weight and plus the bias."""
    axes = _last_axes(x, shape, "layer_norm")
    for node, what in ((weight, "weight"), (bias, "bias")):
        _of_shape(node, shape, what, "layer_norm")
    number = as_float(x)
    return cast(_scaled(normalized(wider(number), axes, eps), weight, bias, shape), number.dtype)


def rms_norm(x: UOp, shape: Shape, weight: UOp | None, eps: float) -> UOp:
    """x over the root of the mean of its squares, over the last axes (Zhang and Sennrich, 2019)."""
    axes = _last_axes(x, shape, "rms_norm")
    _of_shape(weight, shape, "weight", "rms_norm")
    number = as_float(x)
    wide = wider(number)
    scale = reciprocal_root(add(mean(multiply(wide, wide), axes, True), eps))
    return cast(_scaled(multiply(wide, scale), weight, None, shape), number.dtype)


def group_norm(x: UOp, groups: int, weight: UOp | None, bias: UOp | None, eps: float) -> UOp:
    """(batch, channels, …) normalized over each of so many groups of channels and all further axes."""
    shape = shape_of(x)
    if len(shape) < 2 or groups < 1 or shape[1] % groups:
        raise InvalidGraph(f"the channels of {shape} are not {groups} groups", "group_norm")
    for node, what in ((weight, "weight"), (bias, "bias")):
        _of_shape(node, shape[1:2], what, "group_norm")
    number = as_float(x)
    cut = build.reshape(wider(number), (shape[0], groups, prod(shape[1:]) // groups))
    found = build.reshape(normalized(cut, (2,), eps), shape)
    return cast(_scaled(found, weight, bias, (shape[1], *[1] * (len(shape) - 2))), number.dtype)


def batch_statistics(x: UOp) -> tuple[UOp, UOp]:
    """(mean, variance without correction) of each channel of (batch, channels, …), over all other axes."""
    axes = tuple(i for i in range(len(shape_of(x))) if i != 1)
    wide = wider(as_float(x))
    return mean(wide, axes), variance(wide, axes, 0, False)


def batch_norm(x: UOp, at: UOp, spread: UOp, weight: UOp | None, bias: UOp | None, eps: float) -> UOp:
    """(batch, channels, …) less the mean `at`, over √(variance `spread` + eps): one number for each channel."""
    shape = shape_of(x)
    if len(shape) < 2:
        raise InvalidGraph(f"{shape} has no channels", "batch_norm")
    for node, what in ((at, "mean"), (spread, "variance"), (weight, "weight"), (bias, "bias")):
        _of_shape(node, shape[1:2], what, "batch_norm")
    number = as_float(x)
    along = (shape[1], *[1] * (len(shape) - 2))
    apart = subtract(wider(number), build.reshape(wider(at), along))
    scale = reciprocal_root(add(wider(spread), eps))
    found = multiply(apart, build.reshape(scale, along))
    return cast(_scaled(found, weight, bias, along), number.dtype)
