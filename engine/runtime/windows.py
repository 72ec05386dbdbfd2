"""Which part of each node's sources a part of the node needs: how the interpreter evaluates in small pieces."""

from __future__ import annotations

from functools import lru_cache
from math import lcm, prod

from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of

Window = tuple[tuple[int, int], ...]  # [start, stop) on each axis


def whole(shape: Shape) -> Window:
    """The window of everything."""
    return tuple((0, n) for n in shape)


def lengths(window: Window) -> Shape:
    """The window's shape."""
    return tuple(stop - start for start, stop in window)


def hull(a: Window, b: Window) -> Window:
    """The smallest window that holds both."""
    return tuple((min(s, t), max(e, f)) for (s, e), (t, f) in zip(a, b, strict=True))


def slices(window: Window, inside: Window) -> tuple[slice, ...]:
    """How to take `window` from an array that holds `inside`."""
    return tuple(slice(s - t, e - t) for (s, e), (t, _) in zip(window, inside, strict=True))


def own_window(node: UOp, wanted: Window) -> Window:
    """The window `node` is evaluated on when `wanted` is asked: a RESHAPE may need whole rows, so more."""
    if node.op is Op.RESHAPE:
        return _reshape_windows(node, wanted)[0]
    return wanted


def source_window(node: UOp, number: int, window: Window) -> Window:
    """What of source `number` is needed for the `own_window` of a node."""
    match node.op:
        case Op.PERMUTE:
            return tuple(window[node.arg.index(axis)] for axis in range(len(window)))
        case Op.EXPAND:
            sizes = zip(shape_of(node.src[0]), node.arg, window, strict=True)
            return tuple((0, 1) if old == 1 != new else part for old, new, part in sizes)
        case Op.RESHAPE:
            return _reshape_windows(node, window)[1]
        case Op.SHRINK:
            parts = zip(window, shape_of(node.src[0]), node.arg, strict=True)
            return tuple(_shrunk_window(part, n, first, step) for part, n, (first, _, step) in parts)
        case Op.FLIP:
            return tuple(
                (n - b, n - a) if axis in node.arg else (a, b)
                for axis, ((a, b), n) in enumerate(zip(window, shape_of(node), strict=True))
            )
        case Op.PAD:
            entries = zip(window, shape_of(node.src[0]), node.arg, strict=True)
            return tuple(_padded_window(part, n, low, between + 1) for part, n, (low, _, between) in entries)
        case Op.GATHER if number == 0:
            n = shape_of(node.src[0])[node.arg]
            return tuple((0, n) if axis == node.arg else part for axis, part in enumerate(window))
        case Op.REDUCE:
            left = iter(window)
            shape = shape_of(node.src[0])
            return tuple((0, n) if axis in node.arg[1] else next(left) for axis, n in enumerate(shape))
    return window


def _shrunk_window(window: tuple[int, int], n: int, first: int, step: int) -> tuple[int, int]:
    """The elements of an axis of `n` that a window of every `step`th of them from `first` on reads."""
    a, b = window
    if a == b:
        place = min(first + a * step, n)  # behind the last of them may be beyond the axis
        return place, place
    return first + a * step, first + (b - 1) * step + 1


def _padded_window(window: tuple[int, int], n: int, low: int, step: int) -> tuple[int, int]:
    """The elements of an axis of `n` that lie in a window of the padded one; at least one, if there is one."""
    first = min(max(-(-(window[0] - low) // step), 0), max(n - 1, 0))
    return first, max(min((window[1] - 1 - low) // step + 1, n), min(first + 1, n))


def pad_places(node: UOp, window: Window, held: Window) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """(from, to): which part of the source's window `held` goes where in a PAD's `window`."""
    source, target = [], []
    for (start, stop), (first, last), (low, _, between) in zip(window, held, node.arg, strict=True):
        step = between + 1
        a = max(first, -(-(start - low) // step))
        b = max(a, min(last, (stop - 1 - low) // step + 1))
        source.append(slice(a - first, b - first))
        place = low + a * step - start
        target.append(slice(place, place + (b - a - 1) * step + 1, step) if b > a else slice(0, 0))
    return tuple(source), tuple(target)


Group = tuple[tuple[int, ...], tuple[int, ...]]  # axes of the old and of the new shape with equal products


@lru_cache(maxsize=4096)
def _groups(old: Shape, new: Shape) -> tuple[Group, ...]:
    """Match axes (other than of size 1) of two shapes of as many elements, in the smallest groups."""
    olds = [axis for axis, n in enumerate(old) if n != 1]
    news = [axis for axis, n in enumerate(new) if n != 1]
    found: list[Group] = []
    i = j = 0
    while i < len(olds) and j < len(news):
        first_i, first_j = i, j
        a, b = old[olds[i]], new[news[j]]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * old[olds[i]], i + 1
            else:
                b, j = b * new[news[j]], j + 1
        found.append((tuple(olds[first_i:i]), tuple(news[first_j:j])))
    return tuple(found)


def _reshape_windows(node: UOp, wanted: Window) -> tuple[Window, Window]:
    """(window of the result, window of the source) of a RESHAPE, with whole rows of each group of axes."""
    old, new = shape_of(node.src[0]), tuple(node.arg)
    if prod(new) == 0 or (prod(lengths(wanted)) == 0 and not old):
        return whole(new), whole(old)
    if prod(lengths(wanted)) == 0:  # nothing of something: no rows to make whole
        return wanted, ((0, 0),) * len(old)
    into, out = [(0, 1)] * len(new), [(0, 1)] * len(old)
    for olds, news in _groups(old, new):
        first, last = _flat_span([new[a] for a in news], [wanted[a] for a in news])
        row_old, row_new = prod(old[a] for a in olds[1:]), prod(new[a] for a in news[1:])
        step = lcm(row_old, row_new)
        first, last = first // step * step, min(-(-last // step) * step, row_new * new[news[0]])
        for axes, shape, row, window in ((olds, old, row_old, out), (news, new, row_new, into)):
            window[axes[0]] = (first // row, last // row)
            for axis in axes[1:]:
                window[axis] = (0, shape[axis])
    return tuple(into), tuple(out)


def _flat_span(sizes: list[int], window: list[tuple[int, int]]) -> tuple[int, int]:
    """The first and one past the last flat position that a window of a group touches."""
    first = last = 0
    for size, (start, stop) in zip(sizes, window, strict=True):
        first, last = first * size + start, last * size + stop - 1
    return first, last + 1
