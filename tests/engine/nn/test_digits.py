"""Shown by training: handwritten digits (8×8 pixels, 1,797 of them, shipped with scikit-learn) on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from engine import nn
from engine.tensor import Tensor
from tests.engine.nn.models import mlp

EPOCHS, BATCH = 20, 128


def digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and classes to train on, and of a fifth that is held out."""
    from sklearn.datasets import load_digits  # takes a second to import: only where it is wanted

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    pixels, classes = (found.data[order] / 16).astype(np.float32), found.target[order].astype(np.int64)
    kept = len(order) * 4 // 5
    return pixels[:kept], classes[:kept], pixels[kept:], classes[kept:]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_small_network_reads_97_of_100_digits_it_has_never_seen(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEV", "CPU")
    random = np.random.default_rng(seed)
    pixels, classes, unseen, answers = digits(seed)
    Tensor.manual_seed(seed)
    model = mlp((64, 128, 10))
    optimizer = nn.Adam(model.parameters(), lr=0.01)
    rate = nn.CosineAnnealingLR(optimizer, T_max=EPOCHS * (len(pixels) // BATCH))
    for _ in range(EPOCHS):
        order = random.permutation(len(pixels))
        for chosen in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            optimizer.zero_grad()
            model(Tensor(pixels[chosen])).cross_entropy(Tensor(classes[chosen])).backward()
            optimizer.step()
            rate.step()
    guesses = model(Tensor(unseen)).numpy().argmax(1)
    assert (guesses == answers).mean() >= 0.97
