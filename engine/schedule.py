"""Replaying a schedule: which opts are legal on a kernel, and the leaf ranges they lead to.

Legality is decided here and nowhere else. It depends on a kernel's structure, hardly ever on its sizes, so that
a schedule found on a big shape replays on a shrunk, ragged one.

- SPLIT takes the axis's innermost loop leaf apart into outer × amount. The outer part goes to the front of the
  loop order, behind the parts split off before it; the inner part keeps the leaf's place. On a reduce axis, type
  LOOP makes the outer part a plain loop (partial sums wait in the output), REDUCE leaves both within the
  accumulators' life.
- UPCAST, UNROLL and VEC take the innermost place of their axis: the loops outside step over whole register tiles.
- REORDER swaps two positions of the loop order.
- PAD, STREAM and PREFETCH change no loop: how register tiles on the border run, and how the output is written.
- THREAD and GROUP are applied when all others have been, whatever their place; then STAGE, whose loops are counted
  without their leaves: those are outside all stages, as each thread has scratch memory of its own.
- With GROUP a kernel runs in two phases (engine.grouping): THREAD, lanes and tiles of the output's axes are then also
  those of the second, and THREAD is the second's alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from engine import grouping, indexing
from engine.errors import IllegalOpt
from engine.keeps import Keepable, Kept, keepables, laid_out
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import TARGET_OUT, Opt, OptKind, RangeType, Schedule
from engine.ranges import Axis, Leaf
from engine.shapes import shape_of
from engine.stages import MAX_SCRATCH, Stage, Value, values

# Register elements (vectors count once) that one body may expand to: beyond it, compilers take seconds.
MAX_EXPANDED = 512
# A vector of the widest machines; more of it is UPCAST's business.
MAX_LANES = 16
# Leaves whose steps the worker threads share: the kernel's tiles.
SHARED = (RangeType.THREAD, RangeType.GROUP)
_OF_BOTH_PHASES = (OptKind.VEC, OptKind.UPCAST, OptKind.THREAD)


@dataclass(frozen=True)
class Scheduled:
    """A kernel with its leaf ranges laid out.

    `loops` are the THREAD or GROUP leaf, if any, and the LOOP leaves in loop order; `leaves` are all leaves in
    execution order (loops, REDUCE, UNROLL, UPCAST, VEC). With a GROUP leaf this is the first of two phases.
    """

    kernel: Kernel
    opts: Schedule
    axes: tuple[Axis, ...]
    leaves: tuple[Leaf, ...]
    stages: tuple[Stage, ...] = ()
    padded: frozenset[Axis] = frozenset()
    marks: frozenset[OptKind] = frozenset()  # those of STREAM and PREFETCH that are on
    kept: tuple[Kept, ...] = ()

    @property
    def streams(self) -> bool:
        """Do whole vectors of the output go past the caches? Only where each starts at a multiple of its length."""
        vec = self.vec_of({axis for axis in self.axes if not axis.reduce})
        if OptKind.STREAM not in self.marks or vec is None:
            return False
        strides = indexing.accesses(self.kernel)[0].strides
        others = (leaf for leaf in self.leaves if leaf is not vec and not leaf.axis.reduce)
        moved = [strides[leaf.axis] for leaf in others]
        steps = [leaf.stride * (strides[leaf.axis] or 0) for leaf in self.leaves if leaf is not vec]
        return None not in moved and all(step % vec.extent == 0 for step in steps)

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory that each thread needs for what is staged and kept."""
        ends = [stage.end for stage in self.stages] + [kept.end for kept in self.kept]
        return max(ends, default=0)

    def of_type(self, *types: RangeType) -> tuple[Leaf, ...]:
        """The leaves of the given types, in execution order."""
        return tuple(leaf for leaf in self.leaves if leaf.type in types)

    @cached_property
    def loops(self) -> tuple[Leaf, ...]:
        """THREAD, GROUP and LOOP leaves, outermost first."""
        return self.of_type(*SHARED, RangeType.LOOP)

    @cached_property
    def group(self) -> Leaf | None:
        """The GROUP leaf, if there is one."""
        return next(iter(self.of_type(RangeType.GROUP)), None)

    @property
    def partials(self) -> int:
        """Bytes of the parts' results, which the first phase leaves to the second; 0 without a GROUP leaf."""
        if self.group is None:
            return 0
        memory = grouping.partials(self.kernel, self.group.extent)
        return prod(shape_of(memory)) * memory.dtype.itemsize

    @cached_property
    def combine(self) -> Scheduled | None:
        """The second phase of a kernel with a GROUP leaf, scheduled: lanes and tiles of the output as in the first."""
        if self.group is None:
            return None
        opts = tuple(opt for opt in self.opts if opt.target == TARGET_OUT and opt.kind in _OF_BOTH_PHASES)
        return replay(grouping.combining(self.kernel, self.group.extent), opts)

    @property
    def vec(self) -> Leaf | None:
        """The first VEC leaf, if there is one: the only one unless a reduce is the same for some output axis."""
        return next(iter(self.of_type(RangeType.VEC)), None)

    def vec_of(self, axes: Collection[Axis]) -> Leaf | None:
        """The VEC leaf of what moves along `axes`, if there is one."""
        return next((leaf for leaf in self.of_type(RangeType.VEC) if leaf.axis in axes), None)

    @property
    def lanes(self) -> int:
        """Lanes of the VEC leaf; 1 without."""
        return self.vec.extent if self.vec else 1

    @property
    def tiles(self) -> int:
        """How many pieces the worker threads share: the THREAD or GROUP leaf's extent; 1 without."""
        return prod(leaf.extent for leaf in self.of_type(*SHARED))

    def leaves_of(self, axis: Axis) -> tuple[Leaf, ...]:
        """The leaves of one axis in execution order."""
        return tuple(leaf for leaf in self.leaves if leaf.axis == axis)

    def span(self, axis: Axis) -> int:
        """How many consecutive elements of `axis` are in registers at once."""
        types = (RangeType.UPCAST, RangeType.UNROLL, RangeType.VEC)
        return prod(leaf.extent for leaf in self.leaves_of(axis) if leaf.type in types)

    @property
    def partial_reduce(self) -> bool:
        """Do partial results wait in the output between iterations of a LOOP leaf of a reduce axis?"""
        return any(leaf.axis.reduce for leaf in self.of_type(RangeType.LOOP))


