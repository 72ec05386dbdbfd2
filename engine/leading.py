"""Leading sizes made into an ordinary graph, at their largest, in which nothing depends on the elements behind them.

An axis of an open size is laid out for the most that it may be; what lies behind the elements of a call is whatever
was there. Wherever an op would mix that in, it is put out of the way here: a REDUCE along such an axis takes the
operation's identity instead, a GATHER finds zeros there as beyond any axis's end, a SCATTER's updates go nowhere.
Everything else keeps each element behind where it is (engine.leading_axes refuses what does not).
"""

from __future__ import annotations

from collections.abc import Sequence

from engine import dtype as dt
from engine.build import broadcast, cast, const, elementwise, iota, reshape
from engine.indexing import identity
from engine.ir import UOp, read_outside, toposort
from engine.ops import Op
from engine.shapes import Shape, shape_of
from engine.sizes import Size, plain


def masked(roots: Sequence[UOp]) -> tuple[UOp, ...]:
    """The roots without LEADING: of the sizes that they may have at the most, and right whatever lies behind."""
    order = toposort(*roots, bodies=False)
    if not any(node.op is Op.LEADING for node in order):
        return tuple(roots)
    memo: dict[UOp, UOp] = {}
    for node in order:
        read = read_outside(node)
        src = (*(memo[source] for source in read), *node.src[len(read) :])
        memo[node] = _without(node, src)
    return tuple(memo[root] for root in roots)


def _without(node: UOp, src: tuple[UOp, ...]) -> UOp:
    match node.op:
        case Op.LEADING:
            return src[0]
        case Op.REDUCE:
            op, axes = node.arg
            src = (_kept(src[0], node.src[0], axes, identity(op, node.dtype)),)
        case Op.GATHER:
            nothing = const(0, node.dtype)
            src = (_kept(src[0], node.src[0], (node.arg,), nothing), src[1])
        case Op.SCATTER:
            axis = node.arg[1]
            if isinstance(shape_of(node.src[1])[axis], Size):
                index = _kept(cast(src[1], dt.int64), node.src[1], (axis,), const(-1, dt.int64))
                src = (src[0], index, src[2])
    return node if src == node.src else node.replace(src=src)


def _kept(value: UOp, before: UOp, axes: Sequence[int], other: UOp) -> UOp:
    """`value` with `other` behind the open sizes that `before`, which it was, has along some axes."""
    sizes = shape_of(before)
    for axis in axes:
        size = sizes[axis]
        if isinstance(size, Size):
            inside = is_inside(size, plain(sizes), axis)
            value = elementwise(Op.WHERE, inside, value, broadcast(other, plain(sizes)))
    return value


def is_inside(size: Size, shape: Shape, axis: int) -> UOp:
    """For each element of `shape`, is its number along `axis` below the size?"""
    n = shape[axis]
    below = elementwise(Op.LT, iota(n), broadcast(size.node, (n,)))
    along = reshape(below, tuple(n if i == axis else 1 for i in range(len(shape))))
    return broadcast(along, shape)
