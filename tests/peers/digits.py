"""The first 100 losses of training on the digits against PyTorch's, from the same weights and batches.

Run it with a Python that has PyTorch and scikit-learn, from the root: `DEV=CPU python -m tests.peers.digits`. Prints a
line for each optimizer and fails where a loss differs by more than TOLERANCE.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from engine import nn
from engine.tensor import Tensor
from tests.engine.nn.models import mlp

STEPS, BATCH, SIZES = 100, 128, (64, 128, 10)
TOLERANCE = 1e-4
Array = np.ndarray
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD, Nesterov, decay": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "Adam": ("Adam", {"lr": 3e-3}),
    "AdamW": ("AdamW", {"lr": 3e-3, "weight_decay": 0.05, "betas": (0.8, 0.95)}),
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


def main() -> int:
    """Every optimizer; 1 if a curve differs."""
    examples, worst = batches(), 0.0
    print(f"{'optimizer':24}{'first loss':>12}{'last loss':>12}{'difference':>12}")
    for name, (kind, options) in OPTIMIZERS.items():
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
        difference = float(np.abs(got - wanted).max())
        worst = max(worst, difference)
        print(f"{name:24}{got[0]:12.4f}{got[-1]:12.4f}{difference:12.1e}", flush=True)
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
