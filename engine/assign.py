"""What a tensor holds once it was assigned to."""

from __future__ import annotations

from engine.build import reshape
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import VIEWS, Op
from engine.shapes import shape_of


def assigned(old: UOp, value: UOp) -> UOp:
    """The node for `value` in the place of `old`: an ASSIGN where `old` is a BUFFER or an ASSIGN of one.

    InvalidGraph if shapes or dtypes differ, or if `old` is another view of a BUFFER than a reshape.
    """
    if shape_of(old) != shape_of(value) or old.dtype != value.dtype:
        was, new = (f"{node.dtype.name} {shape_of(node)}" for node in (old, value))
        raise InvalidGraph(f"cannot put {new} in the place of {was}: both must be alike", "assign")
    place = old
    while place.op is Op.RESHAPE:
        place = place.src[0]
    if place.op is Op.ASSIGN:
        place = place.src[0]
    if place.op is Op.BUFFER:
        value = reshape(value, shape_of(place))
        return reshape(UOp(Op.ASSIGN, place.dtype, (place, value)), shape_of(old))
    if _viewed(place).op in (Op.BUFFER, Op.ASSIGN):
        why = "it would not change what it views; write base[…] = value, or make it contiguous() first"
        raise InvalidGraph(f"{old.op.value} {shape_of(old)} is a view of another tensor: {why}", "assign")
    return value


def _viewed(node: UOp) -> UOp:
    while node.op in VIEWS:
        node = node.src[0]
    return node
