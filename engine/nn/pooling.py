"""Pooling as layers; a stride of None is the window's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.nn.module import Module
from engine.tensor import Tensor

Size = int | Sequence[int]


class _MaxPool(Module):
    AXES = 0

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, x: Tensor) -> Any:
        """See `Tensor.max_pool1d` and its like."""
        pool = getattr(x, f"max_pool{self.AXES}d")
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return pool(*geometry, self.return_indices)


class MaxPool1d(_MaxPool):
    """The greatest of each window of the last axis."""

    AXES = 1


class MaxPool2d(_MaxPool):
    """The greatest of each window of the last two axes."""

    AXES = 2


class MaxPool3d(_MaxPool):
    """The greatest of each window of the last three axes."""

    AXES = 3


class _AvgPool(Module):
    AXES = 0

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Any:
        """See `Tensor.avg_pool1d` and its like."""
        pool = getattr(x, f"avg_pool{self.AXES}d")
        return pool(self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool1d(_AvgPool):
    """The mean of each window of the last axis."""

    AXES = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of the last two axes."""

    AXES = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of the last three axes."""

    AXES = 3


class _AdaptiveAvgPool(Module):
    AXES = 0

    def __init__(self, output_size: int | Sequence[int | None]) -> None:
        self.output_size = output_size

    def forward(self, x: Tensor) -> Any:
        """See `Tensor.adaptive_avg_pool1d` and its like."""
        return getattr(x, f"adaptive_avg_pool{self.AXES}d")(self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The mean of so many parts of the last axis."""

    AXES = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The mean of so many parts of each of the last two axes."""

    AXES = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The mean of so many parts of each of the last three axes."""

    AXES = 3


class _AdaptiveMaxPool(Module):
    AXES = 0

    def __init__(self, output_size: int | Sequence[int | None], return_indices: bool = False) -> None:
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, x: Tensor) -> Any:
        """See `Tensor.adaptive_max_pool1d` and its like."""
        return getattr(x, f"adaptive_max_pool{self.AXES}d")(self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The greatest of so many parts of the last axis."""

    AXES = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The greatest of so many parts of each of the last two axes."""

    AXES = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The greatest of so many parts of each of the last three axes."""

    AXES = 3
