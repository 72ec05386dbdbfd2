"""From a definition to loops' point of view: views become index expressions over the axes' ranges.

The output's axes and the reduce's axes are the kernel's iteration space. Each view is pushed from the output
towards the PARAMs, so that what remains is arithmetic on LOAD(INDEX(PARAM, offset)); a REDUCE keeps its place as
REDUCE(value, range…) and a FOLD as FOLD(inits, bodies) until lowering gives them accumulators.

Where a PAD or a GATHER may point outside of what is read, loads are guarded: LOAD(INDEX(PARAM, offset, valid), 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

from engine import dtype as dt
from engine import offsets
from engine.bounds import bounds
from engine.build import cast, const
from engine.errors import InvalidGraph
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, REDUCERS, HoleKind, Op
from engine.opts import TARGET_OUT, RangeType
from engine.ranges import Axis
from engine.shapes import Shape, shape_of
from engine.simplify import simplify

Index = tuple[UOp, ...]  # one int64 expression for each dimension
Guard = UOp | None  # where loads may be made; None: everywhere
Key = tuple[UOp, Index, Guard]
_ZERO = offsets.number(0)


@dataclass(frozen=True)
class Updates:
    """The second half of a SCATTER: in the order of `ranges`, `value` goes to element `offset` where `valid`."""

    how: str
    ranges: tuple[UOp, ...]
    offset: UOp
    valid: UOp
    value: UOp


@dataclass(frozen=True)
class Body:
    """A definition as scalar arithmetic over axis ranges.

    `value` is what is stored at element `offset` of the output, at every point of the output's axes.
    `reduces` are the REDUCE nodes under `value`, each behind those it reads, with their targets: a reduce of the
    kernel stands there once for each way it is indexed. `updates` come when all of the output is stored.
    """

    axes: tuple[Axis, ...]
    ranges: dict[Axis, UOp]
    value: UOp
    offset: UOp
    reduces: dict[UOp, str]
    updates: Updates | None = None

    def axes_under(self, node: UOp) -> frozenset[Axis]:
        """The axes that `node` depends on; not those that a REDUCE under it has summed over, or its own."""
        known = self.all_axes if node in self.all_axes else self.open_axes(node)
        return known[node]

    @cached_property
    def all_axes(self) -> dict[UOp, frozenset[Axis]]:
        """`axes_under` of every node of the value and of the offset."""
        return self.open_axes(self.value, self.offset)

    def open_axes(self, *nodes: UOp) -> dict[UOp, frozenset[Axis]]:
        """`axes_under` of the nodes and all below them."""
        axes = {range_: frozenset({axis}) for axis, range_ in self.ranges.items()}
        found: dict[UOp, frozenset[Axis]] = {}
        for node in toposort(*nodes):
            below = axes.get(node, frozenset()).union(*(found[source] for source in node.src))
            closed = (axis for axis in below if node.op is Op.REDUCE and self.ranges[axis] in node.src[1:])
            found[node] = below.difference(closed)
        return found

    def axes_inside(self, reduce: UOp) -> frozenset[Axis]:
        """The axes that a REDUCE's loops move: those it sums over, and those its result depends on."""
        return frozenset[Axis]().union(*map(self.axes_under, reduce.src))

    def axes_of(self, target: str) -> frozenset[Axis]:
        """The axes that the loops of a target move: the output's, or `axes_inside` of the reduce, however indexed."""
        return self._moved.get(target, frozenset())

    @cached_property
    def _moved(self) -> dict[str, frozenset[Axis]]:
        found = {TARGET_OUT: frozenset(axis for axis in self.axes if not axis.reduce)}
        for reduce, target in self.reduces.items():
            found[target] = found.get(target, frozenset()) | self.axes_inside(reduce)
        return found


@dataclass(frozen=True)
class Access:
    """How one load (or the store: slot -1) walks memory: elements per step of each axis, None if not constant."""

    slot: int
    itemsize: int
    strides: dict[Axis, int | None]


