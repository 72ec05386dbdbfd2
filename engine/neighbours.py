"""Which schedules to try: where a search starts, and the schedules one step away from another.

A step appends an opt, changes one amount, drops an opt, or swaps two. Opts that commute are kept in one order
(`canonical`), so that the same kernel reached in two ways is mostly the same schedule with the same hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace

from engine import heuristic, wishes
from engine.grouping import refusal
from engine.indexing import accesses, body
from engine.keeps import keepables
from engine.kernel import Kernel
from engine.opts import TARGET_OUT, Opt, OptKind, RangeType, Schedule
from engine.picks import picks
from engine.ranges import Axis, Leaf
from engine.schedule import Scheduled
from engine.stages import values
from engine.target import Target
from engine.walks import trips

UPCASTS = (2, 3, 4, 5, 6, 8, 12, 16)
UNROLLS = (2, 4, 8)
SPLITS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
PARTS = (2, 4, 8, 16, 32, 64)
MAX_OPTS = 16
# So many of the model's picks are seeds, at most two of one register tile.
PICKS = 32

# What a kernel comes to, by structure: schedules with equal leaves and stages are the same kernel.
Structure = tuple[Hashable, ...]

_REGISTERS = (OptKind.VEC, OptKind.UPCAST, OptKind.UNROLL)
_MARKS = (OptKind.PAD, OptKind.STREAM, OptKind.PREFETCH)


def canonical(schedule: Schedule) -> Schedule:
    """The same kernel with its opts in the usual order: registers, splits and loop order, stages, threads."""
    return tuple(sorted(schedule, key=_rank))


def _rank(opt: Opt) -> tuple[int, str, str, int]:
    if opt.kind in _REGISTERS:
        return (_REGISTERS.index(opt.kind), opt.kind.value, opt.target, opt.axis)
    if opt.kind in _MARKS:
        return (len(_REGISTERS) + _MARKS.index(opt.kind), "", opt.target, opt.axis)
    behind = len(_REGISTERS) + len(_MARKS)
    if opt.kind in (OptKind.STAGE, OptKind.KEEP):
        return (behind + 1, "", opt.target, opt.axis)
    if opt.kind is OptKind.GROUP:
        return (behind + 2, "", opt.target, opt.axis)
    return (behind + 3 * (opt.kind is OptKind.THREAD), "", "", 0)


def structure(scheduled: Scheduled) -> Structure:
    """The leaves that do something, in execution order; then for each stage its value and those it holds."""
    stages = (
        (stage.value.node, tuple(_shape_of(leaf) for leaf in stage.leaves if trips(leaf) > 1))
        for stage in scheduled.stages
    )
    ragged = (axis for axis in scheduled.axes if axis.extent % scheduled.span(axis))
    padded = tuple(axis for axis in ragged if axis in scheduled.padded)
    marks = (scheduled.streams, OptKind.PREFETCH in scheduled.marks, padded)
    second = structure(scheduled.combine) if scheduled.combine else ()
    return (*(_shape_of(leaf) for leaf in scheduled.leaves if trips(leaf) > 1), *stages, marks, *second)


def _shape_of(leaf: Leaf) -> tuple[Axis, int, int, RangeType]:
    return leaf.axis, trips(leaf), leaf.stride, leaf.type


def seeds(kernel: Kernel, target: Target, threads: int = 1) -> list[Schedule]:
    """Where a search starts: the model's picks (best first), the heuristic's schedule, the unscheduled kernel.

    A kernel of no elements has that one only.
    """
    if any(axis.extent == 0 for axis in body(kernel).axes):
        return [()]
    picked = varied(picks(kernel, target, threads), PICKS, each=2)
    found = [*map(canonical, picked), canonical(heuristic.schedule(kernel, target, threads)), ()]
    return list(dict.fromkeys(found))


def varied(ranked: Iterable[Schedule], limit: int, each: int) -> list[Schedule]:
    """The first `limit` schedules, at most `each` of one register tile: those next to one another are alike."""
    tiles: Counter[Schedule] = Counter()
    found: list[Schedule] = []
    for schedule in ranked:
        tile = tuple(opt for opt in schedule if opt.kind in _REGISTERS)
        tiles[tile] += 1
        if tiles[tile] <= each:
            found.append(schedule)
        if len(found) == limit:
            break
    return found


def neighbours(kernel: Kernel, schedule: Schedule, target: Target, threads: int = 1) -> Iterator[Schedule]:
    """Every schedule one step away, in canonical order and each once; legality is for replay to say.

    What the user wants kept, and the schedule keeps, they keep, too.
    """
    menu = tuple(_menu(kernel, schedule, target, threads))
    seen = {canonical(schedule)}
    heeded = wishes.heeded(kernel, schedule)
    for steps in (
        _appended(schedule, menu),
        _changed(schedule, menu),
        _dropped(schedule),
        _swapped(schedule),
    ):
        for step in steps:
            found = canonical(step)
            if found in seen or len(found) > MAX_OPTS:
                continue
            if heeded <= wishes.heeded(kernel, found):
                seen.add(found)
                yield found


def _menu(kernel: Kernel, schedule: Schedule, target: Target, threads: int) -> Iterator[Opt]:
    """Every opt that could stand in a schedule of this kernel."""
    for axis in body(kernel).axes:
        yield from _register_opts(kernel, axis, target)
        yield from _split_opts(axis)
        yield _opt(OptKind.PAD, axis, 0)
        if threads > 1 and not axis.reduce:
            yield from (_opt(OptKind.THREAD, axis, threads * each) for each in (1, 2, 4))
        if threads > 1 and axis.reduce and not refusal(kernel):
            yield from (_opt(OptKind.GROUP, axis, parts) for parts in PARTS if parts <= axis.extent)
    yield Opt(OptKind.STREAM, TARGET_OUT, 0, 0)
    yield Opt(OptKind.PREFETCH, TARGET_OUT, 0, 0)
    loops = len(_loop_axes(kernel, schedule))
    numbers: Counter[str] = Counter()
    for value in values(kernel):
        for depth in range(loops + 1):
            yield Opt(OptKind.STAGE, value.target, numbers[value.target], depth)
        numbers[value.target] += 1
    yield from (Opt(OptKind.KEEP, name, 0, 0) for name in keepables(kernel))
    for first in range(loops):
        for second in range(first + 1, loops):
            yield Opt(OptKind.REORDER, TARGET_OUT, first, second)


def _register_opts(kernel: Kernel, axis: Axis, target: Target) -> Iterator[Opt]:
    store, *loads = accesses(kernel)
    if any(access.strides[axis] == 1 for access in (loads if axis.reduce else [store])):
        yield from (_opt(OptKind.VEC, axis, n) for n in _lanes(kernel, target) if n <= axis.extent)
    kind, amounts = (OptKind.UNROLL, UNROLLS) if axis.reduce else (OptKind.UPCAST, UPCASTS)
    yield from (_opt(kind, axis, n) for n in amounts if n <= axis.extent)


def _lanes(kernel: Kernel, target: Target) -> tuple[int, int]:
    """A whole vector register of the output's type, and half of one."""
    whole = target.features.vector_bytes // kernel.dtype.itemsize
    return whole, whole // 2


