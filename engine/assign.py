"""What a tensor holds once it was assigned to."""

from __future__ import annotations

from engine.build import reshape
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import Op
from engine.order import fresh_buffer
from engine.shapes import shape_of
from engine.sizes import is_open

_SPREAD = frozenset({Op.RESHAPE, Op.EXPAND, Op.CAST})


def fits(old: UOp, value: UOp) -> None:
    """InvalidGraph if shapes or dtypes differ."""
    if shape_of(old) != shape_of(value) or old.dtype != value.dtype:
        was, new = (f"{node.dtype.name} {shape_of(node)}" for node in (old, value))
        raise InvalidGraph(f"cannot put {new} in the place of {was}: both must be alike", "assign")


def assigned(old: UOp, value: UOp, *, leaf: bool = False) -> UOp:
    """The node for `value` in the place of `old`: an ASSIGN where `old` is a BUFFER or an ASSIGN of one.

    So it is where `old` is a constant or a `leaf`, which get a BUFFER for it: what is assigned again and again is kept
    once it was computed, and no step computes those before it anew. Another view of a BUFFER than a reshape is replaced.
    InvalidGraph if shapes or dtypes differ.
    """
    fits(old, value)
    place = old
    while place.op is Op.RESHAPE:
        place = place.src[0]
    if place.op is Op.ASSIGN:
        place = place.src[0]
    if place.op is Op.BUFFER:
        value = reshape(value, shape_of(place))
        return reshape(UOp(Op.ASSIGN, place.dtype, (place, value)), shape_of(old))
    if (leaf or _is_constant(old)) and not _is_constant(value) and not any(map(is_open, shape_of(old))):
        return UOp(Op.ASSIGN, value.dtype, (fresh_buffer(shape_of(value), value.dtype), value))
    return value


def _is_constant(node: UOp) -> bool:
    """One number everywhere: it costs nothing to compute."""
    while node.op in _SPREAD:
        node = node.src[0]
    return node.op is Op.CONST
