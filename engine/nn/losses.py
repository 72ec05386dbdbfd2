"""Losses as layers; the functions are methods of Tensor."""

from __future__ import annotations

from engine.nn.functional import cosine_similarity
from engine.nn.module import Module
from engine.tensor import Tensor


class CrossEntropyLoss(Module):
    """-log softmax(scores) at each example's class."""

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.weight, self.ignore_index = weight, ignore_index
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.cross_entropy`."""
        return scores.cross_entropy(
            target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class MSELoss(Module):
    """(x - target)²."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.mse_loss`."""
        return x.mse_loss(target, self.reduction)


class NLLLoss(Module):
    """-x at each example's class, from logarithms of probabilities."""

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        self.weight, self.ignore_index, self.reduction = weight, ignore_index, reduction

    def forward(self, logs: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.nll_loss`."""
        return logs.nll_loss(target, self.weight, self.ignore_index, self.reduction)


class L1Loss(Module):
    """|x - target|."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.l1_loss`."""
        return x.l1_loss(target, self.reduction)


class SmoothL1Loss(Module):
    """Half the square over beta where nearer than beta, else |x - target| - beta / 2."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        self.reduction, self.beta = reduction, beta

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.smooth_l1_loss`."""
        return x.smooth_l1_loss(target, self.reduction, self.beta)


class HuberLoss(Module):
    """Half the square where nearer than delta, else delta (|x - target| - delta / 2)."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        self.reduction, self.delta = reduction, delta

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.huber_loss`."""
        return x.huber_loss(target, self.reduction, self.delta)


class BCELoss(Module):
    """-(target log x + (1 - target) log(1 - x)) of probabilities."""

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        self.weight, self.reduction = weight, reduction

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.binary_cross_entropy`."""
        return x.binary_cross_entropy(target, self.weight, self.reduction)


class BCEWithLogitsLoss(Module):
    """BCELoss of sigmoid(x), safe for large x."""

    def __init__(
        self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None
    ) -> None:
        self.weight, self.reduction, self.pos_weight = weight, reduction, pos_weight

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.binary_cross_entropy_with_logits`."""
        return x.binary_cross_entropy_with_logits(target, self.weight, self.reduction, self.pos_weight)


class CosineSimilarity(Module):
    """The cosine of the angle between two tensors along an axis."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """See `functional.cosine_similarity`."""
        return cosine_similarity(x, other, self.dim, self.eps)


class KLDivLoss(Module):
    """target (log target - x), of x that are logarithms."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction, self.log_target = reduction, log_target

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """See `Tensor.kl_div`."""
        return x.kl_div(target, self.reduction, self.log_target)
