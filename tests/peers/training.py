"""What moves a training along is PyTorch's: schedulers of the learning rate, optimizers, recurrent layers.

Run it with a Python that has PyTorch and pytest, from the root: `python -m pytest --noconftest tests/peers/training.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engine import Tensor, nn

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


# ----------------------------------------------------------------------------------------------------- schedulers

SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "StepLR": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [2, 7], gamma=0.3),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "LambdaLR": lambda s, o: s.LambdaLR(o, [lambda n: 0.9**n, lambda n: 1 / (n + 1)]),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, total_iters=6),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.5, 4),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 9, 2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 8, eta_min=0.01),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, eta_min=0.01),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.4, total_steps=25),
    "OneCycleLR in lines": lambda s, o: s.OneCycleLR(
        o, 0.4, epochs=5, steps_per_epoch=6, anneal_strategy="linear", cycle_momentum=False
    ),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 12), s.ConstantLR(o, 0.2)], [4, 16]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_learning_rate_is_pytorchs_at_every_step(name: str) -> None:
    ours = nn.SGD(
        [
            {"params": [Tensor([1.0], requires_grad=True)]},
            {"params": [Tensor([1.0], requires_grad=True)], "lr": 0.3},
        ],
        lr=0.2,
    )
    theirs = torch.optim.SGD(
        [
            {"params": [torch.ones(1, requires_grad=True)]},
            {"params": [torch.ones(1, requires_grad=True)], "lr": 0.3},
        ],
        lr=0.2,
    )
    rate = SCHEDULES[name](nn.optim.lr_scheduler, ours)
    wanted = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    for _ in range(24):
        assert rate.get_last_lr() == pytest.approx(wanted.get_last_lr(), rel=1e-9, abs=1e-12)
        assert ours.param_groups[0]["momentum"] == pytest.approx(theirs.param_groups[0]["momentum"])
        rate.step()
        wanted.step()
    state, again = rate.state_dict(), SCHEDULES[name](nn.optim.lr_scheduler, ours)
    again.load_state_dict(state)
    if name != "OneCycleLR":  # which has no more than its 25 steps
        again.step()
        wanted.step()
        assert again.get_last_lr() == pytest.approx(wanted.get_last_lr(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"mode": "max", "threshold_mode": "abs", "cooldown": 2, "min_lr": 1e-3}]
)
def test_a_rate_that_waits_for_better_numbers_is_pytorchs(options: dict[str, Any]) -> None:
    ours = nn.SGD([Tensor([1.0], requires_grad=True)], lr=0.2)
    theirs = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.2)
    rate = nn.optim.lr_scheduler.ReduceLROnPlateau(ours, factor=0.3, patience=2, **options)
    wanted = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.3, patience=2, **options)
    for number in np.cumsum(np.random.default_rng(0).standard_normal(60)):
        rate.step(Tensor(number))
        wanted.step(number)
        assert rate.get_last_lr() == pytest.approx(wanted.get_last_lr())


# ----------------------------------------------------------------------------------------------------- optimizers

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "RMSprop": ("RMSprop", {"lr": 0.01, "weight_decay": 0.1}),
    "RMSprop, centered": ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.9, "alpha": 0.9}),
    "Adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_thirty_steps_and_a_restart_are_pytorchs(name: str) -> None:
    kind, options = OPTIMIZERS[name]
    start = normal(4, 3)
    ours, theirs = Tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    stepper, peer = (
        getattr(nn.optim, kind)([ours], **options),
        getattr(torch.optim, kind)([theirs], **options),
    )
    for number in range(30):
        x = normal(5, 4) * (1 + number % 3)
        for weights, optimizer, made in ((ours, stepper, Tensor), (theirs, peer, torch.tensor)):
            optimizer.zero_grad()
            ((made(x) @ weights) ** 2).mean().backward()
            optimizer.step()
        if number == 15:
            state, ours = stepper.state_dict(), Tensor(ours.numpy(), requires_grad=True)
            stepper = getattr(nn.optim, kind)([ours], **options)
            stepper.load_state_dict(state)
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------------------ recurrent layers

LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "RNN": (lambda n: n.RNN(3, 4, nonlinearity="relu"), (5, 2, 3)),
    "LSTM": (lambda n: n.LSTM(3, 4), (5, 2, 3)),
    "LSTM, deep": (lambda n: n.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True), (2, 5, 3)),
    "LSTM of one": (lambda n: n.LSTM(3, 4, 2, bias=False), (5, 3)),
    "GRU": (lambda n: n.GRU(3, 4, 2, bidirectional=True), (5, 2, 3)),
    "GRU, batch first": (lambda n: n.GRU(3, 4, batch_first=True), (2, 5, 3)),
}


def flat(found: Any) -> list[Any]:
    return [part for one in found for part in flat(one)] if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_is_pytorchs(name: str, starts: bool) -> None:
    make, shape = LAYERS[name]
    ours, theirs = make(nn), make(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({key: torch.tensor(t.numpy()) for key, t in ours.state_dict().items()})
    x = normal(*shape)
    given: list[Any] = [[], []]
    if starts:
        ended = theirs(torch.tensor(x))[1]
        states = [normal(*state.shape) for state in flat(ended)]
        for place, made in enumerate((Tensor, torch.tensor)):
            both = tuple(made(state) for state in states)
            given[place] = [both if isinstance(ended, tuple) else both[0]]
    got, wanted = flat(ours(Tensor(x), *given[0])), flat(theirs(torch.tensor(x), *given[1]))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
    sum((a * Tensor(normal(*a.shape))).sum() for a in got).backward()
    sum((b * torch.tensor(normal(*b.shape))).sum() for b in wanted).backward()
    for (key, weight), peer in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert weight.grad is not None
        np.testing.assert_allclose(weight.grad.numpy(), peer.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_a_recurrent_cell_is_pytorchs(name: str) -> None:
    ours, theirs = getattr(nn, name)(3, 4), getattr(torch.nn, name)(3, 4)
    theirs.load_state_dict({key: torch.tensor(t.numpy()) for key, t in ours.state_dict().items()})
    state: tuple[Any, Any] = (None, None)
    for number in range(3):
        x = normal(2, 3) * number
        state = ours(Tensor(x), state[0]), theirs(torch.tensor(x), state[1])
    for a, b in zip(flat(state[0]), flat(state[1]), strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)
