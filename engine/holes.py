"""Which HOLEs a node reads that no FOLD under it fills: none, in a graph that has a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.ir import UOp
from engine.ops import Op

Numbers = frozenset[int]  # of FOLDs
NONE: Numbers = frozenset()


def open_holes(node: UOp, below: Mapping[UOp, Numbers]) -> Numbers:
    """The numbers of the FOLDs whose HOLEs `node` reads outside their bodies; `below` says so of its sources.

    A source that is not in `below` has none.
    """
    if node.op is Op.HOLE:
        return frozenset((node.arg[0],))
    if not below:
        return NONE
    if node.op is Op.FOLD:
        number, _, states = node.arg
        return _union(node.src[:-states], below) | (_union(node.src[-states:], below) - {number})
    return _union(node.src, below)


def _union(nodes: Iterable[UOp], below: Mapping[UOp, Numbers]) -> Numbers:
    return NONE.union(*(below.get(node, NONE) for node in nodes))
