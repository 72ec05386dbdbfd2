"""Which elements of what kernels compute are ever looked at, where some results are of a leading size (engine.jit).

Asked from the results back, through each kernel's definition: an element that nothing needed depends on may hold
anything, so whoever runs the kernel need not compute it. A need is kept as one bound for each axis: only elements
below count · unit along it. Where a rule does not see it, everything is needed, which is always right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Generic, TypeVar

from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.leading_axes import split
from engine.ops import ELEMENTWISE, Op
from engine.shapes import Shape, shape_of

P = TypeVar("P")
# For each axis that has one: below (slot of the count) · unit.
Need = Mapping[int, tuple[int, int]]
ALL: Need = {}


@dataclass(frozen=True, slots=True)
class Needed:
    """Of a kernel's output only elements below count · unit along `axis` are needed; `count` is the int64's slot."""

    axis: int
    unit: int
    count: int


@dataclass(frozen=True, slots=True)
class Few(Generic[P]):
    """A kernel, prepared, that is quicker for up to `most` elements along the needed axis, each of which is a tile."""

    prepared: P
    most: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A kernel that was recorded: the slots it reads and the one it writes."""

    kernel: Kernel
    inputs: tuple[int, ...]
    output: int


def needed(
    ran: Sequence[Ran], counts: Mapping[int, int], results: Iterable[tuple[int, Shape, Need]]
) -> list[Needed | None]:
    """What is needed of each kernel's output, for kernels in their order.

    `counts` are the slots of counts, each with the greatest value; `results` slots in the shapes they are seen in.
    """
    needs: dict[int, Need] = {}
    seen = list(results)
    found: list[Needed | None] = []
    for each in reversed(ran):
        shape = shape_of(each.kernel.output)
        for slot, viewed, need in seen:
            if slot == each.output:
                _also(needs, slot, _reshaped(need, viewed, shape, counts))
        need = needs.get(each.output, ALL)
        found.append(next((Needed(axis, *reversed(bound)) for axis, bound in sorted(need.items())), None))
        for slot, read in _read(each, need, counts).items():
            _also(needs, slot, read)
    return found[::-1]


def _also(needs: dict[int, Need], key: int, need: Need) -> None:
    """Somebody else needs this of it too: what both leave out is left out."""
    known = needs.get(key)
    needs[key] = need if known is None else {axis: b for axis, b in known.items() if need.get(axis) == b}


def _read(each: Ran, need: Need, counts: Mapping[int, int]) -> dict[int, Need]:
    """What a kernel needs of its inputs, by slot, when so much is needed of its output."""
    order = toposort(each.kernel.output)
    limits = {p: each.inputs[p.arg[0]] for p in each.kernel.params if each.inputs[p.arg[0]] in counts}
    places = {node: number for number, node in enumerate(order)}
    needs: dict[int, Need] = {places[order[-1]]: need}
    found: dict[int, Need] = {}
    for node in reversed(order):
        wanted = needs.get(places[node], ALL)
        if node.op is Op.PARAM:
            _also(found, each.inputs[node.arg[0]], wanted)
        for source, part in zip(node.src, _of_sources(node, wanted, limits, counts), strict=True):
            _also(needs, places[source], part)
    return found


def _of_sources(node: UOp, need: Need, limits: Mapping[UOp, int], counts: Mapping[int, int]) -> list[Need]:
    """What an op needs of each source."""
    match node.op:
        case Op.WHERE:
            inside = _below(node.src[0], limits)
            return [need, {**inside, **need}, need]
        case op if op in ELEMENTWISE or op is Op.CONTIGUOUS:
            return [need] * len(node.src)
        case Op.RESHAPE:
            return [_reshaped(need, shape_of(node), shape_of(node.src[0]), counts)]
        case Op.PERMUTE:
            return [{node.arg[axis]: bound for axis, bound in need.items()}]
        case Op.EXPAND:
            old = shape_of(node.src[0])
            return [{axis: bound for axis, bound in need.items() if old[axis] == shape_of(node)[axis]}]
        case Op.REDUCE:
            left = [axis for axis in range(len(shape_of(node.src[0]))) if axis not in node.arg[1]]
            return [{left[axis]: bound for axis, bound in need.items()}]
        case Op.SHRINK:
            sizes = shape_of(node.src[0])
            return [{axis: b for axis, b in need.items() if node.arg[axis] == (0, sizes[axis], 1)}]
        case Op.PAD:
            return [{axis: bound for axis, bound in need.items() if not any(node.arg[axis])}]
        case Op.GATHER:
            return [{axis: bound for axis, bound in need.items() if axis != node.arg}, need]
    return [ALL] * len(node.src)


def _reshaped(need: Need, shape: Shape, old: Shape, counts: Mapping[int, int]) -> Need:
    """What is needed of something seen in `shape`, as it is in `old`: bounds that fall between its steps are dropped."""
    found: dict[int, tuple[int, int]] = {}
    for axis, (count, unit) in need.items():
        place = split(old, prod(shape[:axis]), counts[count], unit * prod(shape[axis + 1 :]))
        if place is not None:
            found[place[0]] = (count, place[1])
    return found


def _below(condition: UOp, limits: Mapping[UOp, int]) -> Need:
    """The bound that a condition is, if it is one: a number along an axis below a count, or a multiple of it."""
    if condition.op in (Op.EXPAND, Op.RESHAPE):
        inside = _below(condition.src[0], limits)
        if condition.op is Op.EXPAND or not inside:
            return inside
        old, new = shape_of(condition.src[0]), shape_of(condition)
        ((along, limit),) = inside.items()
        n = old[along]
        places = [i for i, m in enumerate(new) if m == n]
        return {places[0]: limit} if len(places) == 1 and prod(new) == n == prod(old) else ALL
    if condition.op is not Op.LT:
        return ALL
    axis = _numbered(condition.src[0])
    bound = _limit(condition.src[1], limits)
    return {axis: bound} if axis is not None and bound is not None else ALL


def _numbered(node: UOp) -> int | None:
    """The axis along which a node is IOTA, and the same along all others; None if it is not."""
    if node.op is Op.IOTA:
        return 0
    if node.op is Op.EXPAND:
        inner = _numbered(node.src[0])
        return inner if inner is not None and shape_of(node)[inner] == shape_of(node.src[0])[inner] else None
    if node.op is Op.RESHAPE and _numbered(node.src[0]) is not None:
        n, new = prod(shape_of(node.src[0])), shape_of(node)
        places = [i for i, m in enumerate(new) if m == n]
        return places[0] if len(places) == 1 and prod(new) == n else None
    return None


def _limit(node: UOp, limits: Mapping[UOp, int]) -> tuple[int, int] | None:
    """(slot, unit) of a count, or of a multiple of it, that is spread over a shape."""
    while node.op in (Op.EXPAND, Op.RESHAPE):
        node = node.src[0]
    unit = 1
    if node.op is Op.MUL and Op.CONST in (node.src[0].op, node.src[1].op):
        factor, node = sorted(node.src, key=lambda source: source.op is not Op.CONST)
        unit = factor.arg
    while node.op in (Op.EXPAND, Op.RESHAPE):
        node = node.src[0]
    return (limits[node], unit) if node in limits else None
