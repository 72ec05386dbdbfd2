"""Moving elements: views of the graph and what is put together of them. Axes are counted from either end."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from engine import build
from engine import dtype as dt
from engine.arguments import Axes, axes_of, axis_of, inferred
from engine.build import Scalar, cast, const
from engine.errors import InvalidGraph
from engine.functions.arithmetic import common_type, where
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of
from engine.sizes import is_open, least

# ------------------------------------------------------------------------------------------------ shapes


def reshape(x: UOp, shape: Shape) -> UOp:
    """The same elements in another shape; one size may be -1: whatever is left."""
    return build.reshape(x, inferred(shape, shape_of(x)))


def expand(x: UOp, shape: Shape) -> UOp:
    """Axes of size 1 grown to `shape`, new axes in front; -1 keeps an axis."""
    old = shape_of(x)
    if len(shape) < len(old):
        raise InvalidGraph(f"cannot expand {old} to {shape}: fewer axes", "expand")
    padded = (1,) * (len(shape) - len(old)) + old
    return build.broadcast(x, tuple(n if m == -1 else m for n, m in zip(padded, shape, strict=True)))


def unsqueeze(x: UOp, axis: int) -> UOp:
    """With a new axis of size 1 at `axis`."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape) + 1)
    return build.reshape(x, (*shape[:place], 1, *shape[place:]))


def squeeze(x: UOp, axis: Axes) -> UOp:
    """Without the axes of size 1 (of those named, if any are)."""
    shape = shape_of(x)
    axes = axes_of(axis, len(shape))
    maybe = [i for i in axes if is_open(shape[i]) and least(shape[i]) == 1]
    if maybe:
        why = f"axis {maybe[0]} of {shape} is of size 1 in some calls: name the axes that are in all"
        raise InvalidGraph(why, "squeeze")
    return build.reshape(x, tuple(n for i, n in enumerate(shape) if n != 1 or i not in axes))


def flatten(x: UOp, first: int, last: int) -> UOp:
    """The axes from `first` to `last` as one; of a 0-d node an axis of size 1."""
    shape = shape_of(x) or (1,)
    start, stop = axis_of(first, len(shape)), axis_of(last, len(shape)) + 1
    if start >= stop:
        raise InvalidGraph(f"axis {first} comes behind axis {last} of {shape}", "flatten")
    return build.reshape(x, (*shape[:start], prod(shape[start:stop]), *shape[stop:]))


