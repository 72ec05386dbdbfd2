"""The pass that settles vector access: which loads and stores take a whole vector, and which go lane by lane.

A VEC range as a value is the int64 vector 0 … L-1. Whatever depends on it has L lanes, all else has one and is the same
in every lane; nothing depends on two of them. After the pass an INDEX says by its arg how many elements in a row it
means, its offset (of the first) has one lane, and its validity as many lanes as it has elements. An access whose lanes
are not in a row has become L scalar ones: lanes of an offset that is data are taken by LANE.
"""

from __future__ import annotations

from functools import reduce as fold

from engine import dtype as dt
from engine import offsets
from engine.affine import Affine, affine, rebuild
from engine.errors import VerifyError
from engine.ir import UOp, substitute, toposort
from engine.linearize import behind_after
from engine.offsets import is_lanes, number
from engine.ops import ELEMENTWISE, Op
from engine.simplify import simplify


def lanes_of(root: UOp) -> int:
    """How many lanes a kernel-level node's value has; an INDEX's are the elements it means. Iterative, remembered."""
    if root.lanes:
        return root.lanes
    if all(source.lanes for source in root.src):  # a graph is mostly asked about from its leaves on
        root.note("lanes", _rule(root))
        return root.lanes
    for node in toposort(root, enter=lambda n: not n.lanes):
        if not node.lanes:
            node.note("lanes", _rule(node))
    return root.lanes


def _rule(node: UOp) -> int:
    match node.op:
        case Op.RANGE:
            return int(node.arg[1]) if is_lanes(node) else 1
        case Op.VECTOR:
            return len(node.src)
        case Op.LANE:
            return 1
        case Op.AFTER:  # what it waits for does not count
            return node.src[0].lanes
        case Op.INDEX if node.arg is not None:
            return int(node.arg)
    return max((source.lanes for source in node.src), default=1)


def leading_lanes(mask: UOp) -> UOp | None:
    """How many leading lanes a settled mask holds for (int64, may be less than 0 or more than all); None if others."""
    return mask.src[1] if mask.op is Op.LT and is_lanes(mask.src[0]) and lanes_of(mask.src[1]) == 1 else None


def settle_lanes(root: UOp) -> UOp:
    """Every access of the kernel under the SINK `root` settled. VerifyError if a store's lanes share one element."""
    order = toposort(root)
    if not any(is_lanes(node) for node in order):
        return root
    settler = _Settler(order)
    for node in order:
        settler.settle(node)
    return settler.done[root]


