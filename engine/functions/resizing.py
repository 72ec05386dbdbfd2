"""Images of another size: the nearest element, or what lies between the two next to it on each axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from engine import build
from engine import dtype as dt
from engine.build import cast, iota
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    add,
    as_float,
    floor_divide,
    maximum,
    minimum,
    multiply,
    subtract,
    wider,
)
from engine.functions.arithmetic import floor as floored
from engine.ir import UOp
from engine.shapes import shape_of

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def interpolate(
    x: UOp,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    mode: str,
    align_corners: bool,
) -> UOp:
    """(batch, channels, …) with the last axes of another size. `mode`: nearest, linear, bilinear or trilinear."""
    shape = shape_of(x)
    axes = len(shape) - 2
    if axes not in LINEAR:
        raise InvalidGraph(f"{shape} is not (batch, channels, 1 to 3 axes)", "interpolate")
    if mode not in ("nearest", LINEAR[axes]):
        raise InvalidGraph(f"mode {mode!r} of {axes} axes is not nearest or {LINEAR[axes]}", "interpolate")
    wanted = _sizes(shape[2:], size, scale_factor)
    scales = _scales(scale_factor, axes)
    found = x if mode == "nearest" else wider(as_float(x))
    for axis, (n, m) in enumerate(zip(shape[2:], wanted, strict=True), 2):
        if mode == "nearest":
            found = _nearest(found, axis, n, m, scales[axis - 2])
        else:
            found = _linear(found, axis, n, m, scales[axis - 2], align_corners)
    return found if mode == "nearest" else cast(found, as_float(x).dtype)


def _sizes(
    old: tuple[int, ...], size: int | Sequence[int] | None, factor: float | Sequence[float] | None
) -> tuple[int, ...]:
    if (size is None) == (factor is None):
        raise InvalidGraph("takes a size or a scale_factor", "interpolate")
    if factor is not None:
        found = tuple(
            floor(n * f) for n, f in zip(old, _scales(factor, len(old)), strict=True) if f is not None
        )
    else:
        assert size is not None
        found = (size,) * len(old) if isinstance(size, int) else tuple(size)
    if len(found) != len(old) or min((*found, *old)) < 1:
        raise InvalidGraph(f"{old} cannot become {found}", "interpolate")
    return found


def _scales(factor: float | Sequence[float] | None, axes: int) -> list[float | None]:
    if factor is None:
        return [None] * axes
    return [float(factor)] * axes if isinstance(factor, int | float) else [float(f) for f in factor]


def _picked(x: UOp, axis: int, places: UOp) -> UOp:
    """The slices of an axis at int64 places."""
    shape = shape_of(x)
    (count,) = shape_of(places)
    along = build.reshape(places, tuple(count if i == axis else 1 for i in range(len(shape))))
    return build.gather(x, build.expand(along, (*shape[:axis], count, *shape[axis + 1 :])), axis)


def _nearest(x: UOp, axis: int, n: int, m: int, scale: float | None) -> UOp:
    if m % n == 0 and (scale is None or scale == m // n):  # whole copies are a view
        shape = shape_of(x)
        front, behind = shape[:axis], shape[axis + 1 :]
        spread = build.expand(build.reshape(x, (*front, n, 1, *behind)), (*front, n, m // n, *behind))
        return build.reshape(spread, (*front, m, *behind))
    if scale is None:
        return _picked(x, axis, floor_divide(multiply(iota(m), n), m))
    places = cast(floored(multiply(cast(iota(m), dt.float32), 1.0 / scale)), dt.int64)
    return _picked(x, axis, minimum(places, n - 1))


def _linear(x: UOp, axis: int, n: int, m: int, scale: float | None, align_corners: bool) -> UOp:
    number = cast(iota(m), x.dtype)
    if align_corners:
        at = multiply(number, (n - 1) / (m - 1) if m > 1 else 0.0)
    else:
        step = n / m if scale is None else 1.0 / scale
        at = maximum(subtract(multiply(add(number, 0.5), step), 0.5), 0.0)
    low = minimum(cast(floored(at), dt.int64), n - 1)
    weight = subtract(at, cast(low, x.dtype))
    weight = build.reshape(weight, tuple(m if i == axis else 1 for i in range(len(shape_of(x)))))
    below, above = _picked(x, axis, low), _picked(x, axis, minimum(add(low, 1), n - 1))
    return add(multiply(below, subtract(1.0, weight)), multiply(above, weight))
