"""Modules: their state by name, loading it, training and evaluating."""

from __future__ import annotations

import numpy as np
import pytest

from engine import dtype as dt
from engine import nn
from engine.errors import InvalidGraph
from engine.tensor import Tensor


class Model(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2, bias=False), Tensor.relu, nn.Dropout())]
        self.norms = {"last": nn.BatchNorm(2)}
        self.scale = Tensor([2.0], requires_grad=True)
        self._cache = Tensor([0.0])


def test_state_is_named_by_the_way_to_it() -> None:
    model = Model()
    assert list(model.state_dict()) == [
        "scale",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.0.weight",
        "norms.last.weight",
        "norms.last.bias",
        "norms.last.running_mean",
        "norms.last.running_var",
        "norms.last.num_batches_tracked",
    ]
    named = dict(model.named_parameters())
    assert [name for name in model.state_dict() if name not in named] == [
        "norms.last.running_mean",
        "norms.last.running_var",
        "norms.last.num_batches_tracked",
    ]


def test_a_shared_parameter_is_one_parameter_of_two_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert list(model.state_dict()) == ["0.weight", "1.weight"]
    assert len(model.parameters()) == 1


def test_of_two_values_for_a_shared_tensor_the_last_in_order_is_loaded() -> None:
    for _ in range(4):
        model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(6)))
        for layer in model[1:]:
            layer.weight = model[0].weight
        model.load_state_dict({f"{n}.weight": np.float32([[n]]) for n in reversed(range(6))})
        assert model[0].weight.item() == 5


def test_loaded_state_is_cast_and_leaves_stay_leaves() -> None:
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": Tensor([3.0], dtype=dt.bfloat16)})
    x = Tensor([[10.0, 100.0]])
    assert layer(x).tolist() == [[213.0]]
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[10.0, 100.0]]
    assert layer.bias is not None
    assert layer.bias.dtype is dt.float32


def test_state_that_does_not_fit_is_named_and_changes_nothing() -> None:
    layer = nn.Linear(2, 1)
    before = layer.weight.tolist()
    state = {"weight": np.zeros((2, 1)), "scale": np.zeros(1)}
    with pytest.raises(InvalidGraph) as raised:
        layer.load_state_dict(state)
    for part in ("weight has shape (2, 1), the model's is (1, 2)", "missing: bias", "unexpected: scale"):
        assert part in str(raised.value)
    with pytest.raises(InvalidGraph, match=r"weight has shape \(2, 1\)"):
        layer.load_state_dict(state, strict=False)
    assert layer.weight.tolist() == before
    layer.load_state_dict({"weight": np.zeros((1, 2)), "scale": np.zeros(1)}, strict=False)
    assert layer.weight.tolist() == [[0.0, 0.0]]


def test_train_and_eval_reach_every_module() -> None:
    model = Model()
    assert len(model.modules()) == 6
    model.eval()
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_gradients_of_all_parameters_are_forgotten_together() -> None:
    layer = nn.Linear(2, 1)
    layer(Tensor([[1.0, 2.0]])).sum().backward()
    layer.zero_grad()
    assert [p.grad for p in layer.parameters()] == [None, None]


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="Model has no forward"):
        Model()(1)
