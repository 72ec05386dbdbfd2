"""Seeded random graphs of the tensor level, and their values by plain NumPy on whole arrays.

The graphs stay where float32 and float64 agree: comparisons and float → int casts read inputs only, and what
amplifies rounding (division, logarithm, sine of large numbers) is kept away from its bad points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from random import Random

import numpy as np

from engine import dtype as dt
from engine.build import broadcast, broadcast_shape, cast, const, elementwise, permute, reduce, reshape
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.ops import Op
from engine.shapes import shape_of

Leaf = Callable[[np.ndarray], UOp]
SIZES = (1, 1, 2, 3, 5, 7)
REDUCERS = {Op.ADD: np.add, Op.MUL: np.multiply, Op.MAX: np.maximum, Op.MIN: np.minimum}


@dataclass
class Graph:
    """A random graph under construction: `nodes` may be read by the next op, `exact` floats are compared."""

    random: Random
    leaf: Leaf
    nodes: list[UOp] = field(default_factory=list)
    exact: set[UOp] = field(default_factory=set)
    reduces: int = 0

    def pick(self, test: Callable[[UOp], bool] = lambda node: True) -> UOp | None:
        """One of the nodes that pass, the latest three times as likely as any other."""
        found = [node for node in self.nodes if test(node)]
        return self.random.choice(found + found[-1:] * 3) if found else None

    def add(self, node: UOp | None) -> None:
        """Offer `node` to later ops, unless it is too large."""
        if node is not None and prod(shape_of(node)) <= 4000:
            self.nodes.append(node)


def random_graph(seed: int, leaf: Leaf, ops: int = 14, max_reduces: int = 3) -> UOp:
    """A graph of about `ops` ops; `leaf` makes a node that stands for an array."""
    graph = Graph(Random(seed), leaf)
    for _ in range(graph.random.randint(2, 4)):
        _add_leaf(graph)
    for _ in range(ops):
        kinds = [_unary, _binary, _binary, _view, _convert, _choose]
        kinds += [_reduction] * (graph.reduces < max_reduces)
        graph.add(graph.random.choice(kinds)(graph))
    return graph.nodes[-1]


def _add_leaf(graph: Graph) -> None:
    random = graph.random
    shape = tuple(random.choice(SIZES) for _ in range(random.randint(0, 3)))
    if random.random() < 0.06 and shape:
        shape = (0, *shape[1:])
    values = np.random.default_rng(random.randrange(1 << 30)).integers(-6, 7, shape)
    dtype = random.choice([dt.float32, dt.float32, dt.float32, dt.int32, dt.int64, dt.bool_])
    array = values > 0 if dtype is dt.bool_ else (values / (4 if dtype.is_float else 1)).astype(dtype.numpy)
    node = graph.leaf(array)
    graph.exact.add(node)
    graph.nodes.append(node)


def _is_float(node: UOp) -> bool:
    return node.dtype.is_float


def _is_number(node: UOp) -> bool:
    return node.dtype is not dt.bool_


def _like(node: UOp, value: float) -> UOp:
    return const(value, node.dtype, shape_of(node))


def _clamped(x: UOp, most: float) -> UOp:
    return elementwise(Op.MIN, elementwise(Op.MAX, x, _like(x, -most)), _like(x, most))


def _above_one(x: UOp) -> UOp:
    return elementwise(Op.ADD, elementwise(Op.MAX, x, elementwise(Op.NEG, x)), _like(x, 1))


def _unary(graph: Graph) -> UOp | None:
    x = graph.pick(_is_number)
    if x is None:
        return None
    op = graph.random.choice([Op.NEG, Op.EXP, Op.LOG, Op.SQRT, Op.SIN] if _is_float(x) else [Op.NEG, Op.NOT])
    if op in (Op.LOG, Op.SQRT):
        x = _above_one(x)
    elif op in (Op.EXP, Op.SIN):
        x = _clamped(x, 3.0)
    return elementwise(op, x)


def _pair(graph: Graph, dtype: DType | None = None) -> tuple[UOp, UOp] | None:
    a = graph.pick(lambda node: dtype is None or node.dtype == dtype)
    b = a and graph.pick(lambda node: node.dtype == a.dtype and _broadcasts(node, a))
    if a is None or b is None:
        return None
    shape = broadcast_shape(shape_of(a), shape_of(b))
    return broadcast(a, shape), broadcast(b, shape)


def _broadcasts(a: UOp, b: UOp) -> bool:
    pairs = zip(shape_of(a)[::-1], shape_of(b)[::-1], strict=False)
    return all(n == m or 1 in (n, m) for n, m in pairs)


def _binary(graph: Graph) -> UOp | None:
    pair = _pair(graph)
    if pair is None:
        return None
    a, b = pair
    if a.dtype is dt.bool_:
        return elementwise(graph.random.choice([Op.AND, Op.OR, Op.XOR, Op.EQ, Op.NE]), a, b)
    if a.dtype.is_int:
        ints = [Op.ADD, Op.SUB, Op.MUL, Op.IDIV, Op.MOD, Op.MAX, Op.MIN, Op.LT, Op.EQ, Op.AND, Op.OR, Op.XOR]
        return elementwise(graph.random.choice(ints), a, b)
    op = graph.random.choice([Op.ADD, Op.SUB, Op.MUL, Op.MAX, Op.MIN, Op.DIV])
    return elementwise(op, a, _above_one(b) if op is Op.DIV else b)


def _view(graph: Graph) -> UOp | None:
    x = graph.pick()
    assert x is not None
    shape = shape_of(x)
    axes = list(range(len(shape)))
    match graph.random.randrange(4):
        case 0:
            graph.random.shuffle(axes)
            return permute(x, tuple(axes))
        case 1:
            return reshape(x, (prod(shape),))
        case 2:
            place = graph.random.randint(0, len(shape))
            return reshape(x, (*shape[:place], 1, *shape[place:]))
    return broadcast(x, (graph.random.choice((2, 3)), *shape)) if len(shape) < 4 else None


def _convert(graph: Graph) -> UOp | None:
    dtype = graph.random.choice([dt.float32, dt.int32, dt.int64, dt.bool_])
    x = graph.pick(lambda node: not _is_float(node) or dtype.is_float or node in graph.exact)
    return None if x is None else cast(x, dtype)


def _choose(graph: Graph) -> UOp | None:
    condition = graph.pick(lambda node: node.dtype is dt.bool_)
    pair = _pair(graph)
    if condition is None or pair is None or not _broadcasts(condition, pair[0]):
        return None
    shape = broadcast_shape(shape_of(condition), shape_of(pair[0]))
    return elementwise(Op.WHERE, *(broadcast(x, shape) for x in (condition, *pair)))


def _reduction(graph: Graph) -> UOp | None:
    x = graph.pick(lambda node: _is_number(node) and len(shape_of(node)) > 0)
    if x is None:
        return None
    axes = [axis for axis in range(len(shape_of(x))) if graph.random.random() < 0.5] or [0]
    empty = 0 in shape_of(x)
    op = graph.random.choice([Op.ADD, Op.ADD] if empty else [Op.ADD, Op.ADD, Op.MAX, Op.MIN])
    graph.reduces += 1
    return reduce(op, x, tuple(axes))


# ------------------------------------------------------------------------------------- values by NumPy


@dataclass(frozen=True)
class Values:
    """The root's value (floats as float64) and the largest finite magnitude of any float on the way."""

    root: np.ndarray
    magnitude: float


