"""Losses against their formulas, however they are reduced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, normal, same

SCORES = normal(7, 5)
TARGET = np.array([0, 4, 2, 2, 1, 1, 3])
WEIGHT = np.abs(normal(5, seed=1))
HOW = ["mean", "sum", "none"]


def logs(x: Array, axis: int = 1) -> Array:
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def reduced(losses: Array, how: str, count: float | None = None) -> Any:
    if how == "none":
        return losses
    return losses.sum() if how == "sum" else losses.sum() / (losses.size if count is None else count)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 2])
def test_cross_entropy_of_classes(how: str, smoothing: float, weighted: bool, ignored: int) -> None:
    weight = WEIGHT if weighted else np.ones(5)
    counted = ignored != TARGET
    hard = -logs(SCORES)[np.arange(7), TARGET] * weight[TARGET]
    soft = -(logs(SCORES) * weight).sum(1) / 5
    losses = np.where(counted, (1 - smoothing) * hard + smoothing * soft, 0)
    got = Tensor(SCORES).cross_entropy(
        Tensor(TARGET), Tensor(WEIGHT) if weighted else None, ignored, how, smoothing
    )
    same(got, reduced(losses, how, float((weight[TARGET] * counted).sum())), 1e-5)


@pytest.mark.parametrize("how", HOW)
def test_cross_entropy_of_probabilities_and_of_further_axes(how: str) -> None:
    chances = np.exp(logs(normal(7, 5, seed=3))).astype(np.float32)
    mixed = chances * 0.9 + 0.1 / 5
    got = Tensor(SCORES).cross_entropy(Tensor(chances), reduction=how, label_smoothing=0.1)
    same(got, reduced(-(logs(SCORES) * mixed).sum(1), how), 1e-5)
    images, classes = normal(2, 3, 4, 5), np.random.default_rng(0).integers(0, 3, (2, 4, 5))
    chosen = -np.take_along_axis(logs(images), classes[:, None], 1)[:, 0]
    same(Tensor(images).cross_entropy(Tensor(classes), reduction=how), reduced(chosen, how), 1e-5)
    same(Tensor(SCORES[0]).cross_entropy(Tensor(3), reduction=how), -logs(SCORES)[0, 3], 1e-5)


def test_cross_entropy_is_safe_and_half_floats_come_back() -> None:
    same(Tensor([[1e4, 0.0]]).cross_entropy(Tensor([1])), np.float32(1e4))
    assert Tensor([[1e4, -np.inf]]).cross_entropy(Tensor([0])).item() == 0
    half = Tensor(SCORES).half().cross_entropy(Tensor(TARGET))
    assert half.dtype is dt.float16
    same(half.float(), reduced(-logs(SCORES)[np.arange(7), TARGET], "mean"), 2e-3)


@pytest.mark.parametrize("how", HOW)
def test_nll_loss_and_distances(how: str) -> None:
    x, y = normal(4, 3), normal(4, 3, seed=1)
    same(
        Tensor(SCORES).nll_loss(Tensor(TARGET), reduction=how),
        reduced(-SCORES[np.arange(7), TARGET], how),
        1e-5,
    )
    same(Tensor(x).mse_loss(Tensor(y), how), reduced((x - y) ** 2, how), 1e-5)
    same(Tensor(x).l1_loss(Tensor(y), reduction=how), reduced(np.abs(x - y), how), 1e-5)
    size = np.abs(x - y)
    smooth = np.where(size < 0.5, size * size, size - 0.25)
    same(Tensor(x).smooth_l1_loss(Tensor(y), how, beta=0.5), reduced(smooth, how), 1e-5)


@pytest.mark.parametrize("how", HOW)
def test_binary_cross_entropy_with_and_without_logits(how: str) -> None:
    x, target = normal(4, 5) * 3, np.abs(normal(4, 5, seed=1)) % 1
    p = 1 / (1 + np.exp(-x.astype(np.float64)))
    losses = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    same(
        Tensor(x).binary_cross_entropy_with_logits(Tensor(target), reduction=how), reduced(losses, how), 1e-5
    )
    got = Tensor(p.astype(np.float32)).binary_cross_entropy(Tensor(target), Tensor(WEIGHT), how)
    same(got, reduced(losses * WEIGHT, how), 1e-4)
    weighted = -(target * np.log(p) * WEIGHT + (1 - target) * np.log(1 - p))
    got = Tensor(x).binary_cross_entropy_with_logits(Tensor(target), reduction=how, pos_weight=Tensor(WEIGHT))
    same(got, reduced(weighted, how), 1e-5)


def test_certain_predictions_have_finite_losses() -> None:
    assert Tensor([1.0, 0.0]).binary_cross_entropy(Tensor([0.0, 0.0]), reduction="none").tolist() == [100, 0]
    far = Tensor([1e4, -1e4]).binary_cross_entropy_with_logits(Tensor([0.0, 0.0]), reduction="none")
    assert far.tolist() == [1e4, 0]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda x: x.mse_loss(x[:2]), InvalidGraph, r"input \(7, 5\) and target \(2, 5\)"),
        (lambda x: x.mse_loss(x, "max"), InvalidGraph, "'max' is not mean, sum or none"),
        (lambda x: x.cross_entropy(Tensor([0, 1])), InvalidGraph, r"target \(2,\) is not input \(7, 5\)"),
        (lambda x: x.cross_entropy(x[:, 0]), TypeError, "must be of integers, not float32"),
        (lambda x: x.cross_entropy(Tensor(TARGET), Tensor([1.0])), InvalidGraph, "each of 5 classes"),
        (lambda x: x.cross_entropy(Tensor(TARGET), label_smoothing=2), InvalidGraph, "from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrong(Tensor(SCORES))
