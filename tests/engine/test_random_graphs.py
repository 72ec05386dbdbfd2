"""Every backend on seeded random graphs, and that a graph finds what is wrong with one.

Graphs of 12 and more ops, two and more reduces with a view on each side, all dtypes, ragged and empty shapes, special
values. The definition is held against NumPy on whole arrays (tests.reference); a backend is run the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest

from engine import device
from engine import dtype as dt
from engine.build import param
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.ops import REDUCERS, SCATTERS, Op
from engine.realize import elements, hold, realize
from engine.runtime import interp
from tests.graphs import EVERYTHING, TENSORS, histogram, is_rich, random_graph
from tests.growth import Array
from tests.reference import Approx, assert_close, by_numpy, mismatches

pytestmark = pytest.mark.slow

# What runs everything: the definition, and devices by name. The compiled ones take longer: they are marked slow.
INTERPRETED = ("definition", "INTERP")
COMPILED = ("CPU:LLVM", "CPU:C")
GRAPHS = 500
QUICK = 150  # of them, in the quick part of the suite
SOAKED = 10_000  # of each backend, in tests of SOAK_CHUNK that may run at the same time
SOAK_CHUNK = 500
CHUNK = 50  # graphs of one test
STARTS = [
    pytest.param(start, marks=() if start < QUICK else pytest.mark.slow) for start in range(0, GRAPHS, CHUNK)
]


@dataclass(frozen=True)
class Case:
    """A random graph as a definition, its inputs in slot order, and what it must give."""

    root: UOp
    inputs: list[Array]
    wanted: Approx


@lru_cache(maxsize=QUICK)
def case(seed: int) -> Case:
    """The graph of a seed over PARAMs."""
    arrays: list[Array] = []

    def leaf(array: Array) -> UOp:
        arrays.append(array)
        return param(len(arrays) - 1, array.shape, dt.from_numpy(array.dtype))

    root = random_graph(seed, leaf)
    return Case(root, arrays, by_numpy(root, dict(zip(Kernel(root).params, arrays, strict=True))))


def defined(root: UOp, inputs: list[Array]) -> Array:
    """What the interpreter gives."""
    return interp.evaluate(Kernel(root), inputs)


def check_definition(seed: int) -> Counter[str]:
    """Hold one graph's definition against NumPy; the ops that were in it."""
    found = case(seed)
    assert is_rich(found.root, 2), seed
    assert_close(defined(found.root, found.inputs), found.wanted, seed)
    return histogram(found.root)


def check_device(name: str, seed: int) -> Counter[str]:
    """Hold one graph, realized on a device, against NumPy: simplified, cut into kernels, and run there."""
    arrays: dict[UOp, Array] = {}

    def leaf(array: Array) -> UOp:
        node = hold(array)
        arrays[node] = array
        return node

    root = random_graph(seed, leaf, vocabulary=TENSORS)
    (found,) = realize([root], device.get(name))
    assert_close(elements(found), by_numpy(root, arrays), f"{name} {seed}")
    return histogram(root)


def check(name: str, seed: int) -> Counter[str]:
    """Hold one graph against NumPy, by the definition or on a device."""
    return check_definition(seed) if name == "definition" else check_device(name, seed)


@pytest.mark.parametrize(
    "name", [*INTERPRETED, *(pytest.param(name, marks=pytest.mark.slow) for name in COMPILED)]
)
@pytest.mark.parametrize("start", STARTS)
def test_random_graphs_are_numpys(name: str, start: int) -> None:
    for seed in range(start, start + CHUNK):
        check(name, seed)


@pytest.mark.parametrize("seed", [2750, 3806])
def test_graphs_that_ask_for_nothing_of_something_are_numpys(seed: int) -> None:
    check_definition(seed)


# ----------------------------------------------------------------------------------------------------- the soak

WORDS = (
    {op.value for op in EVERYTHING.ops - {Op.REDUCE, Op.SCATTER}}
    | {f"REDUCE {op.value}" for op in REDUCERS}
    | {f"SCATTER {how}" for how in SCATTERS}
    | {f"dtype {name}" for name in dt.DTYPES}
)


# So many of each op in every test: a hundred and more in all tests of a backend.
LEAST = 100 * SOAK_CHUNK // SOAKED


