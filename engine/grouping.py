"""A reduce in parts: some threads add up a part each, then the parts' results are combined in the order of the parts.

Such a kernel runs in two phases. The first is the kernel's reduce with a GROUP leaf outside all other loops: each
step of it is a tile, and leaves its totals in memory [parts][elements of the output], of the reduce's dtype. The
second is a kernel of its own, `combining`: it reduces that memory along the parts, and does what the definition does
behind the reduce. How many parts there are is the schedule's business and never that of the threads, so that
results do not depend on these.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

from engine import indexing, offsets
from engine.build import param, reduce
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.offsets import number
from engine.ops import Op
from engine.opts import TARGET_OUT
from engine.shapes import shape_of
from engine.simplify import simplify

# Memory for the parts' results.
MAX_PARTIALS = 64 << 20


@lru_cache(maxsize=256)
def refusal(kernel: Kernel) -> str:
    """Why the kernel's reduce may not be computed in parts; "" if it may."""
    found = indexing.body(kernel)
    if kernel.output.op is Op.SCATTER:
        return "a SCATTER's updates keep their order"
    if len(kernel.reduces) != 1 or len(found.reduces) != 1:
        return "only a kernel with one reduce, read at one index, has its parts combined"
    ((total, target),) = found.reduces.items()
    if total.dtype.is_float and total.dtype.itemsize < 4:
        return f"the parts' results would be rounded to {total.dtype.name}"
    if not found.axes_of(TARGET_OUT) <= found.axes_of(target):
        return "several elements of the output read one total"
    if not _has_its_shape(kernel):
        return "the totals must be the output's elements, in their order"
    return ""


def _has_its_shape(kernel: Kernel) -> bool:
    """Is each total read where the output's element of its place is computed?"""
    second = combining(kernel, 2)
    found, slot = indexing.body(second), partials_slot(kernel)
    loads = [node for node in toposort(found.value) if _reads(node, slot)]
    if len(loads) != 1 or len(loads[0].src) != 1:
        return False
    parts = next(range_ for axis, range_ in found.ranges.items() if axis.reduce)
    first = substitute(loads[0].src[0].src[1], {parts: number(0)})
    return simplify(first) is simplify(found.offset)


def _reads(node: UOp, slot: int) -> bool:
    return node.op is Op.LOAD and node.src[0].src[0].arg[0] == slot


def partials_slot(kernel: Kernel) -> int:
    """The slot, behind the kernel's inputs, in which the second phase has the parts' results."""
    return 1 + max((node.arg[0] for node in kernel.params), default=-1)


@lru_cache(maxsize=256)
def combining(kernel: Kernel, parts: int) -> Kernel:
    """The second phase: the kernel with its reduce taken over `parts` partial results, an input behind the others.

    Of the others it reads what stands behind the reduce, in the slots that they have in `kernel`.
    """
    (total,) = kernel.reduces
    partials = param(partials_slot(kernel), (parts, *shape_of(total)), total.dtype)
    return Kernel(substitute(kernel.output, {total: reduce(total.arg[0], partials, (0,))}))


def partial_body(body: indexing.Body, kernel: Kernel, part: UOp) -> indexing.Body:
    """The first phase of `body`: the totals alone, stored behind those of the parts before `part`."""
    (total,) = body.reduces
    place = offsets.add(offsets.multiply(part, prod(shape_of(kernel.output))), body.offset)
    return indexing.Body(body.axes, body.ranges, total, place, body.reduces)


def partials(kernel: Kernel, parts: int) -> UOp:
    """The memory that the first phase writes."""
    (total,) = kernel.reduces
    return param(partials_slot(kernel), (parts, *shape_of(kernel.output)), total.dtype)
