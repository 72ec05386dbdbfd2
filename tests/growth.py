"""How a random graph grows by one node, for each kind of op (see tests.graphs)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from random import Random
from typing import Any

import numpy as np

from engine import build
from engine import dtype as dt
from engine.build import broadcast, cast, const, elementwise, iota_along, reshape
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.ops import COMPARE, LEVELS, VIEWS, Op
from engine.shapes import Shape, shape_of
from engine.spec import Level, problem, shape_problem
from tests.exact import special_values
from tests.reference import Approx, evaluate, exact
from tests.vocabulary import Vocabulary

Array = np.ndarray[Any, np.dtype[Any]]
SIZES = (1, 1, 2, 3, 5, 7, 13)
LARGEST = 2500  # elements of a node


@dataclass
class Graph:
    """A random graph under construction: its nodes, what is known of their values, and who is not read yet."""

    random: Random
    vocabulary: Vocabulary
    arrays: dict[UOp, Array] = field(default_factory=dict)
    nodes: list[UOp] = field(default_factory=list)
    known: dict[UOp, Approx] = field(default_factory=dict)
    unread: dict[UOp, None] = field(default_factory=dict)

    def pick(self, test: Callable[[UOp], bool] = lambda node: True) -> UOp | None:
        """One of the nodes that pass: mostly one that nothing reads yet."""
        found = [node for node in self.nodes if test(node)]
        fresh = [node for node in self.unread if test(node)]
        return (
            self.random.choice(fresh if fresh and self.random.random() < 0.75 else found) if found else None
        )

    def take(self, node: UOp | None) -> bool:
        """Offer `node` to later ops, unless it is too large, out of the vocabulary, or nothing is known of it."""
        if node is None or node in self.known or not self._is_allowed(node):
            return False
        evaluate(node, self.known)
        if not _is_useful(self.known[node]):
            return False
        self.keep(node)
        return True

    def _is_allowed(self, node: UOp) -> bool:
        below = toposort(node, enter=lambda n: n not in self.known)
        for each in below:
            if each in self.known:
                continue
            if each.op not in self.vocabulary.ops | {Op.HOLE} or problem(each, Level.TENSOR):
                return False
            if shape_problem(each) or prod(shape_of(each)) > LARGEST or len(shape_of(each)) > 5:
                return False
        return True

    def keep(self, node: UOp) -> None:
        """Offer `node` to later ops, whatever it is."""
        self.nodes.append(node)
        for below in toposort(node):
            self.unread.pop(below, None)
        self.unread[node] = None

    def add_leaf(self, array: Array) -> UOp:
        """A node that stands for `array`."""
        dtype = dt.from_numpy(array.dtype)
        node = UOp(Op.PARAM, dtype, (), (len(self.arrays), array.shape))
        self.arrays[node] = array
        with np.errstate(all="ignore"):
            self.known[node] = exact(array.astype(np.float64) if dtype.is_float else array)
        return node


def _is_useful(found: Approx) -> bool:
    """Is most of it known, to a thousandth, and most of it finite?"""
    if found.value.size == 0:
        return True
    known = found.error == 0
    if found.value.dtype.kind == "f":
        with np.errstate(all="ignore"):
            known |= found.error <= 2e-3 * np.abs(found.value)
        if np.isfinite(found.value).mean() < 0.6:
            return False
    return bool(known.mean() >= 0.75)


# --------------------------------------------------------------------------------------------------------- leaves


def grow_leaf(graph: Graph) -> None:
    """An array of a random dtype and shape."""
    random = graph.random
    shape = tuple(random.choice(SIZES) for _ in range(random.randint(0, 3)))
    if random.random() < 0.05 and shape:
        shape = (0, *shape[1:])
    array = random_array(random, random.choice(graph.vocabulary.dtypes), shape)
    graph.keep(graph.add_leaf(array))


def random_array(random: Random, dtype: DType, shape: Shape, special: float = 0.3) -> Array:
    """Small numbers of a dtype, quarters or normal ones if floats; in some arrays a few special values."""
    rng = np.random.default_rng(random.randrange(1 << 30))
    values = rng.integers(-6, 7, shape)
    with np.errstate(all="ignore"):
        if dtype is dt.bool_:
            array = np.asarray(values > 0)
        elif dtype.is_float:
            wide = values / 4 if random.random() < 0.5 else rng.standard_normal(shape) * 2
            array = np.asarray(wide, np.float32).astype(dtype.numpy)
        else:
            array = np.asarray(np.abs(values) if dtype.is_unsigned else values).astype(dtype.numpy)
    if random.random() < special and array.size > 3:
        places = rng.random(shape) < 0.04
        array = np.where(places, rng.choice(special_values(dtype), shape), array).astype(dtype.numpy)
    return array


# ---------------------------------------------------------------------------------------------------- growing by one


def _computes(node: UOp) -> bool:
    return not node.dtype.is_storage


def _is_number(node: UOp) -> bool:
    return node.dtype is not dt.bool_ and _computes(node)


def _allowed(graph: Graph, *ops: Op) -> list[Op]:
    return [op for op in ops if op in graph.vocabulary.ops]


def _like(node: UOp, value: float) -> UOp:
    return const(value, node.dtype, shape_of(node))


def _clamped(x: UOp, low: float, high: float) -> UOp:
    return elementwise(Op.MIN, elementwise(Op.MAX, x, _like(x, low)), _like(x, high))


def _unary(graph: Graph) -> UOp | None:
    floats = graph.random.random() < 0.7
    x = graph.pick(lambda node: _computes(node) and (node.dtype.is_float or not floats))
    if x is None:
        return None
    if not x.dtype.is_float:
        return elementwise(Op.NOT if x.dtype is dt.bool_ else graph.random.choice([Op.NEG, Op.NOT]), x)
    op = graph.random.choice(_allowed(graph, Op.NEG, Op.EXP, Op.LOG, Op.SQRT, Op.SIN, Op.TRUNC))
    if op in (Op.LOG, Op.SQRT) and graph.random.random() < 0.8:
        x = elementwise(Op.MAX, x, elementwise(Op.NEG, x))
        x = elementwise(Op.ADD, x, _like(x, 0.5))
    if op is Op.SIN or (op is Op.EXP and graph.random.random() < 0.7):
        x = _clamped(x, -4.0, 4.0) if op is Op.EXP else _clamped(x, -300.0, 300.0)
    return elementwise(op, x)


def _broadcasts(a: UOp, b: UOp) -> bool:
    pairs = zip(shape_of(a)[::-1], shape_of(b)[::-1], strict=False)
    return all(n == m or 1 in (n, m) for n, m in pairs)


def _pair(graph: Graph) -> tuple[UOp, UOp] | None:
    """Two nodes of one dtype (one of them perhaps cast) and one shape."""
    a = graph.pick(_computes)
    if a is None:
        return None
    b = graph.pick(lambda node: node.dtype == a.dtype and node is not a and _broadcasts(node, a))
    if b is None or graph.random.random() < 0.2:
        other = graph.pick(lambda node: node is not a and _broadcasts(node, a))
        b = cast(other, a.dtype) if other is not None else b
    if b is None:
        return None
    shape = build.broadcast_shape(shape_of(a), shape_of(b))
    return broadcast(a, shape), broadcast(b, shape)


INTEGER_OPS = (Op.ADD, Op.SUB, Op.MUL, Op.IDIV, Op.MOD, Op.MAX, Op.MIN, Op.AND, Op.OR, Op.XOR, Op.SHL, Op.SHR)


def _binary(graph: Graph) -> UOp | None:
    pair = _pair(graph)
    if pair is None:
        return None
    a, b = pair
    if a.dtype is dt.bool_:
        ops = _allowed(graph, Op.AND, Op.OR, Op.XOR, Op.EQ, Op.NE)
    elif a.dtype.is_float:
        ops = _allowed(graph, Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN, Op.DIV, Op.DIV, Op.FMOD)
    else:
        ops = _allowed(graph, *INTEGER_OPS)
    op = graph.random.choice(ops)
    if op in (Op.SHL, Op.SHR) and graph.random.random() < 0.7:
        b = elementwise(Op.MOD, b, _like(b, a.dtype.bits - 1))
    return elementwise(op, a, b)


def _comparison(graph: Graph) -> UOp | None:
    pair = _pair(graph)
    if pair is None:
        return None
    ops = _allowed(graph, *sorted(COMPARE - ({Op.LT} if pair[0].dtype is dt.bool_ else set())))
    return elementwise(graph.random.choice(ops), *pair)


def _choice(graph: Graph) -> UOp | None:
    condition = graph.pick(lambda node: node.dtype is dt.bool_)
    pair = _pair(graph)
    if condition is None or pair is None or not _broadcasts(condition, pair[0]):
        return None
    shape = build.broadcast_shape(shape_of(condition), shape_of(pair[0]))
    return elementwise(Op.WHERE, *(broadcast(x, shape) for x in (condition, *pair)))


def _conversion(graph: Graph) -> UOp | None:
    x = graph.pick()
    assert x is not None
    return cast(x, graph.random.choice(graph.vocabulary.dtypes))


def _bits(graph: Graph) -> UOp | None:
    x = graph.pick(lambda node: node.dtype is not dt.bool_)
    same = [] if x is None else [d for d in graph.vocabulary.dtypes if d.itemsize == x.dtype.itemsize]
    same = [d for d in same if d is not dt.bool_]
    return None if x is None or not same else build.bitcast(x, graph.random.choice(same))


def _view(graph: Graph) -> UOp | None:
    x = graph.pick()
    return None if x is None else _viewed(graph, x)


def _viewed(graph: Graph, x: UOp) -> UOp | None:
    op = graph.random.choice(sorted((VIEWS | {Op.PAD}) & graph.vocabulary.ops))
    return _VIEWED[op](graph.random, x)


def _permuted(random: Random, x: UOp) -> UOp:
    axes = list(range(len(shape_of(x))))
    random.shuffle(axes)
    return build.permute(x, tuple(axes))


def _reshaped(random: Random, x: UOp) -> UOp:
    """Two neighbouring axes merged, an axis taken apart, an axis of 1 put in, or all flattened."""
    shape = shape_of(x)
    place = random.randrange(len(shape) + 1)
    options: list[Shape] = [(*shape[:place], 1, *shape[place:]), (prod(shape),)]
    if len(shape) >= 2:
        i = random.randrange(len(shape) - 1)
        options += 2 * [(*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :])]
    for i, n in enumerate(shape):
        options += [(*shape[:i], d, n // d, *shape[i + 1 :]) for d in range(2, n) if n % d == 0]
    return reshape(x, random.choice(options))


def _expanded(random: Random, x: UOp) -> UOp:
    shape = shape_of(x)
    ones = [i for i, n in enumerate(shape) if n == 1]
    if not ones or random.random() < 0.3:
        place = random.randrange(len(shape) + 1)
        x, ones = reshape(x, (*shape[:place], 1, *shape[place:])), [place]
    axis = random.choice(ones)
    return build.expand(
        x, tuple(random.choice((2, 3, 5)) if i == axis else n for i, n in enumerate(shape_of(x)))
    )


def _shrunk(random: Random, x: UOp) -> UOp:
    part = []
    for n in shape_of(x):
        start = random.randint(0, n // 3)
        part.append((start, random.randint(max(start, n - 2), n), random.choice((1, 1, 1, 2, 3))))
    return build.shrink(x, part)


def _flipped(random: Random, x: UOp) -> UOp:
    return build.flip(x, tuple(i for i in range(len(shape_of(x))) if random.random() < 0.6))


def _padded(random: Random, x: UOp) -> UOp:
    widths = [
        (random.choice((0, 0, 1, 3)), random.choice((0, 0, 1, 2)), random.choice((0, 0, 0, 1, 2)))
        for _ in shape_of(x)
    ]
    return build.pad(x, widths)


_VIEWED: dict[Op, Callable[[Random, UOp], UOp]] = {
    Op.PERMUTE: _permuted,
    Op.RESHAPE: _reshaped,
    Op.EXPAND: _expanded,
    Op.SHRINK: _shrunk,
    Op.FLIP: _flipped,
    Op.PAD: _padded,
}


def reduction(graph: Graph) -> UOp | None:
    """A reduce with a view before and a view behind it; half of the narrow floats are summed in float32."""
    x = graph.pick(lambda node: _computes(node) and shape_of(node) != ())
    x = None if x is None else _viewed(graph, x)
    if x is None or shape_of(x) == ():
        return None
    if x.dtype is dt.bool_:
        x = cast(x, graph.random.choice([d for d in graph.vocabulary.dtypes if d.is_int]))
    elif x.dtype in (dt.float16, dt.bfloat16) and graph.random.random() < 0.5:
        x = cast(x, dt.float32)
    if x.op not in VIEWS | {Op.PAD}:
        x = _permuted(graph.random, x) if len(shape_of(x)) > 1 else _reshaped(graph.random, x)
    axes = tuple(axis for axis in range(len(shape_of(x))) if graph.random.random() < 0.5) or (0,)
    ops = [Op.ADD, Op.ADD, Op.MUL] if 0 in shape_of(x) else [Op.ADD, Op.ADD, Op.ADD, Op.MUL, Op.MAX, Op.MIN]
    result = build.reduce(graph.random.choice(ops), x, axes)
    behind = _viewed(graph, result)
    return behind if behind is not None and behind is not result else _reshaped(graph.random, result)


def of_rows(graph: Graph) -> UOp | None:
    """Rows beside a total of each, as a softmax and a norm have them; half of the time twice."""
    x = graph.pick(lambda node: _is_number(node) and 0 not in shape_of(node) and shape_of(node)[-1:] > (1,))
    if x is None:
        return None
    for _ in range(graph.random.choice((1, 2))):
        last = len(shape_of(x)) - 1
        total = build.reduce(graph.random.choice((Op.ADD, Op.MAX, Op.MIN)), x, (last,))
        spread = broadcast(reshape(total, (*shape_of(total), 1)), shape_of(x))
        x = elementwise(graph.random.choice((Op.SUB, Op.ADD, Op.MAX)), x, spread)
    return x


def _counting(graph: Graph) -> UOp | None:
    """The numbers along an axis of some node, as a dtype."""
    x = graph.pick(lambda node: _is_number(node) and shape_of(node) != ())
    if x is None:
        return None
    numbers = iota_along(shape_of(x), graph.random.randrange(len(shape_of(x))))
    dtype = x.dtype if _is_number(x) else dt.int64
    return elementwise(Op.ADD, x, cast(numbers, dtype)) if graph.random.random() < 0.7 else numbers


def _index(graph: Graph, shape: Shape, n: int) -> UOp:
    """An index into an axis of `n`: arbitrary, some of it outside, or computed from the numbers along an axis."""
    dtype = graph.random.choice([d for d in graph.vocabulary.dtypes if d.is_int])
    if graph.random.random() < 0.6 or not shape:
        rng = np.random.default_rng(graph.random.randrange(1 << 30))
        low = 0 if dtype.is_unsigned else -1
        return graph.add_leaf(rng.integers(low, max(n + 1, low + 1), shape).astype(dtype.numpy))
    numbers = iota_along(shape, graph.random.randrange(len(shape)))
    scaled = elementwise(Op.MUL, numbers, const(graph.random.choice((1, 2, -1, 3)), dt.int64, shape))
    return cast(elementwise(Op.MOD, scaled, const(max(n, 1), dt.int64, shape)), dtype)


def _gathered(graph: Graph) -> UOp | None:
    x = graph.pick(lambda node: shape_of(node) != ())
    if x is None or Op.GATHER not in graph.vocabulary.ops:
        return None
    axis = graph.random.randrange(len(shape_of(x)))
    shape = tuple(graph.random.choice((1, 2, 4, 9)) if i == axis else n for i, n in enumerate(shape_of(x)))
    return build.gather(x, _index(graph, shape, shape_of(x)[axis]), axis)


def _scattered(graph: Graph) -> UOp | None:
    updates = graph.pick(lambda node: shape_of(node) != ())
    if updates is None or Op.SCATTER not in graph.vocabulary.ops:
        return None
    axis = graph.random.randrange(len(shape_of(updates)))
    n = graph.random.choice((1, 3, 6))
    shape = tuple(n if i == axis else m for i, m in enumerate(shape_of(updates)))
    how = graph.random.choice(("set", "add", "max") if _is_number(updates) else ("set",))
    start = graph.pick(lambda node: node.dtype == updates.dtype and _broadcasts_to(node, shape))
    found = broadcast(start, shape) if start is not None else const(0, updates.dtype, shape)
    return build.scatter(found, _index(graph, shape_of(updates), n), updates, axis, how)


def _broadcasts_to(node: UOp, shape: Shape) -> bool:
    try:
        broadcast(node, shape)
    except InvalidGraph:
        return False
    return True


def _folded(graph: Graph) -> UOp | None:
    """A small loop: a running mix of a state and what each step reads, perhaps with a second state."""
    xs = graph.pick(lambda node: _is_number(node) and len(shape_of(node)) > 0 and shape_of(node)[0] <= 5)
    if xs is None or Op.FOLD not in graph.vocabulary.ops:
        return None
    shape, random = shape_of(xs)[1:], graph.random
    half = const(0.5 if xs.dtype.is_float else 3, xs.dtype, shape)
    mix = random.choice((Op.ADD, Op.SUB, Op.MAX) if xs.dtype.is_float else (Op.ADD, Op.XOR, Op.MAX, Op.SUB))
    turn = tuple(reversed(range(len(shape)))) if shape == shape[::-1] else tuple(range(len(shape)))

    def body(step: UOp, states: tuple[UOp, ...], parts: tuple[UOp, ...]) -> list[UOp]:
        scaled = elementwise(Op.MUL, build.permute(states[0], turn), half)
        counted = broadcast(cast(step, xs.dtype), shape)
        second = elementwise(Op.ADD, states[1], counted)
        return [elementwise(mix, scaled, parts[0]), elementwise(Op.MAX, second, scaled)]

    one = const(1, xs.dtype, shape)
    start = graph.pick(lambda node: node.dtype == xs.dtype and shape_of(node) == shape)
    states = build.fold(shape_of(xs)[0], [start if start is not None else one, one], [xs], body)
    return random.choice([states[0], states[1], elementwise(Op.SUB, *states)])


def _joined(graph: Graph) -> UOp | None:
    """Two nodes whose shapes do not meet: one element of the one, with the whole of the other."""
    a, b = graph.pick(_computes), graph.pick(_computes)
    if a is None or b is None or a is b or 0 in shape_of(b):
        return None
    first = b
    if Op.SHRINK in graph.vocabulary.ops:
        first = build.shrink(b, [(graph.random.randrange(n), n, n) for n in shape_of(b)])
    elif prod(shape_of(b)) != 1:
        first = build.reduce(Op.MAX, b, tuple(range(len(shape_of(b))))) if _is_number(b) else b
    if prod(shape_of(first)) != 1:
        return None
    other = broadcast(cast(reshape(first, ()), a.dtype), shape_of(a))
    return elementwise(Op.XOR if a.dtype is dt.bool_ else Op.ADD, a, other)


def _boundary(graph: Graph) -> UOp | None:
    x = graph.pick()
    if x is None:
        return None
    level = graph.random.choice((None, *LEVELS))
    return UOp(Op.CONTIGUOUS, x.dtype, (x,), level) if level else UOp(Op.DETACH, x.dtype, (x,))


GROWTHS: dict[str, Callable[[Graph], UOp | None]] = {
    "unary": _unary,
    "binary": _binary,
    "comparison": _comparison,
    "choice": _choice,
    "conversion": _conversion,
    "bits": _bits,
    "view": _view,
    "reduction": reduction,
    "rows": of_rows,
    "counting": _counting,
    "gathered": _gathered,
    "scattered": _scattered,
    "folded": _folded,
    "joined": _joined,
    "boundary": _boundary,
}
WEIGHTS = (5, 6, 1, 2, 3, 1, 4, 4, 2, 1, 1, 2, 1, 1, 1)
