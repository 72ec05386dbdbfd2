"""jit and modes: what is recorded while a model trains is not what runs when it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine import jit
from engine.autograd import no_grad
from engine.nn import BatchNorm2d, Dropout, Module, Sequential
from engine.tensor import Tensor


class Doubling(Module):
    """A user's own: it asks `self.training`."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice x while training."""
        return x * 2 if self.training else x


class Both(Module):
    """Asks its Dropout only while it trains itself."""

    def __init__(self) -> None:
        self.drop = Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x, with zeros while training."""
        return self.drop(x) if self.training else x


def zeros(x: Tensor) -> int:
    return int((x.numpy() == 0).sum())


@pytest.mark.parametrize("model", [Dropout(0.5), Sequential(Dropout(0.5)), Both()])
@pytest.mark.parametrize("first", [True, False])
def test_dropout_ends_with_eval_and_begins_again_with_train(model: Module, first: bool) -> None:
    run = jit(lambda x: model(x) + 0)
    x = Tensor.ones(1000)
    for mode in (first, not first, first, not first):
        model.train(mode)
        for _ in range(4):
            assert (zeros(run(x)) > 300) is mode
    assert len(run.plans) == 2


def test_a_mode_is_recorded_once_however_often_it_changes() -> None:
    calls: list[bool] = []
    model = Doubling()

    @jit
    def run(x: Tensor) -> Tensor:
        calls.append(model.training)
        return model(x)

    x = Tensor.ones(3)
    for mode in [True, False] * 5:
        model.train(mode)
        assert run(x).tolist() == [2.0 if mode else 1.0] * 3
    assert sorted(calls) == [False, False, True, True]


def test_what_tensor_train_says_is_part_of_the_mode() -> None:
    model = Dropout(0.5)
    run = jit(lambda x: model(x) + x.dropout(0.5) * 0)
    x = Tensor.ones(1000)
    before = Tensor.training
    try:
        for mode in (True, False, True, False):
            for _ in range(3):
                with Tensor.train(mode):
                    assert (zeros(run(x)) > 300) is mode
    finally:
        Tensor.training = before


def test_statistics_that_training_moves_stay_with_eval() -> None:
    model = BatchNorm2d(3)
    run = jit(lambda x: model(x))
    x = Tensor.randn(4, 3, 5, 5) * 3 + 1
    for _ in range(4):
        run(x)
    moved = model.running_mean.numpy()
    assert np.abs(moved).max() > 0.1
    model.eval()
    for _ in range(4):
        found = run(x)
    np.testing.assert_array_equal(model.running_mean.numpy(), moved)
    np.testing.assert_allclose(found.numpy(), model(x).numpy(), rtol=1e-5, atol=1e-5)


def test_a_function_that_sets_the_mode_itself_is_replayed() -> None:
    calls: list[int] = []
    model = Doubling()

    @jit
    def evaluated(x: Tensor) -> Tensor:
        calls.append(1)
        found = model.eval()(x)
        model.train()
        return found

    x = Tensor.ones(3)
    for _ in range(5):
        assert evaluated(x).tolist() == [1.0] * 3
    assert len(calls) == 2


def test_a_module_made_inside_is_no_new_mode_each_time() -> None:
    calls: list[int] = []

    @jit
    def run(x: Tensor) -> Tensor:
        calls.append(1)
        return Doubling()(x)

    for _ in range(6):
        assert run(Tensor.ones(3)).tolist() == [2.0] * 3
    assert len(calls) <= 3


def test_a_step_is_not_recorded_for_no_grad() -> None:
    weight = Tensor([1.0, 2.0], requires_grad=True)

    @jit
    def step(x: Tensor) -> Tensor:
        weight.grad = None
        loss = (weight * x).sum()
        loss.backward()
        return loss

    x = Tensor([3.0, 4.0])
    for _ in range(3):
        assert step(x).item() == 11
    with no_grad(), pytest.raises(Exception, match="gradient"):
        step(x)


@pytest.mark.parametrize("mode", [lambda model: model.train(), lambda model: model.eval()])
def test_modes_of_one_case_leave_another_as_it_was(mode: Callable[[Module], Module]) -> None:
    model = Doubling()
    run = jit(lambda x: model(x))
    for size in (3, 4, 3, 4, 3, 4):
        mode(model)
        wanted = 2.0 if model.training else 1.0
        assert run(Tensor.ones(size)).tolist() == [wanted] * size
    assert len(run.plans) == 2
