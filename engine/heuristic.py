"""A good schedule without measuring: rules over how the loads walk the axes, the same for any kernel.

Lanes go where memory is contiguous. Register tiles go to axes along which some load stays in place, because there
one load serves many elements; their sizes balance arithmetic, loads, latency and registers. Where what a tile
reads over the whole reduce outgrows the cache, the reduce is cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod

from engine import rows, wishes
from engine.errors import IllegalOpt
from engine.grouping import refusal
from engine.indexing import Access, accesses, body
from engine.ir import toposort
from engine.keeps import keepables
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import TARGET_OUT, Opt, OptKind, RangeType, Schedule
from engine.ranges import Axis
from engine.schedule import replay
from engine.target import Target

# One vector operation on a common out-of-order core, in cycles; a load also costs some of the next cache's time.
_ARITHMETIC, _LOAD, _LATENCY, _TRAFFIC = 0.5, 0.5, 4.0, 0.25
_FACTORS = (1, 2, 3, 4, 5, 6, 8, 12, 14)
# From so many accumulators on, their updates hide each other's latency.
_ENOUGH_ACCUMULATORS = 8
# Below so many points of the iteration space, waking a thread costs more than it saves.
_WORTH_THREADS = 1 << 20
# Pieces for each thread: more even out what the others do to a core, fewer stage less.
PARTS_PER_THREAD = 4
# An output of fewer tiles leaves threads without work. A reduce has so many parts at most, each of so many points at
# least, and is so many times longer than what the parts leave to be combined.
_ENOUGH_TILES = 16
_MOST_PARTS, _SHORTEST_PART, _WORTH_PARTS = 64, 1 << 16, 64
# Tiles of an axis that is run up to a size: each computes what it stages anew.
_MOST_TILES, _MOST_STAGED_TILES = 64, 8
_DEFAULT_L2 = 1 << 19
# Shorter blocks of a reduce spend more on their partial results than they save.
_SHORTEST_BLOCK = 16

Spans = dict[Axis, int]  # elements of an axis in one register tile


def schedule(kernel: Kernel, target: Target, threads: int = 1) -> Schedule:
    """A legal schedule for `kernel`; for several threads, an outer axis is shared out if the work is worth it."""
    walk = _walk(kernel, target)
    if any(axis.extent == 0 for axis in walk.axes):
        return ()
    found = _by_passes(kernel, target) if rows.is_rows(kernel) else _by_walks(walk, kernel)
    found = (*found, *wishes.stages(kernel, found))
    return threaded(kernel, found, threads) if threads > 1 else found


def _by_walks(walk: _Walk, kernel: Kernel) -> Schedule:
    axes = _lane_axes(walk)
    vec = _lanes(walk, axes[0]) if axes and not _only_gathers(walk, axes[0]) else None
    found = _registers_of(kernel, walk, vec, _tiles(walk, vec)[0])
    found = legal(kernel, found, _larger_panel_outside(kernel, found))
    found = legal(kernel, found, _folds_outside(kernel, found))
    return grouped(kernel, legal(kernel, found, _blocks(walk, kernel, found)))


def _only_gathers(walk: _Walk, axis: Axis) -> bool:
    """Would all of several loads be made lane by lane, with no reduce to pay for it? Numbers one by one are as fast.

    Compilers may even join what lies side by side.
    """
    steps = [load.strides[axis] for load in walk.loads]
    return not walk.reduces() and len(steps) > 1 and all(step is not None and step > 1 for step in steps)


def _folds_outside(kernel: Kernel, found: Schedule) -> list[Opt]:
    """The loops that move a FOLD outside those that do not: else it would be computed anew in each of their steps."""
    whole = body(kernel)
    folds = [node for node in toposort(whole.value) if node.op is Op.FOLD]
    if not folds:
        return []
    moving = frozenset[Axis]().union(*map(whole.axes_under, folds))
    order = [leaf.axis in moving for leaf in replay(kernel, found).loops]
    opts: list[Opt] = []
    for place, moves in enumerate(order):
        later = next((p for p in range(place + 1, len(order)) if order[p]), None)
        if not moves and later is not None:
            opts.append(Opt(OptKind.REORDER, TARGET_OUT, place, later))
            order[place], order[later] = True, False
    return opts


def threaded(kernel: Kernel, schedule: Schedule, threads: int, parts: int = PARTS_PER_THREAD) -> Schedule:
    """The schedule with an outer loop shared by threads, if the work is worth it, in so many `parts` for each of them.

    IllegalOpt if it does not fit.
    """
    return legal(kernel, schedule, _threads(kernel, schedule, threads, parts))


def in_tiles(kernel: Kernel, schedule: Schedule, number: int) -> Schedule:
    """The schedule with axis `number` of the output in tiles, of which a caller may run the first only.

    As it is where that would compute something twice, or change the order in which a reduce takes its elements in.
    """
    found = tuple(opt for opt in schedule if opt.kind is not OptKind.THREAD)
    scheduled = replay(kernel, found)
    shared = rows.shared_axes(body(kernel))
    steps = [leaf.extent for leaf in scheduled.loops if leaf.axis in shared and leaf.axis.index == number]
    if not steps or scheduled.group is not None:
        return schedule
    most = _MOST_STAGED_TILES if scheduled.stages else _MOST_TILES
    axis = next(axis for axis in shared if axis.index == number)
    tiled = legal(kernel, found, [_opt(OptKind.THREAD, axis, min(steps[0], most))]) if steps[0] > 1 else found
    return schedule if tiled == found else tiled


def row_by_row(kernel: Kernel, schedule: Schedule, number: int) -> Schedule | None:
    """For a few elements along axis `number` of the output: a tile each, and nothing staged or blocked for others.

    None where tiles of one element cannot be had.
    """
    alone = (OptKind.THREAD, OptKind.STAGE, OptKind.SPLIT, OptKind.REORDER)
    own = (OptKind.UPCAST, OptKind.PAD)
    left = [
        opt
        for opt in schedule
        if opt.kind not in alone and not (opt.kind in own and (opt.target, opt.axis) == (TARGET_OUT, number))
    ]
    found = legal(kernel, (), left)
    for leaf in replay(kernel, found).loops:
        if leaf.axis in rows.shared_axes(body(kernel)) and leaf.axis.index == number and leaf.stride == 1:
            tiled = legal(kernel, found, [_opt(OptKind.THREAD, leaf.axis, leaf.extent)])
            return tiled if leaf.extent > 1 and tiled != found else None
    return None


def grouped(kernel: Kernel, schedule: Schedule) -> Schedule:
    """The schedule with its longest reduce in parts where that costs next to nothing and its output has few tiles.

    However many threads there are, so that results do not depend on them.
    """
    if refusal(kernel):
        return schedule
    loops = [leaf for leaf in replay(kernel, schedule).loops if not leaf.axis.reduce]
    outputs = prod(axis.extent for axis in body(kernel).axes if not axis.reduce)
    points = prod(axis.extent for axis in body(kernel).axes)
    parts = min(_MOST_PARTS, points // _SHORTEST_PART)
    few = prod(leaf.extent for leaf in loops) < _ENOUGH_TILES
    if not few or points < _WORTH_THREADS or outputs * parts * _WORTH_PARTS > points:
        return schedule
    axis = max((axis for axis in body(kernel).axes if axis.reduce), key=lambda axis: axis.extent)
    return legal(kernel, schedule, [_opt(OptKind.GROUP, axis, parts)])


def register_tiles(kernel: Kernel, target: Target, limit: int) -> list[Schedule]:
    """VEC, UPCAST and UNROLL of at most `limit` register tiles for each axis that lanes may lie along.

    The best axis first, and for each the tile that costs least for an element; what is loaded lane by lane costs no
    more than what is contiguous, as it may be staged.
    """
    walk = _walk(kernel, target)
    if any(axis.extent == 0 for axis in walk.axes):
        return [()]
    if rows.is_rows(kernel):
        return [_by_passes(kernel, target)]
    found: list[Schedule] = []
    axes = [axis for axis in _lane_axes(walk) if not _only_gathers(walk, axis)]
    for vec in [_lanes(walk, axis) for axis in axes] or [None]:
        tiles = _tiles(walk, vec, staged=True)[:limit]
        found += [_registers_of(kernel, walk, vec, tile) for tile in tiles]
    return list(dict.fromkeys(found))


def _by_passes(kernel: Kernel, target: Target) -> Schedule:
    """Lanes and steps for each pass over the rows; functions that two of them need are computed once."""
    found = body(kernel)
    kept = [
        Opt(OptKind.KEEP, name, 0, 0)
        for name, value in keepables(kernel).items()
        if value.is_wanted or rows.takes_long(found, name, value.node)
    ]
    return legal(kernel, (), [*rows.passes(kernel, target), *kept])


def _registers_of(kernel: Kernel, walk: _Walk, vec: tuple[Axis, int] | None, tile: Spans) -> Schedule:
    return legal(kernel, (), [*_vec(vec), *_upcasts(tile, vec), *_unroll(walk, vec, tile)])


def _walk(kernel: Kernel, target: Target) -> _Walk:
    found = body(kernel)
    under = [found.axes_of(target) for target in found.reduces.values()] or [frozenset(found.axes)]
    return _Walk(found.axes, accesses(kernel), target, frozenset[Axis]().union(*under))


def legal(kernel: Kernel, found: Schedule, opts: list[Opt]) -> Schedule:
    """`found` and those of `opts` that are legal after it."""
    for opt in opts:
        try:
            replay(kernel, (*found, opt))
        except IllegalOpt:  # e.g. a reduce whose partial results have nowhere to wait
            continue
        found = (*found, opt)
    return found


@dataclass(frozen=True)
class _Walk:
    """The axes, how the store and the loads step along them, and what for."""

    axes: tuple[Axis, ...]
    accesses: tuple[Access, ...]
    target: Target
    accumulated: frozenset[Axis]  # what the reduce's result depends on

    @property
    def loads(self) -> tuple[Access, ...]:
        return self.accesses[1:]

    def outputs(self) -> list[Axis]:
        return [axis for axis in self.axes if not axis.reduce]

    def reduces(self) -> list[Axis]:
        return [axis for axis in self.axes if axis.reduce]

    def is_reused(self, axis: Axis) -> bool:
        """Does some load stay in place along `axis`?"""
        return any(load.strides[axis] == 0 for load in self.loads)

    def widest(self) -> int:
        """Bytes of the widest element that is loaded or stored; at least a float's."""
        return max(4, *(access.itemsize for access in self.accesses), 0)


