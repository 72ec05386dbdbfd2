"""Dropout: zeros at random places while training."""

from __future__ import annotations

from engine.errors import InvalidGraph
from engine.nn.module import Module
from engine.tensor import Tensor


class Dropout(Module):
    """In training each element is 0 with probability `p` and else divided by 1 - p; afterwards nothing happens."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise InvalidGraph(f"p = {p} is no probability", "Dropout")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype."""
        if not self.trains or self.p == 0:
            return x
        if self.p == 1:
            return x * 0
        kept = Tensor.rand(*x.shape, device=x.device) >= self.p
        return x * (kept.cast(x.dtype) * (1 / (1 - self.p)))
