"""What a view is of another tensor, as operations of the graph: how it is read from the whole, and put back into it.

A view is known by a path: functions that build its node from the whole's. Every node on the way is a reshape, an order
of axes, a cut, a turn or a detach, each of which can be gone backwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from engine import build
from engine import dtype as dt
from engine.functions.arithmetic import where
from engine.ir import UOp
from engine.ops import Op
from engine.order import fresh_buffer
from engine.shapes import Shape, shape_of
from engine.sizes import is_open

Strides = tuple[int, ...]
_SHARING = frozenset({Op.RESHAPE, Op.PERMUTE, Op.SHRINK, Op.FLIP, Op.DETACH})


@dataclass(frozen=True, slots=True)
class Path:
    """The last function of a path, and what comes before it."""

    before: Path | None
    step: Callable[[UOp], UOp]

    def of(self, whole: UOp) -> UOp:
        """The view's node, of the whole's."""
        steps = []
        path: Path | None = self
        while path is not None:
            steps.append(path.step)
            path = path.before
        for step in reversed(steps):
            whole = step(whole)
        return whole


def chain(node: UOp, whole: UOp) -> list[UOp] | None:
    """The nodes from `whole` (which is left out) up to `node`; None if they are not all views of it."""
    found = []
    while node is not whole:
        if node.op not in _SHARING:
            return None
        found.append(node)
        node = node.src[0]
    return found[::-1]


def strides_of(
    step: Callable[[UOp], UOp], shape: Shape, dtype: dt.DType, strides: Strides | None
) -> Strides | None:
    """How far apart in memory, counted in elements, the view's elements are that `step` makes of a tensor's.

    `strides` are the tensor's own (None: row-major). None where the view would have to be a copy.
    """
    if any(map(is_open, shape)):
        return None
    whole = fresh_buffer(shape, dtype)
    nodes = chain(step(whole), whole)
    found = row_major(shape) if strides is None else strides
    for node in nodes or ():
        after = _strides(node, found)
        if after is None:
            return None
        found = after
    return None if nodes is None else found


def row_major(shape: Shape) -> Strides:
    """The strides of elements that lie one behind the other."""
    found = [1]
    for n in reversed(shape[1:]):
        found.append(found[-1] * max(n, 1))
    return tuple(found[::-1][: len(shape)]) if shape else ()


def _strides(node: UOp, strides: Strides) -> Strides | None:
    if node.op is Op.RESHAPE:
        return _reshaped(shape_of(node.src[0]), strides, shape_of(node))
    if node.op is Op.PERMUTE:
        return tuple(strides[axis] for axis in node.arg)
    if node.op is Op.SHRINK:
        return tuple(stride * step for stride, (_, _, step) in zip(strides, node.arg, strict=True))
    if node.op is Op.FLIP:
        return tuple(-stride if axis in node.arg else stride for axis, stride in enumerate(strides))
    return strides


def _reshaped(old: Shape, strides: Strides, new: Shape) -> Strides | None:
    """The strides in another shape: what lies one behind the other is cut anew."""
    if 0 in old:
        return row_major(new)
    runs: list[list[int]] = []  # [elements, stride of the last axis]
    previous: tuple[int, int] | None = None
    for n, stride in zip(old, strides, strict=True):
        if n == 1:
            continue
        if previous is not None and previous[1] == stride * n:
            runs[-1] = [runs[-1][0] * n, stride]
        else:
            runs.append([n, stride])
        previous = (n, stride)
    found: list[int] = []
    left, stride = runs.pop() if runs else (1, 1)
    for n in reversed(new):
        if left == 1 and n != 1 and runs:
            left, stride = runs.pop()
        if left % n:
            return None
        found.append(stride)
        left, stride = left // n, stride * n
    return tuple(found[::-1])


def put_back(whole: UOp, path: Path, part: UOp) -> UOp:
    """`whole` with `part` where the view at the end of the path is."""
    place = fresh_buffer(shape_of(whole), whole.dtype)
    nodes = chain(path.of(place), place)
    assert nodes is not None, "a path of views"
    below = [whole]
    for node in nodes:
        under = below[-1]
        below.append(under if node.op is Op.DETACH else UOp(node.op, node.dtype, (under,), node.arg))
    for (under, _), node in zip(reversed(list(pairwise(below))), reversed(nodes), strict=True):
        part = _undone(node, under, part)
    return part


def _undone(node: UOp, under: UOp, part: UOp) -> UOp:
    """`under`, of which `node` is a view, with the view's elements replaced by `part`."""
    if node.op is Op.RESHAPE:
        return build.reshape(part, shape_of(under))
    if node.op is Op.PERMUTE:
        order = sorted(range(len(node.arg)), key=lambda axis: node.arg[axis])
        return build.permute(part, tuple(order))
    if node.op is Op.FLIP:
        return build.flip(part, node.arg)
    if node.op is Op.DETACH:
        return build.detach(part)
    return _around(under, node.arg, part)


def _around(under: UOp, cut: tuple[tuple[int, int, int], ...], part: UOp) -> UOp:
    sizes = shape_of(part)
    if 0 in sizes:
        return under
    # Behind the last place of a cut lies the rest; between two, step - 1.
    ends = [start + (count - 1) * step + 1 for (start, _, step), count in zip(cut, sizes, strict=True)]
    widths = [
        (start, n - end, step - 1)
        for (start, _, step), end, n in zip(cut, ends, shape_of(under), strict=True)
    ]
    here = build.pad(build.const(True, dt.bool_, sizes), widths)
    return where(here, build.pad(part, widths), under)