def by_numpy(root: UOp, arrays: dict[UOp, np.ndarray]) -> Values:
    """Every node of the graph as a whole array, floats in float64."""
    values: dict[UOp, np.ndarray] = {}
    magnitude = 0.0
    with np.errstate(all="ignore"):
        for node in toposort(root):
            value = _value(node, [values[s] for s in node.src], arrays)
            values[node] = value
            if node.dtype.is_float and value.size:
                magnitude = max(magnitude, float(np.max(np.abs(value), where=np.isfinite(value), initial=0)))
    return Values(values[root], magnitude)


def _value(node: UOp, src: list[np.ndarray], arrays: dict[UOp, np.ndarray]) -> np.ndarray:
    wide = np.dtype(np.float64) if node.dtype.is_float else node.dtype.numpy
    if node in arrays:
        return arrays[node].astype(wide)
    match node.op:
        case Op.CONST:
            return np.asarray(node.arg, wide)
        case Op.RESHAPE:
            return src[0].reshape(node.arg)
        case Op.EXPAND:
            return np.broadcast_to(src[0], node.arg)
        case Op.PERMUTE:
            return np.transpose(src[0], node.arg)
        case Op.REDUCE:
            return REDUCERS[node.arg[0]].reduce(src[0], axis=node.arg[1], dtype=wide)
        case Op.CAST:
            return src[0].astype(wide)
        case Op.CONTIGUOUS:
            return src[0]
    return np.asarray(NUMPY[node.op](*src))


NUMPY: dict[Op, Callable[..., np.ndarray]] = {
    Op.NEG: lambda a: -a,
    Op.EXP: np.exp,
    Op.LOG: np.log,
    Op.SQRT: np.sqrt,
    Op.SIN: np.sin,
    Op.NOT: lambda a: ~a,
    Op.ADD: lambda a, b: a + b,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV: lambda a, b: a / b,
    Op.IDIV: lambda a, b: a // b,
    Op.MOD: lambda a, b: a % b,
    Op.MAX: np.maximum,
    Op.MIN: np.minimum,
    Op.LT: lambda a, b: a < b,
    Op.EQ: lambda a, b: a == b,
    Op.NE: lambda a, b: a != b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.TRUNC: np.trunc,
    Op.WHERE: np.where,
}


def assert_close(got: np.ndarray, wanted: Values, seed: object) -> None:
    """Equal for integers and bools; for floats within float32 rounding of the largest number on the way."""
    assert got.shape == wanted.root.shape, seed
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted.root, err_msg=str(seed))
        return
    bound = 2e-5 * (1.0 + wanted.magnitude)
    np.testing.assert_allclose(got, wanted.root, rtol=2e-5, atol=bound, err_msg=str(seed))
