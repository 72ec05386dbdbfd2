"""Nothing recurses over a graph: it may be as deep as memory allows."""

from __future__ import annotations

import pytest

from engine import dtype as dt
from engine.build import const, elementwise
from engine.ir import UOp, print_graph, toposort
from engine.ops import Op
from engine.order import fresh_buffer, order
from engine.simplify import simplify_all
from engine.spec import Level, verify


def _chain(length: int) -> UOp:
    x, y = fresh_buffer((4,), dt.float32), fresh_buffer((4,), dt.float32)
    node = x
    for number in range(length):
        node = elementwise(Op.ADD if number % 2 else Op.MUL, node, y)
    return node


def _check(length: int) -> None:
    root = _chain(length)
    assert len(toposort(root)) == length + 2
    verify(root, Level.TENSOR, "build")
    (simple,) = simplify_all([root])
    verify(simple, Level.TENSOR, "simplify")
    steps = order([simple])
    assert sum(len(toposort(step.kernel.output)) - len(step.kernel.params) for step in steps) == length
    assert sum(1 for _ in print_graph(root)) == length + 2


@pytest.mark.slow
def test_a_graph_a_hundred_thousand_deep_is_walked_simplified_ordered_and_printed() -> None:
    _check(100_000)


@pytest.mark.soak
def test_a_graph_a_million_deep_is_walked_simplified_ordered_and_printed() -> None:
    _check(1_000_000)


@pytest.mark.slow
def test_constants_fold_along_a_deep_chain() -> None:
    node = const(1, dt.int64)
    for _ in range(20_000):
        node = elementwise(Op.ADD, node, const(1, dt.int64))
    (found,) = simplify_all([node])
    assert found is const(20_001, dt.int64)
