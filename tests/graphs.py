"""Seeded random graphs of the tensor level: every op on every dtype, ragged sizes, special values in the data.

The leaves' values are known, and each node is evaluated as it is added (tests.reference), so that a graph stays
where something is known of its result: a node that overflows, or compares what rounding decides, is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random

from engine.ir import UOp, consumers, substitute, toposort
from engine.ops import VIEWS, Op
from tests.growth import GROWTHS, WEIGHTS, Array, Graph, grow_leaf, reduction
from tests.reference import assert_close, by_numpy
from tests.vocabulary import EVERYTHING, MODEST, TENSORS, Vocabulary

__all__ = [
    "EVERYTHING",
    "MODEST",
    "TENSORS",
    "assert_close",
    "by_numpy",
    "histogram",
    "is_rich",
    "random_graph",
]

Leaf = Callable[[Array], UOp]
LEAVES = frozenset({Op.BUFFER, Op.PARAM, Op.CONST, Op.IOTA, Op.HOLE})


def random_graph(
    seed: int, leaf: Leaf, ops: int = 14, max_reduces: int = 4, vocabulary: Vocabulary = EVERYTHING
) -> UOp:
    """A graph of at least 12 ops with 2 or more reduces (as `max_reduces` allows), a view on each side of them.

    `leaf` makes a node that stands for an array; it is called once for each one that the graph reads. The same seed
    gives the same graph.
    """
    for attempt in count():
        graph = Graph(Random(f"{seed} {attempt}"), vocabulary)
        for _ in range(graph.random.randint(2, 4)):
            grow_leaf(graph)
        if _build(graph, ops, max_reduces):
            break
    root = graph.nodes[-1]
    read = [node for node in toposort(root) if node in graph.arrays]
    return substitute(root, {node: leaf(graph.arrays[node]) for node in read})


def _build(graph: Graph, ops: int, max_reduces: int) -> bool:
    """Add nodes until there are enough of all kinds; False if that does not come to pass."""
    added, reduces = 0, 0
    for _ in range(40 * ops):
        if added >= ops and is_rich(graph.nodes[-1], min(2, max_reduces)):
            return True
        name = graph.random.choices(list(GROWTHS), list(WEIGHTS))[0]
        if name == "reduction":
            reduces += reduces < max_reduces and graph.take(reduction(graph))
            continue
        if added >= ops:
            name = graph.random.choice(["binary", "binary", "joined", name])
        added += graph.take(GROWTHS[name](graph))
    return False


def is_rich(root: UOp, reduces: int) -> bool:
    """At least 12 ops and so many reduces, each with a view before and one behind it."""
    order = toposort(root)
    readers = consumers(order)
    moves = VIEWS | {Op.PAD}
    between = [
        n
        for n in order
        if n.op is Op.REDUCE and n.src[0].op in moves and any(r.op in moves for r in readers[n])
    ]
    return len(between) >= reduces and sum(n.op not in LEAVES for n in order) >= 12


def histogram(root: UOp) -> Counter[str]:
    """How often each op stands in the graph: REDUCE and SCATTER by what they do, dtypes as `dtype float16`."""
    found: Counter[str] = Counter()
    for node in toposort(root):
        how = f" {node.arg[0]}" if node.op in (Op.REDUCE, Op.SCATTER) else ""
        found[f"{node.op.value}{how}"] += 1
        found[f"dtype {node.dtype.name}"] += 1
    return found
