"""Pooling over the last one, two or three axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from engine import build
from engine import dtype as dt
from engine.build import cast, const, iota, iota_along
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    add,
    as_float,
    divide,
    equal,
    floor_divide,
    less,
    less_or_equal,
    logical_and,
    multiply,
    remainder,
    where,
    wider,
)
from engine.functions.convolution import batched, per_axis, unbatched
from engine.functions.movement import padded_with
from engine.functions.reduction import first_extreme, reduce
from engine.functions.window import sliding
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of

Number = int | Sequence[int]


def _geometry(
    kernel: Number, stride: Number | None, padding: Number, dilation: Number, axes: int
) -> list[Shape]:
    kernels = per_axis(kernel, axes, "kernel_size")
    paddings = per_axis(padding, axes, "padding", 0)
    dilations = per_axis(dilation, axes, "dilation")
    if any(2 * p > d * (k - 1) + 1 for p, k, d in zip(paddings, kernels, dilations, strict=True)):
        raise InvalidGraph(f"{paddings} is more than half of the windows of {kernels}", "padding")
    return [kernels, kernels if stride is None else per_axis(stride, axes, "stride"), paddings, dilations]


def _widths(sizes: Shape, geometry: Sequence[Shape], ceil_mode: bool) -> list[tuple[int, int]]:
    """(before, behind) for each axis; with `ceil_mode` so much more that a last part of a window is one.

    Such a window must begin within the axis or the padding in front of it.
    """
    found = []
    for n, k, s, p, d in zip(sizes, *geometry, strict=True):
        reach = d * (k - 1) + 1
        over = n + 2 * p - reach
        count = (-(-over // s) if ceil_mode else over // s) + 1
        if ceil_mode and (count - 1) * s >= n + p:
            count -= 1
        found.append((p, max(p, (count - 1) * s + reach - n - p)))
    return found


def max_pool(
    x: UOp,
    axes: int,
    kernel: Number,
    stride: Number | None,
    padding: Number,
    dilation: Number,
    ceil_mode: bool,
) -> tuple[UOp, UOp]:
    """(the greatest element of each window, NaN if any is; its int64 place among all of the last axes).

    Of equals it is the first, which alone gets the gradient. What is padded is less than all.
    """
    geometry = _geometry(kernel, stride, padding, dilation, axes)
    image = batched(x, axes, f"max_pool{axes}d")
    sizes = shape_of(image)[2:]
    widths = _widths(sizes, geometry, ceil_mode)
    low = float("-inf") if x.dtype.is_float else x.dtype.low
    padded = padded_with(image, [(0, 0), (0, 0), *widths], low)
    seen = sliding(padded, geometry[0], geometry[1], geometry[3])
    found, first = first_extreme(Op.MAX, seen, tuple(range(2 + axes, 2 + 2 * axes)))
    shape = shape_of(seen)[: 2 + axes]
    first = build.reshape(first, shape)
    place = const(0, dt.int64, shape)
    for axis, (k, s, p, d) in reversed(list(enumerate(zip(*geometry, strict=True), 2))):
        inside, first = remainder(first, k), floor_divide(first, k)
        here = add(add(multiply(iota_along(shape, axis), s), multiply(inside, d)), -p)
        place = add(place, multiply(here, prod(sizes[axis - 1 :])))
    return unbatched(build.reshape(found, shape), x, axes), unbatched(place, x, axes)


def mean_pool(
    x: UOp,
    axes: int,
    kernel: Number,
    stride: Number | None,
    padding: Number,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None = None,
) -> UOp:
    """The mean of each window; of a window over the edge, of what lies in x (and in the padding, if counted).

    With a `divisor` it is the sum over that.
    """
    if divisor == 0:
        raise InvalidGraph("must not be 0", "divisor_override")
    geometry = _geometry(kernel, stride, padding, 1, axes)
    image = batched(as_float(x), axes, f"avg_pool{axes}d")
    sizes = shape_of(image)[2:]
    widths = _widths(sizes, geometry, ceil_mode)
    padded = padded_with(wider(image), [(0, 0), (0, 0), *widths], 0)
    last = tuple(range(2 + axes, 2 + 2 * axes))
    total = reduce(Op.ADD, sliding(padded, geometry[0], geometry[1], geometry[3]), last, False)
    if divisor is not None or not any(map(any, widths)):
        return unbatched(cast(divide(total, float(divisor or prod(geometry[0]))), image.dtype), x, axes)
    counted = geometry[2] if count_include_pad else (0,) * axes
    counts: UOp | None = None
    for axis in range(axes):
        along = _counts(sizes[axis], widths[axis], counted[axis], geometry[0][axis], geometry[1][axis])
        shape = tuple(shape_of(along)[0] if i == axis else 1 for i in range(axes))
        along = build.reshape(along, shape)
        counts = along if counts is None else multiply(counts, along)
    assert counts is not None
    return unbatched(cast(divide(total, cast(counts, total.dtype)), image.dtype), x, axes)


def _counts(n: int, widths: tuple[int, int], counted: int, kernel: int, stride: int) -> UOp:
    """How many places of each window count: those in x and in so much of the padding on either side."""
    low, high = widths
    places = add(iota(low + n + high), -low)
    inside = logical_and(less(-counted - 1, places), less(places, n + counted))
    return reduce(Op.ADD, sliding(cast(inside, dt.int64), (kernel,), (stride,), (1,)), 1, False)


def adaptive_mean_pool(x: UOp, axes: int, output: Number | Sequence[int | None]) -> UOp:
    """The mean of so many parts of each axis, which overlap where they are not equal (None keeps an axis)."""
    image = batched(as_float(x), axes, f"adaptive_avg_pool{axes}d")
    found = wider(image)
    for axis, size in enumerate(_parts(output, axes), 2):
        n = shape_of(found)[axis]
        found = _parted(found, axis, n if size is None else size)
    return unbatched(cast(found, image.dtype), x, axes)


def _parts(output: Number | Sequence[int | None], axes: int) -> Sequence[int | None]:
    wanted = (output,) * axes if isinstance(output, int) else tuple(output)
    if len(wanted) != axes:
        raise InvalidGraph(f"{output!r} is not {axes} sizes", "output_size")
    return wanted


def adaptive_max_pool(x: UOp, axes: int, output: Number | Sequence[int | None]) -> tuple[UOp, UOp]:
    """(the greatest of so many parts of each axis, its int64 place among all of the last axes); see `max_pool`."""
    image = batched(x, axes, f"adaptive_max_pool{axes}d")
    sizes = shape_of(image)[2:]
    found, place = image, const(0, dt.int64, shape_of(image))
    for axis in range(2, 2 + axes):
        place = add(multiply(place, sizes[axis - 2]), iota_along(shape_of(image), axis))
    low = float("-inf") if x.dtype.is_float else x.dtype.low
    # The last axis first: of equals it is the first in row-major order.
    for axis, size in reversed(list(enumerate(_parts(output, axes), 2))):
        n = sizes[axis - 2]
        count = n if size is None else size
        if count < 1 or n < 1:
            raise InvalidGraph(
                f"axis {axis} of {shape_of(x)} cannot become {count} parts", "adaptive_max_pool"
            )
        shape = shape_of(found)
        grid = (*shape[:axis], count, *shape[axis:])
        inside = _inside(grid, axis, n, count)
        seen, places = (
            build.expand(build.reshape(node, (*shape[:axis], 1, *shape[axis:])), grid)
            for node in (found, place)
        )
        best, first = first_extreme(Op.MAX, where(inside, seen, low), (axis + 1,))
        first = build.reshape(first, (*shape[:axis], count, 1, *shape[axis + 1 :]))
        hit = equal(iota_along(grid, axis + 1), build.expand(first, grid))
        place = reduce(Op.ADD, where(hit, places, 0), axis + 1, False)
        found = build.reshape(best, shape_of(place))
    return unbatched(found, x, axes), unbatched(place, x, axes)


def _inside(grid: Shape, axis: int, n: int, count: int) -> UOp:
    """Where a place (the axis behind) is in part i (the axis): from floor(i n / count) to below ceil((i + 1) n / count)."""
    i = iota_along(grid, axis)
    place = iota_along(grid, axis + 1)
    start = floor_divide(multiply(i, n), count)
    stop = floor_divide(add(multiply(add(i, 1), n), count - 1), count)
    return logical_and(less_or_equal(start, place), less(place, stop))


def _parted(x: UOp, axis: int, count: int) -> UOp:
    shape = shape_of(x)
    n = shape[axis]
    if count < 1 or n < 1:
        raise InvalidGraph(f"axis {axis} of {shape} cannot become {count} parts", "adaptive_avg_pool")
    if n % count == 0:
        cut = build.reshape(x, (*shape[:axis], count, n // count, *shape[axis + 1 :]))
        return divide(reduce(Op.ADD, cut, axis + 1, False), float(n // count))
    grid = (*shape[:axis], count, *shape[axis:])
    inside = _inside(grid, axis, n, count)
    spread = build.expand(build.reshape(x, (*shape[:axis], 1, *shape[axis:])), grid)
    total = reduce(Op.ADD, where(inside, spread, 0.0), axis + 1, False)
    return divide(total, cast(reduce(Op.ADD, cast(inside, dt.int64), axis + 1, False), total.dtype))