def _lane_axes(walk: _Walk) -> list[Axis]:
    """The axes that VEC may lie along: first where the store, or else the loads, are contiguous most often."""
    store, *loads = walk.accesses
    outputs = [axis for axis in walk.outputs() if store.strides[axis] == 1]
    reduces = [axis for axis in walk.reduces() if any(load.strides[axis] == 1 for load in loads)]
    return sorted(outputs + reduces, key=lambda axis: (axis not in walk.accumulated, _strided(walk, axis)))


def _lanes(walk: _Walk, axis: Axis) -> tuple[Axis, int] | None:
    """VEC of an axis, with as many lanes as a vector register has and the axis elements."""
    lanes = walk.target.features.vector_bytes // walk.widest()
    while lanes > axis.extent:
        lanes //= 2
    return (axis, lanes) if lanes >= 2 else None


def _strided(walk: _Walk, axis: Axis) -> int:
    """How many loads would gather if lanes lay along `axis`."""
    return sum(load.strides[axis] not in (0, 1) for load in walk.loads)


def _vec(vec: tuple[Axis, int] | None) -> list[Opt]:
    return [_opt(OptKind.VEC, vec[0], vec[1])] if vec else []


def _opt(kind: OptKind, axis: Axis, amount: int, type_: RangeType | None = None) -> Opt:
    return Opt(kind, axis.target, axis.index, amount, type_)


