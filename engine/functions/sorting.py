"""Sorting by comparisons whose places are known beforehand, so that it is a graph of views, minima and maxima.

Elements become int32 keys of the same order (NaN last, both zeros one), beside their place in an int64: sorting
those is stable, and a place comes out with each key. Short axes by counting who is less, long ones by Batcher's
bitonic network in the form where both halves of a merge rise: log² n / 2 steps, each a kernel.
"""

from __future__ import annotations

from math import prod

from engine import build
from engine import dtype as dt
from engine.arguments import axis_of
from engine.build import bitcast, cast, const, elementwise, iota_along
from engine.errors import InvalidGraph
from engine.functions.arithmetic import (
    add,
    as_float,
    equal,
    invert,
    is_nan,
    less,
    logical_and,
    logical_not,
    logical_or,
    multiply,
    where,
)
from engine.functions.movement import move_axes, part
from engine.functions.reduction import reduce
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of

SHORT = 256  # up to here n² comparisons in one kernel


def sort(x: UOp, axis: int, descending: bool) -> tuple[UOp, UOp]:
    """(the values in order, the int64 place each came from); equal elements stay in their order, NaN is greatest."""
    order = argsort(x, axis, descending)
    if not shape_of(x):
        return x, order
    return build.gather(x, order, axis_of(axis, len(shape_of(x)))), order


def argsort(x: UOp, axis: int, descending: bool) -> UOp:
    """The int64 places of the elements in order."""
    shape = shape_of(x)
    if not shape:
        axis_of(axis, 1)
        return const(0, dt.int64)
    place = axis_of(axis, len(shape))
    last = len(shape) - 1
    keys = _keys(move_axes(x, (place,), (last,)))
    return move_axes(_order(invert(keys) if descending else keys), (last,), (place,))


def topk(x: UOp, k: int, axis: int, largest: bool) -> tuple[UOp, UOp]:
    """The k greatest (or least) elements of an axis in order, and their int64 places."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    if not 0 <= k <= shape[place]:
        raise InvalidGraph(f"there are not {k} elements along axis {axis} of {shape}", "topk")
    at = part(argsort(x, place, largest), place, 0, k)
    return build.gather(x, at, place), at


def ranked(x: UOp, axis: int, rank: int, keepdim: bool, name: str) -> tuple[UOp, UOp]:
    """(the element of an axis that as many are less than as `rank` says, its int64 place). InvalidGraph if there is none."""
    shape = shape_of(x)
    if not shape:
        axis_of(axis, 1)
        return x, const(0, dt.int64)
    place = axis_of(axis, len(shape))
    if not 0 <= rank < shape[place]:
        raise InvalidGraph(f"axis {axis} of {shape} has no element number {rank + 1}", name)
    at = part(argsort(x, place, False), place, rank, rank + 1)
    return _without_axis((build.gather(x, at, place), at), place, keepdim)


def median(x: UOp, axis: int, keepdim: bool) -> tuple[UOp, UOp]:
    """(the middle element of an axis, of two the lesser, its int64 place); the first NaN where there is one.

    ValueError of no elements.
    """
    shape = shape_of(x)
    if not shape:
        return ranked(x, axis, 0, keepdim, "median")
    place = axis_of(axis, len(shape))
    if not shape[place]:
        raise ValueError(f"median over no elements: shape {shape}, axis {axis}")
    middle, at = ranked(x, place, (shape[place] - 1) // 2, True, "median")
    if x.dtype.is_float:
        numbers = iota_along(shape, place)
        first = reduce(Op.MIN, where(is_nan(x), numbers, shape[place]), place, True)
        no_number = less(first, shape[place])
        middle, at = where(no_number, float("nan"), middle), where(no_number, first, at)
    return _without_axis((middle, at), place, keepdim)


def _without_axis(found: tuple[UOp, UOp], axis: int, keepdim: bool) -> tuple[UOp, UOp]:
    if keepdim:
        return found
    shape = shape_of(found[0])
    values, places = (build.reshape(node, (*shape[:axis], *shape[axis + 1 :])) for node in found)
    return values, places


# --------------------------------------------------------------------------------------------------- keys


def _keys(x: UOp) -> UOp:
    """Integers of the order of x's elements."""
    if x.dtype is dt.bool_:
        return cast(x, dt.int32)
    if not x.dtype.is_float:
        return x
    number = as_float(x)
    number = where(equal(number, 0.0), 0.0, number)
    integer = {2: dt.int16, 4: dt.int32, 8: dt.int64}[number.dtype.itemsize]
    bits = bitcast(number, integer)
    # Negative floats grow in size with their bits: all but the sign turned round.
    turned = elementwise(Op.XOR, bits, build.const(integer.high, integer, shape_of(bits)))
    return where(is_nan(number), integer.high, where(less(bits, 0), turned, bits))


