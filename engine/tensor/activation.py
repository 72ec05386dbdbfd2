"""Activations."""

from __future__ import annotations

from typing import Self

from engine.tensor.elementwise import Elementwise
from engine.tensor.operators import Operators
from engine.tensor.reduction import Reduction


class Activation(Reduction, Elementwise, Operators):
    """Methods between layers."""

    __slots__ = ()

    def softmax(self, axis: int = -1) -> Self:
        """exp(x) / Σ exp(x) along `axis`, safe for large x."""
        shifted = (self - self.max(axis, keepdim=True)).exp()
        return shifted / shifted.sum(axis, keepdim=True)