def _tiles(walk: _Walk, vec: tuple[Axis, int] | None, staged: bool = False) -> list[Spans]:
    """UPCAST factors for up to two output axes, of all tiles that fit the registers the cheapest per element first."""
    lanes = dict([vec]) if vec else {}
    if not walk.reduces():
        return [_turned(walk, vec)]
    axes = _tiled_axes(walk, vec[0] if vec else None)
    choices = [dict(zip(axes, factors, strict=True)) for factors in product(_FACTORS, repeat=len(axes))]
    fitting = [c for c in choices if _registers(walk, c, lanes) <= walk.target.features.vector_registers]
    return sorted(fitting, key=lambda choice: _cost(walk, choice, lanes, staged)) or [{}]


def _tiled_axes(walk: _Walk, vec: Axis | None) -> list[Axis]:
    """The vector's axis, and the longest along which a load stays in place."""
    others = [axis for axis in walk.outputs() if axis is not vec and axis in walk.accumulated]
    others.sort(key=lambda axis: (walk.is_reused(axis), axis.extent), reverse=True)
    return [*([vec] if vec and not vec.reduce else []), *others][:2]


def _turned(walk: _Walk, vec: tuple[Axis, int] | None) -> Spans:
    """Where a load is contiguous along another axis than the store: a block of both uses whole cache lines."""
    if vec is None or _strided(walk, vec[0]) == 0:
        return {}
    turned = [
        a for a in walk.outputs() if a is not vec[0] and any(load.strides[a] == 1 for load in walk.loads)
    ]
    return {turned[0]: vec[1]} if turned else {}


def _moving(load: Access, axes: Spans) -> int:
    """How many different places `load` reads in one tile."""
    return prod(factor for axis, factor in axes.items() if load.strides[axis] != 0)


def _registers(walk: _Walk, tile: Spans, lanes: Spans) -> int:
    """Accumulators, one row of vectors that meets them, and one more operand."""
    vectors = [_moving(load, tile) for load in walk.loads if any(load.strides[axis] != 0 for axis in lanes)]
    return prod(tile.values()) + max(vectors, default=0) + 1


