"""Reductions: axes that disappear, or with `keepdim` stay with size 1.

float16 and bfloat16 are summed in float32 and rounded once, at the end.
"""

from __future__ import annotations

from math import inf, prod

from engine import build
from engine import dtype as dt
from engine.arguments import Axes, axes_of, axis_of
from engine.build import cast, const, detach, iota_along, slope
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    absolute,
    add,
    as_float,
    as_number,
    divide,
    equal,
    is_finite,
    is_nan,
    less,
    logical_not,
    logical_or,
    multiply,
    not_equal,
    subtract,
    where,
    wider,
)
from engine.functions.mathematics import exp, logarithm, root
from engine.functions.powers import power
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of
from engine.sizes import at_least


def kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The shape with the axes reduced to size 1."""
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduce(op: Op, x: UOp, axis: Axes, keepdim: bool) -> UOp:
    """One of the graph's own reductions, of numbers."""
    shape = shape_of(x)
    axes = axes_of(axis, len(shape))
    found = build.reduce(op, x, axes)
    return build.reshape(found, kept(shape, axes)) if keepdim else found


def accumulated(op: Op, x: UOp, axis: Axes, keepdim: bool, dtype: DType | None) -> UOp:
    """A sum or product: of bool and integers int64, else of x's dtype; or of `dtype`, cast to before."""
    wanted = dtype or (x.dtype if x.dtype.is_float else dt.int64)
    if wanted is dt.bool_:
        return cast(reduce(op, cast(cast(x, dt.bool_), dt.int32), axis, keepdim), wanted)
    return cast(reduce(op, wider(cast(x, wanted)), axis, keepdim), wanted)


def total(x: UOp, axis: Axes = None, keepdim: bool = False, dtype: DType | None = None) -> UOp:
    """The sum; of nothing 0."""
    return accumulated(Op.ADD, x, axis, keepdim, dtype)


def extreme(op: Op, x: UOp, axis: Axes = None, keepdim: bool = False) -> UOp:
    """The greatest (MAX) or least (MIN), NaN if any is; ValueError over no elements."""
    _refuse_nothing(x, axis, op.value.lower())
    return cast(reduce(op, as_number(x), axis, keepdim), x.dtype)


def _refuse_nothing(x: UOp, axis: Axes, name: str) -> None:
    shape = shape_of(x)
    axes = axes_of(axis, len(shape))
    if prod(shape) == 0 and prod(n for i, n in enumerate(shape) if i not in axes) > 0:
        raise ValueError(f"{name} over no elements: shape {shape}, axis {axis}")


def first_extreme(op: Op, x: UOp, axes: tuple[int, ...]) -> tuple[UOp, UOp]:
    """(the extreme over `axes`, its first place in row-major order among them), the axes kept with size 1.

    As in PyTorch the gradient goes to that first one alone; of an `extreme`, evenly to all that are equal.
    """
    shape = shape_of(x)
    number = as_number(x)
    found = build.reshape(build.reduce(op, number, axes), kept(shape, axes))
    places, most = const(0, dt.int64, shape), 1
    for axis in reversed(axes):
        places = add(places, multiply(iota_along(shape, axis), most))
        most *= shape[axis]
    places = cast(places, dt.int32 if most < 1 << 31 else dt.int64)
    best = build.expand(found, shape)

    def first(hit: UOp) -> UOp:
        return build.reshape(build.reduce(Op.MIN, where(hit, places, most), axes), kept(shape, axes))

    if x.dtype.is_float:
        # Of a NaN all are "not less": one comparison, where `place` needs two, makes the backward pass twice as fast.
        not_less = logical_not(less(number, best) if op is Op.MAX else less(best, number))
        chosen = where(equal(places, build.expand(first(not_less), shape)), number, 0.0)
        picked = build.reshape(build.reduce(Op.ADD, chosen, axes), kept(shape, axes))
        found = slope(found, (picked, const(1.0, found.dtype, shape_of(found))))
    return cast(found, x.dtype), cast(first(logical_or(equal(number, best), is_nan(number))), dt.int64)


def chosen_extreme(op: Op, x: UOp, axis: int, keepdim: bool) -> tuple[UOp, UOp]:
    """(the extreme along one axis, its first int64 place). ValueError over no elements."""
    shape = shape_of(x)
    place = axis_of(axis, max(1, len(shape)))
    if not shape:
        return x, const(0, dt.int64)
    _refuse_nothing(x, place, op.value.lower())
    found, first = first_extreme(op, x, (place,))
    if keepdim:
        return found, first
    left = (*shape[:place], *shape[place + 1 :])
    return build.reshape(found, left), build.reshape(first, left)


def mean(x: UOp, axis: Axes = None, keepdim: bool = False, dtype: DType | None = None) -> UOp:
    """The mean, a float (of integers and bool float32); of nothing NaN."""
    number = as_float(x if dtype is None else cast(x, dtype))
    return cast(divide(total(wider(number), axis, keepdim), 1.0 * _count(x, axis)), number.dtype)


