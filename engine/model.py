"""How long will this schedule take? A roofline of leaf ranges: it ranks candidates, it does not time them.

Counted per register tile: multiply-adds, loads, accumulator latency, spills. Counted per cache: what the loops
outside the part that fits bring in again. Constants describe a machine, never a kernel or a shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, gcd, prod

from engine.indexing import Access, accesses, body
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import RangeType
from engine.ranges import Axis, Leaf
from engine.schedule import Scheduled
from engine.target import Target

LINE = 64
PAGE = 4096
WAYS = 12
# A tile that only partly fits its axis runs guarded: as long as this many more.
TAIL = 1.5
CONFLICT_AT_MOST = 3.0

# Cycles of one operation on a register of lanes, where it is not half a cycle.
CYCLES = {
    Op.DIV: 5.0,
    Op.IDIV: 12.0,
    Op.MOD: 12.0,
    Op.SQRT: 6.0,
    Op.EXP: 14.0,
    Op.LOG: 21.0,
    Op.SIN: 68.0,
}


@dataclass(frozen=True)
class Cache:
    """A level: what fits in it, and how fast the next level fills it."""

    bytes: float
    fill_bytes_per_s: float


@dataclass(frozen=True)
class Machine:
    """The few constants of one core."""

    hertz: float
    vector_bytes: int
    registers: int
    fma: bool
    caches: tuple[Cache, ...]
    fma_latency: float = 4.0
    page_walks: int = 96  # pages the first-level TLB holds
    page_walk_s: float = 2.5e-9
    thread_start_s: float = 4e-6


@lru_cache(maxsize=8)
def machine(target: Target) -> Machine:
    """The constants for a target; cache sizes are in its architecture's name."""
    sizes = dict(re.findall(r"\+(l1d|l2|l3)=(\d+)K", target.arch))
    l1, l2, l3 = (
        int(sizes.get(name, usual)) * 1024.0 for name, usual in (("l1d", 32), ("l2", 512), ("l3", 4096))
    )
    # A virtual machine may claim a whole socket's last level for itself.
    l3 = min(l3, 32.0 * 1024 * 1024)
    features = target.features
    caches = (Cache(0.8 * l1, 220e9), Cache(0.7 * l2, 100e9), Cache(0.6 * l3, 25e9))
    return Machine(4.0e9, features.vector_bytes, features.vector_registers, features.fma, caches)


def estimate(kernel: Kernel, scheduled: Scheduled, target: Target) -> float:
    """Seconds for one run on as many threads as the schedule has tiles for, at most the target's cores."""
    shape = _Tile(kernel, scheduled, machine(target))
    compute = shape.compute_s()
    transfers = [shape.fill_s(cache) for cache in shape.machine.caches]
    busiest = max(compute, *transfers)
    total = busiest + 0.15 * (compute + sum(transfers) - busiest) + shape.page_walks_s()
    if scheduled.tiles <= 1:
        return total
    workers = min(scheduled.tiles, target.cores)
    return total * ceil(scheduled.tiles / workers) / scheduled.tiles + shape.machine.thread_start_s


def trips(leaf: Leaf) -> int:
    """How often a loop leaf runs: an inner leaf longer than what is left of its axis stops at the axis's end."""
    return min(leaf.extent, ceil(leaf.axis.extent / leaf.stride))


