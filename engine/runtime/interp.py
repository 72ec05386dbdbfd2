"""The interpreter: the definition of every op, in NumPy. Slow, and right by being obvious.

Floats are float64 inside and rounded at CAST and at the output; integers are exact in their own width and wrap.
x // 0 and x % 0 are 0, // and % floor, MAX and MIN propagate NaN, float → int truncates and saturates with
NaN → 0. A result is computed in tiles that fit the caches, so that a big reduction needs little memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, Op
from engine.runtime.windows import Window, hull, lengths, own_window, slices, source_window, whole
from engine.shapes import shape_of

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 1 << 18  # elements of a node evaluated at a time: 2 MB of float64
BLOCK = 1 << 22  # elements of the output computed at a time, with the reductions they need: 32 MB

UFUNCS: dict[Op, Callable[..., Array]] = {
    Op.NEG: np.negative,
    Op.EXP: np.exp,
    Op.LOG: np.log,
    Op.SQRT: np.sqrt,
    Op.SIN: np.sin,
    Op.NOT: np.invert,
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
    Op.IDIV: np.floor_divide,  # of integers: x // 0 is 0 in NumPy
    Op.MOD: np.remainder,  # of integers: x % 0 is 0 in NumPy
    Op.MAX: np.maximum,
    Op.MIN: np.minimum,
    Op.LT: np.less,
    Op.EQ: np.equal,
    Op.NE: np.not_equal,
    Op.AND: np.bitwise_and,
    Op.OR: np.bitwise_or,
    Op.XOR: np.bitwise_xor,
    Op.WHERE: np.where,
}
REDUCERS: dict[Op, np.ufunc] = {Op.ADD: np.add, Op.MUL: np.multiply, Op.MAX: np.maximum, Op.MIN: np.minimum}


def working(dtype: DType) -> np.dtype[Any]:
    """The NumPy type a dtype's values have inside the interpreter: float64 for floats, else their own."""
    return np.dtype(np.float64) if dtype.is_float else dtype.numpy


def apply(op: Op, dtype: DType, values: Sequence[Array]) -> Array:
    """One element-wise op on values in their working types. The caller silences floating-point warnings."""
    if op is Op.CAST:
        return convert(values[0], dtype)
    if op is Op.MULACC:
        return np.add(np.multiply(values[0], values[1]), values[2])
    return UFUNCS[op](*values)


def convert(value: Array, dtype: DType) -> Array:
    """CAST: `value` (in a working type) rounded to `dtype`, in the working type of that."""
    if dtype is dt.bool_:
        return np.not_equal(value, 0)
    if dtype.is_float:
        return value.astype(dtype.numpy).astype(np.float64)
    if value.dtype.kind == "f":
        return _saturate(value, dtype)
    return value.astype(dtype.numpy)


def _saturate(value: Array, dtype: DType) -> Array:
    limits = np.iinfo(dtype.numpy)
    # 2.0 ** 63 is a float64 and the largest int64 is not, so the top is chosen, not clipped to.
    top = float(limits.max) + (1.0 if dtype is dt.int32 else 0.0)
    inside = np.where((value > limits.min) & (value < top), value, 0.0).astype(dtype.numpy)
    return np.where(value >= top, limits.max, np.where(value <= limits.min, limits.min, inside))


def identity(op: Op, dtype: DType) -> Any:
    """What a reduction starts from: 0, 1, or the lowest or highest value."""
    if op in (Op.ADD, Op.MUL):
        return 0 if op is Op.ADD else 1
    if dtype.is_float:
        return -np.inf if op is Op.MAX else np.inf
    limits = np.iinfo(dtype.numpy)
    return limits.min if op is Op.MAX else limits.max


# ------------------------------------------------------------------------------------------ whole kernels


def evaluate(kernel: Kernel, inputs: Sequence[Array], *, exact: bool = False) -> Array:
    """The kernel's output for `inputs` (one array a slot), in its dtype.

    With `exact`, a float64 array as it was before rounding to the output's dtype: what tolerances are measured
    against (compare integers without it: an int64 beyond 2**53 does not fit). InvalidGraph names an input
    that does not fit its PARAM.
    """
    return _evaluate_window(kernel, inputs, whole(shape_of(kernel.output)), exact)


