"""Gradients: the graph of the derivatives of a graph, by reverse accumulation.

One rule an op. A rule says, for each source, what reaches it of the gradient that reached the node; the rest is
one walk from the roots back. Gradients have the dtype and shape of what they are gradients of, and are graphs like
any other: they can be differentiated again. Conventions at the points where a derivative does not exist are
PyTorch's: two equal operands of MAX or MIN get half each, the extremes of a REDUCE share evenly, and what is constant
almost everywhere (TRUNC) has the gradient 0. A SLOPE says for itself what its derivatives are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine import dtype as dt
from engine.build import (
    cast,
    const,
    elementwise,
    expand,
    flip,
    gather,
    iota_along,
    pad,
    permute,
    reduce,
    reshape,
    scatter,
    shrink,
)
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.ops import COMPARE, Op
from engine.shapes import shape_of
from engine.simplify import number_of

# (node, the gradient that reached it) → the part of it that reaches one source; None where that is zeros.
Part = Callable[[UOp, UOp], UOp | None]
# One entry a source; None where nothing reaches it. Of a node of more sources, the last entry is for all others.
Rule = tuple[Part | None, ...]


def gradients(roots: Sequence[UOp], seeds: Sequence[UOp], targets: Sequence[UOp]) -> tuple[UOp | None, ...]:
    """For each target the gradient of Σ roots · seeds with respect to it; None where no root depends on it.

    A seed is the gradient that is given to its root: of its shape and dtype. A target may be any node, also one
    that another target depends on. Linear in the size of the graph, and iterative: a million nodes deep works.
    InvalidGraph for a seed that does not fit, roots that are not floats, and where the way leads through a FOLD.
    """
    for root, seed in zip(roots, seeds, strict=True):
        _check_seed(root, seed)
    order = toposort(*roots, enter=_is_differentiable)
    needed = _leading_to(set(targets), order)
    found: dict[UOp, UOp | None] = {}  # None where only zeros have reached
    for root, seed in zip(roots, seeds, strict=True):
        if root in needed:
            _accumulate(found, root, seed)
    for node in reversed(order):
        if node in found:
            gradient = found[node]
            for source, part in _parts(node):
                if source in needed:
                    _accumulate(found, source, None if gradient is None else part(node, gradient))
    return tuple((found[t] or _like(0.0, t)) if t in found else None for t in targets)


def differentiated(node: UOp) -> list[UOp]:
    """The sources that a gradient of the node goes to."""
    return [source for source, _ in _parts(node)]


def _check_seed(root: UOp, seed: UOp) -> None:
    if not root.dtype.is_float:
        raise InvalidGraph(f"of {root.dtype.name} there is none: only floats have gradients", "gradient")
    given, wanted = (seed.dtype, shape_of(seed)), (root.dtype, shape_of(root))
    if given != wanted:
        text = [f"{dtype.name} {shape}" for dtype, shape in (given, wanted)]
        raise InvalidGraph(f"the seed is {text[0]}, its root {text[1]}; they must be alike", "gradient")


def _is_differentiable(node: UOp) -> bool:
    """Can a gradient reach the node's sources? (A FOLD refuses, but only one that is on the way to a target.)"""
    return node.op in RULES and (node.dtype.is_float or node.op is Op.FOLD)


def _parts(node: UOp) -> list[tuple[UOp, Part]]:
    """The sources that a gradient of the node reaches, with what gives it."""
    if not _is_differentiable(node):
        return []
    if node.op is Op.SLOPE:
        return [(node.src[i], _declared(i + 1)) for i in range(1, len(node.src), 2)]
    rule = RULES[node.op]
    entries = [(source, rule[min(i, len(rule) - 1)]) for i, source in enumerate(node.src)]
    return [(s, part) for s, part in entries if part is not None and (s.dtype.is_float or s.op is Op.FOLD)]


def _leading_to(targets: set[UOp], order: list[UOp]) -> set[UOp]:
    """The nodes of `order` (sources first) from which a gradient goes on to a target, and the targets."""
    found: set[UOp] = set()
    for node in order:
        if node in targets or any(source in found for source, _ in _parts(node)):
            found.add(node)
    return found


def _accumulate(found: dict[UOp, UOp | None], node: UOp, gradient: UOp | None) -> None:
    before = found.get(node)
    found[node] = before if gradient is None else gradient if before is None else _add(before, gradient)


# --------------------------------------------------------------------------------------- building blocks


def _computing(dtype: DType) -> DType:
    """The dtype to add in: nothing is computed in 8-bit floats."""
    return dt.float32 if dtype.is_storage else dtype


def _add(a: UOp, b: UOp) -> UOp:
    wide = _computing(a.dtype)
    return cast(elementwise(Op.ADD, cast(a, wide), cast(b, wide)), a.dtype)


def _like(value: float, node: UOp) -> UOp:
    return const(value, node.dtype, shape_of(node))


def _mul(a: UOp, b: UOp) -> UOp:
    return elementwise(Op.MUL, a, b)