class _Tile:
    """One scheduled kernel as the model sees it: loops round a register tile."""

    def __init__(self, kernel: Kernel, scheduled: Scheduled, machine: Machine) -> None:
        self.machine = machine
        self.scheduled = scheduled
        self.loops = tuple(
            replace(leaf, extent=trips(leaf))
            for leaf in scheduled.of_type(RangeType.THREAD, RangeType.LOOP, RangeType.REDUCE)
        )
        self.vec = scheduled.vec
        self.store, *self.loads = accesses(kernel)
        self.work = _work(kernel)
        upcast = scheduled.of_type(RangeType.UPCAST)
        self.accumulators = prod(leaf.extent for leaf in upcast)
        self.unroll = prod(leaf.extent for leaf in scheduled.of_type(RangeType.UNROLL))
        lane_bytes = scheduled.lanes * self.store.itemsize
        self.registers_each = max(1, ceil(lane_bytes / machine.vector_bytes))
        self.bodies = prod(ceil(axis.extent / scheduled.span(axis)) for axis in scheduled.axes)
        self._footprints: dict[tuple[int, int], tuple[float, float]] = {}

    # ---------------------------------------------------------------------------------------- compute

    def compute_s(self) -> float:
        """Time in the arithmetic and load units, all tiles, tails included."""
        tiles = self.bodies / max(1, self._inner_reduce())
        cycles = self.bodies * self._body_cycles() + tiles * self._border_cycles()
        return cycles * self._tail_factor() / self.machine.hertz

    def _inner_reduce(self) -> int:
        """Bodies that run between reading the accumulators and storing them."""
        return prod(leaf.extent for leaf in self.loops if leaf.type is RangeType.REDUCE)

    def _body_cycles(self) -> float:
        """One iteration of the innermost loop: the scarcest of arithmetic, loads and accumulator latency."""
        registers = self.accumulators * self.registers_each
        steps = self.unroll if self.work.reduces else 1
        arithmetic = registers * steps * self.work.inside
        loads = sum(self._register_loads(access) for access in self.loads) / 2
        latency = self.machine.fma_latency * steps if self.work.reduces else 0.0
        busiest = max(arithmetic, loads, latency)
        return busiest + 0.25 * (arithmetic + loads - max(arithmetic, loads)) + self._spill(registers) + 0.75

    def _register_loads(self, access: Access) -> float:
        """Load instructions for one access in one body; lanes that are not neighbours cost one each."""
        count = prod(
            leaf.extent
            for leaf in self.scheduled.of_type(RangeType.UPCAST, RangeType.UNROLL)
            if access.strides[leaf.axis] != 0
        )
        if self.vec is None:
            return count
        stride = access.strides[self.vec.axis]
        if stride == 0:
            return count
        return count * (self.registers_each * 1.1 if stride == 1 else self.vec.extent * 1.5)

    def _spill(self, registers: int) -> float:
        """Cycles lost to accumulators that do not fit the registers, for one body."""
        live = max(
            (self._live(access) for access in self.loads if self._is_vector(access)),
            default=1,
        )
        over = registers + live + 1 - self.machine.registers
        return 2.0 * self.unroll * max(0, over)

    def _live(self, access: Access) -> int:
        upcast = self.scheduled.of_type(RangeType.UPCAST)
        along = prod(leaf.extent for leaf in upcast if access.strides[leaf.axis] != 0)
        return self.registers_each * along if along < self.accumulators else 1

    def _is_vector(self, access: Access) -> bool:
        return self.vec is not None and access.strides[self.vec.axis] == 1

    def _border_cycles(self) -> float:
        """Storing one tile (and fetching its partial results), with the work after the reduce."""
        registers = self.accumulators * self.registers_each
        stores = registers * (2.0 if self.scheduled.partial_reduce else 1.0)
        if self.vec is not None and self.store.strides[self.vec.axis] != 1:
            stores += self.accumulators * self.scheduled.lanes  # lanes are added up one by one
        return stores + registers * self.work.outside + 4.0

    def _tail_factor(self) -> float:
        """What tiles that only partly fit cost: they run guarded."""
        factor = 1.0
        for axis in self.scheduled.axes:
            span = self.scheduled.span(axis)
            if span > 1 and axis.extent % span:
                factor += TAIL / ceil(axis.extent / span)
        return factor

    # ----------------------------------------------------------------------------------------- memory

    def fill_s(self, cache: Cache) -> float:
        """Time to bring into `cache` what its loops touch anew."""
        depth = self._depth_within(cache.bytes)
        if depth == 0:
            return 0.0  # everything stays in it from one run to the next
        moved = 0.0
        for number, access in enumerate((self.store, *self.loads)):
            lines, _ = self._footprint(number, depth)
            times = self._repeats(access, depth, lines <= cache.bytes / 2)
            moved += lines * times * (self._store_weight() if number == 0 else 1.0)
        return moved / cache.fill_bytes_per_s

    def page_walks_s(self) -> float:
        """Time spent looking up pages beyond what the TLB holds."""
        depth = len(self.loops)
        while depth and self._total(depth - 1, 1) <= self.machine.page_walks:
            depth -= 1
        walks = 0.0
        for number, access in enumerate((self.store, *self.loads)):
            pages = self._footprint(number, depth)[1]
            walks += pages * self._repeats(access, depth, pages <= self.machine.page_walks / 2)
        return walks * self.machine.page_walk_s

    def _store_weight(self) -> float:
        return 2.0  # a line is read before it is written

    def _depth_within(self, capacity: float) -> int:
        """The outermost loop position inside which everything touched fits."""
        depth = len(self.loops)
        while depth and self._total(depth - 1, 0) <= capacity:
            depth -= 1
        return depth

    def _total(self, depth: int, which: int) -> float:
        return sum(self._footprint(number, depth)[which] for number in range(len(self.loads) + 1))

    def _repeats(self, access: Access, depth: int, stays: bool) -> float:
        """How often the loops outside `depth` bring the access's part in: not those it does not move with."""
        times = 1.0
        moving = not stays
        for leaf in reversed(self.loops[:depth]):
            moving = moving or access.strides[leaf.axis] != 0
            if moving:
                times *= leaf.extent
        return times

    def _footprint(self, number: int, depth: int) -> tuple[float, float]:
        """Bytes of cache lines, and pages, that one access touches inside the loops from `depth` on."""
        key = (number, depth)
        if key not in self._footprints:
            inside = _covered(self.scheduled.leaves, self.loops[:depth])
            access = self.store if number == 0 else self.loads[number - 1]
            self._footprints[key] = _touched(access, inside)
        return self._footprints[key]


