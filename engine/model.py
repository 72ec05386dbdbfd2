"""How long will this schedule take? A roofline of leaf ranges: it ranks candidates, it does not time them.

Counted per register tile: multiply-adds, loads, accumulator latency, spills. Counted per cache: what the loops
outside the part that fits bring in again. Constants describe a machine, never a kernel or a shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, gcd, prod

from engine import rows
from engine.indexing import Body, body
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import TARGET_OUT, RangeType
from engine.ranges import Axis, Leaf
from engine.schedule import Scheduled
from engine.target import Target
from engine.walks import Copy, Walk, loops_of, walks

LINE = 64
PAGE = 4096
HUGE_PAGE = 1 << 21
WAYS = 12
# Of what is not the scarcest, so much shows.
OVERLAP = 0.15
# What a vector that lies across two cache lines costs of one that does not.
UNALIGNED = 2.0
JUMP_S = 15e-9
# Memory gives less to more runs of lines at a time than this.
RUNS, CROWDED = 2, 1.06
# To begin the second phase of a kernel.
PHASE_S = 1e-6
# Cycles to begin and end one register tile, and to copy into a stage: a vector, or a single element.
TILE_CYCLES = 4.0
COPY_VECTOR_CYCLES, COPY_ELEMENT_CYCLES = 2.0, 1.5
# A tile that only partly fits its axis runs guarded: as long as this many more.
TAIL = 1.5
# Where steps of a reduce may lie beyond its end, every iteration asks whether they do.
RAGGED_REDUCE = 0.4
# The same where all tiles are checked: a choice each step of a reduce, a mask for each load that is not staged.
PADDED_REDUCE, PADDED_LOADS, PADDED = 0.25, 0.15, 0.02
CONFLICT_AT_MOST = 3.0

# Cycles of one operation on a register of lanes, where it is not half a cycle.
CYCLES = {
    Op.DIV: 5.0,
    Op.IDIV: 12.0,
    Op.MOD: 12.0,
    Op.FMOD: 150.0,
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
    jump_s: float = 0.0  # what a run of lines costs to begin, as the prefetcher does not know of it


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
    caches = (Cache(0.8 * l1, 220e9), Cache(0.7 * l2, 100e9), Cache(0.6 * l3, 25e9, JUMP_S))
    return Machine(4.0e9, features.vector_bytes, features.vector_registers, features.fma, caches)


def estimate(kernel: Kernel, scheduled: Scheduled, target: Target, threads: int = 0) -> float:
    """Seconds for one run on as many threads as the schedule has tiles for, at most `threads`, or the target's cores.

    Of a kernel in two phases, for both.
    """
    seconds, second = _phase_s(kernel, scheduled, target, threads or target.cores), scheduled.combine
    if second is None:
        return seconds
    return seconds + _phase_s(second.kernel, second, target, threads or target.cores) + PHASE_S


def _phase_s(kernel: Kernel, scheduled: Scheduled, target: Target, threads: int) -> float:
    parts = [_Tile(kernel, *part, machine(target)) for part in _passes(kernel, scheduled)]
    compute = sum(part.compute_s() for part in parts)
    nearest, *others = machine(target).caches
    # The passes over a row find it in the caches that the first has brought it into, but the nearest.
    transfers = [sum(part.fill_s(nearest) for part in parts)]
    transfers += [max(part.fill_s(cache) for part in parts) for cache in others]
    busiest = max(compute, *transfers)
    total = busiest + OVERLAP * (compute + sum(transfers) - busiest)
    total += max(part.page_walks_s() for part in parts) + sum(part.copies_s() for part in parts)
    workers = min(scheduled.tiles, threads)
    if workers <= 1:
        return total
    return total * ceil(scheduled.tiles / workers) / scheduled.tiles + machine(target).thread_start_s


def _passes(kernel: Kernel, scheduled: Scheduled) -> Iterator[tuple[Scheduled, str | None]]:
    """The kernel as it is; or of one that passes over rows each pass by itself, with its target."""
    if not rows.is_rows(kernel):
        yield scheduled, None
        return
    found = body(kernel)
    for name in rows.targets(found):
        moved = found.axes_of(name)
        yield (
            replace(
                scheduled,
                axes=tuple(axis for axis in scheduled.axes if axis in moved),
                leaves=tuple(leaf for leaf in scheduled.leaves if leaf.axis in moved),
                stages=tuple(stage for stage in scheduled.stages if stage.value.target == name),
            ),
            name,
        )


class _Tile:
    """One scheduled kernel, or a pass of it, as the model sees it: loops round a register tile."""

    def __init__(self, kernel: Kernel, scheduled: Scheduled, name: str | None, machine: Machine) -> None:
        self.machine = machine
        self.scheduled = scheduled
        self.loops = loops_of(scheduled)
        self.registers = scheduled.of_type(RangeType.UNROLL, RangeType.UPCAST, RangeType.VEC)
        self.vec = scheduled.vec
        kept = frozenset(kept.value.twins[name] for kept in scheduled.kept if name in kept.value.twins)
        found = walks(scheduled, None if name is None else rows.nodes_of(body(kernel), name, kept))
        self.store, self.loads, self.copies = found.store, found.loads, found.copies
        if name not in (None, TARGET_OUT):
            self.store = replace(found.store, steps={})  # a total stays in a register
        # everything that goes through the caches
        self.walks = (self.store, *found.loads, *(read for copy in found.copies for read in copy.reads))
        self.work = _work(kernel, name, kept)
        upcast = scheduled.of_type(RangeType.UPCAST)
        self.accumulators = prod(leaf.extent for leaf in upcast)
        self.unroll = prod(leaf.extent for leaf in scheduled.of_type(RangeType.UNROLL))
        lane_bytes = scheduled.lanes * self.store.itemsize
        self.registers_each = max(1, ceil(lane_bytes / machine.vector_bytes))
        self.bodies = prod(ceil(axis.extent / scheduled.span(axis)) for axis in scheduled.axes)
        self._footprints: dict[tuple[int, int], tuple[float, float, float]] = {}

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
        loads = sum(self._register_loads(walk) for walk in self.loads) / 2
        latency = self.machine.fma_latency * steps if self.work.reduces else 0.0
        busiest = max(arithmetic, loads, latency)
        return busiest + 0.25 * (arithmetic + loads - max(arithmetic, loads)) + self._spill(registers) + 0.75

    def _register_loads(self, walk: Walk) -> float:
        """Load instructions for one walk in one body; lanes that are not neighbours cost one each."""
        count = prod(leaf.extent for leaf in self.registers if leaf is not self.vec and walk.step(leaf) != 0)
        step = walk.step(self.vec) if self.vec is not None else 0
        if self.vec is None or step == 0:
            return count
        if step != 1:
            return count * self.vec.extent * 1.5
        return count * self.registers_each * (1.1 if self._is_aligned(walk) else UNALIGNED)

    def _is_aligned(self, walk: Walk) -> bool:
        """Does every vector start at a multiple of its length? Others lie across two cache lines."""
        others = (leaf for leaf in (*self.loops, *self.registers) if leaf is not self.vec)
        return all((walk.step(leaf) or 0) % self.scheduled.lanes == 0 for leaf in others)

    def _spill(self, registers: int) -> float:
        """Cycles lost to accumulators that do not fit the registers, for one body."""
        live = max((self._live(walk) for walk in self.loads if self._is_vector(walk)), default=1)
        over = registers + live + 1 - self.machine.registers
        return 2.0 * self.unroll * max(0, over)

    def _live(self, walk: Walk) -> int:
        upcast = self.scheduled.of_type(RangeType.UPCAST)
        along = prod(leaf.extent for leaf in upcast if walk.step(leaf) != 0)
        return self.registers_each * along if along < self.accumulators else 1

    def _is_vector(self, walk: Walk) -> bool:
        return self.vec is not None and walk.step(self.vec) == 1

    def _border_cycles(self) -> float:
        """Storing one tile (and fetching its partial results), with the work after the reduce."""
        registers = self.accumulators * self.registers_each
        stores = registers * (2.0 if self.scheduled.partial_reduce else 1.0)
        stores *= 1.0 if self._is_aligned(self.store) else UNALIGNED
        if self.vec is not None and self.store.step(self.vec) != 1:
            stores += self.accumulators * self.scheduled.lanes  # lanes are added up one by one
        return stores + registers * self.work.outside + TILE_CYCLES

    def _tail_factor(self) -> float:
        """What tiles that only partly fit cost: they run guarded."""
        factor = 1.0
        for axis in self.scheduled.axes:
            span = self.scheduled.span(axis)
            if span > 1 and axis.extent % span:
                factor += self._border_factor(axis, span)
        return factor

    def _border_factor(self, axis: Axis, span: int) -> float:
        if axis not in self.scheduled.padded:
            return RAGGED_REDUCE if axis.reduce else TAIL / ceil(axis.extent / span)
        if axis.reduce:
            return PADDED_REDUCE
        leaves = [leaf for leaf in self.registers if leaf.axis == axis]
        guarded = any(walk.step(leaf) != 0 for walk in self.loads if not walk.packed for leaf in leaves)
        return PADDED_LOADS if guarded else PADDED

    # ----------------------------------------------------------------------------------------- stages

    def copies_s(self) -> float:
        """Time to fill the stages: instructions, and bytes between the caches."""
        return sum(self._copy_s(copy) for copy in self.copies)

    def _copy_s(self, copy: Copy) -> float:
        vectors = copy.vectors
        cycles = copy.elements / vectors * (COPY_VECTOR_CYCLES if vectors > 1 else COPY_ELEMENT_CYCLES)
        l2, l3 = self.machine.caches[1:3]
        seconds = cycles / self.machine.hertz
        written = copy.elements * copy.write.itemsize
        if written > l2.bytes:
            seconds += written * 2 / l3.fill_bytes_per_s
        return copy.visits * seconds

    # ----------------------------------------------------------------------------------------- memory

    def fill_s(self, cache: Cache) -> float:
        """Time to bring into `cache` what its loops touch anew."""
        depth = self._depth_within(cache.bytes)
        past = self._footprint(0, 0)[0] / cache.fill_bytes_per_s if self._is_past(cache) else 0.0
        if depth == 0:
            return past  # everything stays in it from one run to the next
        moved = 0.0
        jumps = 0.0
        for number, walk in enumerate(self.walks):
            at = _at(walk, depth)
            lines, _, rows = self._footprint(number, at)
            times = self._repeats(walk, at, lines <= cache.bytes / 2)
            moved += lines * times * (self._store_weight if number == 0 else self._crowding(walk, cache))
            jumps += rows * times / self._joined(walk, at, lines, rows)
        return moved / cache.fill_bytes_per_s + jumps * cache.jump_s + past

    def _crowding(self, walk: Walk, cache: Cache) -> float:
        """What memory takes longer for a register tile that reads on in several places at a time."""
        upcast = self.scheduled.of_type(RangeType.UPCAST)
        apart = (leaf.extent for leaf in upcast if abs(walk.step(leaf) or 0) * walk.itemsize > LINE)
        return CROWDED if cache is self.machine.caches[-1] and prod(apart) > RUNS else 1.0

    def _joined(self, walk: Walk, depth: int, lines: float, rows: float) -> float:
        """How many iterations outside `depth` go on where the one before ended: the prefetcher is there already."""
        found, run = 1.0, lines
        for leaf in reversed(self.loops[:depth]) if rows == 1 else ():
            step = walk.step(leaf)
            if step is None or not 0 < abs(step) * walk.itemsize <= run:
                break
            found *= leaf.extent
            run *= leaf.extent
        return found

    def _is_past(self, cache: Cache) -> bool:
        """Does the output go to memory past all caches, even where it would fit? That is the last one's business."""
        return self.scheduled.streams and cache is self.machine.caches[-1]

    def page_walks_s(self) -> float:
        """Time spent looking up pages beyond what the TLB holds."""
        depth = len(self.loops)
        while depth and self._total(depth - 1, 1) <= self.machine.page_walks:
            depth -= 1
        walks = 0.0
        for number, walk in enumerate(self.walks):
            at = _at(walk, depth)
            pages = self._footprint(number, at)[1]
            times = self._repeats(walk, at, pages <= self.machine.page_walks / 2)
            walks += pages * max(1.0, times / self._steps_of_a_page(walk, at))
        return walks * self.machine.page_walk_s

    def _steps_of_a_page(self, walk: Walk, depth: int) -> float:
        """How many iterations of the loop outside `depth` find the pages that the one before has looked up."""
        if not depth:
            return 1.0
        leaf = self.loops[depth - 1]
        moved = abs(walk.step(leaf) or 0) * walk.itemsize
        return max(1.0, min(leaf.extent, PAGE / moved)) if moved else 1.0

    @property
    def _store_weight(self) -> float:
        """A line is read before it is written, unless it is written past the caches, which is counted apart."""
        return 0.0 if self.scheduled.streams else 2.0

    def _depth_within(self, capacity: float) -> int:
        """The outermost loop position inside which everything touched fits."""
        depth = len(self.loops)
        while depth and self._total(depth - 1, 0) <= capacity:
            depth -= 1
        return depth

    def _total(self, depth: int, which: int) -> float:
        """What all walks touch inside the loops from `depth` on; what fills a stage further out is over by then."""
        inside = (n for n, walk in enumerate(self.walks) if walk.around is None or depth <= walk.around)
        return sum(self._footprint(number, depth)[which] for number in inside)

    def _repeats(self, walk: Walk, depth: int, stays: bool) -> float:
        """How often the loops outside `depth` bring the walk's part in: not those it does not move with."""
        times = 1.0
        moving = not stays
        for leaf in reversed(self.loops[:depth]):
            moving = moving or walk.step(leaf) != 0
            if moving:
                times *= leaf.extent
        return times

    def _footprint(self, number: int, depth: int) -> tuple[float, float, float]:
        """Bytes of cache lines, pages, and runs of neighbouring lines, that one walk touches inside the loops from `depth` on."""
        key = (number, depth)
        if key not in self._footprints:
            walk = self.walks[number]
            inside = [(leaf, leaf.extent) for leaf in (*self.loops[depth:], *self.registers)]
            self._footprints[key] = _touched(walk, inside)
        return self._footprints[key]


