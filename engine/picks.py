"""The model's pick: a schedule for a kernel without measuring anything, found by the model alone.

The register tiles that cost least for an element are crossed with the ways to go through the rest: blocks of the
longest reduce axis and of the tile's two output axes, each value staged or not, and where. What is crossed is a
handful of sizes; a coordinate descent then changes one thing at a time for as long as the model likes it better. No
step knows what the kernel computes: the same is done for a product of matrices, a sum and a transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from math import prod

from engine import heuristic, rows, wishes
from engine.errors import IllegalOpt
from engine.indexing import body
from engine.kernel import Kernel
from engine.model import estimate
from engine.opts import TARGET_OUT, Opt, OptKind, RangeType, Schedule
from engine.ranges import Axis
from engine.schedule import Scheduled, replay
from engine.stages import values
from engine.target import Target

TILES = 6
REDUCE_BLOCKS = (0, 16, 128, 512)
OUTPUT_BLOCKS = (0, 2, 4, 8)
# The model is asked so often for one kernel at most.
ESTIMATES = 300
# What the model must gain by another opt before it is added: short schedules are easier to trust.
WORTH = 0.995
# Bodies written out more often than this take long to compile and never won.
MAX_BODY = 64
# Below this many seconds, by the model, the heuristic's schedule is good enough not to look for a better one.
WORTH_PICKING_S = 5e-4


@dataclass(frozen=True)
class Plan:
    """A schedule in the making: a register tile, blocks in loop order, whether the inner loops are swapped, and so on.

    `blocks` are (axis, amount); `stages` has for each stageable value the number of loops it stands inside, or None.
    `parts` is what each thread gets of it.
    """

    tile: Schedule
    blocks: tuple[tuple[Axis, int], ...] = ()
    swapped: bool = False
    stages: tuple[int | None, ...] = ()
    padded: frozenset[Axis] = frozenset()
    streamed: bool = False
    group: Schedule = ()
    parts: int = heuristic.PARTS_PER_THREAD

    @property
    def sums(self) -> tuple[object, ...]:
        """What the order depends on in which a reduce takes its elements in."""
        reduced = tuple((axis, amount) for axis, amount in self.blocks if axis.reduce)
        swapped = self.swapped and len(reduced) == len(self.blocks) > 1  # perhaps two loops of reduces
        return self.tile, reduced, swapped, self.group

    def in_parts(self, kernel: Kernel) -> Plan:
        """The plan with its reduce in parts, if its structure asks for it."""
        alone = self.schedule(kernel)
        return replace(self, group=heuristic.grouped(kernel, alone)[len(alone) :])

    def loops(self, kernel: Kernel) -> int:
        """How many loops there are round the register tile, besides those of the reduce within it."""
        return len(self.blocks) + sum(not axis.reduce for axis in body(kernel).axes)

    def schedule(self, kernel: Kernel) -> Schedule:
        """The opts."""
        found = list(self.tile)
        for axis in body(kernel).axes:
            if axis in self.padded:
                found.append(Opt(OptKind.PAD, axis.target, axis.index, 0))
        if self.streamed:
            found.append(Opt(OptKind.STREAM, TARGET_OUT, 0, 0))
        for axis, amount in self.blocks:
            found.append(Opt(OptKind.SPLIT, axis.target, axis.index, amount, RangeType.LOOP))
        if self.swapped:
            loops = self.loops(kernel)
            found.append(Opt(OptKind.REORDER, TARGET_OUT, loops - 2, loops - 1))
        numbers: dict[str, int] = {}
        for value, depth in zip(values(kernel), self.stages, strict=False):
            number = numbers.get(value.target, 0)
            numbers[value.target] = number + 1
            if depth is not None:
                found.append(Opt(OptKind.STAGE, value.target, number, depth))
        return (*found, *self.group)


@dataclass
class _Judge:
    """Asks the model, each schedule once, and remembers."""

    kernel: Kernel
    target: Target
    threads: int
    scores: dict[Schedule, float] = field(default_factory=dict)
    plans: dict[Schedule, Plan] = field(default_factory=dict)

    @property
    def is_tired(self) -> bool:
        """Has the model been asked often enough?"""
        return len(self.scores) >= ESTIMATES

    def score(self, plan: Plan) -> float:
        """The model's seconds; infinite for what is illegal."""
        try:
            schedule = self.complete(plan)
            if schedule in self.scores:
                return self.scores[schedule]
            scheduled = replay(self.kernel, schedule)
        except IllegalOpt:
            return float("inf")
        if body_size(scheduled) > MAX_BODY:
            return float("inf")
        self.plans[schedule] = plan
        self.scores[schedule] = estimate(self.kernel, scheduled, self.target, self.threads)
        return self.scores[schedule]

    def ranked(self) -> list[Schedule]:
        """The schedules that were legal, the best first."""
        return sorted(self.scores, key=lambda schedule: (self.scores[schedule], len(schedule)))

    def complete(self, plan: Plan) -> Schedule:
        """The plan's schedule, shared by threads where there are several. IllegalOpt as `replay`."""
        schedule = plan.schedule(self.kernel)
        if self.threads == 1:
            return schedule
        return heuristic.threaded(self.kernel, schedule, self.threads, plan.parts)

    def best(self, plans: Iterable[Plan], start: Plan) -> Plan:
        """The first plan that the model likes best; `start` unless another gains something."""
        found, least = start, self.score(start)
        for plan in plans:
            if self.is_tired:
                break
            score = self.score(plan)
            if score < least * WORTH:
                found, least = plan, score
        return found

    def descend(self, start: Plan, near: Callable[[Plan], Iterable[Plan]]) -> Plan:
        """From `start` to better and better plans near by."""
        self.score(start)
        while not self.is_tired:
            better = self.best(near(start), start)
            if better == start:
                break
            start = better
        return start