def _cost(walk: _Walk, tile: Spans, lanes: Spans, staged: bool) -> float:
    """Cycles per element for one step of the reduce, what sticks out of the axes included."""
    elements = prod(tile.values())
    gathered = [1 if staged else _gathered(load, lanes) for load in walk.loads]
    loads = sum(_moving(load, tile) * count for load, count in zip(walk.loads, gathered, strict=True))
    cycles = max(elements * _ARITHMETIC, loads * _LOAD, _LATENCY) + loads * _TRAFFIC
    spans = {axis: factor * lanes.get(axis, 1) for axis, factor in tile.items()}
    waste = prod(-(-axis.extent // span) * span / axis.extent for axis, span in spans.items())
    return cycles / elements * waste


def _gathered(load: Access, lanes: Spans) -> int:
    """Loads that one vector takes."""
    return prod(n for axis, n in lanes.items() if load.strides[axis] not in (0, 1))


def _upcasts(tile: Spans, vec: tuple[Axis, int] | None) -> list[Opt]:
    return [_opt(OptKind.UPCAST, axis, factor) for axis, factor in tile.items() if factor > 1]


def _unroll(walk: _Walk, vec: tuple[Axis, int] | None, tile: Spans) -> list[Opt]:
    """Steps of the innermost reduce axis side by side, when too few accumulators would wait for each other."""
    wanted = _ENOUGH_ACCUMULATORS // prod(tile.values())
    if not walk.reduces() or wanted < 2:
        return []
    axis = vec[0] if vec and vec[0].reduce else walk.reduces()[-1]
    steps = axis.extent // (vec[1] if vec and vec[0] is axis else 1)
    return [_opt(OptKind.UNROLL, axis, wanted)] if steps >= 2 * wanted else []


def _larger_panel_outside(kernel: Kernel, found: Schedule) -> list[Opt]:
    """The loop over the wider side of the tile outside: the larger panel stays in cache while the other streams."""
    scheduled = replay(kernel, found)
    if not any(axis.reduce for axis in scheduled.axes) or len(scheduled.loops) < 2:
        return []
    first, last = len(scheduled.loops) - 2, len(scheduled.loops) - 1
    spans = [scheduled.span(scheduled.loops[place].axis) for place in (first, last)]
    return [Opt(OptKind.REORDER, TARGET_OUT, first, last)] if spans[1] > spans[0] > 1 else []


def _blocks(walk: _Walk, kernel: Kernel, found: Schedule) -> list[Opt]:
    """The longest reduce axis in blocks, when what a tile reads over all of it outgrows half of the L2 cache."""
    scheduled = replay(kernel, found)
    reused = [axis for axis in walk.outputs() if walk.is_reused(axis) and scheduled.span(axis) > 1]
    if not walk.reduces() or not reused:
        return []
    axis = max(walk.reduces(), key=lambda axis: axis.extent)
    spans = {a: scheduled.span(a) for a in walk.outputs()}
    step = sum(_moving(load, spans) * load.itemsize for load in walk.loads if load.strides[axis] != 0)
    inner = prod(other.extent for other in walk.reduces() if other is not axis)
    cache = walk.target.cache_bytes("l2") or _DEFAULT_L2
    if step * inner * axis.extent <= cache // 2:
        return []
    block = _power_of_two(cache // 4 // (step * inner * scheduled.span(axis)))
    return [_opt(OptKind.SPLIT, axis, block, RangeType.LOOP)] if block >= _SHORTEST_BLOCK else []


def _power_of_two(limit: int) -> int:
    """The greatest that is not above `limit`; 1 if that is below."""
    return 1 << max(limit, 1).bit_length() - 1


def _threads(kernel: Kernel, found: Schedule, threads: int, parts: int) -> list[Opt]:
    """Of the loops that move every reduce the outermost that has a step for every thread, or else the longest."""
    scheduled = replay(kernel, found)
    scheduled = scheduled.combine or scheduled  # the parts of a reduce are shared as they are
    moved = body(scheduled.kernel)
    shared = rows.shared_axes(moved)
    loops = [leaf for leaf in scheduled.loops if leaf.axis in shared and leaf.extent > 1]
    points = max(prod(axis.extent for axis in moved.axes_of(name)) for name in rows.targets(moved))
    if not loops or points < _WORTH_THREADS:
        return []
    enough = [leaf for leaf in loops if leaf.extent >= threads]
    leaf = enough[0] if enough else max(loops, key=lambda leaf: leaf.extent)
    return [_opt(OptKind.THREAD, leaf.axis, min(leaf.extent, threads * parts))]
