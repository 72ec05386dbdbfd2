"""engine.order: what fuses, what goes through memory, and that the steps compute the graph."""

from __future__ import annotations

import numpy as np
import pytest

from engine import dtype as dt
from engine.device import Interpreter
from engine.indexing import body
from engine.ir import UOp, toposort
from engine.ops import ELEMENTWISE, Op
from engine.order import MAX_OPS, MAX_TOTALS, ROW_BYTES, Step, fresh_buffer, order
from engine.programs import program
from engine.realize import elements, hold, realize
from engine.runtime.interp import evaluate
from engine.serialize import kernel_text
from engine.simplify import simplify_all
from engine.spec import Level, verify
from engine.tensor import Tensor
from tests.graphs import assert_close, by_numpy, random_graph


def tensor(*shape: int) -> Tensor:
    return Tensor._of(fresh_buffer(shape, dt.float32), "INTERP")


def steps_of(*tensors: Tensor) -> list[Step]:
    steps = order(simplify_all([t.node for t in tensors]))
    for step in steps:
        verify(step.kernel.output, Level.DEFINITION, "order")
        body(step.kernel)  # no REDUCE lies inside another's loops
        kernel_text(step.kernel)  # what is ordered can be serialized
    return steps


def test_elementwise_ops_and_views_are_one_kernel() -> None:
    x, y = tensor(3, 4), tensor(4, 3)
    assert len(steps_of(((x + y.T) * 2).relu().reshape(2, 6).exp())) == 1


def test_a_matrix_product_with_prologue_and_epilogue_is_one_kernel() -> None:
    x, w, b = tensor(3, 4), tensor(4, 5), tensor(5)
    (step,) = steps_of(((x + 1) @ w + b).relu())
    assert len(step.kernel.params) == len(step.inputs) == 3


def test_a_buffer_that_is_read_twice_is_one_input() -> None:
    x = tensor(3, 3)
    (step,) = steps_of(x @ x)
    assert step.inputs == (x.node,)


def test_two_layers_are_two_kernels() -> None:
    x, w, v = tensor(3, 4), tensor(4, 5), tensor(5, 6)
    first, second = steps_of((x @ w).relu() @ v)
    assert first.output in second.inputs
    assert first.kernel.output.op is Op.WHERE  # relu is in the first: the boundary lies behind it


def reduces_of(*tensors: Tensor) -> list[int]:
    """How many REDUCEs each step's kernel has."""
    return [len(step.kernel.reduces) for step in steps_of(*tensors)]


def test_totals_of_rows_and_what_is_computed_from_them_are_one_kernel() -> None:
    x, w = tensor(3, 4), tensor(4)
    assert reduces_of(x.softmax()) == reduces_of(x.log_softmax()) == [2]
    assert reduces_of(x.layer_norm((4,), w, w)) == [2]
    assert reduces_of(x.rms_norm((4,), w)) == [1]
    assert reduces_of(x.std(1)) == reduces_of(x.argmax(1)) == [2]
    assert reduces_of(tensor(2, 3, 4, 5).softmax(-1)) == [2]
    assert reduces_of(tensor(2, 3, 4, 5).layer_norm((4, 5), None, None)) == [2]


def test_totals_of_columns_go_through_memory() -> None:
    assert reduces_of(tensor(3, 4).softmax(0)) == [1, 1, 0]


def test_totals_of_rows_that_fit_no_cache_go_through_memory() -> None:
    longest = ROW_BYTES // 4
    assert reduces_of(tensor(4, longest).softmax()) == [2]
    assert reduces_of(tensor(4, longest + 1).softmax()) == [1, 1, 0]
    total = tensor(3, 4).sum()
    assert reduces_of(tensor(longest + 1) * total) == [1, 0]


def test_a_matrix_product_is_not_computed_for_each_total_of_its_rows() -> None:
    x, w = tensor(3, 4), tensor(4, 5)
    assert reduces_of((x @ w).softmax()) == [1, 2]
    assert reduces_of(x.softmax() @ w) == [2, 1]


def test_rows_that_are_read_across_go_through_memory() -> None:
    x = tensor(4, 4)
    copy = x.softmax().T.contiguous()
    assert reduces_of(copy) == [2, 0]
    assert reduces_of(x.softmax() + x.softmax().T) == [2, 0]
    assert reduces_of(x.softmax().sum(0)) == [2, 1]


def test_what_takes_several_expensive_ops_is_computed_once_for_all_totals_of_a_row() -> None:
    x = tensor(3, 4)
    assert reduces_of((x.exp() / 3).softmax()) == [0, 2]
    assert reduces_of(x.exp().softmax()) == [2]


def test_a_kernel_passes_over_its_rows_a_few_times_only() -> None:
    node = tensor(3, 4)
    for _ in range(3 * MAX_TOTALS):
        node = node - node.sum(1, keepdim=True)
    found = reduces_of(node)
    assert found == [MAX_TOTALS] * 3


def test_rows_of_reshaped_batches_stay_rows() -> None:
    x = tensor(6, 4)
    assert reduces_of(x.softmax().reshape(2, 3, 4) + tensor(2, 3, 4)) == [2]
    assert reduces_of(x.softmax().reshape(3, 8) + tensor(3, 8)) == [2, 0]


