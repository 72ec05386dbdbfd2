"""The first 100 losses of training on the digits against PyTorch's, from the same weights and batches.

tests.peers.models compares with them and writes the differences to docs/models.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from engine import nn
from engine.tensor import Tensor
from tests.engine.nn.models import mlp
from tests.model_table import OPTIMIZERS, Row, loss_row

STEPS, BATCH, SIZES = 100, 128, (64, 128, 10)
Array = np.ndarray
CHOSEN: dict[str, tuple[str, dict[str, Any]]] = {
    OPTIMIZERS[0]: ("SGD", {"lr": 0.1}),
    OPTIMIZERS[1]: ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    OPTIMIZERS[2]: ("Adam", {"lr": 3e-3}),
    OPTIMIZERS[3]: ("AdamW", {"lr": 3e-3, "weight_decay": 0.05, "betas": (0.8, 0.95)}),
}


def batches() -> list[tuple[Array, Array]]:
    """The same examples in the same order for both."""
    digits = load_digits()
    pixels, classes = (digits.data / 16).astype(np.float32), digits.target.astype(np.int64)
    random = np.random.default_rng(0)
    chosen = [random.choice(len(pixels), BATCH, replace=False) for _ in range(STEPS)]
    return [(pixels[c], classes[c]) for c in chosen]


def peer_model(state: dict[str, Array]) -> torch.nn.Module:
    """PyTorch's MLP with these weights: the names are the same."""
    model = torch.nn.Sequential(torch.nn.Linear(*SIZES[:2]), torch.nn.ReLU(), torch.nn.Linear(*SIZES[1:]))
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    return model


def losses(step: Callable[[Array, Array], float], examples: Iterable[tuple[Array, Array]]) -> Array:
    return np.array([step(pixels, classes) for pixels, classes in examples])


def rows() -> Iterator[Row]:
    """For every optimizer the largest difference of a loss."""
    examples = batches()
    for name, (kind, options) in CHOSEN.items():
        ours = mlp(SIZES)
        theirs = peer_model({n: t.numpy() for n, t in ours.state_dict().items()})
        optimizer = getattr(nn, kind)(ours.parameters(), **options)
        peer = getattr(torch.optim, kind)(theirs.parameters(), **options)

        def step(pixels: Array, classes: Array, model: Any = ours, optimizer: Any = optimizer) -> float:
            optimizer.zero_grad()
            loss = model(Tensor(pixels)).cross_entropy(Tensor(classes))
            loss.backward()
            optimizer.step()
            return float(loss.item())

        def peer_step(pixels: Array, classes: Array, model: Any = theirs, optimizer: Any = peer) -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(torch.tensor(pixels)), torch.tensor(classes))
            loss.backward()
            optimizer.step()
            return loss.item()

        got, wanted = losses(step, examples), losses(peer_step, examples)
        yield loss_row(name, float(np.abs(got - wanted).max()))