def _order(keys: UOp) -> UOp:
    """Stable places of integer keys along the last axis; of 64 bits by the lower half, then by the upper."""
    if keys.dtype.itemsize < 8:
        wide = cast(keys, dt.int64)
        wide = add(wide, -(1 << 31)) if keys.dtype is dt.uint32 else wide
        return _order_of_32(wide)
    half = 1 << 31
    signed = keys if keys.dtype is dt.int64 else bitcast(add(keys, 1 << 63), dt.int64)
    low = add(elementwise(Op.AND, signed, build.const((1 << 32) - 1, dt.int64, shape_of(keys))), -half)
    high = elementwise(Op.SHR, signed, build.const(32, dt.int64, shape_of(keys)))
    last = len(shape_of(keys)) - 1
    first = _order_of_32(low)
    return build.gather(first, _order_of_32(build.gather(high, first, last)), last)


def _order_of_32(keys: UOp) -> UOp:
    """Places of int64 keys that fit 32 bits: each packed with its place, so that no two are equal."""
    shape = shape_of(keys)
    packed = add(multiply(keys, 1 << 32), iota_along(shape, len(shape) - 1))
    ordered = _by_rank(packed) if shape[-1] <= SHORT else _by_network(packed)
    return elementwise(Op.AND, ordered, build.const((1 << 32) - 1, dt.int64, shape))


def _by_rank(x: UOp) -> UOp:
    """Each element put where as many are less as stand before."""
    *left, n = shape_of(x)
    square = (*left, n, n)
    mine = build.expand(build.reshape(x, (*left, n, 1)), square)
    other = build.expand(build.reshape(x, (*left, 1, n)), square)
    rank = reduce(Op.ADD, cast(less(other, mine), dt.int64), len(left) + 1, False)
    return build.scatter(const(0, dt.int64, (*left, n)), rank, x, len(left), "set")


def _by_network(x: UOp) -> UOp:
    *left, n = shape_of(x)
    around = [(0, m, 1) for m in left]
    levels = (n - 1).bit_length()
    size = 1 << levels
    widths = [*[(0, 0, 0)] * len(left), (0, size - n, 0)]
    x = where(build.pad(const(True, dt.bool_, (*left, n)), widths), build.pad(x, widths), dt.int64.high)
    for level in range(levels):
        x = _compared(x, 2 << level, True)  # of a block, the first with the last, and so on inwards
        for step in reversed(range(level)):
            x = _compared(x, 2 << step, False)
    return build.shrink(x, [*around, (0, n, 1)])


def _compared(x: UOp, block: int, mirrored: bool) -> UOp:
    """Each element of the front half of a block against its partner in the back half: the lesser in front."""
    *left, n = shape_of(x)
    shape = (*left, n // block, 2, block // 2)
    cut = build.reshape(x, shape)
    side = len(left) + 1
    partner = build.flip(cut, (side, side + 1) if mirrored else (side,))
    front = equal(iota_along(shape, side), 0)
    chosen = where(front, elementwise(Op.MIN, cut, partner), elementwise(Op.MAX, cut, partner))
    # Read twice by the next step: inlined, the work would double at each.
    return UOp(Op.CONTIGUOUS, x.dtype, (build.reshape(chosen, (*left, n)),), "global")


# -------------------------------------------------------------------------------------------------- search


def search(sequence: UOp, values: UOp, right: bool) -> UOp:
    """Where along the last axis of a sorted sequence each value would be put in: the int64 count of less elements.

    With `right`, of elements not greater. The sequence is 1-d, or has the values' leading axes; NaN counts as greatest.
    """
    shape, wanted = shape_of(sequence), shape_of(values)
    flat = build.reshape(values, (prod(wanted),)) if len(shape) == 1 else values
    if len(shape) != 1 and shape[:-1] != wanted[:-1]:
        raise InvalidGraph(f"{shape} and values {wanted} differ in their leading axes", "searchsorted")
    n, last = shape[-1], len(shape) - 1
    found = const(0, dt.int64, shape_of(flat))
    for bit in reversed(range(n.bit_length())):
        tried = add(found, 1 << bit)
        element = build.gather(sequence, add(tried, -1), last)
        below = logical_not(_above(element, flat)) if right else _above(flat, element)
        fits = elementwise(Op.AND, less(tried, n + 1), below)
        found = where(fits, tried, found)
    return build.reshape(found, wanted)


def _above(a: UOp, b: UOp) -> UOp:
    """a > b, where NaN is above everything but NaN."""
    return logical_or(less(b, a), logical_and(is_nan(a), logical_not(is_nan(b))))
