"""Small graph-building functions that Tensor and the named programs share: one way to write one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import COMPARE, HoleKind, Op
from engine.rounding import rounded
from engine.shapes import Shape, shape_of
from engine.sizes import Size, extent, fixed, is_open, number_node, plain

Scalar = bool | int | float


def const(value: Scalar, dtype: DType, shape: Shape = ()) -> UOp:
    """A constant of `dtype`, spread over `shape`; a float is rounded to the dtype."""
    if is_open(value):
        return broadcast(cast(number_node(value, dt.float64 if dtype.is_float else dt.int64), dtype), shape)
    if dtype is dt.bool_:
        value = bool(value)
    elif dtype.is_int:
        value = int(value)
    else:
        value = rounded(float(value), dtype)
    return broadcast(UOp(Op.CONST, dtype, (), value), shape)


def reshape(node: UOp, shape: Shape) -> UOp:
    """`node` seen in another shape of as many elements; itself when the shape is its own."""
    old = shape_of(node)
    if old == shape if type(old) is tuple else plain(old) == plain(shape):
        return node
    found = UOp(Op.RESHAPE, node.dtype, (node,), plain(shape))
    for asked, given in zip(shape, shape_of(found), strict=True):
        if type(asked) is not int and (type(given) is int or asked != given):
            raise InvalidGraph(f"{old} has no axis of {asked}", "RESHAPE")
    return found


def expand(node: UOp, shape: Shape) -> UOp:
    """`node` with its size-1 axes grown to `shape`; itself when the shape is its own."""
    old = shape_of(node)
    if old == shape:
        return node
    found = UOp(Op.EXPAND, node.dtype, (node,), plain(shape))
    for n, asked in zip(old, shape, strict=False):
        if type(asked) is not int and type(n) is int and n != 1:
            raise InvalidGraph(f"{old} has no axis of {asked}", "EXPAND")
    return leading(found, shape)


def leading(node: UOp, shape: Shape) -> UOp:
    """`node`, which is as large as `shape` may be: marked along the axes whose size that leaves open."""
    for axis, (n, m) in enumerate(zip(shape, shape_of(node), strict=True)):
        if type(n) is not int and type(m) is int:
            assert isinstance(n, Size)
            assert n.rows is not None
            count, unit = n.rows
            node = UOp(Op.LEADING, node.dtype, (node, count.node), (axis, unit, count.var))
    return node


def permute(node: UOp, axes: tuple[int, ...]) -> UOp:
    """`node` with its axes in another order; itself when the order is its own."""
    return node if axes == tuple(range(len(axes))) else UOp(Op.PERMUTE, node.dtype, (node,), axes)


def viewed(node: UOp, shape: Shape) -> UOp:
    """A BUFFER in a shape some of whose sizes may be open: as they were when it was computed."""
    return leading(reshape(node, plain(shape)), shape)


def shrink(node: UOp, part: Sequence[tuple[int, int, int]]) -> UOp:
    """Elements start, start + step, … below stop of each axis; `node` itself when that is all of it."""
    sizes = shape_of(node)
    if type(sizes) is not tuple or any(is_open(n) for entry in part for n in entry):
        return _shrunk_to_open(node, sizes, part)
    whole = all(entry == (0, n, 1) for entry, n in zip(part, sizes, strict=True))
    return node if whole else UOp(Op.SHRINK, node.dtype, (node,), tuple(map(tuple, part)))


def _shrunk_to_open(node: UOp, sizes: Shape, part: Sequence[tuple[int, int, int]]) -> UOp:
    """`shrink` of or to axes of open sizes: the first of an axis, as many as there are in every call."""
    taken: list[tuple[int, int, int]] = []
    left = []
    for n, (start, stop, step) in zip(sizes, part, strict=True):
        if is_open(start) or is_open(step) or (is_open(stop) and not _is_front(start, stop, step, n)):
            why = "is counted from its end, or not there in every call"
            raise InvalidGraph(f"[{start}:{stop}:{step}] of an axis of {n} {why}", "SHRINK")
        taken.append((start, extent(stop), step))
        left.append(stop if is_open(stop) else n)
    whole = all(entry == (0, n, 1) for entry, n in zip(taken, plain(sizes), strict=True))
    found = node if whole else UOp(Op.SHRINK, node.dtype, (node,), tuple(taken))
    marks = (n if is_open(entry[1]) else m for n, m, entry in zip(left, shape_of(found), part, strict=True))
    return leading(found, tuple(marks))


def _is_front(start: int, stop: int, step: int, n: int) -> bool:
    """Are the first `stop`, whatever it is, there of n?"""
    return (start, step) == (0, 1) and (stop == n if is_open(n) else extent(stop) <= n)


def pad(node: UOp, widths: Sequence[tuple[int, int, int]]) -> UOp:
    """`node` with (low, high, between) zeros before, behind and between the elements of each axis."""
    if any(is_open(n) for entry in widths for n in entry):
        return _padded_to_open(node, widths)
    return UOp(Op.PAD, node.dtype, (node,), tuple(map(tuple, widths))) if any(map(any, widths)) else node


def _padded_to_open(node: UOp, widths: Sequence[tuple[int, int, int]]) -> UOp:
    """`pad` of axes of a known size so far behind that they are of an open one."""
    sizes: list[int] = []
    most = []
    for n, (low, high, between) in zip(shape_of(node), widths, strict=True):
        inside = n + fixed(low) + max(n - 1, 0) * fixed(between)
        sizes.append(inside + high)
        most.append((low, high if type(high) is int else extent(sizes[-1]) - extent(inside), between))
    return leading(UOp(Op.PAD, node.dtype, (node,), tuple(most)), tuple(sizes))


def flip(node: UOp, axes: tuple[int, ...]) -> UOp:
    """`node` with the order of some axes reversed."""
    return UOp(Op.FLIP, node.dtype, (node,), tuple(sorted(axes))) if axes else node


def iota(n: int) -> UOp:
    """The int64 numbers 0 … n-1."""
    return leading(UOp(Op.IOTA, dt.int64, (), extent(n)), (n,))


def iota_along(shape: Shape, axis: int) -> UOp:
    """For each element of `shape` its int64 number along `axis`."""
    along = reshape(iota(shape[axis]), tuple(n if i == axis else 1 for i, n in enumerate(shape)))
    return expand(along, shape)


def gather(values: UOp, index: UOp, axis: int) -> UOp:
    """`values` at `index` along `axis`, which are alike in all other axes; 0 where there is no such index."""
    return UOp(Op.GATHER, values.dtype, (values, index), axis)


def scatter(start: UOp, index: UOp, updates: UOp, axis: int, how: str) -> UOp:
    """`start` with `updates` put ("set"), added ("add") or maximised ("max") in at `index` along `axis`, in order."""
    return UOp(Op.SCATTER, start.dtype, (start, index, updates), (how, axis))


def detach(node: UOp) -> UOp:
    """The same values, through which no gradient goes."""
    marked = node.op is Op.DETACH and node.arg is None
    return node if marked else UOp(Op.DETACH, node.dtype, (node,))


def slope(value: UOp, *derivatives: tuple[UOp, UOp]) -> UOp:
    """`value`, declared to have the derivative d by x for each pair (x, d); all are of one dtype and shape.

    What `value` is made of gets no gradient from it. A d that is the constant 0 lets nothing through, not even NaN.
    """
    return UOp(Op.SLOPE, value.dtype, (value, *(node for pair in derivatives for node in pair)))


def bitcast(node: UOp, dtype: DType) -> UOp:
    """The bits of `node` as another dtype of the same size."""
    return node if node.dtype == dtype else UOp(Op.BITCAST, dtype, (node,))


_folds = count()


def fold(
    steps: int,
    inits: Sequence[UOp],
    xs: Sequence[UOp],
    body: Callable[[UOp, tuple[UOp, ...], tuple[UOp, ...]], Sequence[UOp]],
) -> tuple[UOp, ...]:
    """The states after `steps` times `states = body(step, states, each x at this step)`, starting from `inits`.

    `body` is called once, with placeholders; it builds a closed graph of them: nothing else may be read in it.
    The xs have the steps in front.
    """
    number = next(_folds)

    def hole(kind: HoleKind, i: int, dtype: DType, shape: Shape) -> UOp:
        return UOp(Op.HOLE, dtype, (), (number, kind, i, shape))

    states = tuple(hole(HoleKind.STATE, i, s.dtype, shape_of(s)) for i, s in enumerate(inits))
    parts = tuple(hole(HoleKind.X, i, x.dtype, shape_of(x)[1:]) for i, x in enumerate(xs))
    after = tuple(body(hole(HoleKind.STEP, 0, dt.int64, ()), states, parts))
    node = UOp(Op.FOLD, dt.void, (*inits, *xs, *after), (number, steps, len(inits)))
    return tuple(UOp(Op.GET, s.dtype, (node,), i) for i, s in enumerate(inits))


def broadcast(node: UOp, shape: Shape) -> UOp:
    """NumPy's broadcasting of `node` to `shape`: missing leading axes are 1, axes of 1 grow."""
    old = shape_of(node)
    if len(old) > len(shape):
        raise InvalidGraph(f"cannot broadcast {old} to {shape}: it has more axes")
    return expand(reshape(node, (1,) * (len(shape) - len(old)) + old), shape)


