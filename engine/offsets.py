"""Building index expressions (int64), and writing them in the order of the loops."""

from __future__ import annotations

from collections.abc import Iterable

from engine import dtype as dt
from engine.affine import Affine, affine, rebuild
from engine.ir import UOp, toposort
from engine.ops import Op
from engine.opts import RangeType


def number(value: int) -> UOp:
    """An int64 constant."""
    return UOp(Op.CONST, dt.int64, (), value)


def add(a: UOp, b: UOp) -> UOp:
    """a + b; zero and constants folded."""
    if a.op is Op.CONST and b.op is Op.CONST:
        return number(a.arg + b.arg)
    if a.op is Op.CONST and a.arg == 0:
        return b
    return a if b.op is Op.CONST and b.arg == 0 else UOp(Op.ADD, dt.int64, (a, b))


def multiply(a: UOp, factor: int) -> UOp:
    """a · factor; 0, 1 and constants folded."""
    if factor == 1:
        return a
    if factor == 0 or a.op is Op.CONST:
        return number(a.arg * factor if factor else 0)
    return UOp(Op.MUL, dt.int64, (a, number(factor)))


def total(parts: Iterable[UOp]) -> UOp:
    """The parts added up from left to right."""
    found = number(0)
    for part in parts:
        found = add(found, part)
    return found


def stride_along(offset: UOp, range_: UOp) -> int | None:
    """By how much `offset` grows per step of `range_`; None where that is not constant."""
    sum_ = affine(offset)
    if sum_ is None or any(node is not range_ and range_ in toposort(node) for node, _ in sum_.terms):
        return None
    return next((factor for node, factor in sum_.terms if node is range_), 0)


def in_loop_order(offset: UOp) -> UOp:
    """The same sum, terms of outer loops first, then its constant, then vector lanes.

    What outer loops contribute is then one node, common to all accesses that differ further in, and is computed
    outside. Loops count as further in by their ids, which are in execution order.
    """
    sum_ = affine(offset)
    if sum_ is None:
        return offset
    lanes = tuple(term for term in sum_.terms if is_lanes(term[0]))
    rest = sorted((term for term in sum_.terms if not is_lanes(term[0])), key=lambda term: _depth(term[0]))
    scalar = rebuild(Affine(sum_.dtype, tuple(rest), sum_.offset))
    return add(scalar, rebuild(Affine(sum_.dtype, lanes, 0)))


def is_lanes(node: UOp) -> bool:
    """Is this the RANGE of a VEC leaf?"""
    return node.op is Op.RANGE and node.arg[2] is RangeType.VEC


def _depth(node: UOp) -> int:
    return max((below.arg[0] for below in toposort(node) if below.op is Op.RANGE), default=-1)