def _count(x: UOp, axis: Axes) -> int:
    """How many elements a reduction takes together: an open size where an axis is of one (engine.sizes)."""
    shape = shape_of(x)
    return prod(shape[i] for i in axes_of(axis, len(shape)))


def variance(x: UOp, axis: Axes, correction: float, keepdim: bool) -> UOp:
    """The mean squared distance from the mean, dividing by the count less `correction`."""
    number = as_float(x)
    wide = wider(number)
    apart = subtract(wide, mean(wide, axis, True))
    squares = total(multiply(apart, apart), axis, keepdim)
    return cast(divide(squares, at_least(0.0, _count(x, axis) - correction)), number.dtype)


def deviation(x: UOp, axis: Axes, correction: float, keepdim: bool) -> UOp:
    """The square root of the variance."""
    return _distance(variance(x, axis, correction, keepdim))


def place_of_extreme(op: Op, x: UOp, axis: int | None, keepdim: bool) -> UOp:
    """The int64 place of the first greatest or least element; the first NaN if there is one.

    Without an axis, the place in row-major order. ValueError over no elements.
    """
    shape = shape_of(x)
    if axis is None:
        found = place_of_extreme(op, build.reshape(x, (prod(shape),)), 0, False)
        return build.reshape(found, (1,) * len(shape)) if keepdim else found
    place = axis_of(axis, max(1, len(shape)))
    if not shape:
        return const(0, dt.int64)
    number = as_number(x)
    best = build.expand(extreme(op, number, place, True), shape)
    hit = logical_or(equal(number, best), is_nan(number))
    return reduce(Op.MIN, where(hit, iota_along(shape, place), shape[place]), place, keepdim)


def any_of(x: UOp, axis: Axes, keepdim: bool) -> UOp:
    """True where any element is true (not 0); of nothing False."""
    return _truth(Op.MAX, x, axis, keepdim)


def all_of(x: UOp, axis: Axes, keepdim: bool) -> UOp:
    """True where all elements are true (not 0); of nothing True."""
    return _truth(Op.MIN, x, axis, keepdim)


def _truth(op: Op, x: UOp, axis: Axes, keepdim: bool) -> UOp:
    shape = shape_of(x)
    axes = axes_of(axis, len(shape))
    if prod(shape) == 0:
        left = kept(shape, axes) if keepdim else tuple(n for i, n in enumerate(shape) if i not in axes)
        return const(op is Op.MIN, dt.bool_, left)
    return cast(reduce(op, cast(cast(x, dt.bool_), dt.int32), axis, keepdim), dt.bool_)


def count_nonzero(x: UOp, axis: Axes) -> UOp:
    """How many elements are not 0, int64."""
    return total(cast(x, dt.bool_), axis)


def log_sum_exp(x: UOp, axis: Axes, keepdim: bool) -> UOp:
    """log Σ exp(x), safe for large x; of nothing -infinity."""
    number = as_float(x)
    wide = wider(number)
    if prod(shape_of(x)) == 0:
        return cast(logarithm(total(exp(wide), axis, keepdim)), number.dtype)
    # What is taken away is put back: to gradients it is a constant.
    high = extreme(Op.MAX, detach(wide), axis, True)
    high = where(is_finite(high), high, 0.0)
    summed = logarithm(total(exp(subtract(wide, high)), axis, keepdim))
    return cast(add(summed, build.reshape(high, shape_of(summed))), number.dtype)


def _distance(square: UOp) -> UOp:
    """√square. At 0, where a distance has a kink, its gradient is 0 and not NaN."""
    none = equal(square, 0.0)
    return where(none, 0.0, root(where(none, 1.0, square)))


def norm(x: UOp, p: float, axis: Axes, keepdim: bool) -> UOp:
    """(Σ |x|ᵖ)^(1/p); for ±infinity the greatest or least |x|, for 0 how many are not 0. InvalidGraph for integers."""
    if not x.dtype.is_float:
        raise InvalidGraph(f"is defined for floats, not for {x.dtype.name}: use .float()", "norm")
    size = absolute(wider(x))
    if p in (inf, -inf):
        found = extreme(Op.MAX if p > 0 else Op.MIN, size, axis, keepdim)
    elif p == 0:
        found = total(cast(not_equal(size, 0.0), size.dtype), axis, keepdim)
    elif p == 1:
        found = total(size, axis, keepdim)
    elif p == 2:
        found = _distance(total(multiply(wider(x), wider(x)), axis, keepdim))
    else:
        found = power(total(power(size, p), axis, keepdim), 1.0 / p)
    return cast(found, x.dtype)


def one_hot_chosen(x: UOp, index: UOp, axis: int) -> UOp:
    """x at an index along `axis`, which disappears: 0 where there is no such index. A sum, so it runs in parallel.

    `index` has x's shape without the axis.
    """
    shape = shape_of(x)
    at = build.reshape(cast(index, dt.int64), (*shape[:axis], 1, *shape[axis + 1 :]))
    hit = equal(build.expand(at, shape), iota_along(shape, axis))
    return reduce(Op.ADD, where(hit, x, 0), axis, False)