def unflatten(x: UOp, axis: int, sizes: Shape) -> UOp:
    """One axis as several; one size may be -1."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    return build.reshape(x, (*shape[:place], *inferred(sizes, (shape[place],)), *shape[place + 1 :]))


# ------------------------------------------------------------------------------------------------- order


def permute(x: UOp, axes: tuple[int, ...]) -> UOp:
    """The axes in another order."""
    shape = shape_of(x)
    order = tuple(axis_of(axis, len(shape)) for axis in axes)
    if sorted(order) != list(range(len(shape))):
        raise InvalidGraph(f"{order} is not an order of the {len(shape)} axes of {shape}", "permute")
    return build.permute(x, order)


def transpose(x: UOp, first: int, second: int) -> UOp:
    """Two axes swapped."""
    order = list(range(len(shape_of(x))))
    i, j = axis_of(first, len(order)), axis_of(second, len(order))
    order[i], order[j] = order[j], order[i]
    return build.permute(x, tuple(order))


def move_axes(x: UOp, source: Sequence[int], target: Sequence[int]) -> UOp:
    """The axes `source` brought to the places `target`, the others in order."""
    ndim = len(shape_of(x))
    out, into = ([axis_of(axis, ndim) for axis in axes] for axes in (source, target))
    if len(out) != len(into) or len(set(out)) != len(out) or len(set(into)) != len(into):
        raise InvalidGraph(f"cannot bring axes {tuple(source)} to {tuple(target)}", "movedim")
    placed = dict(zip(into, out, strict=True))
    rest = iter(axis for axis in range(ndim) if axis not in out)
    return build.permute(x, tuple(placed[i] if i in placed else next(rest) for i in range(ndim)))


def flip(x: UOp, axis: Axes) -> UOp:
    """The order of some axes reversed (all without any named)."""
    return build.flip(x, axes_of(axis, len(shape_of(x))))


def roll(x: UOp, shifts: Sequence[int], axis: Axes) -> UOp:
    """Elements moved on along axes, what falls off coming back in front; without an axis, along all as one."""
    shape = shape_of(x)
    if axis is None:
        return build.reshape(roll(build.reshape(x, (prod(shape),)), shifts, 0), shape)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) != len(shifts):
        raise InvalidGraph(f"{len(shifts)} shifts for {len(axes)} axes", "roll")
    for shift, one in zip(shifts, axes, strict=True):
        place = axis_of(one, len(shape))
        n = shape[place]
        cut = -shift % n if n else 0
        if cut:
            x = cat([part(x, place, cut, n), part(x, place, 0, cut)], place)
    return x


def rot90(x: UOp, times: int, first: int, second: int) -> UOp:
    """A quarter turn from the first axis to the second, so often."""
    ndim = len(shape_of(x))
    i, j = axis_of(first, ndim), axis_of(second, ndim)
    if i == j:
        raise InvalidGraph(f"axes {first} and {second} are one", "rot90")
    if times % 2 == 0:
        return build.flip(x, (i, j)) if times % 4 else x
    return transpose(build.flip(x, (j if times % 4 == 1 else i,)), i, j)


# ----------------------------------------------------------------------------------------------- repeating


def repeat(x: UOp, times: Shape) -> UOp:
    """The whole repeated so often along each axis, new axes in front."""
    shape = shape_of(x)
    if len(times) < len(shape) or any(t < 0 for t in times):
        raise InvalidGraph(f"cannot repeat {shape} {times} times", "repeat")
    shape = (1,) * (len(times) - len(shape)) + shape
    spread = build.reshape(x, tuple(n for size in shape for n in (1, size)))
    spread = build.expand(spread, tuple(n for t, size in zip(times, shape, strict=True) for n in (t, size)))
    return build.reshape(spread, tuple(t * size for t, size in zip(times, shape, strict=True)))


def repeat_each(x: UOp, times: int, axis: int | None) -> UOp:
    """Each element repeated so often along an axis (of the flattened node without one)."""
    if axis is None:
        return repeat_each(build.reshape(x, (prod(shape_of(x)),)), times, 0)
    if times < 0:
        raise InvalidGraph(f"cannot repeat {times} times", "repeat_interleave")
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    front, n, behind = shape[:place], shape[place], shape[place + 1 :]
    spread = build.expand(build.reshape(x, (*front, n, 1, *behind)), (*front, n, times, *behind))
    return build.reshape(spread, (*front, n * times, *behind))


# ---------------------------------------------------------------------------------------- cutting, joining


def part(x: UOp, axis: int, start: int, stop: int, step: int = 1) -> UOp:
    """The elements start, start + step, … below stop of one axis."""
    cut = [(0, n, 1) for n in shape_of(x)]
    cut[axis] = (start, stop, step)
    return build.shrink(x, cut)


def shrink(x: UOp, limits: Sequence[tuple[int, int] | None]) -> UOp:
    """The elements from start to below stop of each axis; None keeps an axis."""
    shape = shape_of(x)
    if len(limits) != len(shape):
        raise InvalidGraph(f"{len(limits)} limits for the {len(shape)} axes of {shape}", "shrink")
    pairs = [(0, n) if pair is None else pair for n, pair in zip(shape, limits, strict=True)]
    return build.shrink(x, [(start, stop, 1) for start, stop in pairs])


def cat(nodes: Sequence[UOp], axis: int) -> UOp:
    """Joined along an axis, in their common dtype. InvalidGraph where another axis differs."""
    if not nodes:
        raise InvalidGraph("there is nothing to join", "cat")
    shapes = [shape_of(node) for node in nodes]
    place = axis_of(axis, len(shapes[0]))
    for shape in shapes:
        if len(shape) != len(shapes[0]) or any(
            n != m for i, (n, m) in enumerate(zip(shape, shapes[0], strict=True)) if i != place
        ):
            raise InvalidGraph(f"{shapes[0]} and {shape} differ in more than axis {place}", "cat")
    dtype = nodes[0].dtype if len({node.dtype for node in nodes}) == 1 else common_type(*nodes)
    parts = [cast(node, dtype) for node in nodes if shape_of(node)[place]] or [cast(nodes[0], dtype)]
    while len(parts) > 1:  # by halves: each element passes through few choices
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [_joined(pair[0], pair[1], place) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def _joined(a: UOp, b: UOp, axis: int) -> UOp:
    left, right = shape_of(a)[axis], shape_of(b)[axis]
    widths = [[(0, 0, 0)] * len(shape_of(a)) for _ in range(2)]
    widths[0][axis], widths[1][axis] = (0, right, 0), (left, 0, 0)
    first = build.pad(const(True, dt.bool_, shape_of(a)), widths[0])
    return build.elementwise(Op.WHERE, first, build.pad(a, widths[0]), build.pad(b, widths[1]))


def stack(nodes: Sequence[UOp], axis: int) -> UOp:
    """Joined along a new axis. InvalidGraph unless all have one shape."""
    shapes = {shape_of(node) for node in nodes}
    if len(shapes) != 1:
        raise InvalidGraph(f"shapes {', '.join(map(str, shapes)) or 'of nothing'} are not one", "stack")
    return cat([unsqueeze(node, axis) for node in nodes], axis_of(axis, len(shapes.pop()) + 1))


def split(x: UOp, sizes: int | Sequence[int], axis: int) -> tuple[UOp, ...]:
    """Parts of an axis: of one size (the last may be smaller), or of the sizes given, which are all of it."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    n = shape[place]
    if isinstance(sizes, int):
        if sizes < 1:
            raise InvalidGraph(f"parts of size {sizes}", "split")
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)] or [0]
    if sum(sizes) != n or any(size < 0 for size in sizes):
        raise InvalidGraph(f"parts of sizes {tuple(sizes)} are not axis {place} of {shape}", "split")
    stops = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(part(x, place, stop - size, stop) for size, stop in zip(sizes, stops, strict=True))


