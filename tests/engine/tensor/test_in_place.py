"""`+=` and its like, and methods in place: who sees the change, what is refused, and what a function under jit does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Tensor, dtypes, jit, no_grad
from engine.capture import Observer
from engine.cell import watched
from engine.errors import InvalidGraph
from engine.ir import toposort

OPERATORS: list[tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = [
    (operator.iadd, operator.add),
    (operator.isub, operator.sub),
    (operator.imul, operator.mul),
    (operator.itruediv, operator.truediv),
    (operator.ifloordiv, operator.floordiv),
    (operator.imod, operator.mod),
    (operator.ipow, operator.pow),
]
A, B = np.float32([[1, 2, 3], [4, 5, 6]]), np.float32([3, 2, 1])


@pytest.mark.parametrize(("changing", "plain"), OPERATORS)
@pytest.mark.parametrize("lazy", [False, True])
def test_an_operator_changes_its_tensor_and_its_views_and_no_other(
    changing: Any, plain: Any, lazy: bool
) -> None:
    x = Tensor(A) + 0 if lazy else Tensor(A)
    alias, before, row = x, x * 1, x[0]
    x = changing(x, Tensor(B))
    assert x is alias
    np.testing.assert_allclose(alias.numpy(), plain(A, B), rtol=1e-6)
    np.testing.assert_array_equal(before.numpy(), A)
    np.testing.assert_allclose(row.numpy(), plain(A, B)[0], rtol=1e-6)


def test_operators_of_bits_change_their_tensor() -> None:
    x = Tensor([12, 10])
    alias = x
    x &= 6
    x |= 1
    x ^= 3
    x <<= 2
    x >>= 1
    assert alias.tolist() == [((12 & 6 | 1) ^ 3) << 2 >> 1, ((10 & 6 | 1) ^ 3) << 2 >> 1]


def test_what_does_not_fit_is_refused_and_nothing_changes() -> None:
    whole, mask, row = Tensor([1, 2]), Tensor([True]), Tensor(B)
    for tensor, change, message in (
        (whole, lambda: whole.__itruediv__(2), "/=: the result is float32, which int64 cannot take"),
        (whole, lambda: whole.__iadd__(0.5), "cannot take"),
        (mask, lambda: mask.__iadd__(1), "which bool cannot take"),
        (row, lambda: row.__iadd__(Tensor(A)), r"shape \(2, 3\), and this tensor keeps its own, \(3,\)"),
        (row, lambda: row.add_(Tensor(A)), "keeps its own"),
    ):
        before = tensor.tolist()
        with pytest.raises(InvalidGraph, match=message):
            change()
        assert tensor.tolist() == before
    narrow = Tensor([1.0], dtype=dtypes.float16)
    narrow += Tensor([2.0], dtype=dtypes.float64)
    assert narrow.dtype is dtypes.float16


def test_a_leaf_is_changed_under_no_grad_only_and_stays_the_leaf() -> None:
    w = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(InvalidGraph, match="under no_grad"):
        w += 1
    with no_grad():
        w -= 0.5
    (w * w).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [1.0, 3.0]


def test_a_plain_tensor_that_takes_a_gradient_becomes_part_of_the_graph() -> None:
    w, total = Tensor([1.0, 2.0], requires_grad=True), Tensor([5.0, 5.0])
    total += w * 3
    total *= w
    total.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [5 + 6 * 1.0, 5 + 6 * 2.0]


class Counting(Observer):
    """Counts the ops of the kernels that are run while it watches."""

    count = 0

    def ran(self, step: Any, device: Any) -> None:
        """So many more."""
        self.count += len(toposort(step.kernel.output))


@pytest.mark.parametrize("start", ["data", "zeros", "drawn"])
def test_a_step_of_ones_own_computes_no_step_before_it_anew(start: str) -> None:
    w = {"data": Tensor(A), "zeros": Tensor.zeros(2, 3), "drawn": Tensor.rand(2, 3)}[start]
    w.requires_grad = True
    velocity = Tensor.zeros(2, 3)
    ops = []
    for _ in range(6):
        (w * w + w).sum().backward()
        with no_grad():
            velocity *= 0.5
            velocity += w.grad
            w -= velocity * 0.1
        w.grad = None
        counting = Counting()
        with watched(counting):
            (w + velocity).sum().item()
        ops.append(counting.count)
    assert ops[1:] == ops[1:2] * 5


def test_an_argument_of_a_function_under_jit_is_changed_in_every_call() -> None:
    count = Tensor([0.0])

    @jit
    def step(x: Tensor, by: Tensor) -> Tensor:
        nonlocal count
        x += by
        count += 1
        return x * 2

    x = Tensor([1.0])
    found = [step(x, Tensor([float(n)])).item() for n in range(5)]
    assert found == [2.0, 4.0, 8.0, 14.0, 22.0]
    assert (x.item(), count.item()) == (11.0, 5.0)


def test_shapes_change_in_place_too() -> None:
    x = Tensor(A)
    alias = x
    assert x.unsqueeze_(0).transpose_(1, 2).shape == (1, 3, 2)
    assert alias.squeeze_(0).t_().tolist() == A.tolist()
