"""Convolutions over one, two or three axes, and their transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions.convolution import Padding, per_axis
from engine.nn import initial
from engine.nn.module import Module
from engine.tensor import Tensor

Size = int | Sequence[int]
_MODES = ("zeros", "reflect", "replicate", "circular")


def _sizes(value: Size, axes: int) -> tuple[int, ...]:
    found = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(found) != axes or min(found) < 1:
        raise InvalidGraph(f"{value!r} is not a size for each of {axes} axes", "kernel_size")
    return found


def _of_a_group(channels: int, others: int, groups: int) -> int:
    """How many of the channels one group has; the channels on the other side must be divisible as well."""
    if groups < 1 or channels % groups or others % groups:
        raise InvalidGraph(f"{channels} and {others} channels are not {groups} equal groups", "groups")
    return channels // groups


class _Convolution(Module):
    """A weight of some shape and a bias for each output."""

    def __init__(self, shape: Sequence[int], out_channels: int, bias: bool, dtype: DType) -> None:
        bound = initial.fan_in_bound(shape)
        self.weight = initial.uniform(shape, bound, dtype)
        self.bias = initial.uniform((out_channels,), bound, dtype) if bias else None


class _Forward(_Convolution):
    AXES = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        dtype: DType = dt.float32,
    ) -> None:
        initial.check_sizes(in_channels=in_channels, out_channels=out_channels)
        inputs = _of_a_group(in_channels, out_channels, groups)
        super().__init__((out_channels, inputs, *_sizes(kernel_size, self.AXES)), out_channels, bias, dtype)
        self._geometry: tuple[Any, ...] = (stride, padding, dilation, groups)
        self.in_channels, self.out_channels, self.padding_mode = in_channels, out_channels, padding_mode
        if padding_mode not in _MODES:
            raise InvalidGraph(f"{padding_mode!r} is not one of {', '.join(_MODES)}", "padding_mode")

    def _padded(self, x: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
        """x with the padding of a mode other than zeros round it, and the geometry that is left then."""
        stride, padding, dilation, groups = self._geometry
        if self.padding_mode == "zeros" or padding == "valid":
            return x, self._geometry
        reach = [
            d * (k - 1)
            for d, k in zip(per_axis(dilation, self.AXES, "dilation"), self.weight.shape[2:], strict=True)
        ]
        if padding == "same":
            widths = [(n // 2, n - n // 2) for n in reach]
        else:
            widths = [(n, n) for n in per_axis(padding, self.AXES, "padding", 0)]
        around = [(0, 0)] * (x.ndim - self.AXES)
        return x.pad([*around, *widths], self.padding_mode), (stride, 0, dilation, groups)


class Conv1d(_Forward):
    """(batch, in, n) → (batch, out, m), weight (out, in / groups, k); `padding` may be "same"."""

    AXES = 1

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.conv1d`."""
        padded, geometry = self._padded(x)
        return padded.conv1d(self.weight, self.bias, *geometry)


class Conv2d(_Forward):
    """(batch, in, …) of two axes → (batch, out, …), weight (out, in / groups, k, k); `padding` may be "same"."""

    AXES = 2

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.conv2d`."""
        padded, geometry = self._padded(x)
        return padded.conv2d(self.weight, self.bias, *geometry)


class Conv3d(_Forward):
    """(batch, in, …) of three axes → (batch, out, …), weight (out, in / groups, k, k, k); `padding` may be "same"."""

    AXES = 3

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.conv3d`."""
        padded, geometry = self._padded(x)
        return padded.conv3d(self.weight, self.bias, *geometry)


class _Transposed(_Convolution):
    AXES = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        dtype: DType = dt.float32,
    ) -> None:
        initial.check_sizes(in_channels=in_channels, out_channels=out_channels)
        outputs = _of_a_group(out_channels, in_channels, groups)
        super().__init__((in_channels, outputs, *_sizes(kernel_size, self.AXES)), out_channels, bias, dtype)
        self._geometry: tuple[Any, ...] = (stride, padding, output_padding, groups, dilation)

    def _fitting(self, x: Tensor, output_size: Sequence[int] | None) -> tuple[Any, ...]:
        """The geometry, with the output padding that makes the last axes of the result `output_size`."""
        if output_size is None:
            return self._geometry
        stride, padding, _, groups, dilation = self._geometry
        steps, gaps = per_axis(stride, self.AXES, "stride"), per_axis(dilation, self.AXES, "dilation")
        pads = per_axis(padding, self.AXES, "padding", 0)
        ends = [
            (n - 1) * step - 2 * pad + gap * (k - 1) + 1
            for n, step, pad, gap, k in zip(
                x.shape[-self.AXES :], steps, pads, gaps, self.weight.shape[2:], strict=True
            )
        ]
        left = tuple(size - end for size, end in zip(tuple(output_size)[-self.AXES :], ends, strict=True))
        if not all(0 <= more < step for more, step in zip(left, steps, strict=True)):
            raise InvalidGraph(f"{tuple(output_size)} is not within a stride of {tuple(ends)}", "output_size")
        return stride, padding, left, groups, dilation


class ConvTranspose1d(_Transposed):
    """(batch, in, n) → (batch, out, m): the transpose of Conv1d, weight (in, out / groups, k)."""

    AXES = 1

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """See `Tensor.conv_transpose1d`; `output_size` decides the output padding."""
        return x.conv_transpose1d(self.weight, self.bias, *self._fitting(x, output_size))


class ConvTranspose2d(_Transposed):
    """(batch, in, …) of two axes → (batch, out, …): the transpose of Conv2d, weight (in, out / groups, k, k)."""

    AXES = 2

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """See `Tensor.conv_transpose2d`; `output_size` decides the output padding."""
        return x.conv_transpose2d(self.weight, self.bias, *self._fitting(x, output_size))


class ConvTranspose3d(_Transposed):
    """(batch, in, …) of three axes → (batch, out, …): the transpose of Conv3d, weight (in, out / groups, k, k, k)."""

    AXES = 3

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """See `Tensor.conv_transpose3d`; `output_size` decides the output padding."""
        return x.conv_transpose3d(self.weight, self.bias, *self._fitting(x, output_size))
