"""Dropout: zeros at random places while training."""

from __future__ import annotations

from engine.errors import InvalidGraph
from engine.nn.module import Module
from engine.tensor import Tensor


class Dropout(Module):
    """In training each element is 0 with probability `p` and else divided by 1 - p; afterwards nothing happens."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
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


class _ChannelDropout(Dropout):
    AXES = 0

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__(p)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, …), or without a batch: of x's shape and dtype. InvalidGraph for other axes."""
        if x.ndim not in (self.AXES + 1, self.AXES + 2):
            raise InvalidGraph(
                f"takes {self.AXES + 1} or {self.AXES + 2} axes, not {x.shape}", type(self).__name__
            )
        if not self.trains or self.p == 0:
            return x
        shape = (*x.shape[: x.ndim - self.AXES], *[1] * self.AXES)
        return x * super().forward(Tensor.ones(*shape, dtype=x.dtype, device=x.device))


class Dropout1d(_ChannelDropout):
    """Dropout of whole channels (batch, channels, n)."""

    AXES = 1


class Dropout2d(_ChannelDropout):
    """Dropout of whole channels (batch, channels, h, w)."""

    AXES = 2


class Dropout3d(_ChannelDropout):
    """Dropout of whole channels (batch, channels, d, h, w)."""

    AXES = 3