def body_size(scheduled: Scheduled) -> int:
    """How many times the body is written out: what rendering and compiling take time for."""
    return prod(leaf.extent for leaf in scheduled.of_type(RangeType.UPCAST, RangeType.UNROLL))


def pick(kernel: Kernel, target: Target, threads: int = 1) -> Schedule:
    """A schedule for the kernel on so many threads: the model's, or of a short kernel or one of rows the heuristic's.

    Of the latter the model says whether to write past the caches. What one thread would take decides, whatever the
    number of threads.
    """
    quick = heuristic.schedule(kernel, target)
    seconds = estimate(kernel, replay(kernel, quick), target, 1)
    if seconds >= WORTH_PICKING_S and not rows.is_rows(kernel):
        return picks(kernel, target, threads)[0]
    if seconds >= WORTH_PICKING_S:
        streamed = heuristic.legal(kernel, quick, [Opt(OptKind.STREAM, TARGET_OUT, 0, 0)])
        quick = streamed if estimate(kernel, replay(kernel, streamed), target, 1) < seconds else quick
    return heuristic.threaded(kernel, quick, threads) if threads > 1 else quick


@lru_cache(maxsize=256)
def picks(kernel: Kernel, target: Target, threads: int = 1) -> tuple[Schedule, ...]:
    """All schedules that the model was asked about, the one it likes best first; before it, if it may be, in parts.

    For several threads the register tile, the reduce's blocks and its parts are those of one thread: sums are then
    added up in the same order, so that results do not depend on the number of threads.
    """
    if any(axis.extent == 0 for axis in body(kernel).axes):
        return ((),)
    judge = _Judge(kernel, target, threads)
    first = _search(judge if threads == 1 else _Judge(kernel, target, 1)).in_parts(kernel)
    if threads > 1:
        sums = first.sums
        judge.descend(first, lambda plan: (p for p in _shared(kernel, plan) if p.sums == sums))
        return tuple(judge.ranked())
    judge.score(first)
    return tuple(sorted(judge.ranked(), key=lambda schedule: schedule != judge.complete(first)))


def _search(judge: _Judge) -> Plan:
    kernel = judge.kernel
    found_tiles = heuristic.register_tiles(kernel, judge.target, TILES)
    tiles = [Plan(tile, stages=wishes.depths(kernel, tile)) for tile in found_tiles]
    found = judge.best(tiles[1:], tiles[0])
    for start in _first_of_lanes(tiles):
        found = judge.best(_crossed(kernel, start), found)
    judge.descend(found, lambda plan: _changed(kernel, plan, tiles))
    return judge.plans[judge.ranked()[0]]


def _first_of_lanes(tiles: list[Plan]) -> list[Plan]:
    """Of the tiles with lanes along the same axis the first."""
    found: dict[Opt | None, Plan] = {}
    for plan in tiles:
        found.setdefault(next((opt for opt in plan.tile if opt.kind is OptKind.VEC), None), plan)
    return list(found.values())


def _crossed(kernel: Kernel, start: Plan) -> Iterator[Plan]:
    """Blocks of the lanes' axis and of the longest reduce axis, with each value staged inside both, outside, or not."""
    outer, reduced = _blocked_axes(kernel, start)
    wanted = [depth is not None for depth in start.stages]
    for step, block in product(OUTPUT_BLOCKS if outer else (0,), REDUCE_BLOCKS if reduced else (0,)):
        blocks = _blocks((outer, step), (reduced, block), start)
        may = [(None, len(blocks)) if number < 3 else (None,) for number in range(len(wanted))]
        choices = [(len(blocks),) if is_wanted else also for is_wanted, also in zip(wanted, may, strict=True)]
        for stages in product(*choices):
            yield replace(start, blocks=blocks, stages=_deepest(kernel, blocks, stages))