def _div(a: UOp, b: UOp) -> UOp:
    return elementwise(Op.DIV, a, b)


def _neg(a: UOp) -> UOp:
    return elementwise(Op.NEG, a)


def _equal(a: UOp, b: UOp) -> UOp:
    return elementwise(Op.EQ, a, b)


def _where(condition: UOp, a: UOp, b: UOp) -> UOp:
    return elementwise(Op.WHERE, condition, a, b)


def _only_where(condition: UOp, a: UOp) -> UOp:
    return _where(condition, a, _like(0.0, a))


def _summed(node: UOp, axes: tuple[int, ...]) -> UOp:
    return cast(reduce(Op.ADD, cast(node, _computing(node.dtype)), axes), node.dtype)


def _spread_again(reduced: UOp, node: UOp) -> UOp:
    """What has the shape of a REDUCE, repeated along the axes that it reduced."""
    shape = shape_of(node.src[0])
    kept = tuple(1 if axis in node.arg[1] else n for axis, n in enumerate(shape))
    return expand(reshape(reduced, kept), shape)


def _count(condition: UOp, axes: tuple[int, ...]) -> UOp:
    return reduce(Op.ADD, cast(condition, dt.int32), axes)


# ------------------------------------------------------------------------------------------ element-wise


def _passed(node: UOp, g: UOp) -> UOp:
    return g


def _nothing(node: UOp, g: UOp) -> None:
    """Constant almost everywhere: zeros."""


def _declared(place: int) -> Part:
    """Of a SLOPE to the x before source `place`."""

    def part(node: UOp, g: UOp) -> UOp | None:
        derivative = node.src[place]
        number = number_of(derivative)
        return None if number == 0 else g if number == 1 else _mul(g, derivative)

    return part


def _to_divisor(node: UOp, g: UOp) -> UOp:
    """Of FMOD, x - trunc(x / y) y."""
    return _neg(_mul(g, elementwise(Op.TRUNC, _div(*node.src))))


def _sine(node: UOp, g: UOp) -> UOp:
    """cos x = 1 - 2 sin²(x / 2): there is no COS."""
    x = node.src[0]
    half = elementwise(Op.SIN, _mul(x, _like(0.5, x)))
    return _mul(g, elementwise(Op.SUB, _like(1.0, x), _mul(_like(2.0, x), _mul(half, half))))


def _extreme(this: int) -> Part:
    """Of MAX and MIN to operand `this`: all where it was chosen, half where both are equal. All to two NaNs."""

    def part(node: UOp, g: UOp) -> UOp:
        mine, other = node.src[this], node.src[1 - this]
        lost = (mine, other) if node.op is Op.MAX else (other, mine)
        shared = _where(_equal(mine, other), _mul(g, _like(0.5, g)), g)
        return _where(elementwise(Op.LT, *lost), _like(0.0, g), shared)

    return part


# ------------------------------------------------------------------------------------------------- views


def _unpermuted(node: UOp, g: UOp) -> UOp:
    return permute(g, tuple(node.arg.index(axis) for axis in range(len(node.arg))))


def _unexpanded(node: UOp, g: UOp) -> UOp:
    old = shape_of(node.src[0])
    grown = tuple(axis for axis, (n, m) in enumerate(zip(old, node.arg, strict=True)) if n != m)
    return reshape(_summed(g, grown), old)


def _unshrunk(node: UOp, g: UOp) -> UOp:
    """Zeros where nothing was taken: before, between (step - 1) and behind."""
    widths = []
    for n, taken, (start, _, step) in zip(shape_of(node.src[0]), shape_of(node), node.arg, strict=True):
        behind = n - 1 - (start + (taken - 1) * step)
        widths.append((start, behind, step - 1) if taken else (n, 0, 0))
    return pad(g, widths)


def _unpadded(node: UOp, g: UOp) -> UOp:
    part = []
    for n, (low, _, between) in zip(shape_of(node.src[0]), node.arg, strict=True):
        part.append((low, low + n + max(n - 1, 0) * between, between + 1))
    return shrink(g, part)


# ----------------------------------------------------------------------------------------------- reduces


def _unreduced(node: UOp, g: UOp) -> UOp:
    return _REDUCES[node.arg[0]](node, g)


def _of_product(node: UOp, g: UOp) -> UOp:
    """To each factor the product of the others, by division; among zeros only a single one gets any."""
    x, axes = node.src[0], node.arg[1]
    is_zero = _equal(x, _like(0.0, x))
    factors = _where(is_zero, _like(1.0, x), x)
    others = _spread_again(_mul(g, reduce(Op.MUL, factors, axes)), node)
    zeros = _spread_again(_count(is_zero, axes), node)
    zeros_beside = elementwise(Op.SUB, zeros, cast(is_zero, dt.int32))
    return _only_where(_equal(zeros_beside, const(0, dt.int32, shape_of(x))), _div(others, factors))


def _of_extreme(node: UOp, g: UOp) -> UOp:
    """Shared evenly among the elements that are the extreme; NaN where the extreme is."""
    x = node.src[0]
    chosen = _equal(x, _spread_again(node, node))
    count = cast(_count(chosen, node.arg[1]), g.dtype)
    return _div(_only_where(chosen, _spread_again(g, node)), _spread_again(count, node))


