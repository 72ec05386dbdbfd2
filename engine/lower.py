"""A scheduled kernel as a graph of loops, loads, accumulators and stores.

The definition over axis ranges (engine.indexing) is placed on the schedule's leaf ranges: loop leaves become
RANGEs closed by ENDs, register leaves are expanded, each reduce gets an ACC with one element per register
element of the output, each FOLD a loop of its own (engine.folding). Two rules keep hoisting honest: whatever must run once per iteration of a loop
is tied to its RANGE by AFTER, and so is a load that is in bounds only inside a condition.

Where a register tile may stick out of the axis there are two versions of the code, in conditions (RANGEs of
at most one trip): the interior without checks, the border with every load and store guarded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce as fold
from itertools import count, product
from math import prod

from engine import dtype as dt
from engine import grouping, indexing, offsets
from engine.accumulate import Accumulator, Registers
from engine.folding import Folds
from engine.indexing import Body, Updates
from engine.ir import UOp, substitute, substitute_all, toposort
from engine.keeping import Keeping
from engine.kernel import Kernel
from engine.nest import Nest, Version, after, all_of, close, group, less
from engine.offsets import number
from engine.ops import Op
from engine.opts import TARGET_OUT, OptKind, RangeType
from engine.places import settled_indices
from engine.ranges import Axis, Leaf
from engine.schedule import Scheduled
from engine.shapes import shape_of
from engine.staging import Staging

Places = dict[UOp, UOp]  # an axis's range → where it stands
Totals = dict[UOp, Callable[[Registers], UOp]]  # a REDUCE → from register values to its result


def lower(kernel: Kernel, scheduled: Scheduled, *, fma: bool = True) -> UOp:
    """The SINK of the scheduled kernel. With `fma`, products that a float sum adds up become MULACC.

    The output is PARAM number n (n inputs), or of a kernel with a GROUP leaf, whose first phase this is, the parts'
    results; a kernel of no output elements is a SINK of nothing.
    """
    if 0 in shape_of(kernel.output):
        return UOp(Op.SINK, dt.void)
    nest = Nest.of(scheduled)
    body, memory = indexing.body(kernel), output(kernel)
    if scheduled.group is not None:
        body = grouping.partial_body(body, kernel, nest.ranges[scheduled.group])
        memory = grouping.partials(kernel, scheduled.group.extent)
    stagings = tuple(Staging(stage, id_, body, nest) for id_, stage in enumerate(scheduled.stages))
    loads = _loads_from(body, stagings)
    keepings = _keepings(nest, body, loads)
    read = _in_body(body, loads)
    tile = _Tile(memory, scheduled, read, nest, fma, count(), stagings, keepings)
    tile.inherit(body)
    ragged = [axis for axis in scheduled.axes if not axis.reduce and nest.is_ragged(axis)]
    tile.reduce_rows(ragged)
    effect = close(nest.versions(ragged, tile.build), nest.opened(scheduled.loops))
    if tile.body.updates is not None:
        effect = _update(tile.body.updates, memory, effect, nest)
    return UOp(Op.SINK, dt.void, (effect,))


def _loads_from(body: Body, stagings: tuple[Staging, ...]) -> Places:
    """Loads from the stages for their values; for other wishes to keep something, what is to be kept."""
    loads = {staging.stage.value.node: staging.load for staging in stagings}
    for node in toposort(body.value):
        if node.op is Op.CONTIGUOUS and node not in loads:
            loads[node] = substitute(node.src[0], loads)
    return loads


def _in_body(body: Body, loads: Places) -> Body:
    """The body with the loads in their places."""
    if not loads:
        return body
    value, *reduces = substitute_all((body.value, *body.reduces), loads)
    return replace(body, value=value, reduces=dict(zip(reduces, body.reduces.values(), strict=True)))


def _keepings(nest: Nest, body: Body, loads: Places) -> dict[str, Keeping]:
    """By target what is kept of it, as it reads the stages."""
    found: dict[str, Keeping] = {}
    for id_, kept in enumerate(nest.scheduled.kept, len(nest.scheduled.stages)):
        node, *twins = substitute_all((kept.value.node, *kept.value.twins.values()), loads)
        named = dict(zip(kept.value.twins, twins, strict=True))
        found[kept.value.target] = Keeping(kept, id_, body, nest, node, named)
    return found


def output(kernel: Kernel) -> UOp:
    """The output's memory."""
    slot = 1 + max((param.arg[0] for param in kernel.params), default=-1)
    return UOp(Op.PARAM, kernel.dtype, (), (slot, shape_of(kernel.output)))