def _deepest(
    kernel: Kernel, blocks: tuple[tuple[Axis, int], ...], stages: tuple[int | None, ...]
) -> tuple[int | None, ...]:
    """Each stage out of the loops that do not move it."""
    found: list[int | None] = []
    for value, depth in zip(values(kernel), stages, strict=False):
        while depth and blocks[depth - 1][0] not in value.axes:
            depth -= 1
        found.append(depth)
    return tuple(found)


def _blocked_axes(kernel: Kernel, plan: Plan) -> tuple[Axis | None, Axis | None]:
    """The output axis with the widest register tile, and the longest reduce axis."""
    scheduled = replay(kernel, plan.tile)
    outputs = [axis for axis in scheduled.axes if not axis.reduce]
    reduces = [axis for axis in scheduled.axes if axis.reduce]
    outer = max(outputs, key=lambda axis: (scheduled.span(axis), axis.extent), default=None)
    return outer, max(reduces, key=lambda axis: axis.extent, default=None)


def _blocks(
    outer: tuple[Axis | None, int], reduced: tuple[Axis | None, int], plan: Plan
) -> tuple[tuple[Axis, int], ...]:
    """The two blocks that are there; that of the reduce, given in elements, in steps of its register leaves."""
    found = []
    if outer[0] is not None and outer[1]:
        found.append((outer[0], outer[1]))
    if reduced[0] is not None and reduced[1]:
        found.append((reduced[0], max(2, reduced[1] // _reduced_span(plan, reduced[0]))))
    return tuple(found)


def _reduced_span(plan: Plan, axis: Axis) -> int:
    span = 1
    for opt in plan.tile:
        if (opt.target, opt.axis) == (axis.target, axis.index) and opt.kind in (OptKind.UNROLL, OptKind.VEC):
            span *= opt.amount
    return span


def _changed(kernel: Kernel, plan: Plan, tiles: list[Plan]) -> Iterator[Plan]:
    """Plans that differ in one thing."""
    if plan.loops(kernel) >= 2:
        yield replace(plan, swapped=not plan.swapped)
    yield replace(plan, streamed=not plan.streamed)
    for axis in body(kernel).axes:
        yield replace(plan, padded=plan.padded ^ {axis})
    for number, depth in enumerate(plan.stages):
        for other in (None, *range(len(plan.blocks) + 2)):
            if other != depth and not (other is None and values(kernel)[number].is_wanted):
                stages = (*plan.stages[:number], other, *plan.stages[number + 1 :])
                yield replace(plan, stages=stages)
    for tile in tiles:
        if tile.tile != plan.tile:
            yield replace(plan, tile=tile.tile)
    yield from (replace(plan, tile=tile) for tile in (*_narrower(plan), *_unrolled(kernel, plan)))
    yield from (replace(plan, blocks=blocks) for blocks in _other_blocks(kernel, plan))


def _shared(kernel: Kernel, plan: Plan) -> Iterator[Plan]:
    """Plans that differ in one thing, and may be shared among threads in other parts."""
    yield from (replace(plan, parts=parts) for parts in (1, 2, 4) if parts != plan.parts)
    yield from _changed(kernel, plan, [])


def _narrower(plan: Plan) -> Iterator[Schedule]:
    """Register tiles with fewer elements along one axis: of what memory binds, few rows at a time read faster."""
    for number, opt in enumerate(plan.tile):
        if opt.kind is OptKind.UPCAST:
            for amount in sorted({1, 2, opt.amount // 2} - {opt.amount}):
                narrower = (replace(opt, amount=amount),) if amount > 1 else ()
                yield (*plan.tile[:number], *narrower, *plan.tile[number + 1 :])


def _unrolled(kernel: Kernel, plan: Plan) -> Iterator[Schedule]:
    """Other numbers of steps of the longest reduce axis side by side."""
    axis = _blocked_axes(kernel, plan)[1]
    if axis is None:
        return
    others = tuple(opt for opt in plan.tile if opt.kind is not OptKind.UNROLL)
    for amount in (1, 2, 4, 8):
        unroll = (Opt(OptKind.UNROLL, axis.target, axis.index, amount),) if amount > 1 else ()
        if (*others, *unroll) != plan.tile:
            yield (*others, *unroll)


def _other_blocks(kernel: Kernel, plan: Plan) -> Iterator[tuple[tuple[Axis, int], ...]]:
    """One block twice or half as long, without one, in another order, or with one of a further output axis."""
    blocks = plan.blocks
    for number, (axis, amount) in enumerate(blocks):
        before, behind = blocks[:number], blocks[number + 1 :]
        yield (*before, (axis, amount * 2), *behind)
        if amount >= 4:
            yield (*before, (axis, amount // 2), *behind)
        yield (*before, *behind)
    if len(blocks) > 1:
        yield (blocks[1], blocks[0], *blocks[2:])
    taken = {axis for axis, _ in blocks}
    for axis in body(kernel).axes:
        if axis not in taken:
            for amount in (4, 16):
                yield (*blocks, (axis, amount))