@dataclass(frozen=True)
class _Loop:
    """A loop leaf to be: the `rank`-th of its axis from outside, of `steps` (None: as many as the axis needs)."""

    axis: Axis
    rank: int
    steps: int | None


@dataclass(frozen=True)
class _Plan:
    """A schedule half replayed."""

    kernel: Kernel
    axes: tuple[Axis, ...]
    loops: tuple[_Loop, ...]
    reduces: tuple[_Loop, ...]
    tiled: int = 0  # how many parts have been split off to the front of `loops`
    registers: dict[tuple[Axis, RangeType], int] = field(default_factory=dict)
    thread: tuple[Axis, int] | None = None
    group: tuple[Axis, int] | None = None
    stages: dict[int, tuple[Value, int]] = field(default_factory=dict)  # by the opt's number
    padded: frozenset[Axis] = frozenset()
    marks: frozenset[OptKind] = frozenset()
    kept: tuple[Keepable, ...] = ()


def replay(kernel: Kernel, schedule: Schedule = ()) -> Scheduled:
    """Apply the opts in order to the unscheduled kernel. IllegalOpt names the opt and why it may not be."""
    axes = indexing.body(kernel).axes
    plan = _Plan(
        kernel,
        axes,
        tuple(_Loop(axis, 0, None) for axis in axes if not axis.reduce),
        tuple(_Loop(axis, 0, None) for axis in axes if axis.reduce),
    )
    for number, opt in enumerate(schedule):
        try:
            plan = _stage(plan, opt, number) if opt.kind is OptKind.STAGE else _ACTIONS[opt.kind](plan, opt)
        except _Refused as reason:
            raise IllegalOpt(f"{opt}: {reason}", f"schedule[{number}]") from None
    laid = Scheduled(kernel, tuple(schedule), axes, _lay_out(plan), padded=plan.padded, marks=plan.marks)
    _require_room(laid)
    return _keeping(_staged(laid, plan.stages), plan.kept)


