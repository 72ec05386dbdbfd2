"""How a scheduled kernel steps through memory, leaf by leaf: what the model counts and a profiler explains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod

from engine.indexing import Access, accesses, body
from engine.ir import UOp, toposort
from engine.ops import Op
from engine.opts import RangeType
from engine.ranges import Leaf
from engine.schedule import SHARED, Scheduled
from engine.stages import Stage

_LOOPS = (*SHARED, RangeType.LOOP, RangeType.REDUCE)


def trips(leaf: Leaf) -> int:
    """How often a loop leaf runs: an inner leaf longer than what is left of its axis stops at the axis's end."""
    return min(leaf.extent, ceil(leaf.axis.extent / leaf.stride))


@dataclass(frozen=True)
class Walk:
    """One load or store: elements it moves for each step of a leaf (0: stays; None: anywhere).

    `packed` is one in scratch memory, which lies on huge pages. What fills a stage runs inside the `around` outermost
    loops only: those further in do not repeat it.
    """

    itemsize: int
    steps: dict[int, int | None]  # by the leaf's id
    packed: bool = False
    around: int | None = None

    def step(self, leaf: Leaf) -> int | None:
        """Elements moved by one step of the leaf."""
        return self.steps.get(leaf.id, 0)


@dataclass(frozen=True)
class Copy:
    """What fills a stage: `visits` times, `reads` of memory and a `write` of the stage, over the stage's leaves."""

    stage: Stage
    reads: tuple[Walk, ...]
    write: Walk
    visits: float

    @cached_property
    def elements(self) -> float:
        """Elements of one visit."""
        return float(prod(trips(leaf) for leaf in self.stage.leaves))

    @property
    def vectors(self) -> int:
        """How many elements one instruction copies."""
        last = self.stage.leaves[-1] if self.stage.leaves else None
        wide = last is not None and last.type is RangeType.VEC
        return last.extent if last and wide and all(read.step(last) == 1 for read in self.reads) else 1


@dataclass(frozen=True)
class Walks:
    """All walks of a scheduled kernel: those of its body, and those of its stages' copies."""

    store: Walk
    loads: tuple[Walk, ...]
    copies: tuple[Copy, ...]


def loops_of(scheduled: Scheduled) -> tuple[Leaf, ...]:
    """The loops round a register tile, outermost first, as long as they run."""
    return tuple(replace(leaf, extent=trips(leaf)) for leaf in scheduled.of_type(*_LOOPS))


def walks(scheduled: Scheduled, among: Collection[UOp] | None = None) -> Walks:
    """See `Walks`; of some nodes of the kernel's body, their loads only."""
    found = body(scheduled.kernel)
    store, *others = accesses(scheduled.kernel)
    nodes = [node for node in toposort(found.value) if node.op is Op.LOAD]
    if scheduled.group is not None:  # what stands behind the reduce is the second phase's
        inside = set(toposort(*found.reduces))
        others = [access for access, node in zip(others, nodes, strict=True) if node in inside]
        nodes = [node for node in nodes if node in inside]
    staged = {below: stage for stage in scheduled.stages for below in toposort(stage.value.node)}
    loads = [
        _along(access, scheduled)
        for access, node in zip(others, nodes, strict=True)
        if node not in staged and (among is None or node in among)
    ]
    copies = []
    for stage in scheduled.stages:
        under = [a for a, node in zip(others, nodes, strict=True) if staged.get(node) is stage]
        copies.append(_copy(stage, under, scheduled))
    loads += [copy.write for copy in copies]
    return Walks(_stored(store, scheduled), tuple(loads), tuple(copies))


def _copy(stage: Stage, reads: list[Access], scheduled: Scheduled) -> Copy:
    loops = scheduled.of_type(RangeType.LOOP)
    around = [*scheduled.of_type(*SHARED), *loops[: stage.depth]]
    write = Walk(stage.value.itemsize, {leaf.id: step for leaf, step in stage.strides.items()}, packed=True)
    visits = float(prod(trips(leaf) for leaf in around))
    walked = tuple(replace(_along(read, scheduled), around=len(around)) for read in reads)
    return Copy(stage, walked, write, visits)


def _stored(store: Access, scheduled: Scheduled) -> Walk:
    """The walk of the store: with a GROUP leaf, that of the parts' results."""
    found, group = _along(store, scheduled), scheduled.group
    if group is None:
        return found
    size = scheduled.partials // group.extent
    (total,) = body(scheduled.kernel).reduces
    return Walk(total.dtype.itemsize, found.steps | {group.id: size // total.dtype.itemsize})


def _along(access: Access, scheduled: Scheduled) -> Walk:
    steps: dict[int, int | None] = {}
    for leaf in scheduled.leaves:
        stride = access.strides[leaf.axis]
        if stride != 0:
            steps[leaf.id] = None if stride is None else stride * leaf.stride
    return Walk(access.itemsize, steps)
