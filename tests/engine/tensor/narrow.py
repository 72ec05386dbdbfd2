"""Every op of a graph rounded to its own dtype, as a compiled kernel does; the interpreter rounds only at casts.

It shows whether a function composed of ops is right in float32, and not just in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.ir import UOp, toposort
from engine.ops import Op
from engine.realize import elements, is_realized
from engine.runtime.meaning import apply, convert, stored, working
from engine.shapes import shape_of

Array = np.ndarray[Any, np.dtype[Any]]


def rounded_at_every_op(root: UOp) -> Array:
    """The value of an element-wise graph (views of constants apart), rounded at every op."""
    values: dict[UOp, Array] = {}
    with np.errstate(all="ignore"):
        for node in toposort(root):
            values[node] = stored(_value(node, values), node.dtype).astype(working(node.dtype))
        return stored(values[root], root.dtype)


def _value(node: UOp, values: dict[UOp, Array]) -> Array:
    if is_realized(node):
        return elements(node).astype(working(node.dtype))
    if node.op is Op.CONST:
        return convert(np.asarray(node.arg, working(node.dtype)), node.dtype)
    sources = [values[source] for source in node.src]
    if node.op in (Op.RESHAPE, Op.EXPAND):
        return np.broadcast_to(
            sources[0].reshape(node.arg if node.op is Op.RESHAPE else sources[0].shape), shape_of(node)
        )
    if node.op is Op.SLOPE:
        return sources[0]
    return apply(node.op, node.dtype, sources, node.src[0].dtype)