def _covered(leaves: Iterable[Leaf], outside: Sequence[Leaf]) -> dict[Axis, int]:
    """Elements of each axis that the leaves not `outside` step over."""
    skipped = {leaf.id for leaf in outside}
    found: dict[Axis, int] = {}
    for leaf in leaves:
        if leaf.id not in skipped:
            found[leaf.axis] = min(found.get(leaf.axis, 1) * leaf.extent, leaf.axis.extent)
    return found


def _touched(access: Access, covered: dict[Axis, int]) -> tuple[float, float]:
    """(bytes of lines, pages) of a strided block: neighbouring steps join into runs, the rest are rows."""
    moving = [(access.strides[axis], n) for axis, n in covered.items() if n > 1 and access.strides[axis] != 0]
    run, rows, conflict = 1, 1, 1.0
    for stride, extent in sorted((PAGE if stride is None else abs(stride), n) for stride, n in moving):
        if stride <= run or stride * access.itemsize < LINE:
            run = stride * (extent - 1) + run
        else:
            rows *= extent
            conflict = max(conflict, _conflict(stride * access.itemsize, extent))
    length = run * access.itemsize
    lines = rows * ceil(length / LINE) * LINE * min(conflict, CONFLICT_AT_MOST)
    far = any((PAGE if s is None else abs(s)) * access.itemsize >= PAGE for s, _ in moving)
    pages = rows * max(1.0, length / PAGE) if far else max(1.0, rows * length / PAGE)
    return lines, pages


def _conflict(stride: int, rows: int) -> float:
    """How much larger rows at this distance (bytes) are for a cache of 64 sets: powers of two share sets."""
    sets = 4096 // gcd(stride, 4096)
    return max(1.0, rows / (max(1, sets) * WAYS)) if sets < 64 else 1.0


@dataclass(frozen=True)
class _Work:
    """Cycles per register inside the reduce, and after it."""

    reduces: bool
    inside: float
    outside: float


@lru_cache(maxsize=256)
def _work(kernel: Kernel) -> _Work:
    found = body(kernel)
    below = {node for reduce in found.reduces for node in toposort(reduce.src[0])}
    inside = [node for node in below if _counts(node)]
    outside = [node for node in toposort(found.value) if node not in below and _counts(node)]
    if not found.reduces:
        return _Work(False, 0.5 + _cycles(outside), 0.0)
    fused = any(reduce.src[0].op is Op.MUL and reduce.arg[0] is Op.ADD for reduce in found.reduces)
    accumulate = 0.0 if fused else 0.5
    return _Work(True, accumulate + _cycles(inside), _cycles(outside))


def _counts(node: UOp) -> bool:
    """Arithmetic on values; index arithmetic is 64-bit and mostly hoisted out of the loops."""
    return node.op not in (Op.CONST, Op.LOAD, Op.INDEX, Op.PARAM, Op.RANGE, Op.REDUCE) and (
        node.dtype.itemsize <= 4
    )


def _cycles(nodes: Iterable[UOp]) -> float:
    return sum(CYCLES.get(node.op, 0.5) for node in nodes)