@lru_cache(maxsize=256)
def body(kernel: Kernel) -> Body:
    """Push the views of a definition down to its inputs. InvalidGraph if one REDUCE lies inside another's loops."""
    output = _ranges_of(TARGET_OUT, shape_of(kernel.output), 0, RangeType.LOOP)
    inner: dict[UOp, dict[Axis, UOp]] = {}
    ranges = dict(output)
    for number, reduce in enumerate(kernel.reduces):
        shape = tuple(shape_of(reduce.src[0])[axis] for axis in reduce.arg[1])
        inner[reduce] = _ranges_of(f"r{number}", shape, len(ranges), RangeType.REDUCE)
        ranges |= inner[reduce]
    pusher = _Pusher(inner)
    point = _point(output, TARGET_OUT, len(shape_of(kernel.output)))
    scatter = kernel.output if kernel.output.op is Op.SCATTER else None
    value = simplify(pusher.push(scatter.src[0] if scatter else kernel.output, point))
    offset = _flatten(point, shape_of(kernel.output))
    targets = {range_: axis.target for axis, range_ in ranges.items()}
    reduces = {node: targets[node.src[1]] for node in toposort(value) if node.op is Op.REDUCE}
    updates = _updates(pusher, scatter) if scatter else None
    found = Body(tuple(ranges), ranges, value, offset, reduces, updates)
    _check_nesting(found)
    return found


def _check_nesting(found: Body) -> None:
    """A REDUCE that depends on another's axes would be computed anew in each iteration of that one's loops."""
    for reduce, target in found.reduces.items():
        for axis in found.all_axes[reduce]:
            if axis.reduce:
                reason = (
                    f"REDUCE {target} lies inside the loops of {axis.target}: cut the kernel between them"
                )
                raise InvalidGraph(reason, "kernel")


def _updates(pusher: _Pusher, scatter: UOp) -> Updates:
    """Each update at a point of its own ranges (numbered below 0: lowering gives them their loops)."""
    start, index, updates = scatter.src
    how, axis = scatter.arg
    # The scattered axis outermost: duplicates meet in its order.
    order = [axis, *(i for i in range(len(shape_of(index))) if i != axis)]
    ranges: dict[int, UOp] = {
        i: UOp(Op.RANGE, dt.int64, (), (-1 - number, shape_of(index)[i], RangeType.LOOP))
        for number, i in enumerate(order)
    }
    point = tuple(ranges[i] for i in range(len(order)))
    place = cast(pusher.push(index, point), dt.int64)
    valid = _within(place, shape_of(start)[axis])
    target = tuple(place if i == axis else p for i, p in enumerate(point))
    offset = _flatten(target, shape_of(start))
    value = pusher.push(updates, point)
    offset, valid, value = (plain(simplify(node)) for node in (offset, valid, value))
    return Updates(how, tuple(ranges[i] for i in order), offset, valid, value)


@lru_cache(maxsize=256)
def accesses(kernel: Kernel) -> tuple[Access, ...]:
    """The store (first, slot -1) and every distinct load of the definition, by its strides along the axes."""
    found = body(kernel)
    loads = [node for node in toposort(found.value) if node.op is Op.LOAD]
    store = _access(found, -1, kernel.dtype.itemsize, found.offset)
    return (
        store,
        *(_access(found, n.src[0].src[0].arg[0], n.dtype.itemsize, n.src[0].src[1]) for n in loads),
    )


def _access(found: Body, slot: int, itemsize: int, offset: UOp) -> Access:
    strides = {axis: offsets.stride_along(offset, range_) for axis, range_ in found.ranges.items()}
    return Access(slot, itemsize, strides)


def _ranges_of(target: str, shape: Shape, first_id: int, type_: RangeType) -> dict[Axis, UOp]:
    """A range for each dimension that is not 1, numbered from `first_id`."""
    axes = [Axis(target, index, extent) for index, extent in enumerate(shape) if extent != 1]
    return {
        axis: UOp(Op.RANGE, dt.int64, (), (first_id + i, axis.extent, type_)) for i, axis in enumerate(axes)
    }


def _point(ranges: dict[Axis, UOp], target: str, length: int) -> Index:
    """The index of one element: the axes' ranges, 0 where the dimension is 1."""
    by_number = {axis.index: range_ for axis, range_ in ranges.items() if axis.target == target}
    return tuple(by_number.get(i, _ZERO) for i in range(length))


