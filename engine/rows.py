"""Kernels that pass over rows: reduces that some output axis does not move, each with loops of its own.

Such a kernel computes a few totals of each row and then the row: as many passes as there are targets, each with its
own lanes and unrolled steps, over memory that the first of them has brought into the cache.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from engine.dtype import float32
from engine.indexing import Access, Body, accesses, body
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import TARGET_OUT, Opt, OptKind
from engine.ranges import Axis
from engine.target import Target

# Accumulators that take turns: enough to hide the latency of an addition, or what computes their terms hides it.
STEPS, STEPS_OF_FUNCTIONS = 4, 2
FUNCTIONS = frozenset({Op.EXP, Op.LOG, Op.SIN, Op.SQRT, Op.DIV, Op.FMOD})


def targets(found: Body) -> tuple[str, ...]:
    """The reduces in the order that they run in, then the output."""
    return (*dict.fromkeys(found.reduces.values()), TARGET_OUT)


@lru_cache(maxsize=256)
def is_rows(kernel: Kernel) -> bool:
    """Does it have several reduces, or one that some output axis does not move?"""
    found = body(kernel)
    own = [name for name in targets(found) if name != TARGET_OUT]
    return len(own) > 1 or any(not found.axes_of(TARGET_OUT) <= found.axes_of(name) for name in own)


def shared_axes(found: Body) -> frozenset[Axis]:
    """The output's axes that move every reduce: to share one of these among threads computes nothing twice."""
    return found.axes_of(TARGET_OUT).intersection(*(found.axes_of(name) for name in targets(found)))


def nodes_of(found: Body, target: str, given: Collection[UOp] = ()) -> frozenset[UOp]:
    """What a target's loops compute: what lies under its reduces, or under the output, but under no other reduce.

    And not under what is `given`, which they read.
    """
    reduces = [reduce for reduce, name in found.reduces.items() if name == target]
    roots = [reduce.src[0] for reduce in reduces] if target != TARGET_OUT else [found.value]
    below = toposort(*roots, enter=lambda node: node.op is not Op.REDUCE and node not in given)
    return frozenset(node for node in below if node.op is not Op.REDUCE and node not in given)


def takes_long(found: Body, target: str, node: UOp) -> bool:
    """Does `node` take a function, for each element of the target's rows?"""
    moved, shared = found.all_axes, shared_axes(found)
    own = frozenset(axis for axis in found.axes_of(target) if axis not in shared)
    below = toposort(node, enter=lambda n: n.op not in (Op.REDUCE, Op.LOAD))
    return any(n.op in FUNCTIONS and moved[n] & own for n in below)


def passes(kernel: Kernel, target: Target) -> list[Opt]:
    """VEC and UNROLL or UPCAST for each pass over the rows."""
    found = body(kernel)
    return [opt for name in targets(found) for opt in _pass(kernel, found, name, target)]


def _pass(kernel: Kernel, found: Body, name: str, target: Target) -> list[Opt]:
    nodes = nodes_of(found, name)
    axis = _contiguous(kernel, found, name, nodes)
    opts, span = [], 1
    if axis is not None and (lanes := _lanes(axis, _widest(kernel, found, name, nodes), target)) > 1:
        opts, span = [Opt(OptKind.VEC, name, axis.index, lanes)], lanes
    if name == TARGET_OUT:
        pair = axis is not None and axis.extent % (2 * span) == 0
        return [*opts, *([Opt(OptKind.UPCAST, name, axis.index, 2)] if axis is not None and pair else [])]
    along = axis or max((a for a in found.axes if a.target == name), key=lambda a: a.extent, default=None)
    steps = STEPS_OF_FUNCTIONS if any(node.op in FUNCTIONS for node in nodes) else STEPS
    if along is None or along.extent // span < 2 * steps:
        return opts
    return [*opts, Opt(OptKind.UNROLL, name, along.index, steps)]


def _contiguous(kernel: Kernel, found: Body, name: str, nodes: frozenset[UOp]) -> Axis | None:
    """The axis of the target along which memory is contiguous most often: the store, or any load."""
    store, *_ = accesses(kernel)
    walked = [store] if name == TARGET_OUT else _loads(kernel, found, nodes)
    choices = [axis for axis in found.axes if axis.target == name]
    counts = {axis: sum(access.strides[axis] == 1 for access in walked) for axis in choices}
    best = max(choices, key=lambda axis: (counts[axis], axis.extent), default=None)
    return best if best is not None and counts[best] else None


def _loads(kernel: Kernel, found: Body, nodes: frozenset[UOp]) -> list[Access]:
    _, *loads = accesses(kernel)
    order = [node for node in toposort(found.value) if node.op is Op.LOAD]
    return [access for access, node in zip(loads, order, strict=True) if node in nodes]


def _widest(kernel: Kernel, found: Body, name: str, nodes: frozenset[UOp]) -> int:
    """Bytes of the widest number that is loaded, computed with or kept; at least a float's."""
    kept = [reduce.dtype for reduce, target in found.reduces.items() if target == name]
    used = [node.dtype for node in nodes if node.dtype.is_float or node.op is Op.LOAD]
    return max(dtype.itemsize for dtype in (float32, *(kept or [kernel.dtype]), *used))


def _lanes(axis: Axis, widest: int, target: Target) -> int:
    """As many as a vector register has, and the axis elements."""
    lanes = target.features.vector_bytes // widest
    while lanes > axis.extent:
        lanes //= 2
    return lanes
