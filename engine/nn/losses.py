"""Losses as layers; the functions are methods of Tensor."""

from __future__ import annotations

from engine.nn.module import Module
from engine.tensor import Tensor


class CrossEntropyLoss(Module):
    """-log softmax(scores) at each example's class."""

    def __init__(
        self, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.cross_entropy`."""
        return scores.cross_entropy(target, None, self.ignore_index, self.reduction, self.label_smoothing)


class MSELoss(Module):
    """(x - target)²."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.mse_loss`."""
        return x.mse_loss(target, self.reduction)