def _flatten(index: Index, shape: Shape) -> UOp:
    """The row-major element offset of `index`."""
    strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
    return offsets.total(offsets.multiply(i, s) for i, s in zip(index, strides, strict=True))


class _Pusher:
    """Builds the scalar graph of a node at an index; iterative, one result for each (node, index, guard)."""

    def __init__(self, inner: dict[UOp, dict[Axis, UOp]]) -> None:
        self._inner = inner
        self._built: dict[Key, UOp] = {}

    def push(self, root: UOp, index: Index, guard: Guard = None) -> UOp:
        stack: list[Key] = [(root, index, guard)]
        while stack:
            key = stack[-1]
            missing = [source for source in self._sources(*key) if source not in self._built]
            if missing:
                stack.extend(missing)
                continue
            self._built[key] = self._build(*key)
            stack.pop()
        return self._built[root, index, guard]

    def _sources(self, node: UOp, index: Index, guard: Guard) -> list[Key]:
        """What must be built before `node` can be; asked again until nothing of it is missing."""
        match node.op:
            case Op.PARAM | Op.CONST | Op.IOTA | Op.HOLE:
                return []
            case Op.RESHAPE | Op.PERMUTE | Op.EXPAND | Op.SHRINK | Op.FLIP:
                return [(node.src[0], _view_index(node, index), guard)]
            case Op.PAD:
                return [(node.src[0], *_padded(node, index, guard)[:2])]
            case Op.GATHER:
                return self._gather_sources(node, index, guard)
            case Op.REDUCE:
                return [(node.src[0], self._inside_reduce(node, index), guard)]
            case Op.GET | Op.CONTIGUOUS:
                return [(node.src[0], index, guard)]
            case Op.FOLD:
                return self._fold_sources(node, index, guard)
            case op if op in ELEMENTWISE:
                return [(source, index, guard) for source in node.src]
        raise InvalidGraph(f"{node.op.value} does not belong in a kernel's definition", "kernel")

    def _inside_reduce(self, node: UOp, index: Index) -> Index:
        """The index in the reduce's source: the outer index with the reduced axes' ranges put in."""
        outer = iter(index)
        numbers = {axis.index: range_ for axis, range_ in self._inner[node].items()}
        places = {axis: numbers.get(n, _ZERO) for n, axis in enumerate(node.arg[1])}
        return tuple(places[i] if i in places else next(outer) for i in range(len(shape_of(node.src[0]))))

    def _gather_sources(self, node: UOp, index: Index, guard: Guard) -> list[Key]:
        values, where = node.src
        first = (where, index, guard)
        if first not in self._built:
            return [first]
        place, inside = self._gathered(node, index, guard)
        there = tuple(place if axis == node.arg else i for axis, i in enumerate(index))
        return [(values, there, _both(guard, inside))]

    def _gathered(self, node: UOp, index: Index, guard: Guard) -> tuple[UOp, UOp]:
        """(where a GATHER reads along its axis, whether that is inside)."""
        place = cast(self._built[node.src[1], index, guard], dt.int64)
        return place, _within(place, shape_of(node.src[0])[node.arg])

    def _fold_sources(self, node: UOp, index: Index, guard: Guard) -> list[Key]:
        count = node.arg[2]
        step = (_step_of(node), *index)
        inits = [(source, index, guard) for source in node.src[:count]]
        xs = [(source, step, guard) for source in node.src[count:-count]]
        bodies = [(source, index, guard) for source in node.src[-count:]]
        return [*inits, *xs, *bodies]

    def _build(self, node: UOp, index: Index, guard: Guard) -> UOp:
        match node.op:
            case Op.CONST:
                return node
            case Op.PARAM:
                return _load(node, _flatten(index, node.arg[1]), guard)
            case Op.IOTA:
                return index[0]
            case Op.HOLE:
                return _scalar_hole(node)
            case Op.GET:
                return node.replace(src=(self._built[node.src[0], index, guard],))
            case Op.FOLD:
                return self._fold(node, index, guard)
        src = tuple(self._built[key] for key in self._sources(node, index, guard))
        match node.op:
            case Op.PAD:
                return _chosen(_padded(node, index, guard)[2], src[0])
            case Op.GATHER:
                return _chosen([self._gathered(node, index, guard)[1]], src[0])
            case Op.REDUCE:
                return self._reduce(node, src[0])
        return node.replace(src=src) if node.op in ELEMENTWISE or node.op is Op.CONTIGUOUS else src[0]

    def _fold(self, node: UOp, index: Index, guard: Guard) -> UOp:
        """FOLD(inits…, bodies…) with x at the step in place of its holes."""
        number, _, count = node.arg
        built = [self._built[key] for key in self._fold_sources(node, index, guard)]
        inits, xs, bodies = built[:count], built[count:-count], built[-count:]
        holes = {
            _scalar_hole(below): xs[below.arg[2]]
            for below in toposort(*node.src[-count:])
            if below.op is Op.HOLE and below.arg[:2] == (number, HoleKind.X)
        }
        return node.replace(src=(*inits, *(substitute(b, holes) for b in bodies)))

    def _reduce(self, node: UOp, value: UOp) -> UOp:
        op = node.arg[0]
        if any(axis.extent == 0 for axis in self._inner[node]):
            return identity(op, node.dtype)
        ranges = tuple(self._inner[node].values())
        return UOp(Op.REDUCE, node.dtype, (value, *ranges), (op, ())) if ranges else value


