"""Normalization: by batch, layer, group, instance and root mean square; formulas and names are PyTorch's.

Statistics of 16-bit floats are taken in float32, and the result is cast back.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.autograd import no_grad
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn import initial
from engine.nn.module import Module
from engine.tensor import Tensor
from engine.tensor.differentiable import carry


class _Affine(Module):
    """A scale and a shift for each of some numbers, ones and zeros at first; None each where not wanted."""

    def __init__(self, shape: Sequence[int], scale: bool, shift: bool, dtype: DType) -> None:
        initial.check_sizes(**{f"size {i} of {type(self).__name__}": n for i, n in enumerate(shape)})
        self.weight = initial.constant(shape, 1.0, dtype) if scale else None
        self.bias = initial.constant(shape, 0.0, dtype) if shift else None


@no_grad()
def track(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    count: int,
    share: Any,
) -> None:
    """Move running statistics (channels,) towards those of a batch of `count` values a channel, by a share.

    InvalidGraph for one value a channel, which has no variance.
    """
    if count < 2:
        raise InvalidGraph("needs more than one value a channel to train on", "BatchNorm")
    for running, batch in ((running_mean, mean), (running_var, variance * (count / (count - 1)))):
        if running is not None:
            running.assign((running * (1 - share) + batch * share).cast(running.dtype))
            carry(running)


class BatchNorm(_Affine):
    """(batch, channels, …): each channel by its mean and variance over the batch and all other axes.

    In training the running statistics move towards the batch's by `momentum` (the variance unbiased), or with None
    are the mean of all batches'; they are what is used after `eval()`. Without `track_running_stats` the batch's are
    used always.
    """

    NDIM: tuple[int, ...] = ()  # the numbers of axes that it takes; any from 2 on if there are none

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: DType = dt.float32,
    ) -> None:
        super().__init__((num_features,), affine, affine, dtype)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        shape = (num_features,) if track_running_stats else None
        self.running_mean = Tensor.zeros(*shape, dtype=dtype).realize() if shape else None
        self.running_var = Tensor.ones(*shape, dtype=dtype).realize() if shape else None
        self.num_batches_tracked = Tensor(np.array(0, np.int64)) if shape else None

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype. InvalidGraph for other axes or channels, or one value a channel to train on."""
        name = type(self).__name__
        if x.ndim < 2 or (self.NDIM and x.ndim not in self.NDIM):
            axes = " or ".join(map(str, self.NDIM)) or "2 or more"
            raise InvalidGraph(f"takes (batch, channels, …) of {axes} axes, not {x.shape}", name)
        if x.shape[1] != self.num_features:
            raise InvalidGraph(
                f"is for {self.num_features} channels (axis 1), x has the shape {x.shape}", name
            )
        mean, variance = self.running_mean, self.running_var
        if self.trains or mean is None or variance is None:
            mean, variance = x.batch_statistics()
            self._track(mean, variance, x.numel() // max(x.shape[1], 1))
        return x.batch_norm(mean, variance, self.weight, self.bias, self.eps)

    @no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.num_batches_tracked is None:
            return
        self.num_batches_tracked.assign(self.num_batches_tracked + 1)
        share: Any = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        track(self.running_mean, self.running_var, mean, variance, count, share)
        carry(self.num_batches_tracked)


class BatchNorm1d(BatchNorm):
    """BatchNorm of (batch, channels) or (batch, channels, n)."""

    NDIM = (2, 3)


class BatchNorm2d(BatchNorm):
    """BatchNorm of (batch, channels, h, w)."""

    NDIM = (4,)


class BatchNorm3d(BatchNorm):
    """BatchNorm of (batch, channels, d, h, w)."""

    NDIM = (5,)


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
        return x.layer_norm(self.normalized_shape, self.weight, self.bias, self.eps)


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
        return x.rms_norm(self.normalized_shape, self.weight, self.eps)


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
        if num_groups < 1 or num_channels % num_groups:
            raise InvalidGraph(f"{num_channels} channels are not {num_groups} equal groups", "GroupNorm")
        super().__init__((num_channels,), affine, affine, dtype)
        self.num_groups, self.eps = num_groups, eps

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype."""
        return x.group_norm(self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm(_Affine):
    """(batch, channels, …): each channel of each example by its own mean and variance over the other axes.

    With `track_running_stats` their means over the batch move running statistics in training by `momentum`, and those
    are what is used after `eval()`. Batches are not counted, as they are not in PyTorch's.
    """

    NDIM: tuple[int, ...] = ()  # the numbers of axes that it takes; any from 3 on if there are none

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: DType = dt.float32,
    ) -> None:
        super().__init__((num_features,), affine, affine, dtype)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        shape = (num_features,) if track_running_stats else None
        self.running_mean = Tensor.zeros(*shape, dtype=dtype).realize() if shape else None
        self.running_var = Tensor.ones(*shape, dtype=dtype).realize() if shape else None
        self.num_batches_tracked = Tensor(np.array(0, np.int64)) if shape else None

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape and dtype; a batch may be missing. InvalidGraph for other channels or axes."""
        alone = bool(self.NDIM) and x.ndim == self.NDIM[0]
        channels = x.shape[0 if alone else 1] if x.ndim > 1 else 0
        if channels != self.num_features or (self.NDIM and x.ndim not in self.NDIM):
            raise InvalidGraph(
                f"is for {self.num_features} channels (axis 1), x has the shape {x.shape}",
                type(self).__name__,
            )
        own = self.trains or self.running_mean is None
        state = (self.running_mean, self.running_var, self.weight, self.bias)
        found = instance_norm(x.unsqueeze(0) if alone else x, *state, own, self.momentum, self.eps)
        return found.squeeze(0) if alone else found


class InstanceNorm1d(InstanceNorm):
    """InstanceNorm of (batch, channels, n)."""

    NDIM = (2, 3)


class InstanceNorm2d(InstanceNorm):
    """InstanceNorm of (batch, channels, h, w)."""

    NDIM = (3, 4)


class InstanceNorm3d(InstanceNorm):
    """InstanceNorm of (batch, channels, d, h, w)."""

    NDIM = (4, 5)


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(batch, channels, …): each channel of each example by its own mean and variance over all further axes.

    Without `use_input_stats` by the running ones; with it these move by the share `momentum`. InvalidGraph for an x
    without further axes.
    """
    if not use_input_stats:
        return x.batch_norm(running_mean, running_var, weight, bias, eps)
    if running_mean is not None or running_var is not None:
        batch, channels, *rest = x.shape
        mean, variance = x.reshape(1, batch * channels, *rest).batch_statistics()
        means, variances = (one.reshape(batch, channels).mean(0) for one in (mean, variance))
        track(running_mean, running_var, means, variances, prod(rest), momentum)
    return x.instance_norm(weight, bias, eps)


def _shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
