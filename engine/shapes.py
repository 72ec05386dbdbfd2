"""The shape rule of every tensor-level op, and the refusal of graphs whose shapes do not fit."""

from __future__ import annotations

from math import prod
from weakref import WeakKeyDictionary

from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.ops import ELEMENTWISE, Op

Shape = tuple[int, ...]

_shapes: WeakKeyDictionary[UOp, Shape] = WeakKeyDictionary()


def shape_of(root: UOp) -> Shape:
    """The shape of a tensor-level node. InvalidGraph if any node below it has none."""
    known = _shapes.get(root)
    if known is not None:
        return known
    for node in toposort(root, enter=lambda n: n not in _shapes):
        if node not in _shapes:
            _shapes[node] = _rule(node, tuple(_shapes[source] for source in node.src))
    return _shapes[root]


def _rule(node: UOp, src: tuple[Shape, ...]) -> Shape:
    match node.op:
        case Op.BUFFER | Op.PARAM:
            return tuple(node.arg[1])
        case Op.CONST:
            return ()
        case Op.RESHAPE:
            return _reshape(src[0], node.arg)
        case Op.PERMUTE:
            return _permute(src[0], node.arg)
        case Op.EXPAND:
            return _expand(src[0], node.arg)
        case Op.REDUCE:
            return _reduce(src[0], node.arg[1])
        case Op.CONTIGUOUS:
            return src[0]
        case op if op in ELEMENTWISE:
            return _elementwise(op, src)
    raise InvalidGraph(f"{node.op.value} has no shape: it is not a tensor-level op")


def _reshape(old: Shape, new: Shape) -> Shape:
    if any(n < 0 for n in new) or prod(old) != prod(new):
        raise InvalidGraph(f"cannot reshape {old} ({prod(old)} elements) to {new} ({prod(new)})", "RESHAPE")
    return tuple(new)


def _permute(old: Shape, axes: tuple[int, ...]) -> Shape:
    if sorted(axes) != list(range(len(old))):
        raise InvalidGraph(f"axes {axes} are not an order of the {len(old)} axes of {old}", "PERMUTE")
    return tuple(old[axis] for axis in axes)


def _expand(old: Shape, new: Shape) -> Shape:
    if len(old) != len(new) or any(a not in (1, b) for a, b in zip(old, new, strict=False)):
        raise InvalidGraph(f"cannot expand {old} to {new}: only axes of size 1 grow", "EXPAND")
    return tuple(new)


def _reduce(old: Shape, axes: tuple[int, ...]) -> Shape:
    if len(set(axes)) != len(axes) or any(not 0 <= axis < len(old) for axis in axes):
        raise InvalidGraph(f"axes {axes} do not fit the shape {old}", "REDUCE")
    return tuple(n for axis, n in enumerate(old) if axis not in axes)


def _elementwise(op: Op, src: tuple[Shape, ...]) -> Shape:
    if any(shape != src[0] for shape in src):
        raise InvalidGraph(f"operands have shapes {', '.join(map(str, src))}; they must be equal", op.value)
    return src[0]
