"""The shape rule of every tensor-level op, and the refusal of graphs whose shapes do not fit."""

from __future__ import annotations

from math import prod
from typing import cast
from weakref import WeakKeyDictionary

from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.leading_axes import carried, marked
from engine.ops import ELEMENTWISE, Op
from engine.sizes import plain

Shape = tuple[int, ...]

_shapes: WeakKeyDictionary[UOp, Shape] = WeakKeyDictionary()


def shape_of(root: UOp) -> Shape:
    """The shape of a tensor-level node. InvalidGraph if any node below it has none."""
    known = _shapes.get(root)
    if known is not None:
        return known
    sources = tuple(map(_shapes.get, root.src))
    if None not in sources:  # mostly: graphs grow by one node at a time
        found = _shapes[root] = _rule(root, cast(tuple[Shape, ...], sources))
        return found
    for node in toposort(root, enter=lambda n: n not in _shapes):
        if node not in _shapes:
            _shapes[node] = _rule(node, tuple(_shapes[source] for source in node.src))
    return _shapes[root]


def _rule(node: UOp, src: tuple[Shape, ...]) -> Shape:
    for shape in src:
        if type(shape) is not tuple:
            return carried(node, _plain_rule(node, tuple(map(plain, src))), src)
    return marked(node, src[0]) if node.op is Op.LEADING else _plain_rule(node, src)


def _plain_rule(node: UOp, src: tuple[Shape, ...]) -> Shape:
    match node.op:
        case Op.BUFFER | Op.PARAM:
            return tuple(node.arg[1])
        case Op.CONST | Op.FOLD:  # a FOLD has no value of its own: see GET
            return ()
        case Op.IOTA:
            return (node.arg,)
        case Op.HOLE:
            return tuple(node.arg[3])
        case Op.RESHAPE:
            return _reshape(src[0], node.arg)
        case Op.PERMUTE:
            return _permute(src[0], node.arg)
        case Op.EXPAND:
            return _expand(src[0], node.arg)
        case Op.SHRINK:
            return _shrink(src[0], node.arg)
        case Op.FLIP:
            return _flip(src[0], node.arg)
        case Op.PAD:
            return _pad(src[0], node.arg)
        case Op.REDUCE:
            return _reduce(src[0], node.arg[1])
        case Op.GATHER:
            return _gather(src[0], src[1], node.arg)
        case Op.SCATTER:
            return _scatter(src, node.arg[1])
        case Op.GET:
            return _state_shape(node)
        case Op.ASSIGN:
            return _assign(src)
        case Op.SLOPE:
            return _elementwise(op=node.op, src=src)
        case Op.CONTIGUOUS | Op.DETACH | Op.LEADING:
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


def counted(shape: Shape, field: str) -> Shape:
    """`shape`; InvalidGraph where its elements cannot be numbered by an int64."""
    if prod(shape) >= 1 << 63:
        raise InvalidGraph(f"{shape} has 2**63 elements or more, which no index can tell apart", field)
    return shape


def _expand(old: Shape, new: Shape) -> Shape:
    if len(old) != len(new) or any(a not in (1, b) or b < 0 for a, b in zip(old, new, strict=False)):
        raise InvalidGraph(f"cannot expand {old} to {new}: only axes of size 1 grow", "EXPAND")
    return counted(tuple(new), "EXPAND")


def _reduce(old: Shape, axes: tuple[int, ...]) -> Shape:
    if len(set(axes)) != len(axes) or any(not 0 <= axis < len(old) for axis in axes):
        raise InvalidGraph(f"axes {axes} do not fit the shape {old}", "REDUCE")
    return tuple(n for axis, n in enumerate(old) if axis not in axes)


def _elementwise(op: Op, src: tuple[Shape, ...]) -> Shape:
    if any(shape != src[0] for shape in src):
        raise InvalidGraph(f"operands have shapes {', '.join(map(str, src))}; they must be equal", op.value)
    return src[0]


def _axes_match(old: Shape, arg: tuple[object, ...], op: str) -> None:
    if len(old) != len(arg):
        raise InvalidGraph(f"{len(arg)} entries for the {len(old)} axes of {old}", op)


def _shrink(old: Shape, arg: tuple[tuple[int, int, int], ...]) -> Shape:
    _axes_match(old, arg, "SHRINK")
    for n, (start, stop, step) in zip(old, arg, strict=True):
        if not 0 <= start <= stop <= n or step < 1:
            raise InvalidGraph(f"[{start}:{stop}:{step}] does not lie within an axis of {n}", "SHRINK")
    return tuple(-(-(stop - start) // step) for start, stop, step in arg)


def _flip(old: Shape, axes: tuple[int, ...]) -> Shape:
    if len(set(axes)) != len(axes) or any(not 0 <= axis < len(old) for axis in axes):
        raise InvalidGraph(f"axes {axes} do not fit the shape {old}", "FLIP")
    return old


def _pad(old: Shape, arg: tuple[tuple[int, int, int], ...]) -> Shape:
    _axes_match(old, arg, "PAD")
    if any(n < 0 for entry in arg for n in entry):
        raise InvalidGraph(f"{arg} has a negative number", "PAD")
    return tuple(
        low + n + max(n - 1, 0) * between + high for n, (low, high, between) in zip(old, arg, strict=True)
    )


def _gather(values: Shape, index: Shape, axis: int) -> Shape:
    if not 0 <= axis < len(values) or not _equal_but(values, index, axis):
        raise InvalidGraph(f"values {values} and index {index} may differ along axis {axis} only", "GATHER")
    return index


def _equal_but(a: Shape, b: Shape, axis: int) -> bool:
    return len(a) == len(b) and all(n == m or i == axis for i, (n, m) in enumerate(zip(a, b, strict=True)))


def _scatter(src: tuple[Shape, ...], axis: int) -> Shape:
    start, index, updates = src
    if index != updates:
        raise InvalidGraph(f"index {index} and updates {updates} must have one shape", "SCATTER")
    if not 0 <= axis < len(start) or not _equal_but(start, index, axis):
        raise InvalidGraph(f"{start} and updates {updates} may differ along axis {axis} only", "SCATTER")
    return start


def _state_shape(node: UOp) -> Shape:
    """A state keeps its shape: the inits' shapes are the results'."""
    return shape_of(node.src[0].src[node.arg])


def _assign(src: tuple[Shape, ...]) -> Shape:
    if src[0] != src[1]:
        raise InvalidGraph(f"cannot assign {src[1]} to {src[0]}", "ASSIGN")
    return src[0]
