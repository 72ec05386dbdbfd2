"""Reading and writing along one axis by an index of the result's shape: PyTorch's gather and scatter.

An index counts from the front; what points nowhere reads 0 and writes nothing.
"""

from __future__ import annotations

from math import prod

from engine import build
from engine import dtype as dt
from engine.arguments import axis_of
from engine.build import Scalar, cast, const, iota_along
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    add,
    as_number,
    divide,
    equal,
    floor_divide,
    invert,
    less,
    maximum,
    multiply,
    negate,
    where,
    wider,
)
from engine.functions.indexing import Span, counted, write
from engine.functions.reduction import reduce
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of

REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


def _index(index: UOp, name: str) -> UOp:
    if not index.dtype.is_int:
        raise TypeError(f"index of {name} must be of integers, not {index.dtype.name}")
    return cast(index, dt.int64)


def _corner(x: UOp, index: UOp, axis: int, name: str) -> UOp:
    """x shrunk to the index's sizes in all axes but one; InvalidGraph where it is smaller."""
    shape, wanted = shape_of(x), shape_of(index)
    if len(shape) != len(wanted) or any(
        m > n for i, (n, m) in enumerate(zip(shape, wanted, strict=True)) if i != axis
    ):
        raise InvalidGraph(f"index {wanted} is larger than {shape} beside axis {axis}", name)
    return build.shrink(x, [(0, n if i == axis else wanted[i], 1) for i, n in enumerate(shape)])


def gather(x: UOp, axis: int, index: UOp) -> UOp:
    """x at index along an axis; the other axes may be smaller in the index."""
    index = _index(index, "gather")
    place = axis_of(axis, max(1, len(shape_of(x))))
    if not shape_of(x):
        one = gather(build.reshape(x, (1,)), 0, build.reshape(index, (1,)))
        return build.reshape(one, shape_of(index))
    return build.gather(_corner(x, index, place, "gather"), index, place)


def select(x: UOp, axis: int, index: UOp) -> UOp:
    """The slices of an axis that a 1-d (or 0-d) index names, those below 0 counted from the end."""
    index = _index(index, "index_select")
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    if len(shape_of(index)) > 1:
        raise InvalidGraph(f"index {shape_of(index)} is not 1-d", "index_select")
    count = 1 if not shape_of(index) else shape_of(index)[0]
    along = tuple(count if i == place else 1 for i in range(len(shape)))
    wanted = tuple(count if i == place else n for i, n in enumerate(shape))
    at = build.expand(build.reshape(counted(index, shape[place]), along), wanted)
    return build.gather(x, at, place)


def scatter(x: UOp, axis: int, index: UOp, source: UOp, how: str) -> UOp:
    """x with the source's elements put ("set"), added ("add") or maximised ("max") in at index along an axis, in order.

    The index may be smaller than x beside the axis, and than the source everywhere.
    """
    index = _index(index, "scatter")
    shape, wanted = shape_of(x), shape_of(index)
    place = axis_of(axis, max(1, len(shape)))
    if not shape:
        x, index, source = (build.reshape(node, (1,)) for node in (x, index, source))
        return build.reshape(scatter(x, 0, index, source, how), ())
    if source.dtype.is_float and not x.dtype.is_float:
        raise InvalidGraph(
            f"a source of {source.dtype.name} does not fit {x.dtype.name}: cast one of them", "scatter: src"
        )
    given = shape_of(source)
    if len(given) != len(wanted) or any(m > n for n, m in zip(given, wanted, strict=True)):
        raise InvalidGraph(f"index {wanted} is larger than its source {given}", "scatter")
    updates = build.shrink(cast(source, x.dtype), [(0, m, 1) for m in wanted])
    corner = _corner(x, index, place, "scatter")
    found = _scattered(corner, index, updates, place, how)
    if shape_of(corner) == shape:
        return found
    return write(x, [Span(0, 1, n) for n in shape_of(corner)], found)


