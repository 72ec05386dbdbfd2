"""engine.serialize: one text for one kernel in every process, and nothing but kernels is read."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections import Counter
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.build import broadcast, cast, const, elementwise, fold, matmul, param, permute, reduce, reshape
from engine.errors import InvalidGraph
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.order import fresh_buffer, order
from engine.programs import PROGRAMS, program
from engine.runtime.interp import evaluate
from engine.serialize import MAX_NODES, kernel_from_json, kernel_hash, kernel_text, kernel_to_json
from engine.simplify import simplify_all
from engine.unfold import unfold
from tests.graphs import random_graph

SHAPES = {"gemm": (4, 5, 6), "reduce": (3, 7)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_kernel_survives_its_json(name: str) -> None:
    kernel = program(name, SHAPES.get(name, (2, 3)))
    assert kernel_from_json(json.loads(kernel_text(kernel))).output is kernel.output


@pytest.mark.parametrize("start", range(0, 100, 25))
@pytest.mark.slow
def test_kernels_of_random_graphs_survive_their_json(start: int) -> None:
    reduces: Counter[int] = Counter()
    for seed in range(start, start + 25):
        for kernel in random_kernels(seed):
            text = kernel_text(kernel)
            again = kernel_from_json(json.loads(text))
            assert kernel_text(again) == text, seed
            nodes = toposort(kernel.output)
            reduces[sum(node.op is Op.REDUCE for node in nodes)] += 1
            if not any(node.op is Op.FOLD for node in nodes):  # they are numbered anew
                assert again.output is kernel.output, seed
    assert min(reduces[0], reduces[1]) >= 25  # the other kinds are rare, and have tests of their own


def random_kernels(seed: int) -> list[Kernel]:
    root = random_graph(seed, lambda array: fresh_buffer(array.shape, dt.from_numpy(array.dtype)))
    return [step.kernel for step in order(unfold(simplify_all([root])))]


def test_the_hash_does_not_depend_on_the_numbers_of_folds() -> None:
    def kernel() -> Kernel:
        x = param(0, (4, 3), dt.int32)
        zero = const(0, dt.int32, (3,))
        (inner,) = fold(4, [zero], [x], lambda _, s, p: [elementwise(Op.ADD, s[0], p[0])])
        (outer,) = fold(4, [inner], [x], lambda _, s, p: [elementwise(Op.MAX, s[0], p[0])])
        return Kernel(outer)

    first, second = kernel(), kernel()
    assert first.output is not second.output
    assert kernel_text(first) == kernel_text(second)
    assert kernel_hash(kernel_from_json(json.loads(kernel_text(first)))) == kernel_hash(second)


def test_a_fold_within_a_fold_survives_and_means_the_same() -> None:
    kernel = Kernel(nested_folds(param(0, (3, 4), dt.int32)))
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    again = kernel_from_json(json.loads(kernel_text(kernel)))
    assert kernel_text(again) == kernel_text(kernel)
    assert evaluate(again, [x]) == evaluate(kernel, [x]) == sum(k * x[k].sum() for k in range(3))


def nested_folds(x: UOp) -> UOp:
    """Σ step · Σ x[step], the inner sum a FOLD in the body of the outer one."""

    def outer(step: UOp, states: tuple[UOp, ...], rows: tuple[UOp, ...]) -> list[UOp]:
        zero = const(0, dt.int32)
        (total,) = fold(4, [zero], [rows[0]], lambda _, s, p: [elementwise(Op.ADD, s[0], p[0])])
        return [elementwise(Op.ADD, states[0], elementwise(Op.MUL, total, cast(step, dt.int32)))]

    (found,) = fold(3, [const(0, dt.int32)], [x], outer)
    return found


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, 1e-45, 3.4028234663852886e38, inf, -inf, nan])
def test_float_constants_survive_bit_for_bit(value: float) -> None:
    kernel = Kernel(const(value, dt.float32))
    assert kernel_from_json(json.loads(kernel_text(kernel))).output is kernel.output


def test_constants_of_every_type_survive() -> None:
    for node in (const(True, dt.bool_), const(-(1 << 63), dt.int64), const(7, dt.int32)):
        assert kernel_from_json(kernel_to_json(Kernel(node))).output is node


def test_a_float_constant_is_its_float32() -> None:
    assert kernel_hash(Kernel(UOp(Op.CONST, dt.float32, (), 0.1))) == kernel_hash(
        Kernel(const(0.1, dt.float32))
    )


def test_the_hash_is_the_same_in_every_process() -> None:
    code = (
        "from engine.programs import program; from engine.serialize import kernel_hash;"
        "print(kernel_hash(program('gemm', (64, 32, 16))))"
    )
    run = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert run == [kernel_hash(program("gemm", (64, 32, 16)))] * 2


def test_the_hash_of_a_known_kernel_never_changes() -> None:
    wanted = "2ae1ea34ad9764badaae2dbf66ea97d32652d8a41e1c1024485d5ab2b6b7c57e"
    assert kernel_hash(program("gemm", (64, 32, 16))) == wanted


def test_the_text_does_not_depend_on_the_order_nodes_were_built_in() -> None:
    one_first = elementwise(
        Op.SUB, param(0, (3,), dt.float32), elementwise(Op.NEG, param(1, (3,), dt.float32))
    )
    text = kernel_text(Kernel(one_first))
    del one_first
    negated = elementwise(Op.NEG, param(1, (3,), dt.float32))
    assert kernel_text(Kernel(elementwise(Op.SUB, param(0, (3,), dt.float32), negated))) == text


def test_different_kernels_have_different_hashes() -> None:
    kernels = [program("gemm", (4, 5, 6)), program("gemm", (5, 4, 6)), program("gemm", (4, 5, 6), "int32")]
    kernels += [program("copy", (20,)), program("copy", (4, 5)), program("elementwise", (20,))]
    assert len({kernel_hash(kernel) for kernel in kernels}) == len(kernels)


# --------------------------------------------------------------------------------- strangers' documents

GOOD = kernel_to_json(program("reduce", (3, 4)))


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    document: Any = copy.deepcopy(GOOD)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (None, "kernel"),
        ([], "kernel"),
        ({}, "kernel"),
        ({**GOOD, "name": "x"}, "kernel"),
        (changed(["version"], 2), "version"),
        (changed(["version"], True), "version"),
        (changed(["nodes"], []), "nodes"),
        (changed(["nodes"], "x"), "nodes"),
        (changed(["nodes"], GOOD["nodes"] * MAX_NODES), "nodes"),
        (changed(["nodes", 0], "PARAM"), "nodes[0]"),
        (changed(["nodes", 0, 0], "BUFFER"), "nodes[0]"),
        (changed(["nodes", 0, 0], "CONTIGUOUS"), "nodes[0].arg"),
        (changed(["nodes", 0, 0], "RANGE"), "nodes[0]"),
        (changed(["nodes", 0, 0], "MULACC"), "nodes[0]"),
        (changed(["nodes", 0, 0], "CALL"), "nodes[0]"),
        (changed(["nodes", 0, 0], 3), "nodes[0]"),
        (changed(["nodes", 0, 1], "complex64"), "nodes[0]"),
        (changed(["nodes", 0, 1], "void"), "nodes[0]"),
        (changed(["nodes", 0, 1], []), "nodes[0]"),
        (changed(["nodes", 0, 2], [0]), "nodes[0].src"),
        (changed(["nodes", 1, 2], [1]), "nodes[1].src"),
        (changed(["nodes", 1, 2], [-1]), "nodes[1].src"),
        (changed(["nodes", 1, 2], [True]), "nodes[1].src"),
        (changed(["nodes", 1, 2], 0), "nodes[1].src"),
        (changed(["nodes", 1, 2], [0, 0]), "nodes[1]"),
        (changed(["nodes", 0, 3], [0]), "nodes[0].arg"),
        (changed(["nodes", 0, 3], [-1, [3, 4]]), "nodes[0].arg"),
        (changed(["nodes", 0, 3], [1, [3, 4]]), "nodes"),
        (changed(["nodes", 0, 3], [0, [3.0, 4]]), "nodes[0].arg"),
        (changed(["nodes", 0, 3], [0, [3, -4]]), "nodes[0].arg"),
        (changed(["nodes", 0, 3], [0, [1] * 17]), "nodes[0].arg"),
        (changed(["nodes", 0, 3], [0, [1 << 15, 1 << 15]]), "nodes[0]"),
        (changed(["nodes", 0, 3], [0, [1 << 50]]), "nodes[0].arg"),
        (changed(["nodes", 1, 3], ["SUB", [1]]), "nodes[1].arg"),
        (changed(["nodes", 1, 3], ["ADD", [2]]), "nodes[1]"),
        (changed(["nodes", 1, 3], ["ADD", [1, 1]]), "nodes[1]"),
        (changed(["nodes", 1, 3], None), "nodes[1].arg"),
        (changed(["nodes", 1], ["NEG", "float32", [0], 5]), "nodes[1].arg"),
        (changed(["nodes", 1], ["EXPAND", "float32", [0], [6, 4]]), "nodes[1]"),
        (changed(["nodes", 1], ["CONST", "float32", [], 1.5]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "float32", [], {"f": "1.5"}]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "float32", [], {"f": "0x1.999999999999ap-4"}]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "float32", [], {"f": "0x1p+1023"}]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "float32", [], {"f": "infinity"}]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "float32", [], {"f": "0x" + "1" * 9999}]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "float32", [], float("nan")]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "int32", [], True]), "nodes[1].arg"),
        (changed(["nodes", 1], ["CONST", "int32", [], 1 << 31]), "nodes[1]"),
        (changed(["nodes", 1], ["CONST", "bool", [], 1]), "nodes[1].arg"),
    ],
)
def test_a_bad_document_is_refused_naming_the_field(document: Any, field: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        kernel_from_json(document)
    assert caught.value.field == field


def test_nodes_nobody_reads_are_refused() -> None:
    with pytest.raises(InvalidGraph, match="different and used"):
        kernel_from_json(changed(["nodes"], [GOOD["nodes"][0], *GOOD["nodes"]]))


def test_a_reduction_inside_another_is_refused_both_ways() -> None:
    x = param(0, (3, 4), dt.float32)
    node = reduce(Op.MAX, reduce(Op.ADD, x, (1,)), (0,))
    with pytest.raises(InvalidGraph, match="r0 lies inside the loops of r1"):
        kernel_to_json(Kernel(node))
    document = kernel_to_json(Kernel(reduce(Op.ADD, x, (1,))))
    document["nodes"].append(["REDUCE", "float32", [1], ["MAX", [0]]])
    with pytest.raises(InvalidGraph, match="r0 lies inside the loops of r1"):
        kernel_from_json(document)


def test_two_reductions_beside_each_other_are_read_again() -> None:
    x = param(0, (3, 4), dt.float32)
    kernel = Kernel(elementwise(Op.SUB, reduce(Op.MAX, x, (1,)), reduce(Op.ADD, x, (1,))))
    assert kernel_from_json(kernel_to_json(kernel)) == kernel
    node = x
    for _ in range(33):
        node = elementwise(Op.SUB, x, broadcast(reshape(reduce(Op.ADD, node, (1,)), (3, 1)), (3, 4)))
    with pytest.raises(InvalidGraph, match="33 REDUCE nodes; a kernel has at most 32"):
        kernel_to_json(Kernel(node))


def test_one_slot_with_two_shapes_is_refused() -> None:
    a, b = param(0, (4,), dt.float32), reshape(param(0, (2, 2), dt.float32), (4,))
    with pytest.raises(InvalidGraph, match="slots"):
        kernel_to_json(Kernel(elementwise(Op.ADD, a, b)))


def test_an_expansion_nobody_could_compute_is_refused() -> None:
    huge = broadcast(reshape(param(0, (1,), dt.float32), (1, 1, 1)), (1 << 20, 1 << 20, 1 << 20))
    with pytest.raises(InvalidGraph, match="elements"):
        kernel_to_json(Kernel(reduce(Op.ADD, huge, (0, 1, 2))))


def test_a_whole_network_layer_is_one_small_document() -> None:
    x, w, b = param(0, (8, 16), dt.float32), param(1, (16, 4), dt.float32), param(2, (4,), dt.int32)
    biased = elementwise(Op.ADD, matmul(x, w), broadcast(cast(b, dt.float32), (8, 4)))
    kernel = Kernel(permute(elementwise(Op.MAX, biased, const(0.0, dt.float32, (8, 4))), (1, 0)))
    assert kernel_from_json(json.loads(kernel_text(kernel))).output is kernel.output
    assert len(kernel_text(kernel)) < 2000


# ------------------------------------------------------------------------------- strangers and the newer ops

# x (4, 3), moved: nodes 1 to 8; gathered and scattered: 11 and 14; a fold over the steps: 15 to 21.
MOVED: dict[str, Any] = {
    "version": 1,
    "nodes": [
        ["PARAM", "int32", [], [0, [4, 3]]],
        ["SHRINK", "int32", [0], [[0, 4, 2], [1, 3, 1]]],
        ["PAD", "int32", [1], [[1, 0, 0], [0, 0, 1]]],
        ["FLIP", "int32", [2], [0, 1]],
        ["IOTA", "int64", [], 3],
        ["RESHAPE", "int64", [4], [3, 1]],
        ["EXPAND", "int64", [5], [3, 3]],
        ["GATHER", "int32", [3, 6], 0],
        ["SCATTER", "int32", [3, 6, 7], ["add", 0]],
        ["HOLE", "int32", [], [0, "state", 0, [3]]],
        ["HOLE", "int32", [], [0, "x", 0, [3]]],
        ["XOR", "int32", [9, 10], None],
        ["CONST", "int32", [], 5],
        ["RESHAPE", "int32", [12], [1]],
        ["EXPAND", "int32", [13], [3]],
        ["FOLD", "void", [14, 8, 11], [0, 3, 1]],
        ["GET", "int32", [15], 0],
        ["BITCAST", "float32", [16], None],
    ],
}


def moved(number: int, part: int, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(MOVED)
    document["nodes"][number][part] = value
    return document


def test_the_document_with_the_newer_ops_is_a_kernel_and_comes_back() -> None:
    kernel = kernel_from_json(MOVED)
    assert kernel_to_json(kernel_from_json(kernel_to_json(kernel))) == kernel_to_json(kernel)
    assert evaluate(kernel, [np.ones((4, 3), np.int32)]).shape == (3,)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (moved(1, 3, [[0, 4, 2]]), "nodes[1]"),
        (moved(1, 3, [[0, 4], [1, 3]]), "nodes[1].arg"),
        (moved(1, 3, [[0, 4, 0], [1, 3, 1]]), "nodes[1]"),
        (moved(1, 3, [[0, 5, 1], [1, 3, 1]]), "nodes[1]"),
        (moved(1, 3, [[0, -4, 2], [1, 3, 1]]), "nodes[1].arg"),
        (moved(1, 3, {"0": 1}), "nodes[1].arg"),
        (moved(1, 3, [[0, 1, 1]] * 17), "nodes[1].arg"),
        (moved(2, 3, [[1, 0, 0], [0, 0, True]]), "nodes[2].arg"),
        (moved(2, 3, [[1 << 43, 0, 0], [0, 0, 1 << 20]]), "nodes[2]"),
        (moved(2, 3, [[1 << 60, 0, 0], [0, 0, 1]]), "nodes[2].arg"),
        (moved(3, 3, [0, 0]), "nodes[3]"),
        (moved(3, 3, [2]), "nodes[3]"),
        (moved(4, 3, -1), "nodes[4].arg"),
        (moved(4, 3, 3.0), "nodes[4].arg"),
        (moved(4, 3, 1 << 50), "nodes[4].arg"),
        (moved(4, 3, None), "nodes[4].arg"),
        (moved(4, 1, "int32"), "nodes[4]"),
        (moved(7, 3, 5), "nodes[7]"),
        (moved(7, 3, [0]), "nodes[7].arg"),
        (moved(7, 2, [3]), "nodes[7]"),
        (moved(7, 2, [6, 3]), "nodes[7]"),
        (moved(7, 2, [3, 6, 6, 6]), "nodes[7].src"),
        (moved(8, 3, ["min", 0]), "nodes[8].arg"),
        (moved(8, 3, [["add"], 0]), "nodes[8].arg"),
        (moved(8, 3, ["add"]), "nodes[8].arg"),
        (moved(8, 3, ["add", "0"]), "nodes[8].arg"),
        (moved(8, 3, ["add", 2]), "nodes[8]"),
        (moved(8, 2, [3, 7, 6]), "nodes[8]"),
        (moved(9, 3, [0, "STATE", 0, [3]]), "nodes[9].arg"),
        (moved(9, 3, [0, ["state"], 0, [3]]), "nodes[9].arg"),
        (moved(9, 3, [0, "state", 0]), "nodes[9].arg"),
        (moved(9, 3, [-1, "state", 0, [3]]), "nodes[9].arg"),
        (moved(9, 3, [0, "state", 0, [4]]), "nodes[11]"),
        (moved(9, 3, [0, "state", 1, [3]]), "nodes[15]"),
        (moved(9, 3, [7, "state", 0, [3]]), "nodes"),
        (moved(10, 3, [0, "x", 1, [3]]), "nodes[15]"),
        (moved(15, 3, [0, 3]), "nodes[15].arg"),
        (moved(15, 3, [0, 3, 0]), "nodes[15]"),
        (moved(15, 3, [0, 3, 2]), "nodes[15]"),
        (moved(15, 3, [0, 4, 1]), "nodes[15]"),
        (moved(15, 3, [0, True, 1]), "nodes[15].arg"),
        (moved(15, 3, [1, 3, 1]), "nodes"),
        (moved(15, 1, "int32"), "nodes[15]"),
        (moved(15, 2, [14, 8, 0]), "nodes[15]"),
        (moved(15, 2, [14, 8] + [11] * 600), "nodes[15].src"),
        (moved(15, 2, [14, 8, 8]), "nodes[15]"),
        (moved(15, 2, [9, 8, 11]), "nodes"),
        (moved(16, 3, 1), "nodes[16]"),
        (moved(16, 3, None), "nodes[16].arg"),
        (moved(16, 2, [8]), "nodes[16]"),
        (moved(16, 1, "int64"), "nodes[16]"),
        (moved(17, 1, "float64"), "nodes[17]"),
        (moved(17, 1, "bool"), "nodes[17]"),
        (moved(17, 1, "void"), "nodes[17]"),
        (moved(17, 2, [15]), "nodes[17]"),
        (moved(17, 3, "raw"), "nodes[17].arg"),
        (moved(17, 0, "ASSIGN"), "nodes[17]"),
        (moved(17, 0, "VECTOR"), "nodes[17]"),
    ],
)
def test_a_bad_document_with_newer_ops_is_refused_naming_the_field(document: Any, field: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        kernel_from_json(document)
    assert caught.value.field == field


def test_a_hole_outside_the_body_of_its_fold_is_refused() -> None:
    document = copy.deepcopy(MOVED)
    document["nodes"][17] = ["ADD", "int32", [16, 11], None]
    with pytest.raises(InvalidGraph, match="outside the body") as caught:
        kernel_from_json(document)
    assert caught.value.field == "nodes"


def test_an_output_without_a_value_is_refused() -> None:
    document = copy.deepcopy(MOVED)
    document["nodes"] = document["nodes"][:16]
    with pytest.raises(InvalidGraph, match="no value"):
        kernel_from_json(document)


def test_two_folds_of_one_number_are_refused() -> None:
    document = copy.deepcopy(MOVED)
    document["nodes"][17:] = [
        ["EXPAND", "int32", [13], [3]],
        ["FOLD", "void", [16, 8, 11], [0, 3, 1]],
        ["GET", "int32", [18], 0],
    ]
    document["nodes"][17] = ["NEG", "int32", [16], None]
    document["nodes"][18] = ["FOLD", "void", [17, 8, 11], [0, 3, 1]]
    with pytest.raises(InvalidGraph, match="number of its own"):
        kernel_from_json(document)


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, 17),
    st.integers(0, 3),
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 20) | st.sampled_from(["int32", "x", "FOLD", "ADD", 1.5]),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=6,
    ),
)
def test_whatever_is_put_into_a_document_it_is_refused_or_a_kernel_that_evaluates(
    number: int, part: int, value: Any
) -> None:
    try:
        kernel = kernel_from_json(moved(number, part, value))
    except InvalidGraph:
        return
    if all(n.op is not Op.FOLD or n.arg[1] < 100 for n in toposort(kernel.output)):
        evaluate(kernel, [np.ones(p.arg[1], p.dtype.numpy) for p in kernel.params])
