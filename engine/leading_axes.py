"""Where a leading axis goes: for each op, which axes of its result are as long as an open size says.

An axis of count · unit elements, laid out for the most that the count may be, keeps what means something in front.
So it may be moved (PERMUTE), joined with the axes behind it into one of more units (RESHAPE) and taken apart again,
and whatever else an op does must be the same for every count. What is not is an InvalidGraph that names the size.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NoReturn

from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import ELEMENTWISE, Op
from engine.sizes import Count, Size, Sized, open_size, plain

Shape = tuple[int, ...]
Open = dict[int, Size]  # the open sizes of a shape, by axis
# (node, its shape at the most, its sources' shapes) → the open sizes of its own
Rule = Callable[[UOp, Shape, tuple[Shape, ...]], Open]


def marked(node: UOp, shape: Shape) -> Shape:
    """The shape of a LEADING of something of `shape`."""
    axis, unit, var = node.arg
    if shape[axis] != var.max * unit:
        raise InvalidGraph(f"an axis of {shape[axis]} is not the {var.max * unit} of {var}", "LEADING")
    return Sized((*shape[:axis], open_size(Count(var, node.src[1]), unit), *shape[axis + 1 :]))


def carried(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Shape:
    """The shape of a node some of whose sources' sizes are open; `found` is what it has at the most."""
    rule = _joined if node.op in ELEMENTWISE else _RULES.get(node.op)
    if rule is None:
        _refuse(node, src, "it has no meaning for a size that differs from call to call")
    sizes = rule(node, found, src)
    return Sized(sizes.get(axis, n) for axis, n in enumerate(found)) if sizes else found


def _refuse(node: UOp, src: tuple[Shape, ...], why: str) -> NoReturn:
    counts = [n.rows[0] for shape in src for n in shape if isinstance(n, Size) and n.rows]
    names = ", ".join(dict.fromkeys(str(count.var) for count in counts))
    raise InvalidGraph(f"of a leading size {names}: {why}", node.op.value)


def _open(shape: Shape) -> Open:
    return {axis: n for axis, n in enumerate(shape) if isinstance(n, Size)}


def _rows(size: Size) -> tuple[Count, int]:
    assert size.rows is not None
    return size.rows


def _same(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    return _open(src[0])


def _joined(node: UOp, found: Shape, src: tuple[Shape, ...], without: int | None = None) -> Open:
    """Of operands that are alike (but along the axis `without`): a size that is open in one is in all."""
    first = src[0]
    for shape in src[1:]:
        for axis, (n, m) in enumerate(zip(first, shape, strict=True)):
            if axis != without and (type(n) is not type(m) or n != m):
                _refuse(node, src, f"{n} elements stand beside {m}, which other calls do not have as many of")
    return {axis: n for axis, n in _open(first).items() if axis != without}


def _reshaped(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    """Each open axis goes on where as many elements lie before an axis, and a count's elements fill whole steps."""
    (old,) = src
    sizes: Open = {}
    for axis, size in _open(old).items():
        count, unit = _rows(size)
        most = plain(old)
        before, each = prod(most[:axis]), unit * prod(most[axis + 1 :])
        place = split(found, before, count.var.max, each)
        if place is None:
            _refuse(
                node, src, f"{old} to {found}: only axes behind it may be joined with it or taken from it"
            )
        sizes[place[0]] = open_size(count, place[1])
    return sizes


def split(shape: Shape, before: int, most: int, each: int) -> tuple[int, int] | None:
    """(axis, unit): the axis behind `before` elements that has most · unit of them, of the `each` of one count.

    None if there is no such axis.
    """
    lying = 1
    for axis, n in enumerate(shape):
        if lying == before and n != 1:
            inner = prod(shape[axis + 1 :])
            unit = each // inner if inner else 0
            return (axis, unit) if unit and each % inner == 0 and n == most * unit else None
        lying *= n
    return None


def _permuted(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    return {node.arg.index(axis): size for axis, size in _open(src[0]).items()}


def _shrunk(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    sizes: Open = {}
    for axis, size in _open(src[0]).items():
        start, stop, step = node.arg[axis]
        if (start, stop, step) == (0, size.most, 1):
            sizes[axis] = size
        elif stop > size.least:
            _refuse(node, src, f"[{start}:{stop}:{step}] of an axis of {size} is not there in every call")
    return sizes


def _flipped(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    if any(axis in node.arg for axis in _open(src[0])):
        _refuse(node, src, "its axis cannot be reversed: what is last differs from call to call")
    return _open(src[0])


def _padded(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    if any(any(node.arg[axis]) for axis in _open(src[0])):
        _refuse(node, src, "its axis cannot be padded")
    return _open(src[0])


def _reduced(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    left = [n for axis, n in enumerate(src[0]) if axis not in node.arg[1]]
    return _open(tuple(left))


def _gathered(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    sizes = _joined(node, found, src, node.arg)
    along = src[1][node.arg]
    return sizes | ({node.arg: along} if isinstance(along, Size) else {})


def _scattered(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    start, index, updates = src
    axis = node.arg[1]
    _joined(node, found, (index, updates))
    return _joined(node, found, src, axis) | {a: n for a, n in _open(start).items() if a == axis}


def _again(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    """LEADING of what is open along other axes."""
    return _open(src[0]) | _open(marked(node, tuple(src[0])))


def _assigned(node: UOp, found: Shape, src: tuple[Shape, ...]) -> Open:
    _refuse(node, src, "a tensor from outside keeps its shape: it cannot be assigned what is of an open size")


_RULES: dict[Op, Rule] = {
    Op.LEADING: _again,
    Op.DETACH: _same,
    Op.SLOPE: _joined,
    Op.CONTIGUOUS: _same,
    Op.EXPAND: _same,
    Op.RESHAPE: _reshaped,
    Op.PERMUTE: _permuted,
    Op.SHRINK: _shrunk,
    Op.FLIP: _flipped,
    Op.PAD: _padded,
    Op.REDUCE: _reduced,
    Op.GATHER: _gathered,
    Op.SCATTER: _scattered,
    Op.ASSIGN: _assigned,
}