class _Refused(Exception):
    """Why an opt is illegal; `replay` adds which opt it was."""


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise _Refused(reason)


def _axis(plan: _Plan, opt: Opt) -> Axis:
    found = next((a for a in plan.axes if (a.target, a.index) == (opt.target, opt.axis)), None)
    if found is None:
        raise _Refused(f"there is no axis {opt.target}.{opt.axis} of more than one element")
    _require(found.extent > 0, f"axis {found} is empty")
    return found


def _split(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    _require(opt.amount >= 2, "amount must be at least 2")
    type_ = opt.type or (RangeType.REDUCE if axis.reduce else RangeType.LOOP)
    _require(type_ in (RangeType.LOOP, RangeType.REDUCE), "type must be LOOP or REDUCE")
    _require(axis.reduce or type_ is RangeType.LOOP, "REDUCE is for the axes of a reduce")
    old = max((loop for loop in plan.loops + plan.reduces if loop.axis == axis), key=lambda loop: loop.rank)
    if old.steps is not None:
        _require(old.steps % opt.amount == 0, f"amount must divide the inner leaf of {old.steps}")
        _require(old.steps > opt.amount, f"amount must be less than the inner leaf of {old.steps}")
    outer = replace(old, steps=None if old.steps is None else old.steps // opt.amount)
    inner = replace(old, rank=old.rank + 1, steps=opt.amount)
    swapped = replace(
        plan,
        loops=tuple(inner if loop is old else loop for loop in plan.loops),
        reduces=tuple(inner if loop is old else loop for loop in plan.reduces),
    )
    return _to_reduces(swapped, outer) if type_ is RangeType.REDUCE else _to_loops(swapped, outer)


def _to_reduces(plan: _Plan, outer: _Loop) -> _Plan:
    return replace(plan, reduces=(outer, *plan.reduces))


def _to_loops(plan: _Plan, outer: _Loop) -> _Plan:
    if outer.axis.reduce:
        _require(OptKind.STREAM not in plan.marks, "partial results are read again: no STREAM")
        _require_partials(plan, outer)
    place = _front(plan, outer)
    return replace(plan, loops=(*plan.loops[:place], outer, *plan.loops[place:]), tiled=plan.tiled + 1)


def _front(plan: _Plan, outer: _Loop) -> int:
    """Behind the parts split off before, but never outside the axis's outer parts or inside its inner ones."""
    ranks = [(i, loop.rank) for i, loop in enumerate(plan.loops) if loop.axis == outer.axis]
    first = max((i + 1 for i, rank in ranks if rank < outer.rank), default=0)
    last = min((i for i, rank in ranks if rank > outer.rank), default=len(plan.loops))
    return max(first, min(plan.tiled, last))


def _require_partials(plan: _Plan, outer: _Loop) -> None:
    """Partial sums wait in the output: each output element must be one partial, of the same type."""
    found = indexing.body(plan.kernel)
    _require(
        [reduce.dtype for reduce in found.reduces] == [plan.kernel.dtype],
        "partial results need an output of the reduce's dtype, and the reduce read at one index",
    )
    _require(
        not plan.kernel.dtype.is_float or plan.kernel.dtype.itemsize >= 4,
        f"partial results would be rounded to {plan.kernel.dtype.name} again and again",
    )
    _require(
        not any(loop.axis == outer.axis and loop.rank < outer.rank for loop in plan.reduces),
        "a LOOP part must lie outside the axis's REDUCE parts: split LOOP first",
    )


def _reorder(plan: _Plan, opt: Opt) -> _Plan:
    first, second, count = opt.axis, opt.amount, len(plan.loops)
    _require(opt.target == TARGET_OUT, "the loop order is the output's: target must be 'out'")
    _require(first < count and second < count, f"there are {count} loops")
    _require(first < second, "the first position must be the smaller")
    loops = list(plan.loops)
    loops[first], loops[second] = loops[second], loops[first]
    ranks: dict[Axis, int] = {}
    for loop in loops:
        _require(loop.rank > ranks.get(loop.axis, -1), "an inner leaf would lie outside its outer one")
        ranks[loop.axis] = loop.rank
    return replace(plan, loops=tuple(loops))


def _upcast(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    _require(not axis.reduce, "a reduce axis is unrolled (UNROLL), not upcast")
    return _register(plan, axis, RangeType.UPCAST, opt.amount)


def _unroll(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    _require(axis.reduce, "an output axis is upcast (UPCAST), not unrolled")
    return _register(plan, axis, RangeType.UNROLL, opt.amount)


def _vec(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    taken = {other for other, type_ in plan.registers if type_ is RangeType.VEC}
    body = indexing.body(plan.kernel)
    for target in (TARGET_OUT, *body.reduces.values()):
        moved = body.axes_of(target)
        _require(axis not in moved or not taken & moved, f"the loops of {target} have their VEC leaf")
    _require(opt.amount & (opt.amount - 1) == 0, "lanes must be a power of two")
    _require(opt.amount <= MAX_LANES, f"at most {MAX_LANES} lanes")
    store, *loads = indexing.accesses(plan.kernel)
    walked = loads if axis.reduce else [store]
    _require(
        any(access.strides[axis] == 1 for access in walked),
        f"{axis} is not walked with stride 1 by {'any load' if axis.reduce else 'the output'}",
    )
    return _register(plan, axis, RangeType.VEC, opt.amount)


def _register(plan: _Plan, axis: Axis, type_: RangeType, amount: int) -> _Plan:
    _require(amount >= 2, "amount must be at least 2")
    _require((axis, type_) not in plan.registers, f"{axis} has its {type_.name} leaf")
    registers = plan.registers | {(axis, type_): amount}
    body = indexing.body(plan.kernel)
    for target in (TARGET_OUT, *body.reduces.values()):
        moved = body.axes_of(target)
        expanded = prod(n for (a, t), n in registers.items() if t is not RangeType.VEC and a in moved)
        _require(expanded <= MAX_EXPANDED, f"the body expands to {expanded} elements, at most {MAX_EXPANDED}")
    return replace(plan, registers=registers)


def _thread(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    _require(not axis.reduce, "threads share the output's axes, not a reduce's")
    _require(plan.thread is None, "the kernel has its THREAD leaf")
    _require(plan.kernel.output.op is not Op.SCATTER, "a SCATTER's updates keep their order: one thread")
    _require(opt.amount >= 2, "amount must be at least 2")
    return replace(plan, thread=(axis, opt.amount))


def _group(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    _require(axis.reduce, "only a reduce has parts to be combined: an output axis is shared by THREAD")
    _require(plan.group is None, "the kernel has its GROUP leaf")
    _require(opt.amount >= 2, "amount must be at least 2")
    _require(not plan.marks, "partial results are read again: no STREAM and no PREFETCH")
    reason = grouping.refusal(plan.kernel)
    _require(not reason, reason)
    return replace(plan, group=(axis, opt.amount))


def _require_room(scheduled: Scheduled) -> None:
    """IllegalOpt if the parts' results would take too much memory."""
    if scheduled.partials > grouping.MAX_PARTIALS:
        number = next(n for n, opt in enumerate(scheduled.opts) if opt.kind is OptKind.GROUP)
        reason = (
            f"the parts' results take {scheduled.partials} bytes, at most {grouping.MAX_PARTIALS >> 20} MiB"
        )
        raise IllegalOpt(f"{scheduled.opts[number]}: {reason}", f"schedule[{number}]")


def _pad(plan: _Plan, opt: Opt) -> _Plan:
    axis = _axis(plan, opt)
    _require(axis not in plan.padded, f"{axis} is padded")
    _require(any(other == axis for other, _ in plan.registers), f"{axis} has no register leaves to pad to")
    return replace(_without_amount(plan, opt), padded=plan.padded | {axis})


def _stream(plan: _Plan, opt: Opt) -> _Plan:
    lanes = [axis for axis, type_ in plan.registers if type_ is RangeType.VEC and not axis.reduce]
    _require(bool(lanes), "only whole vectors are streamed: the output has no VEC leaf")
    _require(not any(loop.axis.reduce for loop in plan.loops), "partial results are read again")
    _require(plan.kernel.output.op is not Op.SCATTER, "a SCATTER's output is read again")
    return _mark(plan, opt)


def _prefetch(plan: _Plan, opt: Opt) -> _Plan:
    _require(any(axis.reduce for axis in plan.axes), "there is no reduce to hide it behind")
    return _mark(plan, opt)


def _mark(plan: _Plan, opt: Opt) -> _Plan:
    _require((opt.target, opt.axis) == (TARGET_OUT, 0), "target must be 'out' and axis 0")
    _require(opt.kind not in plan.marks, "it is on already")
    _require(plan.group is None, "the first phase of a kernel with GROUP does not write the output")
    return replace(_without_amount(plan, opt), marks=plan.marks | {opt.kind})


def _without_amount(plan: _Plan, opt: Opt) -> _Plan:
    _require(opt.amount == 0, "it has no amount: 0")
    return plan


def _stage(plan: _Plan, opt: Opt, number: int) -> _Plan:
    found = [value for value in values(plan.kernel) if value.target == opt.target]
    _require(opt.axis < len(found), f"{opt.target} has {len(found)} values that may be staged")
    value = found[opt.axis]
    _require(not any(value is other for other, _ in plan.stages.values()), "it is staged already")
    _require(all(axis.extent > 0 for axis in value.axes), "it is empty")
    return replace(plan, stages=plan.stages | {number: (value, opt.amount)})


def _staged(scheduled: Scheduled, stages: dict[int, tuple[Value, int]]) -> Scheduled:
    """The stages laid out, one behind the other."""
    loops = scheduled.of_type(RangeType.LOOP)
    found: list[Stage] = []
    for number, (value, depth) in stages.items():
        try:
            _require(depth <= len(loops), f"there are {len(loops)} loops")
            second = scheduled.group is not None and value.target == TARGET_OUT
            _require(not second, "the second phase of a kernel with GROUP has no stages")
            _require(
                depth == 0 or loops[depth - 1].axis in value.axes,
                "the innermost loop round it does not move it: it may as well stand outside that loop",
            )
            outside = {*loops[:depth], *scheduled.of_type(*SHARED)}
            leaves = tuple(x for x in scheduled.leaves if x not in outside and x.axis in value.axes)
            found.append(Stage(value, depth, leaves, found[-1].end if found else 0))
            _require(found[-1].end <= MAX_SCRATCH, f"stages take more than {MAX_SCRATCH >> 20} MiB")
        except _Refused as reason:
            raise IllegalOpt(f"{scheduled.opts[number]}: {reason}", f"schedule[{number}]") from None
    return replace(scheduled, stages=tuple(found))


def _keep(plan: _Plan, opt: Opt) -> _Plan:
    found = keepables(plan.kernel).get(opt.target)
    if found is None:
        raise _Refused(f"{opt.target} computes nothing that is computed again")
    _require(opt.axis == opt.amount == 0, "axis and amount must be 0")
    _require(found not in plan.kept, "it is kept already")
    return replace(plan, kept=(*plan.kept, found))


def _keeping(scheduled: Scheduled, kept: tuple[Keepable, ...]) -> Scheduled:
    """What is kept laid out behind the stages."""
    found = indexing.body(scheduled.kernel)
    for value in kept:
        place = laid_out(found, value, scheduled.leaves, scheduled.scratch)
        partial = scheduled.partial_reduce or scheduled.group is not None
        reason = "partial results are not the totals" if partial else ""
        if place.end > MAX_SCRATCH:
            reason = f"rows and stages take more than {MAX_SCRATCH >> 20} MiB"
        if reason:
            opt = Opt(OptKind.KEEP, value.target, 0, 0)
            raise IllegalOpt(f"{opt}: {reason}", f"schedule[{scheduled.opts.index(opt)}]")
        scheduled = replace(scheduled, kept=(*scheduled.kept, place))
    return scheduled


_ACTIONS = {
    OptKind.KEEP: _keep,
    OptKind.SPLIT: _split,
    OptKind.REORDER: _reorder,
    OptKind.UPCAST: _upcast,
    OptKind.UNROLL: _unroll,
    OptKind.VEC: _vec,
    OptKind.THREAD: _thread,
    OptKind.GROUP: _group,
    OptKind.PAD: _pad,
    OptKind.STREAM: _stream,
    OptKind.PREFETCH: _prefetch,
}


def _lay_out(plan: _Plan) -> tuple[Leaf, ...]:
    """Extents, strides and ids of all leaves, in execution order."""
    first_id = len(plan.axes)  # ids below are the axes' own ranges
    strides: dict[_Loop, int] = {}
    registers: dict[RangeType, list[tuple[Axis, int, int]]] = {}
    for axis in plan.axes:
        stride = 1
        for type_ in (RangeType.VEC, RangeType.UPCAST, RangeType.UNROLL):
            if (axis, type_) in plan.registers:
                extent = plan.registers[axis, type_]
                registers.setdefault(type_, []).append((axis, extent, stride))
                stride *= extent
        for loop in sorted(_loops_of(plan, axis), key=lambda loop: -loop.rank):
            strides[loop] = stride
            stride *= loop.steps or 1
    laid = [(*_extent(loop, strides), RangeType.LOOP) for loop in plan.loops]
    if plan.group is None and plan.thread is not None:
        laid = _in_parts(laid, *plan.thread, RangeType.THREAD)
    laid += [(*_extent(loop, strides), RangeType.REDUCE) for loop in plan.reduces]
    if plan.group is not None:
        laid = _in_parts(laid, *plan.group, RangeType.GROUP)
    for type_ in (RangeType.UNROLL, RangeType.UPCAST, RangeType.VEC):
        laid += [(*entry, type_) for entry in registers.get(type_, [])]
    return tuple(Leaf(first_id + i, *entry) for i, entry in enumerate(laid))


def _loops_of(plan: _Plan, axis: Axis) -> list[_Loop]:
    return [loop for loop in plan.loops + plan.reduces if loop.axis == axis]


def _extent(loop: _Loop, strides: dict[_Loop, int]) -> tuple[Axis, int, int]:
    stride = strides[loop]
    steps = -(-loop.axis.extent // stride) if loop.steps is None else loop.steps
    return loop.axis, steps, stride


_Laid = tuple[Axis, int, int, RangeType]


def _in_parts(loops: list[_Laid], axis: Axis, parts: int, type_: RangeType) -> list[_Laid]:
    """The outermost leaf of the axis in parts: a leaf of `type_` before all loops, the rest in place."""
    # REDUCE parts split off one after the other do not lie in the order of their strides
    place = max((i for i, entry in enumerate(loops) if entry[0] == axis), key=lambda i: loops[i][2])
    _, steps, stride, old = loops[place]
    each = -(-steps // parts)
    rest = [*loops[:place], (axis, each, stride, old), *loops[place + 1 :]]
    return [(axis, -(-steps // each), stride * each, type_), *rest]