def evaluate_rows(
    kernel: Kernel, inputs: Sequence[Array], start: int, stop: int, *, exact: bool = False
) -> Array:
    """`evaluate(…)[start:stop]` without computing the rest. A 0-d output counts as one row and stays 0-d."""
    shape = shape_of(kernel.output)
    rows = shape[0] if shape else 1
    if not 0 <= start <= stop <= rows:
        raise InvalidGraph(f"[{start}, {stop}) is not within the {rows} rows of {shape}", "rows")
    window = ((start, stop), *whole(shape[1:])) if shape else ()
    return _evaluate_window(kernel, inputs, window, exact)


def _evaluate_window(kernel: Kernel, inputs: Sequence[Array], window: Window, exact: bool) -> Array:
    leaves = _bind(kernel, inputs)
    final = np.dtype(np.float64) if exact else kernel.dtype.numpy
    output = np.empty(lengths(window), final)
    plan = _plan(kernel.output)
    with np.errstate(all="ignore"):
        for block in _blocks(window):
            value = _run_block(plan, block, leaves)
            # Rounds to nearest, and to an infinity beyond the largest float32: the output's own rounding.
            output[slices(block, window)] = value
    return output


def _bind(kernel: Kernel, inputs: Sequence[Array]) -> dict[UOp, Array]:
    if len(inputs) != len(kernel.params):
        raise InvalidGraph(f"{len(inputs)} arrays for {len(kernel.params)} slots", "inputs")
    for slot, (node, array) in enumerate(zip(kernel.params, inputs, strict=True)):
        if array.shape != node.arg[1] or array.dtype != node.dtype.numpy:
            wanted, given = f"{node.dtype.name} {node.arg[1]}", f"{array.dtype} {array.shape}"
            raise InvalidGraph(f"is {given}; slot {slot} takes {wanted}", f"inputs[{slot}]")
    return dict(zip(kernel.params, inputs, strict=True))