def chunk(x: UOp, count: int, axis: int) -> tuple[UOp, ...]:
    """At most `count` parts of an axis, all but the last of one size."""
    if count < 1:
        raise InvalidGraph(f"{count} parts", "chunk")
    n = shape_of(x)[axis_of(axis, len(shape_of(x)))]
    return split(x, max(1, -(-n // count)), axis) if n else (x,) * count


def unbind(x: UOp, axis: int) -> tuple[UOp, ...]:
    """The slices along an axis, each without it."""
    shape = shape_of(x)
    place = axis_of(axis, len(shape))
    rest = (*shape[:place], *shape[place + 1 :])
    return tuple(build.reshape(part(x, place, i, i + 1), rest) for i in range(shape[place]))


def diagonal(x: UOp, offset: int, first: int, second: int) -> UOp:
    """The diagonal of two axes, `offset` above the main one, as a last axis."""
    ndim = len(shape_of(x))
    i, j = axis_of(first, ndim), axis_of(second, ndim)
    if i == j:
        raise InvalidGraph(f"axes {first} and {second} are one", "diagonal")
    moved = move_axes(x, (i, j), (ndim - 2, ndim - 1))
    *left, rows, columns = shape_of(moved)
    top, start = max(0, -offset), max(0, offset)
    length = max(0, min(rows - top, columns - start))
    cut = [(0, n, 1) for n in left]
    square = build.shrink(moved, [*cut, (min(top, rows), min(top, rows) + length, 1), (0, columns, 1)])
    flat = build.reshape(square, (*left, length * columns))
    return build.shrink(flat, [*cut, (min(start, length * columns), length * columns, columns + 1)])


# ------------------------------------------------------------------------------------------------ padding

Width = tuple[int, int]


def pad(x: UOp, widths: Sequence[Width], mode: str, value: Scalar) -> UOp:
    """Elements put before and behind each axis; a negative number takes some away.

    `mode`: "constant" (value), "reflect" (mirrored at the last element), "replicate" (the last again) or
    "circular" (the other end). InvalidGraph for another, or where an axis has nothing to repeat.
    """
    shape = shape_of(x)
    if len(widths) != len(shape):
        raise InvalidGraph(f"{len(widths)} pairs for the {len(shape)} axes of {shape}", "pad")
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise InvalidGraph(f"mode {mode!r} is not constant, reflect, replicate or circular", "pad")
    if any(n + min(low, 0) + min(high, 0) < 0 for n, (low, high) in zip(shape, widths, strict=True)):
        raise InvalidGraph(f"{tuple(widths)} takes more than there is of {shape}", "pad")
    x = build.shrink(
        x, [(max(0, -low), n - max(0, -high), 1) for n, (low, high) in zip(shape, widths, strict=True)]
    )
    grown = [(max(0, low), max(0, high)) for low, high in widths]
    if mode == "constant":
        return padded_with(x, grown, value)
    for axis, (low, high) in enumerate(grown):
        x = _pad_axis(x, axis, low, high, mode)
    return x


def padded_with(x: UOp, widths: Sequence[Width], value: Scalar) -> UOp:
    """x with `value` before and behind each axis."""
    triples = [(low, high, 0) for low, high in widths]
    zeros = build.pad(x, triples)
    if zeros is x or value == 0:
        return zeros
    inside = build.pad(const(True, dt.bool_, shape_of(x)), triples)
    return cast(where(inside, zeros, value), x.dtype)


def _pad_axis(x: UOp, axis: int, low: int, high: int, mode: str) -> UOp:
    if not low and not high:
        return x
    n = shape_of(x)[axis]
    if n < (2 if mode == "reflect" else 1):
        raise InvalidGraph(f"axis {axis} of {shape_of(x)} has too few elements to {mode}", "pad")
    if mode != "replicate" and max(low, high) >= n + (mode == "circular"):
        most = n - 1 if mode == "reflect" else n
        raise InvalidGraph(
            f"{low} before and {high} behind axis {axis} of {n} are more than the {most} to {mode}", "pad"
        )
    if mode == "replicate":
        ends = (part(x, axis, 0, 1), part(x, axis, n - 1, n))
        before, behind = (repeat_each(end, times, axis) for end, times in zip(ends, (low, high), strict=True))
        return cat([before, x, behind], axis)
    period = n if mode == "circular" else 2 * (n - 1)
    wave = x if mode == "circular" else cat([x, build.flip(part(x, axis, 1, n - 1), (axis,))], axis)
    times = [1] * len(shape_of(x))
    times[axis] = -(-(-low % period + low + n + high) // period)
    start = -low % period
    return part(repeat(wave, tuple(times)), axis, start, start + low + n + high)


def transposed(x: UOp) -> UOp:
    """A matrix transposed; a node of fewer axes itself."""
    shape = shape_of(x)
    if len(shape) > 2:
        raise InvalidGraph(f"{shape} is no matrix; .mT swaps the last two axes", "t")
    return transpose(x, 0, 1) if len(shape) == 2 else x


def mesh(nodes: Sequence[UOp], indexing: str) -> list[UOp]:
    """Each 1-d node spread over the axes of all the others."""
    if indexing not in ("ij", "xy"):
        raise InvalidGraph(f"indexing is 'ij' or 'xy', not {indexing!r}", "meshgrid")
    if any(len(shape_of(node)) > 1 for node in nodes):
        raise InvalidGraph(f"shapes {', '.join(str(shape_of(n)) for n in nodes)} are not all 1-d", "meshgrid")
    sizes = tuple(prod(shape_of(node)) for node in nodes)
    found = []
    for axis, node in enumerate(nodes):
        along = build.reshape(node, tuple(n if i == axis else 1 for i, n in enumerate(sizes)))
        spread = build.expand(along, sizes)
        found.append(transpose(spread, 0, 1) if indexing == "xy" and len(nodes) > 1 else spread)
    return found
