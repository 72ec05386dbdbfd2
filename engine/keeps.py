"""Kept values: what a pass computes for each element of a row, and a later pass would compute again.

A softmax's powers are summed by one pass and divided by the next. KEEP has the first store them in scratch memory, a
row at a time, and the others read them there. It is an opt, as it is not always worth it: a difference is computed
faster than it is read. What the user wants kept (CONTIGUOUS("local")) comes before what else a pass could keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from engine import rows
from engine.indexing import Body, body
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, Op
from engine.opts import TARGET_OUT, RangeType
from engine.ranges import Axis, Leaf
from engine.small_floats import computed_as
from engine.stages import ALIGNMENT, is_wish


@dataclass(frozen=True)
class Keepable:
    """`node`, computed by the reduce `target`, and by each of the later targets as its twin, over that one's axes."""

    target: str
    node: UOp
    twins: dict[str, UOp]
    rows: dict[str, tuple[Axis, ...]]  # the axes of a row, by target
    is_wanted: bool = False  # has the user asked for it?


@lru_cache(maxsize=256)
def keepables(kernel: Kernel) -> dict[str, Keepable]:
    """For each reduce that computes something for later passes over its rows: what the user wants kept, or the last."""
    found = body(kernel)
    if found.updates is not None or not rows.is_rows(kernel):
        return {}
    names = rows.targets(found)
    made: dict[str, Keepable] = {}
    for place, name in enumerate(names[:-1]):
        if not found.axes_of(TARGET_OUT) <= found.axes_of(name):
            later = [other for other in names[place + 1 :] if _row(found, other) is not None]
            if (keepable := _keepable(found, name, later)) is not None:
                made[name] = keepable
    return made


def _row(found: Body, name: str) -> tuple[Axis, ...] | None:
    """The axes of a target that are its own; None where it has none."""
    shared = rows.shared_axes(found)
    own = [axis for axis in found.axes if axis.target == name and (name != TARGET_OUT or axis not in shared)]
    return tuple(own) or None


def _keepable(found: Body, name: str, later: Iterable[str]) -> Keepable | None:
    own = _row(found, name)
    others = {other: _row(found, other) for other in later}
    alike = {
        other: row
        for other, row in others.items()
        if own and row and [axis.extent for axis in own] == [axis.extent for axis in row]
    }
    reduces = [reduce for reduce, target in found.reduces.items() if target == name]
    if own is None or not alike or len(reduces) != 1:
        return None
    nodes = {other: rows.nodes_of(found, other) for other in alike}
    moved, last = found.all_axes, None
    wanted, unwanted = _wishes(found, "local"), _wishes(found, "register")
    for node in reversed(toposort(reduces[0].src[0], enter=lambda n: n.op not in (Op.REDUCE, Op.LOAD))):
        if node not in wanted and node.op not in ELEMENTWISE:
            continue
        if node in unwanted or not moved[node].issuperset(own):
            continue
        twins: dict[str, UOp] = {}
        for other, row in alike.items():
            moves = {found.ranges[a]: found.ranges[b] for a, b in zip(own, row, strict=True)}
            twin = substitute(node, moves)
            if twin in nodes[other] and twin is not node:
                twins[other] = twin
        is_wanted = not wanted.isdisjoint({node, *twins.values()})
        if twins and (is_wanted or last is None):
            axes = {name: own} | {other: alike[other] for other in twins}
            last = Keepable(name, node, twins, axes, is_wanted)
            if is_wanted or not wanted:
                break
    return last


def _wishes(found: Body, level: str) -> frozenset[UOp]:
    """What the user wants at that level, with and without the wish itself."""
    wishes = [node for node in toposort(found.value) if is_wish(node, level)]
    return frozenset({*wishes, *(node.src[0] for node in wishes)})


@dataclass(frozen=True)
class Kept:
    """A value that is kept, from byte `at` of the scratch memory on: of each register row `extents` elements.

    Where lanes are rows, the elements of all lanes stand side by side.
    """

    value: Keepable
    at: int
    extents: tuple[int, ...]  # along the axes of a row, what sticks out of them included
    registers: tuple[Leaf, ...]  # the UPCAST leaves that rows differ in
    vec: Leaf | None  # the VEC leaf that they differ in

    @property
    def elements(self) -> int:
        """How many there are."""
        leaves = (*self.registers, *([self.vec] if self.vec else []))
        return prod(self.extents) * prod(leaf.extent for leaf in leaves)

    @property
    def end(self) -> int:
        """Where what lies behind it may begin."""
        size = self.elements * computed_as(self.value.node.dtype).itemsize
        return self.at + -(-size // ALIGNMENT) * ALIGNMENT


def laid_out(found: Body, value: Keepable, leaves: Iterable[Leaf], at: int) -> Kept:
    """The value's place for a kernel of these leaves."""
    leaves = tuple(leaves)

    def covered(axis: Axis) -> int:
        return prod(leaf.extent for leaf in leaves if leaf.axis == axis)

    extents = tuple(max(map(covered, axes)) for axes in zip(*value.rows.values(), strict=True))
    across = found.axes_of(value.target).difference(value.rows[value.target])
    upcasts = tuple(leaf for leaf in leaves if leaf.type is RangeType.UPCAST and leaf.axis in across)
    vec = next((leaf for leaf in leaves if leaf.type is RangeType.VEC and leaf.axis in across), None)
    return Kept(value, at, extents, upcasts, vec)