def _scattered(start: UOp, index: UOp, updates: UOp, axis: int, how: str) -> UOp:
    if start.dtype is dt.bool_ and how != "set":
        start, updates = as_number(start), as_number(updates)
        return cast(build.scatter(start, index, updates, axis, how), dt.bool_)
    dtype = start.dtype
    if how == "add":
        start, updates = wider(start), wider(updates)
    return cast(build.scatter(start, index, updates, axis, how), dtype)


def scatter_reduce(x: UOp, axis: int, index: UOp, source: UOp, how: str, include_self: bool) -> UOp:
    """x with, at each place, the reduction of what is scattered there, and of x's own element with `include_self`.

    Places that nothing is scattered to keep x's element. `how`: sum, prod, mean, amax or amin.
    """
    if how not in REDUCTIONS:
        raise InvalidGraph(f"reduction {how!r} is not one of {', '.join(REDUCTIONS)}", "scatter_reduce")
    hits = scatter(const(0, dt.int64, shape_of(x)), axis, index, const(1, dt.int64, shape_of(source)), "add")
    source = cast(source, x.dtype)
    start = x if include_self else where(less(0, hits), _identity(how, x.dtype), x)
    if how == "prod":
        return _product(start, axis, index, source)
    if how == "amax":
        return scatter(start, axis, index, source, "max")
    if how == "amin":
        return _reversed(scatter(_reversed(start), axis, index, _reversed(source), "max"))
    found = scatter(start, axis, index, source, "add")
    if how == "sum":
        return found
    count = maximum(add(hits, int(include_self)), 1)
    return cast(divide(found, count) if x.dtype.is_float else floor_divide(found, count), x.dtype)


def _identity(how: str, dtype: DType) -> Scalar:
    if how in ("sum", "mean", "prod"):
        return int(how == "prod")
    if dtype.is_float:
        return float("-inf" if how == "amax" else "inf")
    return dtype.low if how == "amax" else dtype.high


def _reversed(x: UOp) -> UOp:
    """In the opposite order, exactly: the least becomes the greatest."""
    return negate(x) if x.dtype.is_float else invert(x)


def _product(x: UOp, axis: int, index: UOp, source: UOp) -> UOp:
    """SCATTER cannot multiply: at each place, the product of all there is, of which 1 is what goes elsewhere."""
    index = _index(index, "scatter_reduce")
    place = axis_of(axis, len(shape_of(x)))
    corner = _corner(x, index, place, "scatter_reduce")
    sizes, wanted = shape_of(corner), shape_of(index)
    grid = (*wanted[:place], sizes[place], *wanted[place:])
    spread = (*wanted[:place], 1, *wanted[place:])
    updates = build.shrink(source, [(0, m, 1) for m in wanted])
    hit = equal(build.expand(build.reshape(index, spread), grid), iota_along(grid, place))
    factors = where(hit, build.expand(build.reshape(updates, spread), grid), 1)
    found = multiply(corner, reduce(Op.MUL, as_number(factors), place + 1, False))
    return write(x, [Span(0, 1, n) for n in sizes], cast(found, x.dtype))


def take(x: UOp, index: UOp) -> UOp:
    """The elements of x, numbered in row-major order, that an index of any shape names; below 0 from the end."""
    index = _index(index, "take")
    flat = build.reshape(x, (prod(shape_of(x)),))
    at = counted(index, prod(shape_of(x)))
    found = build.gather(flat, build.reshape(at, (prod(shape_of(at)),)), 0)
    return build.reshape(found, shape_of(index))


def one_hot(index: UOp, classes: int) -> UOp:
    """int64: for each number of the index a last axis that is 1 at it and 0 elsewhere."""
    index = _index(index, "one_hot")
    shape = (*shape_of(index), classes)
    at = build.expand(build.reshape(index, (*shape_of(index), 1)), shape)
    return cast(equal(at, iota_along(shape, len(shape) - 1)), dt.int64)
