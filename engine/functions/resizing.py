"""Images of another size: the nearest element, or what lies between the two next to it on each axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

from engine import build
from engine import dtype as dt
from engine.build import cast, iota
from engine.dtype import DType
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
from engine.functions.pooling import adaptive_mean_pool
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
    """(batch, channels, …) with the last axes of another size.

    `mode`: nearest, nearest-exact, area, linear, bilinear, trilinear or bicubic (Keys, 1981, with -3/4).
    """
    shape = shape_of(x)
    axes = len(shape) - 2
    if axes not in LINEAR:
        raise InvalidGraph(f"{shape} is not (batch, channels, 1 to 3 axes)", "interpolate")
    modes = ("nearest", "nearest-exact", "area", LINEAR[axes], *(["bicubic"] if axes == 2 else []))
    if mode not in modes:
        raise InvalidGraph(f"mode {mode!r} of {axes} axes is not one of {', '.join(modes)}", "interpolate")
    if align_corners and mode in modes[:3]:
        raise InvalidGraph(f"align_corners is for modes between elements, not for {mode!r}", "interpolate")
    wanted = _sizes(shape[2:], size, scale_factor)
    scales = _scales(scale_factor, axes)
    if mode == "area":
        return adaptive_mean_pool(x, axes, wanted)
    picks = mode.startswith("nearest")
    found = x if picks else wider(as_float(x))
    for axis, (n, m) in enumerate(zip(shape[2:], wanted, strict=True), 2):
        scale = scales[axis - 2]
        if picks:
            found = _nearest(found, axis, n, m, scale, mode == "nearest-exact")
        elif mode == "bicubic":
            found = _cubic(found, axis, n, m, scale, align_corners)
        else:
            found = _linear(found, axis, n, m, scale, align_corners)
    return found if picks else cast(found, as_float(x).dtype)


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


def _nearest(x: UOp, axis: int, n: int, m: int, scale: float | None, exact: bool) -> UOp:
    if m % n == 0 and (scale is None or scale == m // n):  # whole copies are a view
        shape = shape_of(x)
        front, behind = shape[:axis], shape[axis + 1 :]
        spread = build.expand(build.reshape(x, (*front, n, 1, *behind)), (*front, n, m // n, *behind))
        return build.reshape(spread, (*front, m, *behind))
    if exact:  # the element in which the middle lies
        step = n / m if scale is None else 1.0 / scale
        middles = multiply(add(cast(iota(m), dt.float32), 0.5), step)
        return _picked(x, axis, minimum(cast(floored(middles), dt.int64), n - 1))
    if scale is None:
        return _picked(x, axis, floor_divide(multiply(iota(m), n), m))
    places = cast(floored(multiply(cast(iota(m), dt.float32), 1.0 / scale)), dt.int64)
    return _picked(x, axis, minimum(places, n - 1))


def _linear(x: UOp, axis: int, n: int, m: int, scale: float | None, align_corners: bool) -> UOp:
    at = maximum(_middles(x.dtype, n, m, scale, align_corners), 0.0)
    low = minimum(cast(floored(at), dt.int64), n - 1)
    weight = subtract(at, cast(low, x.dtype))
    weight = build.reshape(weight, tuple(m if i == axis else 1 for i in range(len(shape_of(x)))))
    below, above = _picked(x, axis, low), _picked(x, axis, minimum(add(low, 1), n - 1))
    return add(multiply(below, subtract(1.0, weight)), multiply(above, weight))


def _middles(dtype: DType, n: int, m: int, scale: float | None, align_corners: bool) -> UOp:
    """Where the middles of m elements lie among those of n."""
    number = cast(iota(m), dtype)
    if align_corners:
        return multiply(number, (n - 1) / (m - 1) if m > 1 else 0.0)
    step = n / m if scale is None else 1.0 / scale
    return subtract(multiply(add(number, 0.5), step), 0.5)


def _cubic(x: UOp, axis: int, n: int, m: int, scale: float | None, align_corners: bool) -> UOp:
    """Each from the four next to it, those beyond the ends being the last ones, by Keys's weights."""
    at = _middles(x.dtype, n, m, scale, align_corners)
    start = floored(at)
    apart = subtract(at, start)
    low, total = cast(start, dt.int64), None
    distances = (add(apart, 1.0), apart, subtract(1.0, apart), subtract(2.0, apart))
    for number, distance in enumerate(distances):
        near = number in (1, 2)
        # (a + 2) d³ - (a + 3) d² + 1 up to 1, then a d³ - 5 a d² + 8 a d - 4 a
        third, second, first, zeroth = (1.25, -2.25, 0.0, 1.0) if near else (-0.75, 3.75, -6.0, 3.0)
        weight = add(multiply(add(multiply(distance, third), second), distance), first)
        weight = add(multiply(weight, distance), zeroth)
        weight = build.reshape(weight, tuple(m if i == axis else 1 for i in range(len(shape_of(x)))))
        places = minimum(maximum(add(low, number - 1), 0), n - 1)
        part = multiply(_picked(x, axis, places), weight)
        total = part if total is None else add(total, part)
    assert total is not None
    return total
