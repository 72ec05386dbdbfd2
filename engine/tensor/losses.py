"""Losses. `reduction`: mean, sum or none."""

from __future__ import annotations

from typing import Self

from engine.errors import InvalidGraph
from engine.functions import arithmetic, loss, movement
from engine.ir import UOp
from engine.tensor.known import check_classes
from engine.tensor.value import Operand, Value


class Losses(Value):
    """Methods that compare a prediction with its target."""

    __slots__ = ()

    def _given(self, other: Operand) -> UOp | None:
        return None if other is None else self._operand(other)

    def _classes(self, target: Operand, ignore_index: int, name: str) -> UOp:
        """The target; IndexError for a number in it that is known and no class."""
        wanted = self._operand(target)
        if self.shape and wanted.dtype.is_int:
            check_classes(wanted, self.shape[0 if self.ndim == 1 else 1], ignore_index, name)
        return wanted

    def mse_loss(self, target: Operand, reduction: str = "mean") -> Self:
        """(x - target)²."""
        return self._new(loss.squared_error(self._node, self._operand(target), reduction))

    def l1_loss(self, target: Operand, reduction: str = "mean") -> Self:
        """|x - target|."""
        return self._new(loss.absolute_error(self._node, self._operand(target), reduction))

    def smooth_l1_loss(self, target: Operand, reduction: str = "mean", beta: float = 1.0) -> Self:
        """Half the square over beta where nearer than beta, else |x - target| - beta / 2."""
        return self._new(loss.smooth_error(self._node, self._operand(target), reduction, beta))

    def binary_cross_entropy(self, target: Operand, weight: Operand = None, reduction: str = "mean") -> Self:
        """-(target log x + (1 - target) log(1 - x)) of probabilities."""
        wanted = self._operand(target)
        return self._new(loss.binary_cross_entropy(self._node, wanted, self._given(weight), reduction))

    def binary_cross_entropy_with_logits(
        self,
        target: Operand,
        weight: Operand = None,
        reduction: str = "mean",
        pos_weight: Operand = None,
    ) -> Self:
        """`binary_cross_entropy` of sigmoid(x), safe for large x."""
        wanted, scale, positive = self._operand(target), self._given(weight), self._given(pos_weight)
        return self._new(
            loss.binary_cross_entropy_with_logits(self._node, wanted, scale, reduction, positive)
        )

    def nll_loss(
        self, target: Operand, weight: Operand = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> Self:
        """-x at the target's class, from logarithms of probabilities (batch, classes, …) or (classes,)."""
        wanted = self._classes(target, ignore_index, "nll_loss")
        return self._new(loss.nll_loss(self._node, wanted, self._given(weight), ignore_index, reduction))

    def sparse_categorical_crossentropy(
        self, target: Operand, ignore_index: int = -1, label_smoothing: float = 0.0, reduction: str = "mean"
    ) -> Self:
        """tinygrad's `cross_entropy` of numbers of classes: the classes are the last axis."""
        scores = self._new(movement.move_axes(self._node, (-1,), (1 if self.ndim > 1 else 0,)))
        return scores.cross_entropy(target, None, ignore_index, reduction, label_smoothing)

    def huber_loss(self, target: Operand, reduction: str = "mean", delta: float = 1.0) -> Self:
        """Half the square where nearer than delta, else delta (|x - target| - delta / 2)."""
        if delta <= 0:
            raise InvalidGraph(f"{delta} must be more than 0", "huber_loss: delta")
        smooth = loss.smooth_error(self._node, self._operand(target), reduction, delta)
        return self._new(arithmetic.multiply(smooth, delta))

    def kl_div(self, target: Operand, reduction: str = "mean", log_target: bool = False) -> Self:
        """target (log target - x), of x that are logarithms; "batchmean" is the sum over the first axis's size."""
        return self._new(loss.divergence(self._node, self._operand(target), reduction, log_target))

    def cross_entropy(
        self,
        target: Operand,
        weight: Operand = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Self:
        """-log softmax(x) at the target's class, from scores (batch, classes, …) or (classes,).

        `target`: numbers of classes, or probabilities in x's shape. The mean is over the `weight`s of the targets
        that are not `ignore_index`. A target that is no class is an IndexError if it is in memory already; one that
        has yet to be computed, or any in a recorded function, gives NaN.
        """
        wanted, scale = self._classes(target, ignore_index, "cross_entropy"), self._given(weight)
        return self._new(
            loss.cross_entropy(self._node, wanted, scale, ignore_index, reduction, label_smoothing)
        )
