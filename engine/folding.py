"""What a FOLD becomes: an accumulator for each state, and one serial loop that updates them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine import dtype as dt
from engine.ir import UOp, substitute, toposort
from engine.linearize import reads_accumulator
from engine.nest import Nest, after, close, group
from engine.offsets import number
from engine.ops import HoleKind, Op
from engine.opts import RangeType
from engine.ranges import Axis

Places = dict[UOp, UOp]  # an axis's range → where it stands


@dataclass(frozen=True)
class Folds:
    """Lowers the FOLDs of one version of a kernel's body; each once for each place it stands in."""

    nest: Nest
    acc_ids: Iterator[int]
    axes_under: Callable[[UOp], frozenset[Axis]]
    condition: tuple[UOp, ...]
    _built: dict[tuple[UOp, tuple[UOp, ...]], tuple[UOp, ...]] = field(default_factory=dict)

    def states(self, value: UOp, ranges: dict[Axis, UOp], places: Places) -> Places:
        """For each GET under `value` the state it means, with the axes' ranges at `places`."""
        gets = [n for n in toposort(value, enter=lambda n: n.op is not Op.GET) if n.op is Op.GET]
        found: Places = {}
        for get in gets:
            axes = sorted(self.axes_under(get), key=lambda axis: (axis.target, axis.index))
            key = (get.src[0], tuple(places[ranges[axis]] for axis in axes))
            if key not in self._built:
                self._built[key] = self._build(get.src[0], axes, places)
            found[get] = self._built[key][get.arg]
        return found

    def _build(self, fold: UOp, axes: list[Axis], places: Places) -> tuple[UOp, ...]:
        """The states after the loop."""
        id_, steps, count = fold.arg
        vec = self.nest.scheduled.vec_of(axes)
        lanes, lane = (vec.extent, self.nest.ranges[vec]) if vec else (1, number(0))
        loops = [leaf for leaf in self.nest.scheduled.loops if leaf.axis in axes]
        around = (*self.nest.opened(loops), *self.condition)
        inits = [substitute(source, places) for source in fold.src[:count]]
        if steps == 0:
            return tuple(inits)
        memories = [
            after(UOp(Op.ACC, init.dtype, (), (next(self.acc_ids), lanes)), *around) for init in inits
        ]
        start = group([_store(memory, lane, init) for memory, init in zip(memories, inits, strict=True)])
        # A loop of one step is none: its RANGE would be simplified to 0, and nothing left to close.
        loop = (UOp(Op.RANGE, dt.int64, (), (next(self.nest.ids), steps, RangeType.LOOP)),) * (steps != 1)
        step = loop[0] if loop else number(0)
        inside = [after(memory, start, *loop) for memory in memories]
        holes = {
            UOp(Op.HOLE, memory.dtype, (), (id_, HoleKind.STATE, i, ())): _load(memory, lane)
            for i, memory in enumerate(inside)
        }
        holes[UOp(Op.HOLE, dt.int64, (), (id_, HoleKind.STEP, 0, ()))] = step
        values = [_copied(substitute(body, places | holes)) for body in fold.src[-count:]]
        # All new states are computed before the first old one is overwritten.
        stores = [
            _store(after(memory, *values), lane, value) for memory, value in zip(inside, values, strict=True)
        ]
        end = close(group(stores), loop)
        return tuple(_load(after(memory, end), lane) for memory in memories)


def _copied(value: UOp) -> UOp:
    """A state that another one becomes is read when it is due, not when it is stored: a cast to its own type."""
    return UOp(Op.CAST, value.dtype, (value,)) if reads_accumulator(value) else value


def _load(memory: UOp, lane: UOp) -> UOp:
    return UOp(Op.LOAD, memory.dtype, (UOp(Op.INDEX, memory.dtype, (memory, lane)),))


def _store(memory: UOp, lane: UOp, value: UOp) -> UOp:
    return UOp(Op.STORE, dt.void, (UOp(Op.INDEX, memory.dtype, (memory, lane)), value))
