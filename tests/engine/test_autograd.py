"""Gradients as a user of Tensor meets them: leaves, backward, grad, detach and no_grad."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine.autograd import no_grad
from engine.errors import InvalidGraph
from engine.tensor import Tensor


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def leaf(data: object) -> Tensor:
    return Tensor(data, requires_grad=True)


def grad_of(tensor: Tensor) -> object:
    assert tensor.grad is not None
    return tensor.grad.tolist()


def test_backward_gives_each_leaf_its_gradient_and_adds_to_what_it_has() -> None:
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (x * y).sum().backward()
    assert (grad_of(x), grad_of(y)) == ([3.0, 4.0], [1.0, 2.0])
    (x * 10).sum().backward()
    assert (grad_of(x), grad_of(y)) == ([13.0, 14.0], [1.0, 2.0])


def test_a_gradient_flows_back_through_views_and_broadcasting() -> None:
    x = leaf([[1.0, 2.0, 3.0]])
    y = x.T.expand(3, 4).reshape(2, 6).permute(1, 0)
    (y * y).sum().backward()
    assert grad_of(x) == [[8.0, 16.0, 24.0]]


def test_computing_a_tensor_does_not_cut_it_off_from_its_leaves() -> None:
    x = leaf([1.0, 2.0])
    y = (x * x).realize()
    loss = (y * 3).sum()
    assert loss.item() == 15.0
    loss.backward()
    assert grad_of(x) == [6.0, 12.0]


def test_nothing_flows_through_detach_and_what_was_made_under_no_grad() -> None:
    x = leaf([2.0])
    with no_grad():
        held = x * x
    assert not held.requires_grad
    (x * held * x.detach()).sum().backward()
    assert grad_of(x) == [8.0]


def test_a_function_can_be_kept_from_recording() -> None:
    @no_grad()
    def twice(x: Tensor) -> Tensor:
        return x * 2

    x = leaf([1.0])
    assert not twice(x).requires_grad
    assert not twice(x).requires_grad
    assert (x * 2).requires_grad


def test_leaves_of_equal_values_are_different_leaves() -> None:
    x, y = Tensor.zeros(2).requires_grad_(), Tensor.zeros(2).requires_grad_()
    (x * 2 + y * 3).sum().backward()
    assert (grad_of(x), grad_of(y)) == ([2.0, 2.0], [3.0, 3.0])


def test_a_leaf_made_of_another_tensors_values_is_a_leaf_of_its_own() -> None:
    x = leaf([3.0])
    y = x.detach().requires_grad_()
    (x * y * y).sum().backward()
    assert (grad_of(x), grad_of(y)) == ([9.0], [18.0])


def test_requires_grad_says_whether_backward_leads_somewhere() -> None:
    x, plain = leaf([1.0]), Tensor([1.0])
    made = x + plain
    assert [t.requires_grad for t in (x, plain, made, made > 0, made.detach())] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert [t.is_leaf for t in (x, plain, made, made.detach())] == [True, True, False, True]
    x.requires_grad = False
    assert not (x + plain).requires_grad


def test_only_a_leaf_can_stop_to_require_gradients_and_only_floats_can_start() -> None:
    made = leaf([1.0]) * 2
    made.requires_grad = True  # it does already
    with pytest.raises(InvalidGraph, match="detach"):
        made.requires_grad = False
    with pytest.raises(InvalidGraph, match="only floats can require gradients, this is int64"):
        Tensor([1, 2]).requires_grad_()


def test_backward_of_many_numbers_asks_for_their_gradient() -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises(InvalidGraph, match=r"one number only, this has shape \(2,\)"):
        (x * x).backward()
    (x * x).backward(Tensor([1.0, 10.0]))
    assert grad_of(x) == [2.0, 40.0]
    with pytest.raises(InvalidGraph, match=r"\(3,\).*\(2,\)"):
        (x * x).backward(Tensor([1.0, 2.0, 3.0]))


def test_backward_without_a_leaf_says_so() -> None:
    with pytest.raises(InvalidGraph, match="nothing that this tensor is made of requires a gradient"):
        Tensor([1.0]).sum().backward()


def test_gradient_gives_derivatives_of_anything_also_higher_ones() -> None:
    x = Tensor([0.5, 2.0])
    y = x * x * x
    (first,) = y.sum().gradient(x)
    (second,) = first.sum().gradient(x)
    assert first.tolist() == [0.75, 12.0]
    assert second.tolist() == [3.0, 12.0]
    assert x.grad is None
    with pytest.raises(InvalidGraph, match=r"targets\[1\]"):
        y.sum().gradient(x, Tensor([1.0]))


def test_a_gradient_is_a_constant_to_what_is_made_of_it() -> None:
    x = leaf([1.0])
    (x * x).sum().backward()
    assert x.grad is not None
    assert not x.grad.requires_grad


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32, dt.float64])
def test_a_gradient_has_its_leafs_dtype(dtype: dt.DType) -> None:
    x = Tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    (x.cast(dt.float32) * 0.5).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype is dtype
    assert x.grad.numpy().astype(np.float64).tolist() == [0.5, 0.5]


def test_what_needs_no_gradient_lets_go_of_its_graph_when_it_is_computed() -> None:
    x = Tensor([1.0, 2.0])
    node = weakref.ref(x.node)
    y = (x * 2).realize()
    del x
    gc.collect()
    assert node() is None
    assert y.tolist() == [2.0, 4.0]


def test_a_leaf_stays_a_leaf_when_it_is_assigned_which_takes_no_history() -> None:
    x = leaf([1.0, 2.0])
    before = (x * x).sum()
    with pytest.raises(InvalidGraph, match="no_grad"):
        x.assign(x * 2)
    with no_grad():
        x.assign(x * 10)
    assert x.requires_grad
    (x * x).sum().backward()
    assert grad_of(x) == [20.0, 40.0]
    before.backward()  # of the values that it was made of
    assert grad_of(x) == [22.0, 44.0]


@pytest.mark.parametrize(
    ("values", "distance"),
    [([0.0, 0.0], lambda x: x.norm()), ([[2.0, 2.0, 2.0]], lambda x: x.std(1).sum())],
    ids=["norm", "std"],
)
def test_the_gradient_of_a_distance_of_zero_is_zero(
    values: Any, distance: Callable[[Tensor], Tensor]
) -> None:
    x = Tensor(values, requires_grad=True)
    found = distance(x)
    found.backward()
    assert x.grad is not None
    assert found.item() == 0.0
    assert not x.grad.numpy().any()


@pytest.mark.parametrize(
    ("base", "exponent", "wanted"),
    [
        ([1.0, 4.0], [1.5, 1.5], ([1.5, 3.0], [0.0, 8 * np.log(4)])),
        ([2.0, 2.0], [0.0, 1.0], ([0.0, 1.0], [np.log(2), 2 * np.log(2)])),
        ([1.0, 1.0], [2.0, -3.0], ([2.0, -3.0], [0.0, 0.0])),
    ],
)
def test_a_power_has_its_gradients_where_it_is_one(
    base: list[float], exponent: list[float], wanted: tuple[list[float], list[float]]
) -> None:
    a, b = Tensor(base, requires_grad=True), Tensor(exponent, requires_grad=True)
    (a**b).sum().backward()
    for tensor, slope in zip((a, b), wanted, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy(), slope, rtol=1e-6, atol=1e-7)
