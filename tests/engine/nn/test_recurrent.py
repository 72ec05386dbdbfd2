"""Recurrent layers against the same in NumPy, their gradients against differences, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Tensor, dtypes, nn
from engine.errors import InvalidGraph

Array = np.ndarray[Any, np.dtype[Any]]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _lstm(given: Array, own: Array, h: Array, c: Array) -> tuple[Array, Array]:
    i, f, g, o = np.split(given + own, 4, -1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def _gru(given: Array, own: Array, h: Array, c: Array) -> tuple[Array, Array]:
    (r, z, n), (a, b, d) = np.split(given, 3, -1), np.split(own, 3, -1)
    kept = _sigmoid(z + b)
    return (1 - kept) * np.tanh(n + _sigmoid(r + a) * d) + kept * h, c


STEPS: dict[str, Callable[[Array, Array, Array, Array], tuple[Array, Array]]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN": lambda given, own, h, c: (np.tanh(given + own), c),
}


def by_numpy(name: str, weights: dict[str, Array], x: Array, size: int) -> Array:
    h = c = np.zeros((x.shape[1], size))
    found = []
    for one in x:
        given = one @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
        h, c = STEPS[name](given, h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"], h, c)
        found.append(h)
    return np.stack(found)


@pytest.mark.parametrize("name", STEPS)
def test_a_layer_and_its_gradients_are_those_of_the_formulas(name: str) -> None:
    random = np.random.default_rng(0)
    layer = getattr(nn, name)(3, 2, dtype=dtypes.float64)
    x, weighting = random.standard_normal((4, 2, 3)), random.standard_normal((4, 2, 2))
    weights = {key: tensor.numpy() for key, tensor in layer.state_dict().items()}
    given = Tensor(x, requires_grad=True)
    output, _ = layer(given)
    np.testing.assert_allclose(output.numpy(), by_numpy(name, weights, x, 2), rtol=1e-9)
    (output * Tensor(weighting)).sum().backward()
    for key, tensor in [*layer.named_parameters(), ("x", given)]:
        assert tensor.grad is not None
        along = random.standard_normal(tensor.shape)
        sides = []
        for step in (1e-6, -1e-6):
            moved = x + step * along if key == "x" else x
            other = weights if key == "x" else {**weights, key: weights[key] + step * along}
            sides.append((by_numpy(name, other, moved, 2) * weighting).sum())
        slope = (sides[0] - sides[1]) / 2e-6
        assert (tensor.grad.numpy() * along).sum() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_layers_and_directions_come_by_pytorchs_names() -> None:
    layer = nn.LSTM(3, 2, num_layers=2, bidirectional=True, batch_first=True)
    names = [f"{w}_l{n}{end}" for n in (0, 1) for end in ("", "_reverse") for w in
             ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
    assert list(layer.state_dict()) == names
    assert layer.weight_ih_l1.shape == (8, 4)
    output, (hidden, cell) = layer(Tensor.rand(5, 7, 3))
    assert [output.shape, hidden.shape, cell.shape] == [(5, 7, 4), (4, 5, 2), (4, 5, 2)]


def test_a_sequence_goes_on_where_another_ended() -> None:
    layer, x = nn.GRU(3, 2), Tensor.rand(6, 2, 3).realize()
    whole, last = layer(x)
    first, state = layer(x[:4])
    rest, ended = layer(x[4:], state)
    np.testing.assert_allclose(Tensor.cat([first, rest]).numpy(), whole.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ended.numpy(), last.numpy(), rtol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    layer = nn.LSTM(3, 2)
    for call, message in (
        (lambda: layer(Tensor.rand(4, 2, 5)), "LSTM: takes a sequence of 3 numbers"),
        (lambda: layer(Tensor.rand(0, 2, 3)), "one step at least"),
        (
            lambda: layer(Tensor.rand(4, 2, 3), Tensor.rand(1, 2, 2)),
            r"LSTM: hx: takes 2 of shape \(1, 2, 2\)",
        ),
        (lambda: nn.RNN(3, 2, nonlinearity="gelu"), "nonlinearity: 'gelu'"),
        (lambda: nn.GRU(3, 2, dropout=2.0), "dropout: 2.0 is no probability"),
    ):
        with pytest.raises(InvalidGraph, match=message):
            call()
