"""From a definition to loops' point of view: views become index expressions over the axes' ranges.

The output's axes and the reduce's axes are the kernel's iteration space. Each view is pushed from the output
towards the PARAMs, so that what remains is arithmetic on LOAD(INDEX(PARAM, offset)); a REDUCE keeps its
place as REDUCE(value, range…) until lowering gives it accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from engine import dtype as dt
from engine import offsets
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, REDUCERS, Op
from engine.opts import TARGET_OUT, RangeType
from engine.ranges import Axis
from engine.shapes import Shape, shape_of
from engine.simplify import simplify

Index = tuple[UOp, ...]  # one int64 expression for each dimension
_ZERO = offsets.number(0)


@dataclass(frozen=True)
class Body:
    """A definition as scalar arithmetic over axis ranges.

    `value` is what is stored at element `offset` of the output, at every point of the output's axes.
    `reduces` are the REDUCE nodes under `value`: the one reduce of the kernel, once for each way it is indexed.
    """

    axes: tuple[Axis, ...]
    ranges: dict[Axis, UOp]
    value: UOp
    offset: UOp
    reduces: tuple[UOp, ...]

    def axes_under(self, node: UOp) -> frozenset[Axis]:
        """The axes that `node` depends on."""
        below = set(toposort(node))
        return frozenset(axis for axis, range_ in self.ranges.items() if range_ in below)


@dataclass(frozen=True)
class Access:
    """How one load (or the store: slot -1) walks memory: elements per step of each axis, None if not constant."""

    slot: int
    itemsize: int
    strides: dict[Axis, int | None]


@lru_cache(maxsize=256)
def body(kernel: Kernel) -> Body:
    """Push the views of a definition down to its inputs. InvalidGraph if it has more than one REDUCE."""
    if len(kernel.reduces) > 1:
        raise InvalidGraph(f"a kernel has at most one REDUCE, this one has {len(kernel.reduces)}: cut it")
    output = _ranges_of(TARGET_OUT, shape_of(kernel.output), 0, RangeType.LOOP)
    inner: dict[Axis, UOp] = {}
    for number, reduce in enumerate(kernel.reduces):
        shape = tuple(shape_of(reduce.src[0])[axis] for axis in reduce.arg[1])
        inner |= _ranges_of(f"r{number}", shape, len(output), RangeType.REDUCE)
    value = _Pusher(inner).push(kernel.output, _point(output, TARGET_OUT, len(shape_of(kernel.output))))
    value = simplify(value)
    ranges = output | inner
    offset = _flatten(_point(output, TARGET_OUT, len(shape_of(kernel.output))), shape_of(kernel.output))
    reduces = tuple(node for node in toposort(value) if node.op is Op.REDUCE)
    return Body(tuple(ranges), ranges, value, offset, reduces)


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
    """Builds the scalar graph of a node at an index; iterative, one result for each (node, index)."""

    def __init__(self, inner: dict[Axis, UOp]) -> None:
        self._inner = inner
        self._built: dict[tuple[UOp, Index], UOp] = {}

    def push(self, root: UOp, index: Index) -> UOp:
        stack = [(root, index)]
        while stack:
            key = stack[-1]
            needed = self._sources(*key)
            missing = [source for source in needed if source not in self._built]
            if missing:
                stack.extend(missing)
                continue
            self._built[key] = self._build(*key, tuple(self._built[source] for source in needed))
            stack.pop()
        return self._built[root, index]

    def _sources(self, node: UOp, index: Index) -> list[tuple[UOp, Index]]:
        match node.op:
            case Op.PARAM | Op.CONST:
                return []
            case Op.RESHAPE:
                return [(node.src[0], _reshape_index(index, node.arg, shape_of(node.src[0])))]
            case Op.PERMUTE:
                return [(node.src[0], tuple(index[node.arg.index(i)] for i in range(len(index))))]
            case Op.EXPAND:
                old = shape_of(node.src[0])
                return [(node.src[0], tuple(_ZERO if n == 1 else i for i, n in zip(index, old, strict=True)))]
            case Op.REDUCE:
                return [(node.src[0], self._inside_reduce(node, index))]
            case op if op in ELEMENTWISE:
                return [(source, index) for source in node.src]
        raise InvalidGraph(f"{node.op.value} does not belong in a kernel's definition", "kernel")

    def _inside_reduce(self, node: UOp, index: Index) -> Index:
        """The index in the reduce's source: the outer index with the reduced axes' ranges put in."""
        outer = iter(index)
        numbers = {axis.index: range_ for axis, range_ in self._inner.items()}
        places = {axis: numbers.get(n, _ZERO) for n, axis in enumerate(node.arg[1])}
        return tuple(places[i] if i in places else next(outer) for i in range(len(shape_of(node.src[0]))))

    def _build(self, node: UOp, index: Index, src: tuple[UOp, ...]) -> UOp:
        if node.op is Op.PARAM:
            place = UOp(Op.INDEX, node.dtype, (node, _flatten(index, node.arg[1])))
            return UOp(Op.LOAD, node.dtype, (place,))
        if node.op is Op.REDUCE:
            return self._reduce(node, src[0])
        return node if node.op is Op.CONST else node.replace(src=src) if node.op in ELEMENTWISE else src[0]

    def _reduce(self, node: UOp, value: UOp) -> UOp:
        op = node.arg[0]
        if any(axis.extent == 0 for axis in self._inner):
            return identity(op, node.dtype)
        ranges = tuple(self._inner.values())
        return UOp(Op.REDUCE, node.dtype, (value, *ranges), (op, ())) if ranges else value


def identity(op: Op, dtype: dt.DType) -> UOp:
    """The constant that a reduce with `op` starts from."""
    assert op in REDUCERS
    if op in (Op.ADD, Op.MUL):
        return UOp(Op.CONST, dtype, (), (float if dtype.is_float else int)(op is Op.MUL))
    sign = -1 if op is Op.MAX else 1
    if dtype.is_float:
        return UOp(Op.CONST, dtype, (), sign * float("inf"))
    limit = 1 << (8 * dtype.itemsize - 1)
    return UOp(Op.CONST, dtype, (), -limit if op is Op.MAX else limit - 1)


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