def broadcast_shape(*shapes: Shape) -> Shape:
    """The shape that all `shapes` broadcast to; InvalidGraph when there is none."""
    length = max(map(len, shapes), default=0)
    padded = [(1,) * (length - len(shape)) + shape for shape in shapes]
    found = tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*padded, strict=True))
    if any(n not in (1, m) for shape in padded for n, m in zip(shape, found, strict=True)):
        raise InvalidGraph(f"shapes {' and '.join(map(str, shapes))} do not broadcast together")
    return found


def elementwise(op: Op, *src: UOp) -> UOp:
    """`op` on nodes of one shape and (WHERE's condition apart) one dtype."""
    dtype = dt.bool_ if op in COMPARE else src[-1].dtype
    return UOp(op, dtype, src)


def cast(node: UOp, dtype: DType) -> UOp:
    """`node` converted to `dtype`; itself when it is that already."""
    return node if node.dtype is dtype else UOp(Op.CAST, dt.checked(dtype), (node,))


def reduce(op: Op, node: UOp, axes: tuple[int, ...]) -> UOp:
    """`node` reduced with ADD, MUL, MAX or MIN over `axes`, which disappear."""
    return UOp(Op.REDUCE, node.dtype, (node,), (op, tuple(sorted(axes)))) if axes else node


def matmul(a: UOp, b: UOp) -> UOp:
    """(…, m, k) @ (…, k, n) → (…, m, n), leading axes broadcast: products over (…, m, n, k) summed over k."""
    (*batch_a, m, k), (*batch_b, rows, n) = shape_of(a), shape_of(b)
    if k != rows:
        raise InvalidGraph(f"cannot multiply {shape_of(a)} by {shape_of(b)}: {k} columns against {rows} rows")
    batch = broadcast_shape(tuple(batch_a), tuple(batch_b))
    rank_b = len(batch_b)
    turned = permute(b, (*range(rank_b), rank_b + 1, rank_b))
    left = broadcast(reshape(a, (*batch_a, m, 1, k)), (*batch, m, n, k))
    right = broadcast(reshape(turned, (*batch_b, 1, n, k)), (*batch, m, n, k))
    return reduce(Op.ADD, elementwise(Op.MUL, left, right), (len(batch) + 2,))


def param(slot: int, shape: Shape, dtype: DType) -> UOp:
    """A kernel's input number `slot`."""
    return UOp(Op.PARAM, dtype, (), (slot, shape))