def _update(updates: Updates, memory: UOp, stored: UOp, nest: Nest) -> UOp:
    """A SCATTER's updates, one after the other in their order, once the start is `stored`."""
    if any(range_.arg[1] == 0 for range_ in updates.ranges):
        return stored
    loops: Places = {
        old: UOp(Op.RANGE, dt.int64, (), (next(nest.ids), *old.arg[1:])) if old.arg[1] > 1 else number(0)
        for old in updates.ranges
    }
    opened = tuple(loop for loop in loops.values() if loop.op is Op.RANGE)
    offset, valid, value = (substitute(n, loops) for n in (updates.offset, updates.valid, updates.value))
    place = UOp(Op.INDEX, memory.dtype, (after(memory, stored, *opened), offset, valid))
    if updates.how != "set":
        old = UOp(Op.LOAD, memory.dtype, (place, _zero(memory.dtype)))
        value = UOp(Op.ADD if updates.how == "add" else Op.MAX, memory.dtype, (old, value))
    return close(UOp(Op.STORE, dt.void, (place, value)), opened)


@dataclass(frozen=True)
class _Tile:
    """Builds one version of what lies inside the loops: accumulators, reduce loops, stores."""

    memory: UOp  # what is stored to
    scheduled: Scheduled
    body: Body
    nest: Nest
    fma: bool
    acc_ids: Iterator[int]
    stagings: tuple[Staging, ...] = ()
    keepings: dict[str, Keeping] = field(default_factory=dict)
    _dependent: dict[UOp, frozenset[Axis]] = field(default_factory=dict)
    _placed: dict[tuple[Axis, int], UOp] = field(default_factory=dict)
    _rows: Totals = field(default_factory=dict)
    _ends: dict[str, UOp] = field(default_factory=dict)  # by target: when all of what is kept is there

    def inherit(self, body: Body) -> None:
        """A reduce that reads stages depends on the axes that it did before."""
        for new, old in zip(self.body.reduces, body.reduces, strict=True):
            self._dependent[new] = body.axes_under(old)
            self._dependent[new.src[0]] = body.axes_under(old.src[0])

    def reduce_rows(self, ragged: list[Axis]) -> None:
        """The reduces that some output axis does not move: they stand outside that axis's loops, in their own versions."""
        output = self.body.axes_of(TARGET_OUT)
        for target in dict.fromkeys(self.body.reduces.values()):
            axes = self._axes_of(target)
            if not output <= axes:
                moving = [axis for axis in ragged if axis in axes]
                self._rows.update(self._reduce(target, Version(), moving, self._rows))

    def build(self, version: Version) -> UOp:
        totals = dict(self._rows)
        for reduce, target in self.body.reduces.items():
            if reduce not in totals:
                totals |= self._reduce(target, version, [], totals)
        valid = self._valid(self.body.offset, version)
        place = UOp(Op.INDEX, self.memory.dtype, (self._output(version), self.body.offset, *valid))
        value = self._guarded(self.body.value, version)
        folds = Folds(self.nest, self.acc_ids, self._axes_under, version.condition)
        elements = self._registers(RangeType.UPCAST, self.scheduled.axes)
        where = [self._places(registers) for registers in elements]
        indices = settled_indices([substitute(place, places) for places in where])
        stores = []
        for registers, places, index in zip(elements, where, indices, strict=True):
            reduced = {r: totals[r](registers) for r in self.body.reduces}
            reduced |= folds.states(value, self.body.ranges, places)
            reduced |= self._read_kept(TARGET_OUT, places, registers)
            if index is not None:  # else the element lies outside the output
                stores.append(self._store_to(index, value, reduced, places))
        return group(stores)

    def _output(self, version: Version) -> UOp:
        """The output's memory as seen in this version: stores stay inside all loops."""
        return after(self.memory, *self.nest.opened(self.scheduled.loops), *version.condition)

    def _registers(self, type_: RangeType, axes: Collection[Axis]) -> list[Registers]:
        """Every combination of the values of the axes' register leaves of one type."""
        leaves = [leaf for leaf in self.scheduled.of_type(type_) if leaf.axis in axes]
        return [
            dict(zip(leaves, values, strict=True))
            for values in product(*(range(leaf.extent) for leaf in leaves))
        ]

    def _store_to(self, index: UOp, value: UOp, reduced: Places, places: Places) -> UOp:
        """The store of one register element."""
        if not self.scheduled.partial_reduce:
            how = "stream" if self.scheduled.streams else None
            return UOp(Op.STORE, dt.void, (index, substitute(value, places | reduced)), how)
        ((reduce, total),) = reduced.items()  # no FOLD stands beside a REDUCE
        so_far = self._add_partial(index, reduce.arg[0], total)
        done = substitute(value, places | {reduce: so_far})
        if done is not so_far:
            done = UOp(Op.WHERE, done.dtype, (self._is_last(), done, so_far))
        return UOp(Op.STORE, dt.void, (index, done))

    def _add_partial(self, index: UOp, op: Op, total: UOp) -> UOp:
        """What the earlier iterations of the reduce's LOOP leaves left in the output, and this one's total."""
        loops = self.scheduled.of_type(RangeType.LOOP)
        bases = [self.nest.base([leaf]) for leaf in loops if leaf.axis.reduce]
        later = fold(lambda a, b: UOp(Op.OR, dt.bool_, (a, b)), [less(number(0), base) for base in bases])
        valid = all_of([later, *index.src[2:]])
        before = UOp(Op.INDEX, index.dtype, (*index.src[:2], valid))
        load = UOp(Op.LOAD, index.dtype, (before, indexing.identity(op, index.dtype)))
        return UOp(op, total.dtype, (load, total))

    def _is_last(self) -> UOp:
        """Do this iteration's REDUCE leaves reach the end of every axis that has LOOP leaves?"""
        axes = dict.fromkeys(leaf.axis for leaf in self.scheduled.loops if leaf.axis.reduce)
        conditions = []
        for axis in axes:
            loops = [leaf for leaf in self.scheduled.loops if leaf.axis == axis]
            end = offsets.add(self.nest.base(loops), number(loops[-1].stride))
            conditions.append(less(number(axis.extent - 1), end))
        return all_of(conditions)

    def _places(self, registers: Registers) -> Places:
        """Each axis's range as Σ leaf · stride, register leaves at the given values, VEC's still a range."""
        found = {}
        for axis, range_ in self.body.ranges.items():
            fixed = sum(value * leaf.stride for leaf, value in registers.items() if leaf.axis == axis)
            found[range_] = self._placed.get((axis, fixed)) or self._place(axis, fixed)
        return found | {staging.place: staging.offset(registers) for staging in self.stagings}

    def _place(self, axis: Axis, fixed: int) -> UOp:
        vec = self.scheduled.vec_of({axis})
        lane = self.nest.ranges[vec] if vec else number(0)
        place = offsets.add(offsets.add(self.nest.starts[axis], number(fixed)), lane)
        self._placed[axis, fixed] = place
        return place

    def _valid(self, offset: UOp, version: Version) -> tuple[UOp, ...]:
        axes = sorted(self._axes_under(offset) & version.guarded, key=lambda axis: (axis.target, axis.index))
        conditions = [less(self.body.ranges[axis], number(axis.extent)) for axis in axes]
        return (all_of(conditions),) if conditions else ()

    def _axes_under(self, node: UOp) -> frozenset[Axis]:
        if node not in self._dependent:
            self._dependent[node] = self.body.axes_under(node)
        return self._dependent[node]

    def _guarded(self, value: UOp, version: Version) -> UOp:
        """`value` (over axis ranges) with its loads kept inside the version's condition, or guarded."""
        if not version.condition and not version.guarded:
            return value
        loads: Places = {reduce: reduce for reduce in self.body.reduces}  # has its own versions
        # Stages, and rows that are kept, hold whole register tiles.
        loads |= {staging.load: staging.load for staging in self.stagings}
        loads |= {twin: twin for keeping in self.keepings.values() for twin in keeping.twins.values()}
        for node in toposort(value, enter=lambda n: n not in loads):
            if node.op is Op.LOAD and node not in loads:
                # An offset or a condition may be loaded itself: that load is guarded already.
                memory, offset, *own = (substitute(source, loads) for source in node.src[0].src)
                valid = [*self._valid(offset, version), *own]
                place = UOp(Op.INDEX, node.dtype, (after(memory, *version.condition), offset, *_all(valid)))
                loads[node] = UOp(Op.LOAD, node.dtype, (place, *([_zero(node.dtype)] if valid else [])))
        return substitute(value, loads)

    # -- the reduce -----------------------------------------------------------------------------------------

    def _reduce(self, target: str, version: Version, ragged: list[Axis], known: Totals) -> Totals:
        """The loops of one reduce of the kernel, inside `version` and in versions of its own for `ragged` output axes.

        Reduces that it reads are `known`. For each way it is indexed, a function from registers to its result.
        """
        reduces = [reduce for reduce, name in self.body.reduces.items() if name == target]
        around = (*self.nest.opened(self._round(target, reduces)), *version.condition)
        if OptKind.PREFETCH in self.scheduled.marks and self.body.axes_of(TARGET_OUT) <= self._axes_of(
            target
        ):
            around = (*around, *self._prefetches(version))
        accumulators = [self._accumulator(reduce, around) for reduce in reduces]
        own = [leaf for leaf in self.scheduled.of_type(RangeType.REDUCE) if leaf.axis.target == target]
        border = [a for a in self.scheduled.axes if a.target == target and self.nest.is_ragged(a)]
        loops = self.nest.opened(own)

        def update(inner: Version) -> UOp:
            return self._update(target, accumulators, loops, inner, known)

        def run(outer: Version) -> UOp:
            inside = version.within(outer)
            return close(self.nest.versions(border, lambda inner: update(inside.within(inner))), loops)

        end = self._ends[target] = self.nest.versions(ragged, run)
        return {a.reduce: a.result(end) for a in accumulators}

    def _prefetches(self, version: Version) -> list[UOp]:
        """The first element of each vector of the output's tile; what sticks out of the output does no harm."""
        memory = self._output(version)
        place = UOp(Op.INDEX, memory.dtype, (memory, self.body.offset))
        lanes = {axis: self.scheduled.vec_of({axis}) for axis in self.scheduled.axes}
        first = {self.nest.ranges[vec]: number(0) for vec in lanes.values() if vec is not None}
        return [
            UOp(Op.PREFETCH, dt.void, (substitute(substitute(place, self._places(registers)), first),))
            for registers in self._registers(RangeType.UPCAST, self.body.axes_of(TARGET_OUT))
        ]

    def _axes_of(self, target: str) -> frozenset[Axis]:
        """What the loops of a reduce move."""
        own = (reduce for reduce, name in self.body.reduces.items() if name == target)
        return frozenset[Axis]().union(*map(self._axes_inside, own))

    def _axes_inside(self, reduce: UOp) -> frozenset[Axis]:
        return frozenset[Axis]().union(*map(self._axes_under, reduce.src))

    def _round(self, target: str, reduces: list[UOp]) -> list[Leaf]:
        """The loops that a reduce is started anew in: those that move it, and those round the stages it reads."""
        axes, below = self._axes_of(target), set(toposort(*reduces) if self.stagings else ())
        staged = {leaf for staging in self.stagings if staging.load in below for leaf in staging.outside}
        partial = self.scheduled.partial_reduce
        return [leaf for leaf in self.scheduled.loops if partial or leaf.axis in axes or leaf in staged]

    def _accumulator(self, reduce: UOp, around: tuple[UOp, ...]) -> Accumulator:
        own = self._axes_inside(reduce)
        unrolled = [leaf for leaf in self.scheduled.of_type(RangeType.UNROLL) if leaf.axis in own]
        return Accumulator(
            reduce,
            next(self.acc_ids),
            tuple(leaf for leaf in self.scheduled.of_type(RangeType.UPCAST) if leaf.axis in own),
            self.scheduled.vec_of(own),
            prod(leaf.extent for leaf in unrolled),
            self.nest,
            around,
        )

    def _read_kept(self, target: str, places: Places, registers: Registers) -> Places:
        """The values of a pass that an earlier one has kept."""
        found: Places = {}
        for name, keeping in self.keepings.items():
            if target in keeping.twins:
                found |= keeping.read(target, self._ends[name], places, registers)
        return found

    def _update(
        self,
        target: str,
        accumulators: list[Accumulator],
        loops: tuple[UOp, ...],
        version: Version,
        known: Totals,
    ) -> UOp:
        """The body of the reduce loops: every step of UNROLL, for every element of every accumulator."""
        keeping = self.keepings.get(target)
        kept = self._guarded(keeping.node, version) if keeping else None
        stores: list[UOp] = []
        for accumulator in accumulators:
            memory = accumulator.inside((*loops, *version.condition))
            update = self._guarded(accumulator.reduce.src[0], version)
            read = [node for node in toposort(update, enter=lambda n: n not in known) if node in known]
            valid = self._reduce_valid(version)
            states = dict.fromkeys(accumulator.slots, memory)
            steps = self._registers(RangeType.UNROLL, self._axes_inside(accumulator.reduce))
            for step, unrolled in enumerate(steps):
                for element, registers in enumerate(accumulator.elements):
                    places = self._places(unrolled | registers)
                    slot = accumulator.slot(element, step)
                    place = UOp(Op.INDEX, update.dtype, (states[slot], accumulator.offset(slot)))
                    conditions = [substitute(v, places) for v in valid]
                    known_here = {r: known[r](registers) for r in read}
                    known_here |= self._read_kept(target, places, registers)
                    value = substitute(update, places | known_here)
                    if keeping and kept:
                        value_kept = substitute(kept, places | known_here)
                        inside = (*loops, *version.condition)
                        stores.append(keeping.store(value_kept, inside, places, registers))
                    stores.append(self._accumulate(accumulator.reduce.arg[0], place, value, conditions))
                    states[slot] = after(states[slot], stores[-1])
        return group(stores)

    def _accumulate(self, op: Op, place: UOp, value: UOp, conditions: list[UOp]) -> UOp:
        """The store that takes `value` in, where the conditions hold."""
        old = UOp(Op.LOAD, place.dtype, (place,))
        new = UOp(op, value.dtype, (old, value))
        if self.fma and op is Op.ADD and value.op is Op.MUL and value.dtype.is_float:
            new = UOp(Op.MULACC, value.dtype, (*value.src, old))
        for condition in conditions:
            new = UOp(Op.WHERE, new.dtype, (condition, new, old))
        return UOp(Op.STORE, dt.void, (place, new))

    def _reduce_valid(self, version: Version) -> list[UOp]:
        axes = [axis for axis in self.scheduled.axes if axis.reduce and axis in version.guarded]
        conditions = [less(self.body.ranges[axis], number(axis.extent)) for axis in axes]
        return [all_of(conditions)] if conditions else []


def _all(conditions: list[UOp]) -> list[UOp]:
    return [all_of(conditions)] if conditions else []


def _zero(dtype: dt.DType) -> UOp:
    return UOp(Op.CONST, dtype, (), False if dtype is dt.bool_ else 0.0 if dtype.is_float else 0)