class _Settler:
    """Rebuilds a graph sources first; `done` maps each old node to its new one."""

    def __init__(self, order: list[UOp]) -> None:
        self.done: dict[UOp, UOp] = {}
        self._vec = number(0)  # what the node that is being settled depends on
        self._vecs: dict[UOp, UOp] = {}
        self._steps: dict[tuple[UOp, UOp], tuple[UOp, int, int] | None] = {}
        for node in order:
            self._find_vec(node)
        self._wide = {
            behind_after(node.src[0]): self._vecs[node]
            for node in order
            if node.op is Op.INDEX and behind_after(node.src[0]).op is Op.ACC and node in self._vecs
        }

    def _find_vec(self, node: UOp) -> None:
        """Note which VEC range a value depends on. VerifyError if there are two: they may differ in lanes."""
        sources = () if node.op in (Op.END, Op.SINK) else node.src[:1] if node.op is Op.AFTER else node.src
        found = {self._vecs[source] for source in sources if source in self._vecs}
        if len(found) > 1:
            raise VerifyError("lanes", node.op.value, "depends on the lanes of two axes")
        if is_lanes(node) or found:
            self._vecs[node] = found.pop() if found else node

    @property
    def _lanes(self) -> int:
        return int(self._vec.arg[1])

    def settle(self, node: UOp) -> None:
        src = tuple(self.done[source] for source in node.src)
        if node.op in (Op.LOAD, Op.STORE):
            memory = behind_after(node.src[0].src[0])
            self._vec = self._wide.get(memory) or self._vecs.get(node, number(0))
        elif node in self._vecs:
            self._vec = self._vecs[node]
        new = node if src == node.src else node.replace(src=src)
        if node.op is Op.LOAD:
            new = self._load(new)
        elif node.op is Op.STORE:
            new = self._store(new)
        elif node.op is Op.LT:
            new = self._less(new)
        self.done[node] = new

    # -- accesses --------------------------------------------------------------------------------------------

    def _load(self, load: UOp) -> UOp:
        place = load.src[0]
        if behind_after(place.src[0]) in self._wide:
            return self._load_accumulator(load)
        if lanes_of(place) == 1:
            return self._load_of_one(load)
        settled = self._in_a_row(place)
        if settled is not None:
            return load.replace(src=(settled, *load.src[1:]))
        return UOp(Op.VECTOR, load.dtype, tuple(self._load_lane(load, q) for q in range(self._lanes)))

    def _load_of_one(self, load: UOp) -> UOp:
        """A load of one element; what stands for it where it is invalid may differ between lanes."""
        if len(load.src) == 1 or lanes_of(load.src[1]) == 1:
            return load
        place, other = load.src
        alone = load.replace(src=(place, _zero(load.dtype)))
        return UOp(Op.WHERE, load.dtype, (place.src[2], alone, other))

    def _load_lane(self, load: UOp, lane: int) -> UOp:
        place, *other = load.src
        parts = (self._place_of_lane(place, lane), *(self._lane(value, lane) for value in other))
        valid = parts[0].src[2:]
        if valid and valid[0].op is Op.CONST:
            return load.replace(src=(parts[0].replace(src=parts[0].src[:2]),)) if valid[0].arg else parts[1]
        return load.replace(src=parts)

    def _place_of_lane(self, place: UOp, lane: int) -> UOp:
        return place.replace(src=(place.src[0], *(self._lane(source, lane) for source in place.src[1:])))

    def _store(self, store: UOp) -> UOp:
        place, value = store.src
        if behind_after(place.src[0]) in self._wide or lanes_of(place) > 1:
            settled = self._in_a_row(place)
            if settled is not None:
                return store.replace(src=(settled, value))
        if lanes_of(place) == 1:
            if lanes_of(value) > 1:
                raise VerifyError("lanes", Op.STORE.value, "stores a vector's lanes into one element")
            return store
        stores = [
            store.replace(src=(self._place_of_lane(place, q), self._lane(value, q)))
            for q in range(self._lanes)
        ]
        return UOp(Op.SINK, dt.void, tuple(stores))

    def _load_accumulator(self, load: UOp) -> UOp:
        """All lanes of a vector accumulator, or one of them."""
        place = load.src[0]
        settled = self._in_a_row(place)
        if settled is not None:
            return load.replace(src=(settled,))
        if place.src[1].op is not Op.CONST:
            raise VerifyError("lanes", Op.INDEX.value, "the offset in an accumulator is no constant")
        slot, lane = divmod(place.src[1].arg, self._lanes)
        whole = place.replace(src=(place.src[0], number(slot * self._lanes)), arg=self._lanes)
        return UOp(Op.LANE, load.dtype, (load.replace(src=(whole,)),), lane)

    # -- lanes in a row --------------------------------------------------------------------------------------

    def _in_a_row(self, place: UOp) -> UOp | None:
        """The place as elements in a row; None if its lanes are not consecutive."""
        memory, offset, *valid = place.src
        start = self._start(offset) or self._start(offsets.in_loop_order(offset))
        if start is None:
            return None
        return place.replace(src=(memory, start, *(self._mask(part) for part in valid)), arg=self._lanes)

    def _start(self, offset: UOp) -> UOp | None:
        if offset is self._vec:
            return number(0)
        if offset.op is Op.ADD and offset.src[1] is self._vec and lanes_of(offset.src[0]) == 1:
            return offset.src[0]
        return None

    def _mask(self, valid: UOp) -> UOp:
        """A condition as a vector: `lane < n` if it holds for leading lanes only."""
        parts = _conjuncts(valid)
        alike = [part for part in parts if lanes_of(part) == 1]
        counts = [leading_lanes(part) for part in parts if lanes_of(part) > 1]
        if any(n is None for n in counts):
            return valid
        found = [n for n in counts if n is not None] or [number(self._lanes)]
        count = fold(lambda a, b: UOp(Op.MIN, dt.int64, (a, b)), found)
        if alike:
            all_alike = fold(lambda a, b: UOp(Op.AND, dt.bool_, (a, b)), alike)
            count = UOp(Op.WHERE, dt.int64, (all_alike, count, number(0)))
        return UOp(Op.LT, dt.bool_, (self._vec, count))

    def _less(self, less: UOp) -> UOp:
        """`base + lane < limit` as `lane < limit - base`: one comparison with the lanes' numbers."""
        a, limit = less.src
        if limit.op is not Op.CONST or a.dtype is not dt.int64 or lanes_of(a) == 1 or a is self._vec:
            return less
        sum_ = affine(a)
        if sum_ is None:
            return less
        others = tuple((node, k) for node, k in sum_.terms if node is not self._vec)
        if dict(sum_.terms).get(self._vec) != 1 or any(lanes_of(node) > 1 for node, _ in others):
            return less
        negated = tuple((node, -k) for node, k in others)
        count = rebuild(Affine(dt.int64, negated, limit.arg - sum_.offset))
        return UOp(Op.LT, dt.bool_, (self._vec, count))

    # -- single lanes ----------------------------------------------------------------------------------------

    def _lane(self, node: UOp, lane: int) -> UOp:
        """One lane of a value: computed alone where it comes from ranges, else taken from the vector."""
        if lanes_of(node) == 1:
            return node
        if node.op is Op.VECTOR:
            return node.src[lane]
        key = (node, self._vec)
        if key not in self._steps:
            self._steps[key] = self._step(node)
        found = self._steps[key]
        if found is not None:
            base, start, step = found
            return offsets.add(base, number(start + lane * step))
        if _is_index(node):
            return simplify(substitute(node, {self._vec: number(lane)}))
        return UOp(Op.LANE, node.dtype, (node,), lane)

    def _step(self, node: UOp) -> tuple[UOp, int, int] | None:
        """An offset in lane q as base + start + q · step: (base, start, step); None of any other value."""
        sum_ = affine(node) if node.dtype is dt.int64 else None
        if sum_ is None or any(lanes_of(term) > 1 for term, _ in sum_.terms if term is not self._vec):
            return None
        rest = tuple(pair for pair in sum_.terms if pair[0] is not self._vec)
        return rebuild(Affine(dt.int64, rest, 0)), sum_.offset, dict(sum_.terms).get(self._vec, 0)


def _is_index(node: UOp) -> bool:
    """Is it computed from ranges and constants alone?"""
    return all(below.op in ELEMENTWISE or below.op in (Op.RANGE, Op.CONST) for below in toposort(node))


def _conjuncts(condition: UOp) -> list[UOp]:
    found, stack = [], [condition]
    while stack:
        node = stack.pop()
        if node.op is Op.AND:
            stack.extend(reversed(node.src))
        else:
            found.append(node)
    return found


def _zero(dtype: dt.DType) -> UOp:
    return UOp(Op.CONST, dtype, (), False if dtype is dt.bool_ else 0.0 if dtype.is_float else 0)
