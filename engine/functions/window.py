"""Sliding windows as views: what convolution, pooling and unfold read.

x[o · stride + k · dilation] is had without a gather: x repeated end to end and cut again into rows that are
`dilation` longer than x begins each row one `dilation` further on; every stride-th column of it is a window's
element k. The derivative follows from those of the views.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine import build
from engine.arguments import axis_of
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.shapes import shape_of


def outputs(n: int, kernel: int, stride: int, dilation: int) -> int:
    """How many windows there are of an axis of n; 0 or less if none fits."""
    return (n - dilation * (kernel - 1) - 1) // stride + 1


def windows(x: UOp, axis: int, kernel: int, stride: int, dilation: int) -> UOp:
    """x with the axis replaced by two: the window's number, the place in the window.

    InvalidGraph where no window fits.
    """
    shape = shape_of(x)
    n = shape[axis]
    if min(kernel, stride, dilation) < 1:
        raise InvalidGraph(
            f"size {kernel}, stride {stride} and dilation {dilation} must be 1 or more", "window"
        )
    count = outputs(n, kernel, stride, dilation)
    if count < 1:
        raise InvalidGraph(
            f"windows of {kernel} (dilation {dilation}) do not fit axis {axis} of {shape}", "window"
        )
    front, behind = shape[:axis], shape[axis + 1 :]
    around = [(0, m, 1) for m in front], [(0, m, 1) for m in behind]
    if kernel == 1 or (stride == kernel and dilation == 1):  # windows side by side
        cut = build.shrink(x, [*around[0], (0, count * stride if kernel > 1 else n, 1), *around[1]])
        if kernel > 1:
            return build.reshape(cut, (*front, count, kernel, *behind))
        every = build.shrink(cut, [*around[0], (0, (count - 1) * stride + 1, stride), *around[1]])
        return build.reshape(every, (*front, count, 1, *behind))
    row = n + dilation
    times = -(-kernel * row // n)
    spread = build.expand(build.reshape(x, (*front, 1, n, *behind)), (*front, times, n, *behind))
    flat = build.reshape(spread, (*front, times * n, *behind))
    rows = build.shrink(flat, [*around[0], (0, kernel * row, 1), *around[1]])
    rows = build.reshape(rows, (*front, kernel, row, *behind))
    last = (count - 1) * stride + 1
    picked = build.shrink(rows, [*around[0], (0, kernel, 1), (0, last, stride), *around[1]])
    order = list(range(len(shape) + 1))
    order[axis], order[axis + 1] = axis + 1, axis
    return build.permute(picked, tuple(order))


def sliding(x: UOp, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> UOp:
    """Windows over the last axes: (…, n1, n2) → (…, o1, o2, k1, k2)."""
    ndim, count = len(shape_of(x)), len(kernel)
    first = ndim - count
    for i in reversed(range(count)):
        x = windows(x, first + i, kernel[i], stride[i], dilation[i])
    numbers = [first + 2 * i for i in range(count)]
    return build.permute(x, (*range(first), *numbers, *(n + 1 for n in numbers)))


def unfold(x: UOp, axis: int, size: int, step: int) -> UOp:
    """Windows of one axis, `step` apart, each as a new last axis."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    found = windows(x, place, size, step, 1)
    order = [i for i in range(len(shape) + 1) if i != place + 1]
    return build.permute(found, (*order, place + 1))