def test_a_reduce_whose_readers_meet_again_is_one_kernel() -> None:
    total = tensor(3, 4).sum(1)
    assert len(steps_of(total.exp() + total)) == 1
    assert len(steps_of((tensor(3, 4) @ tensor(4, 5)).gelu())) == 1


def test_a_reduce_with_readers_that_do_not_meet_goes_through_memory() -> None:
    total = tensor(3, 4).sum(1)
    assert len(steps_of(total.exp(), total.sin())) == 3
    square = tensor(4, 4) @ tensor(4, 4)
    assert len(steps_of(square.exp() + square.T)) == 2  # read at two places: it would be computed twice


def test_a_total_that_is_read_beside_its_rows_goes_through_memory() -> None:
    x = tensor(3, 4)
    total = x.sum(1, keepdim=True)
    assert len(steps_of(x - total)) == 1
    assert len(steps_of(x - total, total)) == 2


def test_totals_of_as_many_rows_are_one_kernel_whatever_their_lengths() -> None:
    x, y = tensor(3, 4), tensor(3, 5)
    assert len(steps_of(x.sum(1) + y.max(1))) == 1
    assert len(steps_of(x.sum(1) + tensor(5, 3).max(0))) == 2


def test_a_reduction_of_a_reduction_by_another_op_is_two_kernels_and_by_the_same_one() -> None:
    x = tensor(3, 4, 5)
    assert len(steps_of(x.sum(2).max(1))) == 2
    assert len(steps_of(x.sum(2).sum(1))) == 1


def test_an_expensive_op_is_not_repeated_by_an_expansion() -> None:
    x, w = tensor(3, 4), tensor(4, 5)
    assert len(steps_of(x.exp() @ w)) == 2
    assert len(steps_of((x * 2) @ w)) == 1


def test_contiguous_is_a_boundary() -> None:
    x = tensor(3, 4)
    assert len(steps_of((x + 1).contiguous() * 2)) == 2
    (copy,) = steps_of(x.T.contiguous())
    assert copy.kernel.output.op is Op.PERMUTE
    assert steps_of(x.contiguous()) == []


def test_roots_that_share_work_share_it() -> None:
    total = tensor(3, 4).sum(1)
    assert len(steps_of(total, total.exp())) == 2


def test_a_constant_needs_no_input() -> None:
    (step,) = steps_of(Tensor.zeros(3, 4, device="INTERP"))
    assert step.inputs == ()


def test_a_long_chain_is_cut_into_kernels_of_bounded_size() -> None:
    x, y = tensor(4), tensor(4)
    node = x
    for _ in range(1000):
        node = (node + y) * y
    steps = steps_of(node)
    sizes = [sum(n.op in ELEMENTWISE for n in toposort(step.kernel.output)) for step in steps]
    assert max(sizes) <= MAX_OPS
    assert 10 <= len(steps) <= 15


def test_shared_ops_count_once_however_often_they_are_read() -> None:
    node = tensor(4)
    for _ in range(60):
        node = node * node + node
    assert len(steps_of(node)) == 1


def test_a_wide_graph_is_cut_too() -> None:
    leaves = [tensor(4) for _ in range(512)]
    while len(leaves) > 1:
        leaves = [a + b for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
    steps = steps_of(leaves[0])
    assert max(sum(n.op in ELEMENTWISE for n in toposort(s.kernel.output)) for s in steps) <= MAX_OPS


def test_a_graph_far_deeper_than_pythons_stack_is_ordered_and_computed() -> None:
    node = hold(np.zeros(2, np.float32))
    one = hold(np.ones(2, np.float32))
    for _ in range(5_000):
        node = UOp(Op.ADD, dt.float32, (node, one))
    (result,) = realize([node], Interpreter())
    assert elements(result).tolist() == [5_000.0, 5_000.0]


def _compute(steps: list[Step], memory: dict[UOp, np.ndarray]) -> dict[UOp, np.ndarray]:
    found = {}
    for step in steps:
        memory[step.output] = evaluate(step.kernel, [memory[buffer] for buffer in step.inputs])
        found[step.node] = memory[step.output]
    return found


@pytest.mark.parametrize("start", range(0, 200, 50))
@pytest.mark.slow
def test_the_steps_of_random_graphs_compute_the_graph(start: int) -> None:
    for seed in range(start, start + 50):
        memory: dict[UOp, np.ndarray] = {}

        def leaf(array: np.ndarray, memory: dict[UOp, np.ndarray] = memory) -> UOp:
            buffer = fresh_buffer(array.shape, dt.from_numpy(array.dtype))
            memory[buffer] = array
            return buffer

        root = random_graph(seed, leaf, ops=20)
        if root.op is Op.BUFFER:
            continue
        wanted = by_numpy(root, memory)
        steps = order([root])
        for step in steps:
            body(step.kernel)
        assert_close(_compute(steps, memory)[root], wanted, seed)


def test_a_matrix_product_is_the_named_program_so_that_tuned_kernels_fit_it() -> None:
    (step,) = steps_of(tensor(3, 5) @ tensor(5, 4))
    assert step.kernel == program("gemm", (3, 4, 5))
