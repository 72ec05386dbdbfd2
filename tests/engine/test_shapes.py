"""engine.shapes: the shape of every op, and refusals that name both shapes and the rule."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.build import const, fold, iota, param
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import HoleKind, Op
from engine.shapes import Shape, shape_of
from tests.graphs import random_graph
from tests.reference import by_numpy

F = param(0, (2, 3), dt.float32)
ONE = param(1, (1, 3), dt.float32)
ROW = param(2, (3,), dt.float32)
EMPTY = param(3, (0, 3), dt.float32)
SCALAR = param(4, (), dt.float32)
INDEX = param(5, (4, 3), dt.int32)


def view(op: Op, node: UOp, arg: object) -> UOp:
    return UOp(op, node.dtype, (node,), arg)


GIVEN: list[tuple[UOp, Shape]] = [
    (F, (2, 3)),
    (UOp(Op.BUFFER, dt.int8, (), (7, (4, 0))), (4, 0)),
    (const(1.0, dt.float32), ()),
    (iota(5), (5,)),
    (iota(0), (0,)),
    (UOp(Op.HOLE, dt.int8, (), (0, HoleKind.STATE, 0, (2, 2))), (2, 2)),
    (view(Op.RESHAPE, F, (3, 1, 2)), (3, 1, 2)),
    (view(Op.RESHAPE, EMPTY, (5, 0, 7)), (5, 0, 7)),
    (view(Op.RESHAPE, SCALAR, (1, 1)), (1, 1)),
    (view(Op.PERMUTE, F, (1, 0)), (3, 2)),
    (view(Op.PERMUTE, SCALAR, ()), ()),
    (view(Op.EXPAND, ONE, (4, 3)), (4, 3)),
    (view(Op.EXPAND, ONE, (0, 3)), (0, 3)),
    (view(Op.SHRINK, F, ((0, 2, 1), (0, 3, 2))), (2, 2)),
    (view(Op.SHRINK, F, ((2, 2, 1), (1, 3, 9))), (0, 1)),
    (view(Op.FLIP, F, (0, 1)), (2, 3)),
    (view(Op.PAD, F, ((1, 2, 0), (0, 0, 2))), (5, 7)),
    (view(Op.PAD, EMPTY, ((1, 0, 5), (0, 0, 0))), (1, 3)),
    (view(Op.REDUCE, F, (Op.ADD, (0, 1))), ()),
    (view(Op.REDUCE, F, (Op.ADD, (1,))), (2,)),
    (view(Op.CONTIGUOUS, F, "global"), (2, 3)),
    (UOp(Op.GATHER, dt.float32, (F, INDEX), 0), (4, 3)),
    (UOp(Op.SCATTER, dt.float32, (F, INDEX, param(6, (4, 3), dt.float32)), ("set", 0)), (2, 3)),
    (UOp(Op.ASSIGN, dt.float32, (UOp(Op.BUFFER, dt.float32, (), (1, (2, 3))), F)), (2, 3)),
    (UOp(Op.ADD, dt.float32, (F, F)), (2, 3)),
    (fold(2, [ROW], [F], lambda _, s, p: [UOp(Op.ADD, dt.float32, (s[0], p[0]))])[0], (3,)),
]


@pytest.mark.parametrize(("node", "shape"), GIVEN, ids=[node.op.value for node, _ in GIVEN])
def test_every_op_has_its_shape(node: UOp, shape: Shape) -> None:
    assert shape_of(node) == shape


REFUSED: list[tuple[UOp, str]] = [
    (view(Op.RESHAPE, F, (7,)), "(2, 3) (6 elements) to (7,) (7)"),
    (view(Op.RESHAPE, F, (-2, -3)), "(2, 3) (6 elements) to (-2, -3)"),
    (view(Op.PERMUTE, F, (0,)), "(0,) are not an order of the 2 axes of (2, 3)"),
    (view(Op.PERMUTE, F, (0, 0)), "(0, 0)"),
    (view(Op.PERMUTE, F, (0, -1)), "(0, -1)"),
    (view(Op.EXPAND, F, (2, 4)), "cannot expand (2, 3) to (2, 4)"),
    (view(Op.EXPAND, F, (2, 3, 1)), "cannot expand (2, 3) to (2, 3, 1)"),
    (view(Op.EXPAND, ONE, (-4, 3)), "cannot expand (1, 3) to (-4, 3)"),
    (view(Op.SHRINK, F, ((0, 2, 1),)), "1 entries for the 2 axes of (2, 3)"),
    (view(Op.SHRINK, F, ((0, 2, 1), (0, 4, 1))), "[0:4:1] does not lie within an axis of 3"),
    (view(Op.SHRINK, F, ((1, 0, 1), (0, 3, 1))), "[1:0:1]"),
    (view(Op.SHRINK, F, ((-1, 2, 1), (0, 3, 1))), "[-1:2:1]"),
    (view(Op.SHRINK, F, ((0, 2, 0), (0, 3, 1))), "[0:2:0]"),
    (view(Op.FLIP, F, (2,)), "(2,) do not fit the shape (2, 3)"),
    (view(Op.FLIP, F, (0, 0)), "(0, 0)"),
    (view(Op.FLIP, F, (-1,)), "(-1,)"),
    (view(Op.PAD, F, ((0, 0, 0),)), "1 entries for the 2 axes of (2, 3)"),
    (view(Op.PAD, F, ((0, -1, 0), (0, 0, 0))), "negative"),
    (view(Op.REDUCE, F, (Op.ADD, (2,))), "(2,) do not fit the shape (2, 3)"),
    (view(Op.REDUCE, F, (Op.ADD, (1, 1))), "(1, 1)"),
    (UOp(Op.GATHER, dt.float32, (F, INDEX), 1), "values (2, 3) and index (4, 3)"),
    (UOp(Op.GATHER, dt.float32, (F, INDEX), 2), "along axis 2"),
    (UOp(Op.GATHER, dt.float32, (ROW, INDEX), 0), "values (3,) and index (4, 3)"),
    (UOp(Op.SCATTER, dt.float32, (F, INDEX, F), ("set", 0)), "index (4, 3) and updates (2, 3)"),
    (
        UOp(Op.SCATTER, dt.float32, (ROW, INDEX, param(6, (4, 3), dt.float32)), ("set", 0)),
        "(3,) and updates (4, 3)",
    ),
    (UOp(Op.SCATTER, dt.float32, (F, INDEX, param(6, (4, 3), dt.float32)), ("set", 1)), "along axis 1"),
    (
        UOp(Op.ASSIGN, dt.float32, (UOp(Op.BUFFER, dt.float32, (), (1, (3,))), F)),
        "cannot assign (2, 3) to (3,)",
    ),
    (UOp(Op.ADD, dt.float32, (F, ROW)), "(2, 3), (3,)"),
    (UOp(Op.SINK, dt.void), "not a tensor-level op"),
]


@pytest.mark.parametrize(
    ("node", "words"), REFUSED, ids=[f"{node.op.value} {node.arg}" for node, _ in REFUSED]
)
def test_shapes_that_do_not_fit_are_named(node: UOp, words: str) -> None:
    with pytest.raises(InvalidGraph, match=re.escape(words)) as caught:
        shape_of(node)
    assert node.op.value in str(caught.value)


def test_a_refusal_deep_in_a_graph_reaches_the_root() -> None:
    bad = view(Op.EXPAND, F, (2, 4))
    with pytest.raises(InvalidGraph, match="EXPAND"):
        shape_of(view(Op.REDUCE, view(Op.FLIP, bad, (0,)), (Op.ADD, (0,))))


def test_shapes_of_random_graphs_are_those_of_numpys_arrays() -> None:
    for seed in range(40):
        arrays = {}

        def leaf(array: object, arrays: dict = arrays) -> UOp:  # type: ignore[type-arg]
            node = param(len(arrays), array.shape, dt.from_numpy(array.dtype))  # type: ignore[attr-defined]
            arrays[node] = array
            return node

        root = random_graph(seed, leaf)
        assert shape_of(root) == by_numpy(root, arrays).value.shape


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 12), st.tuples(*[st.integers(0, 4)] * 3), st.data())
def test_a_padded_axis_shrinks_back_to_itself(
    n: int, widths: tuple[int, int, int], data: st.DataObject
) -> None:
    padded = view(Op.PAD, param(0, (n,), dt.int32), (widths,))
    low, high, between = widths
    total = shape_of(padded)[0]
    assert total == low + high + len(range(0, n + between * (n - 1), between + 1)) + between * max(n - 1, 0)
    back = view(Op.SHRINK, padded, ((low, total - high, between + 1),))
    assert shape_of(back) == (n,)