def _split_opts(axis: Axis) -> Iterator[Opt]:
    """Parts split off as plain loops: without stages, splitting a reduce within its accumulators gains nothing."""
    for amount in SPLITS:
        if 1 < amount < axis.extent:
            yield Opt(OptKind.SPLIT, axis.target, axis.index, amount, RangeType.LOOP)


def _opt(kind: OptKind, axis: Axis, amount: int) -> Opt:
    return Opt(kind, axis.target, axis.index, amount)


def _loop_axes(kernel: Kernel, schedule: Schedule) -> list[Axis]:
    """One entry for each position of the loop order: the output's axes, and the LOOP parts split off."""
    axes = [axis for axis in body(kernel).axes if not axis.reduce]
    splits = [opt for opt in schedule if opt.kind is OptKind.SPLIT and opt.type is not RangeType.REDUCE]
    return axes + [axis for axis in body(kernel).axes for opt in splits if _is_of(opt, axis)]


def _is_of(opt: Opt, axis: Axis) -> bool:
    return (opt.target, opt.axis) == (axis.target, axis.index)


def _appended(schedule: Schedule, menu: tuple[Opt, ...]) -> Iterator[Schedule]:
    for opt in menu:
        yield (*schedule, opt)


def _changed(schedule: Schedule, menu: tuple[Opt, ...]) -> Iterator[Schedule]:
    for place, old in enumerate(schedule):
        for opt in menu:
            same_opt = (opt.kind, opt.target, opt.axis, opt.type) == (
                old.kind,
                old.target,
                old.axis,
                old.type,
            )
            if same_opt and opt.amount != old.amount:
                yield (*schedule[:place], replace(old, amount=opt.amount), *schedule[place + 1 :])


def _dropped(schedule: Schedule) -> Iterator[Schedule]:
    for place in range(len(schedule)):
        yield (*schedule[:place], *schedule[place + 1 :])


def _swapped(schedule: Schedule) -> Iterator[Schedule]:
    for place in range(len(schedule) - 1):
        first, second = schedule[place : place + 2]
        yield (*schedule[:place], second, first, *schedule[place + 2 :])
