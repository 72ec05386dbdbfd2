"""Functions of a tensor as layers, for those who write models as lists of layers."""

from __future__ import annotations

from collections.abc import Sequence

from engine.nn.module import Module
from engine.tensor import Tensor


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.relu`."""
        return x.relu()


class GELU(Module):
    """x times the chance that a normal number is below x; `approximate` may be "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.gelu`."""
        return x.gelu(self.approximate)


class SiLU(Module):
    """x · sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.silu`."""
        return x.silu()


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.tanh`."""
        return x.tanh()


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.sigmoid`."""
        return x.sigmoid()


class Flatten(Module):
    """All axes but the first made one."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.flatten`."""
        return x.flatten(1)


class MaxPool2d(Module):
    """The greatest of each window of the last two axes; a stride of None is the window's size."""

    def __init__(self, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None) -> None:
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.max_pool2d`."""
        found: Tensor = x.max_pool2d(self.kernel_size, self.stride)
        return found


class AvgPool2d(Module):
    """The mean of each window of the last two axes; a stride of None is the window's size."""

    def __init__(self, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None) -> None:
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.avg_pool2d`."""
        return x.avg_pool2d(self.kernel_size, self.stride)
