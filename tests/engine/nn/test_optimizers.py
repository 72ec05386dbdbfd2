"""Optimizers against their formulas written out in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

import numpy as np
import pytest

from engine import dtype as dt
from engine import jit, nn
from engine.autograd import no_grad
from engine.errors import InvalidGraph
from engine.nn.optimizers import Optimizer
from engine.tensor import Tensor

STEPS = 6
Array = np.ndarray


def gradient_of(x: Array) -> Array:
    """Of Σ (x⁴ / 4 + x)."""
    return x**3 + 1


def follow(make: Callable[[list[Tensor]], Optimizer], start: Array) -> list[Array]:
    """The parameter after each step on Σ (x⁴ / 4 + x)."""
    x = Tensor(start, requires_grad=True)
    optimizer = make([x])
    found = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((x * x * x * x) * 0.25 + x).sum().backward()
        optimizer.step()
        found.append(x.numpy())
    return found


def by_sgd(
    start: Array, lr: float, momentum: float, dampening: float, decay: float, nesterov: bool
) -> list[Array]:
    x, running, found = start.copy(), None, []
    for _ in range(STEPS):
        g = gradient_of(x) + decay * x
        if momentum:
            running = g if running is None else momentum * running + (1 - dampening) * g
            g = g + momentum * running if nesterov else running
        x = x - lr * g
        found.append(x)
    return found


def by_adam(
    start: Array, lr: float, betas: tuple[float, float], eps: float, penalty: float, shrinking: float
) -> list[Array]:
    x, mean, square, found = start.copy(), np.zeros(start.shape), np.zeros(start.shape), []
    for step in range(1, STEPS + 1):
        g = gradient_of(x) + penalty * x
        x = x * (1 - lr * shrinking)
        mean = betas[0] * mean + (1 - betas[0]) * g
        square = betas[1] * square + (1 - betas[1]) * g * g
        spread = np.sqrt(square / (1 - betas[1] ** step)) + eps
        x = x - lr * (mean / (1 - betas[0] ** step)) / spread
        found.append(x)
    return found


START = np.array([0.3, -1.2, 0.9])


@pytest.mark.parametrize(
    ("momentum", "dampening", "decay", "nesterov"),
    [(0.0, 0.0, 0.0, False), (0.0, 0.0, 0.1, False), (0.9, 0.0, 0.0, False), (0.9, 0.3, 0.1, False), (0.9, 0.0, 0.1, True)],
)  # fmt: skip
def test_sgd_steps_by_its_formula(momentum: float, dampening: float, decay: float, nesterov: bool) -> None:
    got = follow(lambda p: nn.SGD(p, 0.05, momentum, dampening, decay, nesterov), START)
    np.testing.assert_allclose(got, by_sgd(START, 0.05, momentum, dampening, decay, nesterov), rtol=1e-12)


@pytest.mark.parametrize(("betas", "decay"), [((0.9, 0.999), 0.0), ((0.8, 0.95), 0.1), ((0.0, 0.9), 0.0)])
def test_adam_and_adamw_step_by_their_formulas(betas: tuple[float, float], decay: float) -> None:
    got = follow(lambda p: nn.Adam(p, 0.01, betas, 1e-8, decay), START)
    np.testing.assert_allclose(got, by_adam(START, 0.01, betas, 1e-8, decay, 0.0), rtol=1e-10)
    got = follow(lambda p: nn.AdamW(p, 0.01, betas, 1e-8, decay), START)
    np.testing.assert_allclose(got, by_adam(START, 0.01, betas, 1e-8, 0.0, decay), rtol=1e-10)


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32])
def test_a_parameter_and_its_state_stay_in_their_dtype(dtype: dt.DType) -> None:
    x = Tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    optimizer = nn.AdamW([x], lr=0.1)
    (x * x).sum().backward()
    optimizer.step()
    assert x.dtype is dtype
    assert {state.dtype for state in optimizer.state[x].values()} == {dtype}
    np.testing.assert_allclose(x.numpy().astype(np.float64), [0.899, 1.898], rtol=0.01)


def test_groups_have_options_of_their_own() -> None:
    x, y = (Tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = nn.SGD([{"params": [x]}, {"params": [y], "lr": 0.5}], lr=0.1)
    (x + y).sum().backward()
    optimizer.step()
    assert (round(x.item(), 6), y.item()) == (0.9, 0.5)
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    assert (round(x.item(), 6), y.item()) == (-0.1, 0.0)
    with pytest.raises(KeyError, match="there are lr, momentum"):
        optimizer.param_groups[0]["rate"] = 1.0


def test_a_parameter_without_a_gradient_stays() -> None:
    x, y = (Tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = nn.Adam([x, y], lr=0.1)
    x.sum().backward()
    optimizer.step()
    assert x.item() != 1.0
    assert y.item() == 1.0
    optimizer.zero_grad()
    assert x.grad is None


def test_the_loss_is_computed_with_the_step_and_costs_nothing_later() -> None:
    x = Tensor([3.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    nn.SGD([x], lr=0.1).step()
    assert "realized" in repr(loss)
    assert loss.item() == 9.0


@pytest.mark.parametrize("kind", [nn.SGD, nn.AdamW])
@pytest.mark.slow
def test_a_training_step_replayed_by_jit_trains_as_it_does_without(kind: type[Optimizer]) -> None:
    random = np.random.default_rng(0)
    examples = [(random.normal(size=(8, 4)), random.integers(0, 3, 8)) for _ in range(6)]

    def losses(
        wrapped: Callable[[Callable[[Tensor, Tensor], Tensor]], Callable[[Tensor, Tensor], Tensor]],
    ) -> list:
        model = nn.Sequential(
            nn.Linear(4, 5, dtype=dt.float64),
            nn.BatchNorm(5, dtype=dt.float64),
            nn.Linear(5, 3, dtype=dt.float64),
        )
        weights = np.random.default_rng(1)
        for parameter in model.parameters():
            with no_grad():
                parameter.assign(Tensor(weights.normal(size=parameter.shape)))
        optimizer = kind(model.parameters(), lr=0.05)
        rate = nn.StepLR(optimizer, step_size=2, gamma=0.5)

        def step(x: Tensor, classes: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = model(x).cross_entropy(classes)
            loss.backward()
            optimizer.step()
            return loss

        step, found = wrapped(step), []
        for x, classes in examples:
            found.append(step(Tensor(x), Tensor(classes)).item())
            rate.step()
        return [*found, *model.state_dict()["1.running_var"].tolist()]

    np.testing.assert_allclose(losses(jit), losses(lambda step: step), rtol=1e-12)


def test_what_cannot_be_stepped_is_refused() -> None:
    x = Tensor([1.0], requires_grad=True)
    for parameters, message in (
        ([], "no parameters"),
        ([Tensor([1.0])], r"parameters\[0\]"),
        ([x, x * 2], r"parameters\[1\]"),
        ([x, x], "twice"),
        ([{"params": [x], "rate": 1}], "no option rate; there are lr"),
    ):
        with pytest.raises(InvalidGraph, match=message):
            nn.SGD(parameters)
    with pytest.raises(InvalidGraph, match="nesterov"):
        nn.SGD([x], nesterov=True)


def test_learning_rates_follow_their_schedules() -> None:
    optimizer = nn.SGD([Tensor([1.0], requires_grad=True)], lr=0.8)
    by_steps = nn.StepLR(optimizer, step_size=2, gamma=0.5)
    rates = []
    for _ in range(5):
        by_steps.step()
        rates.append(optimizer.param_groups[0].lr)
    assert rates == [0.8, 0.4, 0.4, 0.2, 0.2]
    optimizer = nn.SGD([Tensor([1.0], requires_grad=True)], lr=0.8)
    by_cosine = nn.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.1)
    for step in range(1, 7):
        by_cosine.step()
        wanted = 0.1 + 0.7 * (1 + cos(pi * step / 4)) / 2
        assert optimizer.param_groups[0].lr == pytest.approx(wanted)
        assert optimizer.param_groups[0].rate.item() == pytest.approx(wanted)
