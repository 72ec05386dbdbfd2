"""Convolution, pooling and images of another size; axes are (batch, channels, …), the batch optional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from engine.functions import convolution, pooling, resizing
from engine.functions.convolution import Padding
from engine.tensor.value import Operand, Value

Number = int | Sequence[int]


class Convolution(Value):
    """Methods that look at windows of the last axes. Half floats are summed in float32 and rounded once."""

    __slots__ = ()

    def _convolved(self, axes: int, weight: Operand, bias: Operand, *geometry: Any) -> Self:
        added = None if bias is None else self._operand(bias)
        return self._new(convolution.convolve(self._node, axes, self._operand(weight), added, *geometry))

    def _convolved_back(self, axes: int, weight: Operand, bias: Operand, geometry: Any) -> Self:
        added = None if bias is None else self._operand(bias)
        return self._new(
            convolution.convolve_transposed(self._node, axes, self._operand(weight), added, *geometry)
        )

    def conv1d(
        self,
        weight: Operand,
        bias: Operand = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Self:
        """(batch, in, 1 axes) by weights (out, in / groups, 1 axes); `padding` may be "same" or "valid"."""
        return self._convolved(1, weight, bias, stride, padding, dilation, groups)

    def conv2d(
        self,
        weight: Operand,
        bias: Operand = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Self:
        """(batch, in, 2 axes) by weights (out, in / groups, 2 axes); `padding` may be "same" or "valid"."""
        return self._convolved(2, weight, bias, stride, padding, dilation, groups)

    def conv3d(
        self,
        weight: Operand,
        bias: Operand = None,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> Self:
        """(batch, in, 3 axes) by weights (out, in / groups, 3 axes); `padding` may be "same" or "valid"."""
        return self._convolved(3, weight, bias, stride, padding, dilation, groups)

    def conv_transpose1d(
        self,
        weight: Operand,
        bias: Operand = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        dilation: int | Sequence[int] = 1,
    ) -> Self:
        """The transpose of `conv1d`: (batch, in, 1 axes) by weights (in, out / groups, 1 axes)."""
        geometry = (stride, padding, output_padding, groups, dilation)
        return self._convolved_back(1, weight, bias, geometry)

    def conv_transpose2d(
        self,
        weight: Operand,
        bias: Operand = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        dilation: int | Sequence[int] = 1,
    ) -> Self:
        """The transpose of `conv2d`: (batch, in, 2 axes) by weights (in, out / groups, 2 axes)."""
        geometry = (stride, padding, output_padding, groups, dilation)
        return self._convolved_back(2, weight, bias, geometry)

    def conv_transpose3d(
        self,
        weight: Operand,
        bias: Operand = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        dilation: int | Sequence[int] = 1,
    ) -> Self:
        """The transpose of `conv3d`: (batch, in, 3 axes) by weights (in, out / groups, 3 axes)."""
        geometry = (stride, padding, output_padding, groups, dilation)
        return self._convolved_back(3, weight, bias, geometry)

    def _pooled(self, with_places: bool, axes: int, *geometry: Any) -> Any:
        """The maxima; with their places among all of the last axes, int64, if these are asked for."""
        found, places = pooling.max_pool(self._node, axes, *geometry)
        return (self._new(found), self._new(places)) if with_places else self._new(found)

    def max_pool1d(
        self,
        kernel_size: Number,
        stride: Number | None = None,
        padding: Number = 0,
        dilation: Number = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """The greatest element of each window of the last axis; windows side by side unless `stride` says."""
        return self._pooled(return_indices, 1, kernel_size, stride, padding, dilation, ceil_mode)

    def max_pool2d(
        self,
        kernel_size: Number,
        stride: Number | None = None,
        padding: Number = 0,
        dilation: Number = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """The greatest element of each window of the last 2 axes; windows side by side unless `stride` says."""
        return self._pooled(return_indices, 2, kernel_size, stride, padding, dilation, ceil_mode)

    def max_pool3d(
        self,
        kernel_size: Number,
        stride: Number | None = None,
        padding: Number = 0,
        dilation: Number = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """The greatest element of each window of the last 3 axes; windows side by side unless `stride` says."""
        return self._pooled(return_indices, 3, kernel_size, stride, padding, dilation, ceil_mode)

    def avg_pool1d(
        self,
        kernel_size: Number,
        stride: Number | None = None,
        padding: Number = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Self:
        """The mean of each window of the last axis; windows side by side unless `stride` says."""
        return self._new(
            pooling.mean_pool(self._node, 1, kernel_size, stride, padding, ceil_mode, count_include_pad)
        )

    def avg_pool2d(
        self,
        kernel_size: Number,
        stride: Number | None = None,
        padding: Number = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Self:
        """The mean of each window of the last 2 axes; windows side by side unless `stride` says.

        With `divisor_override` the sum over that.
        """
        return self._new(
            pooling.mean_pool(
                self._node,
                2,
                kernel_size,
                stride,
                padding,
                ceil_mode,
                count_include_pad,
                divisor_override,
            )
        )

    def avg_pool3d(
        self,
        kernel_size: Number,
        stride: Number | None = None,
        padding: Number = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Self:
        """The mean of each window of the last 3 axes; windows side by side unless `stride` says.

        With `divisor_override` the sum over that.
        """
        return self._new(
            pooling.mean_pool(
                self._node,
                3,
                kernel_size,
                stride,
                padding,
                ceil_mode,
                count_include_pad,
                divisor_override,
            )
        )

    def adaptive_avg_pool1d(self, output_size: int | Sequence[int | None]) -> Self:
        """The mean of so many parts of the last axis, which overlap where they are not equal."""
        return self._new(pooling.adaptive_mean_pool(self._node, 1, output_size))

    def adaptive_avg_pool2d(self, output_size: int | Sequence[int | None]) -> Self:
        """The mean of so many parts of each of the last 2 axes, which overlap where they are not equal."""
        return self._new(pooling.adaptive_mean_pool(self._node, 2, output_size))

    def adaptive_avg_pool3d(self, output_size: int | Sequence[int | None]) -> Self:
        """The mean of so many parts of each of the last 3 axes, which overlap where they are not equal."""
        return self._new(pooling.adaptive_mean_pool(self._node, 3, output_size))

    def _largest_parts(self, axes: int, output: Any, return_indices: bool) -> Any:
        found, places = pooling.adaptive_max_pool(self._node, axes, output)
        return (self._new(found), self._new(places)) if return_indices else self._new(found)

    def adaptive_max_pool1d(
        self, output_size: int | Sequence[int | None], return_indices: bool = False
    ) -> Any:
        """The greatest of so many parts of the last axis, and with `return_indices` its place."""
        return self._largest_parts(1, output_size, return_indices)

    def adaptive_max_pool2d(
        self, output_size: int | Sequence[int | None], return_indices: bool = False
    ) -> Any:
        """The greatest of so many parts of each of the last 2 axes, and with `return_indices` its place."""
        return self._largest_parts(2, output_size, return_indices)

    def adaptive_max_pool3d(
        self, output_size: int | Sequence[int | None], return_indices: bool = False
    ) -> Any:
        """The greatest of so many parts of each of the last 3 axes, and with `return_indices` its place."""
        return self._largest_parts(3, output_size, return_indices)

    def interpolate(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> Self:
        """The last axes of another size, the nearest element or (linear, bilinear, trilinear) between the two next."""
        return self._new(resizing.interpolate(self._node, size, scale_factor, mode, align_corners))
