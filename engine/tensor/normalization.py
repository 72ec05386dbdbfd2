"""Norms and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from engine.arguments import Axes, axes_of, numbers, takes_dim
from engine.build import cast
from engine.functions import attention, normalization
from engine.functions.arithmetic import as_float, wider
from engine.ir import UOp
from engine.tensor.value import Operand, Value


class Normalization(Value):
    """Methods of layers that look at many elements at once; half floats are computed in float32."""

    __slots__ = ()

    def _optional(self, other: Operand) -> UOp | None:
        return None if other is None else self._operand(other)

    @takes_dim
    def layernorm(self, axis: Axes = -1, eps: float = 1e-5) -> Self:
        """(x - mean) / √(variance + eps) over the axes."""
        number = as_float(self._node)
        found = normalization.normalized(wider(number), axes_of(axis, self.ndim), eps)
        return self._new(cast(found, number.dtype))

    def layer_norm(
        self,
        normalized_shape: int | Sequence[int],
        weight: Operand = None,
        bias: Operand = None,
        eps: float = 1e-5,
    ) -> Self:
        """Normalized over the last axes, which are of that shape; then times the weight and plus the bias."""
        shape = numbers(normalized_shape, "normalized_shape")
        scale, shift = self._optional(weight), self._optional(bias)
        return self._new(normalization.layer_norm(self._node, shape, scale, shift, eps))

    def rms_norm(
        self, normalized_shape: int | Sequence[int], weight: Operand = None, eps: float | None = None
    ) -> Self:
        """x over the root of the mean of its squares, over the last axes.

        eps is, unless given, that of the dtype that it is computed in: float32 at least.
        """
        shape = numbers(normalized_shape, "normalized_shape")
        least = 2.0 ** -wider(as_float(self._node)).dtype.mantissa if eps is None else eps
        return self._new(normalization.rms_norm(self._node, shape, self._optional(weight), least))

    def group_norm(
        self, num_groups: int, weight: Operand = None, bias: Operand = None, eps: float = 1e-5
    ) -> Self:
        """(batch, channels, …) normalized over each of so many groups of channels and all further axes."""
        scale, shift = self._optional(weight), self._optional(bias)
        return self._new(normalization.group_norm(self._node, num_groups, scale, shift, eps))

    def instance_norm(self, weight: Operand = None, bias: Operand = None, eps: float = 1e-5) -> Self:
        """(batch, channels, …) normalized over all further axes."""
        return self.group_norm(self.shape[1] if self.ndim > 1 else 0, weight, bias, eps)

    def batch_statistics(self) -> tuple[Self, Self]:
        """(mean, variance without correction) of each channel of (batch, channels, …), over all other axes."""
        mean, variance = normalization.batch_statistics(self._node)
        return self._new(mean), self._new(variance)

    def batch_norm(
        self,
        mean: Operand = None,
        var: Operand = None,
        weight: Operand = None,
        bias: Operand = None,
        eps: float = 1e-5,
    ) -> Self:
        """(batch, channels, …) normalized by a mean and variance for each channel: the batch's own unless given."""
        own = normalization.batch_statistics(self._node) if mean is None or var is None else (None, None)
        at, spread = self._optional(mean) or own[0], self._optional(var) or own[1]
        assert at is not None
        assert spread is not None
        scale, shift = self._optional(weight), self._optional(bias)
        return self._new(normalization.batch_norm(self._node, at, spread, scale, shift, eps))

    def scaled_dot_product_attention(
        self,
        key: Operand,
        value: Operand,
        attn_mask: Operand = None,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Self:
        """softmax(self keyᵀ · scale + mask) value, over (…, length, width); see engine.functions.attention."""
        mask = self._optional(attn_mask)
        k, v = self._operand(key), self._operand(value)
        return self._new(attention.attention(self._node, k, v, mask, is_causal, scale, enable_gqa))