def _at(walk: Walk, depth: int) -> int:
    """The position inside which a walk is looked at: one that fills a stage is not repeated further in."""
    return depth if walk.around is None else min(depth, walk.around)


def _touched(walk: Walk, inside: Iterable[tuple[Leaf, int]]) -> tuple[float, float, float]:
    """(bytes of lines, pages, runs) of a strided block: neighbouring steps join into runs, the rest are rows."""
    moving = [(walk.step(leaf), n) for leaf, n in inside if n > 1 and walk.step(leaf) != 0]
    run, rows, conflict = 1, 1, 1.0
    for stride, extent in sorted((PAGE if stride is None else abs(stride), n) for stride, n in moving):
        if stride <= run or stride * walk.itemsize < LINE:
            run = stride * (extent - 1) + run
        else:
            rows *= extent
            conflict = max(conflict, _conflict(stride * walk.itemsize, extent))
    length = run * walk.itemsize
    lines = rows * ceil(length / LINE) * LINE * min(conflict, CONFLICT_AT_MOST)
    if walk.packed:
        return lines, max(1.0, lines / HUGE_PAGE), 1.0
    far = any((PAGE if s is None else abs(s)) * walk.itemsize >= PAGE for s, _ in moving)
    pages = rows * max(1.0, length / PAGE) if far else max(1.0, rows * length / PAGE)
    return lines, pages, float(rows)


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
def _work(kernel: Kernel, name: str | None, kept: frozenset[UOp]) -> _Work:
    found = body(kernel)
    if name is not None:
        return _work_of_pass(found, name, kept)
    below = {node for reduce in found.reduces for node in toposort(reduce.src[0])}
    inside = [node for node in below if _counts(node)]
    outside = [node for node in toposort(found.value) if node not in below and _counts(node)]
    if not found.reduces:
        return _Work(False, 0.5 + _cycles(outside), 0.0)
    fused = any(reduce.src[0].op is Op.MUL and reduce.arg[0] is Op.ADD for reduce in found.reduces)
    accumulate = 0.0 if fused else 0.5
    return _Work(True, accumulate + _cycles(inside), _cycles(outside))


def _work_of_pass(found: Body, name: str, kept: frozenset[UOp]) -> _Work:
    """What is computed for each element of a row, but what is kept; what is for each row does not count."""
    moved = found.axes_of(name)
    own = moved - rows.shared_axes(found) or moved
    axes = found.all_axes
    nodes = [node for node in rows.nodes_of(found, name, kept) if _counts(node) and axes[node] & own]
    return _Work(name != TARGET_OUT, 0.5 + _cycles(nodes), 0.0)


def _counts(node: UOp) -> bool:
    """Arithmetic on values; index arithmetic is 64-bit and mostly hoisted out of the loops."""
    return node.op not in (Op.CONST, Op.LOAD, Op.INDEX, Op.PARAM, Op.RANGE, Op.REDUCE, Op.CONTIGUOUS) and (
        node.dtype.itemsize <= 4
    )


def _cycles(nodes: Iterable[UOp]) -> float:
    return sum(CYCLES.get(node.op, 0.5) for node in nodes)
