"""Normalization: by batch, layer, group, instance and root mean square; formulas and names are PyTorch's.

Statistics of 16-bit floats are taken in float32, and the result is cast back.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from engine import dtype as dt
from engine.autograd import no_grad
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn import initial
from engine.nn.module import Module
from engine.tensor import Tensor
from engine.tensor.differentiable import carry


def normalized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """x less its mean, divided by √(variance + eps), over the axes."""
    return _standard(x, x.mean(axes, keepdim=True), _variance(x, axes), eps)


def _variance(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return (centred * centred).mean(axes, keepdim=True)


def _standard(x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
    return (x - mean) * (1 / (variance + eps).sqrt())


def _computable(x: Tensor) -> Tensor:
    return x.cast(dt.float32) if x.dtype.itemsize < 4 else x


def _along(parameter: Tensor, ndim: int) -> Tensor:
    """(channels,) → (channels, 1, …): to meet (batch, channels, …) of `ndim` axes."""
    return parameter.reshape(-1, *[1] * (ndim - 2))


class _Affine(Module):
    """A scale and a shift for each of some numbers, ones and zeros at first; None each where not wanted."""

    def __init__(self, shape: Sequence[int], scale: bool, shift: bool, dtype: DType) -> None:
        self.weight = initial.constant(shape, 1.0, dtype) if scale else None
        self.bias = initial.constant(shape, 0.0, dtype) if shift else None

    def _scaled(self, x: Tensor) -> Tensor:
        x = x if self.weight is None else x * self.weight
        return x if self.bias is None else x + self.bias

    def _scaled_channels(self, x: Tensor) -> Tensor:
        x = x if self.weight is None else x * _along(self.weight, x.ndim)
        return x if self.bias is None else x + _along(self.bias, x.ndim)


class BatchNorm(_Affine):
    """(batch, channels, …): each channel by its mean and variance over the batch and all other axes.

    In training the running statistics move towards the batch's by `momentum` (the variance unbiased); they are what
    is used after `eval()`. Without `track_running_stats` the batch's are used always.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DType = dt.float32,
    ) -> None:
        super().__init__((num_features,), affine, affine, dtype)
        self.eps, self.momentum = eps, momentum
        shape = (num_features,) if track_running_stats else None
        self.running_mean = Tensor.zeros(*shape, dtype=dtype).realize() if shape else None
        self.running_var = Tensor.ones(*shape, dtype=dtype).realize() if shape else None
        self.num_batches_tracked = Tensor(np.array(0, np.int64)) if shape else None

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype. InvalidGraph if there is no axis for channels, or one value a channel to train on."""
        if x.ndim < 2:
            raise InvalidGraph(f"takes (batch, channels, …), not {x.shape}", "BatchNorm")
        wide = _computable(x)
        axes = (0, *range(2, x.ndim))
        if not self.training and self.running_mean is not None and self.running_var is not None:
            mean, variance = _along(self.running_mean, x.ndim), _along(self.running_var, x.ndim)
        else:
            mean, variance = wide.mean(axes, keepdim=True), _variance(wide, axes)
            self._track(mean, variance, prod(x.shape[axis] for axis in axes))
        return self._scaled_channels(_standard(wide, mean, variance, self.eps)).cast(x.dtype)

    @no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        if self.training and count < 2:
            raise InvalidGraph("needs more than one value a channel to train on", "BatchNorm")
        for running, batch in (
            (self.running_mean, mean),
            (self.running_var, variance * (count / (count - 1))),
        ):
            moved = running * (1 - self.momentum) + batch.reshape(running.shape) * self.momentum
            running.assign(moved.cast(running.dtype))
        self.num_batches_tracked.assign(self.num_batches_tracked + 1)
        for tensor in (self.running_mean, self.running_var, self.num_batches_tracked):
            carry(tensor)


BatchNorm1d = BatchNorm2d = BatchNorm3d = BatchNorm


class LayerNorm(_Affine):
    """Each last axes of `normalized_shape` by their mean and variance; scale and shift are of that shape."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: DType = dt.float32,
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        super().__init__(self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype; InvalidGraph if it does not end in normalized_shape."""
        axes = _last_axes(x, self.normalized_shape, "LayerNorm")
        return self._scaled(normalized(_computable(x), axes, self.eps)).cast(x.dtype)


class RMSNorm(_Affine):
    """x / √(mean of x² + eps) over the last axes of `normalized_shape`, times a scale of that shape.

    `eps` None is the distance from 1 to the next number of the dtype that is computed in.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: DType = dt.float32,
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        super().__init__(self.normalized_shape, elementwise_affine, False, dtype)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype; InvalidGraph if it does not end in normalized_shape."""
        axes = _last_axes(x, self.normalized_shape, "RMSNorm")
        wide = _computable(x)
        eps = 2.0**-wide.dtype.mantissa if self.eps is None else self.eps
        return self._scaled(wide * (1 / ((wide * wide).mean(axes, keepdim=True) + eps).sqrt())).cast(x.dtype)


class GroupNorm(_Affine):
    """(batch, channels, …): each of `num_groups` groups of channels by its mean and variance."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        dtype: DType = dt.float32,
    ) -> None:
        if num_channels % num_groups:
            raise InvalidGraph(f"{num_channels} channels are not {num_groups} equal groups", "GroupNorm")
        super().__init__((num_channels,), affine, affine, dtype)
        self.num_groups, self.eps = num_groups, eps

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype."""
        if x.ndim < 2 or x.shape[1] % self.num_groups:
            raise InvalidGraph(
                f"takes (batch, channels, …) of {self.num_groups} groups, not {x.shape}", "GroupNorm"
            )
        grouped = _computable(x).reshape(x.shape[0], self.num_groups, -1)
        return self._scaled_channels(normalized(grouped, (2,), self.eps).reshape(x.shape)).cast(x.dtype)


class InstanceNorm(_Affine):
    """(batch, channels, …): each channel of each example by its own mean and variance over the other axes."""

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = False, dtype: DType = dt.float32
    ) -> None:
        super().__init__((num_features,), affine, affine, dtype)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype. InvalidGraph without an axis to average over."""
        if x.ndim < 3:
            raise InvalidGraph(
                f"takes (batch, channels, …) with axes to average over, not {x.shape}", "InstanceNorm"
            )
        axes = tuple(range(2, x.ndim))
        return self._scaled_channels(normalized(_computable(x), axes, self.eps)).cast(x.dtype)


InstanceNorm1d = InstanceNorm2d = InstanceNorm3d = InstanceNorm


def _shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def _last_axes(x: Tensor, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    if x.shape[-len(shape) :] != shape:
        raise InvalidGraph(f"{x.shape} does not end in {shape}", name)
    return tuple(range(x.ndim - len(shape), x.ndim))