def plain(node: UOp) -> UOp:
    """Part of a body as it is computed: wishes for where to keep a value are gone."""
    done: dict[UOp, UOp] = {}
    for below in toposort(node):
        if below.op is Op.CONTIGUOUS:
            done[below] = substitute(below.src[0], done)
    return substitute(node, done) if done else node


def _view_index(node: UOp, index: Index) -> Index:
    """Where element `index` of a view lies in what is viewed."""
    old = shape_of(node.src[0])
    match node.op:
        case Op.RESHAPE:
            return _reshape_index(index, node.arg, old)
        case Op.PERMUTE:
            return tuple(index[node.arg.index(i)] for i in range(len(index)))
        case Op.EXPAND:
            return tuple(_ZERO if n == 1 else i for i, n in zip(index, old, strict=True))
        case Op.SHRINK:
            parts = zip(index, node.arg, strict=True)
            return tuple(
                offsets.add(offsets.multiply(i, step), offsets.number(start)) for i, (start, _, step) in parts
            )
    turned = zip(index, old, strict=True)  # FLIP
    return tuple(
        offsets.add(offsets.multiply(i, -1), offsets.number(n - 1)) if axis in node.arg else i
        for axis, (i, n) in enumerate(turned)
    )


def _padded(node: UOp, index: Index, guard: Guard) -> tuple[Index, Guard, list[UOp]]:
    """Of a PAD: (the index in its source, where that may be read, the conditions under which there is an element).

    An axis of one element is always read there, so it needs no guard.
    """
    inner, conditions = [], []
    for i, n, (low, high, between) in zip(index, shape_of(node.src[0]), node.arg, strict=True):
        if not (low or high or between):
            inner.append(i)
            continue
        place = simplify(offsets.add(i, offsets.number(-low)))
        step = offsets.number(between + 1)
        element = UOp(Op.IDIV, dt.int64, (place, step)) if between else place
        own = [simplify(c) for c in _conditions(place, element, n, between)]
        own = [c for c in own if c.op is not Op.CONST or not c.arg]
        inner.append(_ZERO if n == 1 else element)
        conditions += own
        if n != 1:
            for condition in own:
                guard = _both(guard, condition)
    return tuple(inner), guard, conditions


def _conditions(place: UOp, element: UOp, n: int, between: int) -> list[UOp]:
    found = [_at_least_0(place), UOp(Op.LT, dt.bool_, (element, offsets.number(n)))]
    if between:
        left = UOp(Op.MOD, dt.int64, (place, offsets.number(between + 1)))
        found.append(UOp(Op.EQ, dt.bool_, (left, _ZERO)))
    return found


def _at_least_0(place: UOp) -> UOp:
    return UOp(Op.LT, dt.bool_, (offsets.number(-1), place))


def _within(place: UOp, n: int) -> UOp:
    """Is it the number of one of `n` elements?"""
    below = UOp(Op.LT, dt.bool_, (place, offsets.number(n)))
    return below if bounds(place)[0] >= 0 else UOp(Op.AND, dt.bool_, (_at_least_0(place), below))


