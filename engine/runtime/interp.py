"""The interpreter: the definition of a kernel, in NumPy. Slow, and right by being obvious.

What each op means is in engine.runtime.meaning. A result is computed in tiles that fit the caches, so that a big
reduction needs little memory; SCATTER and FOLD, which have an order, are computed whole, and once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np

from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, HoleKind, Op
from engine.runtime import meaning
from engine.runtime.meaning import REDUCERS, apply, convert, identity, stored, working
from engine.runtime.windows import (
    Window,
    hull,
    lengths,
    own_window,
    pad_places,
    slices,
    source_window,
    whole,
)
from engine.shapes import shape_of

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 1 << 18  # elements of a node evaluated at a time: 2 MB of float64
BLOCK = 1 << 22  # elements of the output computed at a time, with the reductions they need: 32 MB

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
    final = np.dtype(np.float64) if exact else kernel.dtype.numpy
    output = np.empty(lengths(window), final)
    with np.errstate(all="ignore"):
        leaves = _with_ordered(kernel.output, _bind(kernel, inputs))
        plan = _plan(kernel.output, leaves)
        for block in _blocks(window):
            value = _run_block(plan, block, leaves)
            output[slices(block, window)] = value if exact else stored(value, kernel.dtype)
    return output


def _bind(kernel: Kernel, inputs: Sequence[Array]) -> dict[UOp, Array]:
    if len(inputs) != len(kernel.params):
        raise InvalidGraph(f"{len(inputs)} arrays for {len(kernel.params)} slots", "inputs")
    for slot, (node, array) in enumerate(zip(kernel.params, inputs, strict=True)):
        if array.shape != node.arg[1] or array.dtype != node.dtype.numpy:
            wanted, given = f"{node.dtype.name} {node.arg[1]}", f"{array.dtype} {array.shape}"
            raise InvalidGraph(f"is {given}; slot {slot} takes {wanted}", f"inputs[{slot}]")
    return dict(zip(kernel.params, inputs, strict=True))


# ------------------------------------------------------------------------------------- SCATTER and FOLD


def _with_ordered(root: UOp, leaves: Mapping[UOp, Array]) -> dict[UOp, Array]:
    """`leaves` and the value of every SCATTER and FOLD under `root`, each computed whole."""
    found = dict(leaves)
    for node in toposort(root, enter=lambda n: n not in leaves, bodies=False):
        if node in found:
            continue
        if node.op is Op.SCATTER:
            start, index, updates = (_whole(source, found) for source in node.src)
            found[node] = meaning.scatter(start, index, updates, node.arg[1], node.arg[0])
        elif node.op is Op.FOLD:
            for number, state in enumerate(_run_fold(node, found)):
                found[UOp(Op.GET, node.src[number].dtype, (node,), number)] = state
    return found


def _whole(node: UOp, leaves: Mapping[UOp, Array]) -> Array:
    """A node's value over all of its shape, in its working type."""
    return _run_block(_plan(node, leaves), whole(shape_of(node)), leaves)


def _run_fold(node: UOp, leaves: Mapping[UOp, Array]) -> list[Array]:
    number, steps, count = node.arg
    bodies = node.src[-count:]
    states = [_whole(source, leaves) for source in node.src[:count]]
    xs = [_whole(source, leaves) for source in node.src[count:-count]]
    order = toposort(*bodies, bodies=False)
    windows = {n: whole(shape_of(n)) for n in order}
    below = [n for n in toposort(*bodies) if n.op is Op.HOLE]
    holes = [n for n in below if n.arg[0] == number]
    outer = {n: leaves[n] for n in below if n in leaves}
    for step in range(steps):
        now = {HoleKind.STATE: states, HoleKind.X: [x[step] for x in xs], HoleKind.STEP: [np.int64(step)]}
        values = outer | {hole: np.asarray(now[hole.arg[1]][hole.arg[2]]) for hole in holes}
        for n in order:
            _add_whole(n, windows, values)
        states = [values[body] for body in bodies]
    return states


def _add_whole(node: UOp, windows: Mapping[UOp, Window], values: dict[UOp, Array]) -> None:
    """Add a node's value over all of its shape to `values`, which has its sources'; of a FOLD, its GETs'."""
    if node in values or node.op is Op.GET:
        return
    if node.op in (Op.SCATTER, Op.FOLD):
        values.update(_with_ordered(node, values))
    elif node.op is Op.REDUCE:
        values[node] = _whole(node, values)
    else:
        values[node] = _value(node, windows, values, {})


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
    given: frozenset[UOp]


def _plan(output: UOp, leaves: Mapping[UOp, Array]) -> list[_Segment]:
    order = toposort(output, enter=lambda node: node not in leaves)
    reduces = [node for node in order if node.op is Op.REDUCE and node not in leaves]
    segments = [_segment(node.src[0], node, leaves) for node in reduces]
    return segments if output in reduces else [*segments, _segment(output, None, leaves)]


def _segment(root: UOp, reduce: UOp | None, leaves: Mapping[UOp, Array]) -> _Segment:
    def is_inner(node: UOp) -> bool:
        return node.op is not Op.REDUCE and node not in leaves

    order = toposort(root, enter=is_inner)
    last_use = {source: i for i, node in enumerate(order) if is_inner(node) for source in node.src}
    return _Segment(root, order, reduce, last_use, frozenset(node for node in order if not is_inner(node)))


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
        if node in segment.given:
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
    while peak > TILE and shape:
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
    if node.op is Op.IOTA:
        return np.arange(*window[0], dtype=np.int64)
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
        case Op.SHRINK:
            return sources[0][tuple(slice(None, None, step) for _, _, step in node.arg)]
        case Op.FLIP:
            return meaning.flip(sources[0], node.arg)
        case Op.PAD:
            return _pad(node, sources[0], window)
        case Op.GATHER:
            return meaning.gather(sources[0], sources[1], node.arg)
        case Op.CONTIGUOUS | Op.DETACH | Op.SLOPE:
            return sources[0]
        case Op.ASSIGN:
            return sources[1]
    return apply(node.op, node.dtype, sources, node.src[0].dtype)


def _pad(node: UOp, value: Array, window: Window) -> Array:
    source, target = pad_places(node, window, source_window(node, 0, window))
    found = np.zeros(lengths(window), value.dtype)
    found[target] = value[source]
    return found
