"""engine.ir: nodes are immutable and interned, and every walk is iterative."""

from __future__ import annotations

import copy
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from math import nan
from multiprocessing.reduction import ForkingPickler

import pytest

from engine import dtype as dt
from engine.build import const, param
from engine.dtype import DType
from engine.ir import UOp, consumers, print_graph, substitute, toposort
from engine.ops import Op

X = param(0, (2, 3), dt.float32)
Y = param(1, (2, 3), dt.float32)


def add(a: UOp, b: UOp) -> UOp:
    return UOp(Op.ADD, a.dtype, (a, b))


def test_equal_nodes_are_one_object() -> None:
    assert add(X, Y) is add(X, Y)
    assert add(X, Y) is not add(Y, X)


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0.0, -0.0), (False, 0)])
def test_constants_that_compare_equal_but_differ_are_different_nodes(one: object, other: object) -> None:
    assert UOp(Op.CONST, dt.float32, (), one) is not UOp(Op.CONST, dt.float32, (), other)


def test_nan_is_one_constant() -> None:
    assert UOp(Op.CONST, dt.float32, (), nan) is UOp(Op.CONST, dt.float32, (), float("nan"))


def test_a_node_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        X.op = Op.ADD


def test_nodes_nobody_holds_are_forgotten() -> None:
    gc.collect()
    before = len(UOp._interned)
    chain = add(const(0.123456, dt.float32), Y)  # that nobody else holds
    for _ in range(100):
        chain = add(chain, Y)
    assert len(UOp._interned) >= before + 100
    del chain
    gc.collect()
    assert len(UOp._interned) <= before


def test_toposort_gives_each_node_once_and_sources_first() -> None:
    shared = add(X, Y)
    root = add(shared, add(shared, X))
    order = toposort(root)
    assert len(order) == len(set(order)) == 5
    assert all(order.index(source) < order.index(node) for node in order for source in node.src)


def test_toposort_may_stop_below_a_node() -> None:
    inner = add(X, Y)
    assert toposort(add(inner, X), enter=lambda node: node is not inner) == [inner, X, add(inner, X)]


@pytest.mark.slow
def test_a_graph_far_deeper_than_pythons_stack_is_walked_rebuilt_and_freed() -> None:
    deep = X
    for _ in range(20_000):
        deep = add(deep, Y)
    assert len(toposort(deep)) == 20_002
    rebuilt = substitute(deep, {Y: X})
    assert rebuilt.src[1] is X
    del deep, rebuilt
    gc.collect()


def test_substitute_replaces_and_does_not_look_inside_the_replacement() -> None:
    root = add(X, Y)
    assert substitute(root, {X: add(X, X)}) is add(add(X, X), Y)
    assert substitute(root, {const(1.0, dt.float32): X}) is root


def test_consumers_lists_who_reads_each_node() -> None:
    shared = add(X, Y)
    root = add(shared, shared)
    assert consumers(toposort(root))[shared] == [root, root]


def test_a_printed_graph_numbers_its_nodes() -> None:
    lines = list(print_graph(add(X, Y)))
    assert len(lines) == 3
    assert "%0 %1" in lines[-1]


def test_threads_that_build_the_same_nodes_get_the_same_objects() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            built = list(pool.map(lambda _: [UOp(Op.CONST, dt.int64, (), n) for n in range(2000)], range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert all(len({id(node) for node in same}) == 1 for same in zip(*built, strict=True))


@pytest.mark.parametrize("dtype", [*dt.DTYPES.values(), dt.void], ids=str)
def test_there_is_one_dtype_of_each_name(dtype: DType) -> None:
    assert copy.deepcopy(dtype) is copy.copy(dtype) is dtype
    # a process that is spawned gets its arguments so
    assert ForkingPickler.loads(ForkingPickler.dumps(dtype)) is dtype