def _both(a: Guard, b: UOp) -> UOp:
    return b if a is None or a is b else UOp(Op.AND, dt.bool_, (a, b))


def _conjuncts(*conditions: UOp) -> dict[UOp, None]:
    """What must all hold, each once, in a fixed order."""
    found: dict[UOp, None] = {}
    stack = list(reversed(conditions))
    while stack:
        node = stack.pop()
        if node.op is Op.AND:
            stack.extend(reversed(node.src))
        else:
            found[node] = None
    return found


def _chosen(conditions: list[UOp], value: UOp) -> UOp:
    """`value` where the conditions hold, else 0; a load that is guarded by them gives that by itself."""
    needed = _conjuncts(*conditions)
    if value.op is Op.LOAD and len(value.src) == 2:
        known = _conjuncts(value.src[0].src[2])
        needed = {condition: None for condition in needed if condition not in known}
    for condition in needed:
        value = UOp(Op.WHERE, value.dtype, (condition, value, const(0, value.dtype)))
    return value


def _load(param: UOp, offset: UOp, guard: Guard) -> UOp:
    if guard is None:
        return UOp(Op.LOAD, param.dtype, (UOp(Op.INDEX, param.dtype, (param, offset)),))
    place = UOp(Op.INDEX, param.dtype, (param, offset, guard))
    return UOp(Op.LOAD, param.dtype, (place, const(0, param.dtype)))


def _scalar_hole(node: UOp) -> UOp:
    """A HOLE at one element: the step's is int64 as it is."""
    return node.replace(arg=(*node.arg[:3], ()))


def _step_of(fold: UOp) -> UOp:
    return UOp(Op.HOLE, dt.int64, (), (fold.arg[0], HoleKind.STEP, 0, ()))


def identity(op: Op, dtype: dt.DType) -> UOp:
    """The constant that a reduce with `op` starts from."""
    assert op in REDUCERS
    if op in (Op.ADD, Op.MUL):
        return UOp(Op.CONST, dtype, (), (float if dtype.is_float else int)(op is Op.MUL))
    if dtype.is_float:
        return UOp(Op.CONST, dtype, (), float("-inf" if op is Op.MAX else "inf"))
    return UOp(Op.CONST, dtype, (), dtype.low if op is Op.MAX else dtype.high)


def _reshape_index(index: Index, new: Shape, old: Shape) -> Index:
    """Where element `index` of the reshaped `new` lies in `old`: dimensions of 1 are dropped, then group by group.

    A group is the shortest run of dimensions with equal products on both sides; only inside one that differs
    is flattening and dividing needed.
    """
    if prod(new) == 0:
        return (_ZERO,) * len(old)
    left = [(i, n) for i, n in zip(index, new, strict=True) if n != 1]
    found: list[UOp] = []
    for group in _groups([n for n in old if n != 1], [n for _, n in left]):
        sizes, count = group
        taken, left = left[:count], left[count:]
        found.extend(_split_index(taken, sizes))
    rest = iter(found)
    return tuple(_ZERO if n == 1 else next(rest) for n in old)


def _groups(old: list[int], new: list[int]) -> list[tuple[list[int], int]]:
    """Runs of equal product: the sizes on the old side, and how many dimensions they are on the new side."""
    groups, sizes, count, product_old, product_new = [], list[int](), 0, 1, 1
    rest = iter(new)
    for size in old:
        sizes.append(size)
        product_old *= size
        while product_new < product_old:
            product_new *= next(rest)
            count += 1
        if product_new == product_old:
            groups.append((sizes, count))
            sizes, count, product_old, product_new = [], 0, 1, 1
    return groups


def _split_index(index: list[tuple[UOp, int]], sizes: list[int]) -> list[UOp]:
    if [n for _, n in index] == sizes:
        return [i for i, _ in index]
    flat = _flatten(tuple(i for i, _ in index), tuple(n for _, n in index))
    found, inner = [], prod(sizes)
    for number, size in enumerate(sizes):
        inner //= size
        part = flat if inner == 1 else UOp(Op.IDIV, dt.int64, (flat, offsets.number(inner)))
        found.append(part if number == 0 else UOp(Op.MOD, dt.int64, (part, offsets.number(size))))
    return found
