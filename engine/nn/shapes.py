"""Layers that move elements and compute nothing with them."""

from __future__ import annotations

from collections.abc import Sequence

from engine.nn.functional import pixel_shuffle, pixel_unshuffle, unfold
from engine.nn.module import Module
from engine.tensor import Tensor

Pair = int | Sequence[int]


class Unflatten(Module):
    """An axis as several; one size may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.unflatten`."""
        return x.unflatten(self.dim, self.unflattened_size)


class Unfold(Module):
    """(batch, channels, h, w) → (batch, channels · k · k, windows)."""

    def __init__(self, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> None:
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.functional.unfold`."""
        return unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class PixelShuffle(Module):
    """(…, c · r², h, w) → (…, c, h · r, w · r)."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.functional.pixel_shuffle`."""
        return pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(Module):
    """(…, c, h · r, w · r) → (…, c · r², h, w)."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.functional.pixel_unshuffle`."""
        return pixel_unshuffle(x, self.downscale_factor)


class Upsample(Module):
    """The last axes of another size, or times a factor; `mode` as in `Tensor.interpolate`."""

    def __init__(
        self,
        size: Pair | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners = bool(align_corners)

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.interpolate`."""
        return x.interpolate(self.size, self.scale_factor, self.mode, self.align_corners)