def _blocks(window: Window) -> Iterator[Window]:
    """`window` cut along its outer axes into blocks of at most about BLOCK elements."""
    shape = list(lengths(window))
    for axis in range(len(shape)):
        if prod(shape) > BLOCK:
            shape[axis] = max(1, BLOCK // max(1, prod(shape[axis + 1 :])))
    return _cut(window, shape)


def _cut(window: Window, shape: Sequence[int]) -> Iterator[Window]:
    parts = [
        [(i, min(i + size, stop)) for i in range(start, stop, max(1, size))]
        for (start, stop), size in zip(window, shape, strict=True)
    ]
    return (tuple(tile) for tile in product(*parts))


# ---------------------------------------------------------------------------------------------- segments


@dataclass(frozen=True, slots=True)
class _Segment:
    """The nodes between two reductions: `order` ends in `root` and begins with leaves or earlier results.

    `reduce` is the REDUCE that `root` feeds; None for the last segment, which gives the kernel's output.
    """

    root: UOp
    order: list[UOp]
    reduce: UOp | None
    last_use: dict[UOp, int]


def _plan(output: UOp) -> list[_Segment]:
    reduces = [node for node in toposort(output) if node.op is Op.REDUCE]
    segments = [_segment(node.src[0], node) for node in reduces]
    return segments if output.op is Op.REDUCE else [*segments, _segment(output, None)]


def _segment(root: UOp, reduce: UOp | None) -> _Segment:
    order = toposort(root, enter=lambda node: node.op is not Op.REDUCE)
    last_use = {source: i for i, node in enumerate(order) if node.op is not Op.REDUCE for source in node.src}
    return _Segment(root, order, reduce, last_use)


def _run_block(plan: list[_Segment], block: Window, leaves: Mapping[UOp, Array]) -> Array:
    wanted = _reduced_windows(plan, block)
    known: dict[UOp, tuple[Array, Window]] = {
        node: (array, whole(array.shape)) for node, array in leaves.items()
    }
    value = np.empty(0)
    for segment in plan:
        if segment.reduce is None:
            return _run_tiled(segment, block, known)
        value = _run_reduce(segment, wanted[segment.reduce], known)
        known[segment.reduce] = (value, wanted[segment.reduce])
    return value


def _reduced_windows(plan: list[_Segment], block: Window) -> dict[UOp, Window]:
    """What is needed of each reduction's result for a block of the output, walking from the output back."""
    found: dict[UOp, Window] = {}
    for segment in reversed(plan):
        if segment.reduce is None or segment is plan[-1]:
            window = block
        else:
            window = found[segment.reduce]
        if segment.reduce is not None:
            found[segment.reduce] = window
            window = source_window(segment.reduce, 0, window)
        for node, needed in _demands(segment, window).items():
            if node.op is Op.REDUCE:
                found[node] = hull(found[node], needed) if node in found else needed
    return found


def _demands(segment: _Segment, window: Window) -> dict[UOp, Window]:
    """Which window of each node of the segment the root's `window` needs."""
    found: dict[UOp, Window] = {segment.root: window}
    for node in reversed(segment.order):
        if node.op is Op.REDUCE:
            continue
        found[node] = own_window(node, found[node])
        for source, needed in _needs(node, found[node]):
            known = found.setdefault(source, needed)
            if known != needed:
                found[source] = hull(known, needed)
    return found


def _needs(node: UOp, window: Window) -> list[tuple[UOp, Window]]:
    """Each source with its window that `window` of the node needs."""
    if node.op in ELEMENTWISE:
        return [(source, window) for source in node.src]
    return [(source, source_window(node, number, window)) for number, source in enumerate(node.src)]


def _tile_shape(segment: _Segment, window: Window) -> list[int]:
    """Halve the axis that saves most until the nodes of a tile are small, or halving stops to save much."""
    shape = list(lengths(window))
    total, peak = _volume(segment, window, shape)
    while peak > TILE:
        halves = [[-(-n // 2) if i == axis else n for i, n in enumerate(shape)] for axis in range(len(shape))]
        costs = [_volume(segment, window, half) for half in halves]
        # Of equal savings, the longest axis: square tiles reuse what they load.
        best = min(range(len(shape)), key=lambda i: (costs[i][0], -shape[i]))
        if costs[best][0] > 0.75 * total:
            break
        shape, (total, peak) = halves[best], costs[best]
    return shape


def _volume(segment: _Segment, window: Window, shape: Sequence[int]) -> tuple[int, int]:
    """(elements of all nodes, elements of the largest node) evaluated for the first tile of `shape`."""
    first = tuple((start, start + n) for (start, _), n in zip(window, shape, strict=True))
    sizes = [prod(lengths(part)) for part in _demands(segment, first).values()]
    return sum(sizes), max(sizes)


Known = Mapping[UOp, tuple[Array, Window]]


def _run_tiled(segment: _Segment, window: Window, known: Known) -> Array:
    result = np.empty(lengths(window), working(segment.root.dtype))
    for tile in _cut(window, _tile_shape(segment, window)):
        result[slices(tile, window)] = _run_tile(segment, tile, known)
    return result


def _run_reduce(segment: _Segment, window: Window, known: Known) -> Array:
    node = segment.reduce
    assert node is not None
    op, axes = node.arg
    result = np.full(lengths(window), identity(op, node.dtype), working(node.dtype))
    inside = source_window(node, 0, window)
    for tile in _cut(inside, _tile_shape(segment, inside)):
        kept = tuple(part for axis, part in enumerate(tile) if axis not in axes)
        where = slices(kept, window)
        value = _run_tile(segment, tile, known)
        part = REDUCERS[op].reduce(value, axis=axes, dtype=value.dtype)
        result[where] = REDUCERS[op](result[where], part)
    return result


def _run_tile(segment: _Segment, tile: Window, known: Known) -> Array:
    windows = _demands(segment, tile)
    values: dict[UOp, Array] = {}
    for position, node in enumerate(segment.order):
        values[node] = _value(node, windows, values, known)
        for source in node.src:
            if segment.last_use.get(source) == position:
                values.pop(source, None)  # a long chain of ops keeps only what is still read
    return values[segment.root][slices(tile, windows[segment.root])]


def _value(node: UOp, windows: Mapping[UOp, Window], values: Mapping[UOp, Array], known: Known) -> Array:
    window = windows[node]
    if node in known:
        array, held = known[node]
        return array[slices(window, held)].astype(working(node.dtype), copy=False)
    if node.op is Op.CONST:
        return convert(np.asarray(node.arg, working(node.dtype)), node.dtype)
    sources = [
        values[source] if needed == windows[source] else values[source][slices(needed, windows[source])]
        for source, needed in _needs(node, window)
    ]
    match node.op:
        case Op.RESHAPE:
            return sources[0].reshape(lengths(window))
        case Op.EXPAND:
            return np.broadcast_to(sources[0], lengths(window))
        case Op.PERMUTE:
            return sources[0].transpose(node.arg)
        case Op.CONTIGUOUS:
            return sources[0]
    return apply(node.op, node.dtype, sources)
