"""The pass that settles every address: simplified, in loop order, guards that always or never hold gone."""

from __future__ import annotations

from collections.abc import Sequence

from engine import offsets
from engine.ir import UOp, substitute, toposort
from engine.ops import Op
from engine.rewrite import Rule, RuleSet, anything, pattern, rewrite
from engine.simplify import simplify_all


def settle_places(root: UOp) -> UOp:
    """Every offset and condition simplified, and offsets written in the order of the loops."""
    nodes = toposort(root)
    conditions = {source for node in nodes if node.op is Op.INDEX for source in node.src[2:]}
    offset_of = {node.src[1] for node in nodes if node.op is Op.INDEX}
    trips = {source for node in nodes if node.op is Op.RANGE for source in node.src}
    found = [*conditions, *offset_of, *trips]
    simple = dict(zip(found, simplify_all(found), strict=True))
    simple |= {offset: offsets.in_loop_order(simple[offset]) for offset in offset_of}
    settled = substitute(root, simple)
    return rewrite(settled, _KNOWN_CONDITIONS) if conditions else settled


def _known_condition(load: UOp, place: UOp, other: UOp) -> UOp | None:
    """A guarded load whose condition is a constant."""
    if place.src[2].op is not Op.CONST:
        return None
    return load.replace(src=(place.replace(src=place.src[:2]),)) if place.src[2].arg else other


_KNOWN_CONDITIONS = RuleSet(
    "settle_places",
    (
        Rule(
            pattern(Op.LOAD, name="load", src=(pattern(Op.INDEX, name="place"), anything("other"))),
            _known_condition,
        ),
    ),
)


def settled_indices(indices: Sequence[UOp]) -> list[UOp | None]:
    """INDEXes whose conditions are known lose them; those that are nowhere valid are None."""
    valid = iter(simplify_all([index.src[2] for index in indices if len(index.src) > 2]))
    return [index if len(index.src) == 2 else _settled(index, next(valid)) for index in indices]


def _settled(index: UOp, valid: UOp) -> UOp | None:
    if valid.op is Op.CONST:
        return index.replace(src=index.src[:2]) if valid.arg else None
    return index.replace(src=(*index.src[:2], valid))