@pytest.mark.soak
@pytest.mark.parametrize("start", range(GRAPHS, GRAPHS + SOAKED, SOAK_CHUNK))
@pytest.mark.parametrize("name", [*INTERPRETED, *COMPILED])
def test_thousands_of_random_graphs_hold_every_op_a_hundred_times(name: str, start: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(start, start + SOAK_CHUNK):
        seen += check(name, seed)
    print(
        f"{name}: {SOAK_CHUNK} graphs from seed {start}",
        *(f"{count:>8} {word}" for word, count in seen.most_common()),
        sep="\n",
    )
    assert {word: seen[word] for word in WORDS if seen[word] < LEAST} == {}, name


# ------------------------------------------------------------------------------------- a guard that can fail


def test_the_same_seed_gives_the_same_graph() -> None:
    assert _text(case(3).root) == _text(case(3).root)
    assert _text(case(3).root) != _text(case(4).root)


def _text(root: UOp) -> list[str]:
    """Its nodes in order, without the numbers that FOLDs are told apart by."""
    lines = []
    for node in toposort(root):
        arg = node.arg[1:] if node.op in (Op.FOLD, Op.HOLE) else node.arg
        lines.append(f"{node.op} {node.dtype} {[s.op.value for s in node.src]} {arg}")
    return lines


def test_the_first_graphs_hold_every_op_and_dtype() -> None:
    seen: Counter[str] = Counter()
    for seed in range(QUICK):
        seen += histogram(case(seed).root)
    assert {word for word in WORDS if seen[word] < 3} == set()


def test_most_of_every_result_is_known() -> None:
    shares = [found.wanted.known.mean() for found in map(case, range(100)) if found.wanted.value.size]
    assert min(shares) > 0.5
    assert np.mean(shares) > 0.98


@pytest.mark.slow
def test_one_element_wrong_by_a_hundredth_is_found() -> None:
    found, planted = 0, 0
    for seed in range(QUICK):
        each = case(seed)
        got = defined(each.root, each.inputs)
        sure = each.wanted.known & np.isfinite(got.astype(np.float64)) & (got.astype(np.float64) != 0)
        if not sure.any() or each.root.dtype.is_storage:  # 8-bit floats are coarser than a hundredth
            continue
        place = tuple(np.argwhere(sure)[seed % int(sure.sum())])
        wrong = got.copy()
        wrong[place] = got[place] * 1.01 if each.root.dtype.is_float else np.bitwise_xor(got[place], 1)
        planted += 1
        found += bool(mismatches(wrong, each.wanted).any())
    assert planted > 75
    assert found >= 0.95 * planted


MUTATIONS = {
    Op.ADD: Op.SUB,
    Op.MUL: Op.ADD,
    Op.MAX: Op.MIN,
    Op.SHL: Op.SHR,
    Op.IDIV: Op.MOD,
    Op.AND: Op.OR,
    Op.LT: Op.EQ,
    Op.EXP: Op.SIN,
    Op.TRUNC: Op.NEG,
    Op.DIV: Op.MUL,
}


@pytest.mark.parametrize("op", MUTATIONS)
def test_an_op_that_computes_another_is_found(op: Op) -> None:
    assert _is_found(op, lambda node: node.replace(op=MUTATIONS[op]))


MOVED: dict[Op, Callable[[UOp], UOp]] = {
    Op.FLIP: lambda node: node.src[0],
    Op.PAD: lambda node: node.replace(arg=tuple((high, low, between) for low, high, between in node.arg)),
    Op.GATHER: lambda node: node.replace(src=(node.src[0], UOp(Op.NEG, node.src[1].dtype, (node.src[1],)))),
    Op.SCATTER: lambda node: node.src[0],
    Op.GET: lambda node: node.src[0].src[node.arg],
}


@pytest.mark.parametrize("op", MOVED)
def test_an_op_that_moves_elsewhere_is_found(op: Op) -> None:
    assert _is_found(op, MOVED[op])


def _is_found(op: Op, mutate: Callable[[UOp], UOp]) -> bool:
    """Does some graph's result change if the last node of `op` is another?"""
    for seed in range(GRAPHS):
        each = case(seed)
        nodes = [node for node in _outside_folds(each.root) if node.op is op]
        if nodes and mutate(nodes[-1]).dtype == nodes[-1].dtype:
            changed = substitute(each.root, {nodes[-1]: mutate(nodes[-1])})
            inputs = [each.inputs[node.arg[0]] for node in Kernel(changed).params]
            if mismatches(defined(changed, inputs), each.wanted).any():
                return True
    return False


def _outside_folds(root: UOp) -> list[UOp]:
    inside = {
        below
        for node in toposort(root)
        if node.op is Op.FOLD
        for below in toposort(node)
        if below is not node
    }
    return [node for node in toposort(root) if node not in inside]