_REDUCES: dict[Op, Callable[[UOp, UOp], UOp]] = {
    Op.ADD: lambda node, g: _spread_again(g, node),
    Op.MUL: _of_product,
    Op.MAX: _of_extreme,
    Op.MIN: _of_extreme,
}

# ---------------------------------------------------------------------------------------------- indexing


def _ungathered(node: UOp, g: UOp) -> UOp:
    values, index = node.src
    wide = _computing(g.dtype)
    zeros = const(0.0, wide, shape_of(values))
    return cast(scatter(zeros, index, cast(g, wide), node.arg, "add"), g.dtype)


def _to_start(node: UOp, g: UOp) -> UOp:
    start, index, _ = node.src
    how, axis = node.arg
    if how == "set":
        return scatter(g, index, const(0.0, g.dtype, shape_of(index)), axis, "set")
    return g if how == "add" else _only_where(_equal(start, node), _shared_maximum(node, g))


def _to_updates(node: UOp, g: UOp) -> UOp:
    _, index, updates = node.src
    how, axis = node.arg
    if how == "set":
        return _only_where(_is_last(node), gather(g, index, axis))
    if how == "add":
        return gather(g, index, axis)
    chosen = _equal(updates, gather(node, index, axis))
    return _only_where(chosen, gather(_shared_maximum(node, g), index, axis))


def _is_last(node: UOp) -> UOp:
    """Of each update of a SCATTER: does no later one go to the same place?"""
    _, index, updates = node.src
    axis = node.arg[1]
    number = iota_along(shape_of(updates), axis)
    last = scatter(const(-1, dt.int64, shape_of(node)), index, number, axis, "set")
    return _equal(gather(last, index, axis), number)


def _shared_maximum(node: UOp, g: UOp) -> UOp:
    """g divided by how many of start and updates are the maximum that SCATTER put there."""
    start, index, updates = node.src
    axis = node.arg[1]
    chosen = cast(_equal(updates, gather(node, index, axis)), dt.int32)
    count = scatter(cast(_equal(start, node), dt.int32), index, chosen, axis, "add")
    return _div(g, cast(count, g.dtype))


def _refuse_fold(node: UOp, g: UOp) -> UOp:
    raise InvalidGraph("a FOLD has no gradient: write the loop out, or detach what it reads", "gradient")


# ----------------------------------------------------------------------------------------------- the table

RULES: dict[Op, Rule] = {
    Op.NEG: (lambda node, g: _neg(g),),
    Op.EXP: (lambda node, g: _mul(g, node),),
    Op.LOG: (lambda node, g: _div(g, node.src[0]),),
    Op.SQRT: (lambda node, g: _div(_mul(g, _like(0.5, g)), node),),
    Op.SIN: (_sine,),
    Op.ADD: (_passed, _passed),
    Op.SUB: (_passed, lambda node, g: _neg(g)),
    Op.MUL: (lambda node, g: _mul(g, node.src[1]), lambda node, g: _mul(g, node.src[0])),
    Op.DIV: (lambda node, g: _div(g, node.src[1]), lambda node, g: _neg(_mul(g, _div(node, node.src[1])))),
    Op.TRUNC: (_nothing,),
    Op.FMOD: (_passed, _to_divisor),
    Op.SLOPE: (None, _passed),  # see _parts
    Op.MAX: (_extreme(0), _extreme(1)),
    Op.MIN: (_extreme(0), _extreme(1)),
    Op.WHERE: (
        None,
        lambda node, g: _only_where(node.src[0], g),
        lambda node, g: _where(node.src[0], _like(0.0, g), g),
    ),
    Op.CAST: (lambda node, g: cast(g, node.src[0].dtype),),
    Op.RESHAPE: (lambda node, g: reshape(g, shape_of(node.src[0])),),
    Op.PERMUTE: (_unpermuted,),
    Op.EXPAND: (_unexpanded,),
    Op.SHRINK: (_unshrunk,),
    Op.FLIP: (lambda node, g: flip(g, node.arg),),
    Op.PAD: (_unpadded,),
    Op.REDUCE: (_unreduced,),
    Op.GATHER: (_ungathered, None),
    Op.SCATTER: (_to_start, None, _to_updates),
    Op.CONTIGUOUS: (_passed,),
    Op.ASSIGN: (None, _passed),
    Op.LEADING: (_passed, None),
    Op.GET: (_refuse_fold,),
    Op.FOLD: (_refuse_fold,),
}

# Constant almost everywhere, of integers, or without sources: nothing passes these.
WITHOUT_GRADIENT = COMPARE | {
    *(Op.BUFFER, Op.PARAM, Op.CONST, Op.IOTA, Op.HOLE, Op.DETACH, Op.BITCAST),
    *(Op.NOT, Op.IDIV, Op.MOD, Op.AND, Op.OR, Op.XOR, Op.SHL, Op.SHR),
}
