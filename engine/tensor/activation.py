"""Activations."""

from __future__ import annotations

from typing import Self

from engine.arguments import takes_dim
from engine.build import cast
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions import activation, softmax
from engine.tensor.value import Value


class Activation(Value):
    """Methods between layers; float16 and bfloat16 are computed in float32 and rounded once."""

    __slots__ = ()

    def relu(self) -> Self:
        """x above 0, else 0; NaN stays."""
        return self._new(activation.relu(self._node))

    def relu6(self) -> Self:
        """x held between 0 and 6."""
        return self._new(activation.relu6(self._node))

    def leaky_relu(self, negative_slope: float = 0.01) -> Self:
        """x above 0, else negative_slope · x."""
        return self._new(activation.leaky_relu(self._node, negative_slope))

    def elu(self, alpha: float = 1.0) -> Self:
        """x above 0, else alpha (exp(x) - 1)."""
        return self._new(activation.elu(self._node, alpha))

    def selu(self) -> Self:
        """elu scaled so that layers keep mean 0 and variance 1."""
        return self._new(activation.selu(self._node))

    def sigmoid(self) -> Self:
        """1 / (1 + exp(-x))."""
        return self._new(activation.sigmoid(self._node))

    def logsigmoid(self) -> Self:
        """log(sigmoid(x)), for very negative x too."""
        return self._new(activation.log_sigmoid(self._node))

    def softplus(self, beta: float = 1.0, threshold: float = 20.0) -> Self:
        """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
        return self._new(activation.softplus(self._node, beta, threshold))

    def silu(self) -> Self:
        """x · sigmoid(x)."""
        return self._new(activation.silu(self._node))

    swish = silu

    def mish(self) -> Self:
        """x · tanh(softplus(x))."""
        return self._new(activation.mish(self._node))

    def gelu(self, approximate: str = "none") -> Self:
        """x times the normal distribution's probability of less than x; by erf ("none"), or nearly so by "tanh"."""
        if approximate not in ("none", "tanh"):
            raise InvalidGraph(f"approximate is 'none' or 'tanh', not {approximate!r}", "gelu")
        return self._new((activation.gelu if approximate == "none" else activation.tanh_gelu)(self._node))

    def quick_gelu(self) -> Self:
        """x · sigmoid(1.702 x)."""
        return self._new(activation.quick_gelu(self._node))

    def softsign(self) -> Self:
        """x / (1 + |x|)."""
        return self._new(activation.softsign(self._node))

    def hardtanh(self, min_val: float = -1.0, max_val: float = 1.0) -> Self:
        """x held between two limits."""
        return self._new(activation.between(self._node, min_val, max_val))

    def hardsigmoid(self) -> Self:
        """x / 6 + 1/2 held between 0 and 1."""
        return self._new(activation.hard_sigmoid(self._node))

    def hardswish(self) -> Self:
        """x · hardsigmoid(x)."""
        return self._new(activation.hard_swish(self._node))

    def softshrink(self, lambd: float = 0.5) -> Self:
        """x less `lambd` beyond ±lambd, else 0."""
        return self._new(activation.shrunk(self._node, lambd, True))

    def hardshrink(self, lambd: float = 0.5) -> Self:
        """x beyond ±lambd, else 0."""
        return self._new(activation.shrunk(self._node, lambd, False))

    @takes_dim
    def softmax(self, axis: int = -1, dtype: DType | None = None) -> Self:
        """exp(x) / Σ exp(x) along `axis`, safe for large x."""
        return self._new(softmax.softmax(cast(self._node, dtype or self.dtype), axis))

    @takes_dim
    def log_softmax(self, axis: int = -1, dtype: DType | None = None) -> Self:
        """log of `softmax`, without computing that."""
        return self._new(softmax.log_softmax(cast(self._node, dtype or self.dtype), axis))

    @takes_dim
    def glu(self, axis: int = -1) -> Self:
        """The first half of the axis times the sigmoid of the second."""
        return self._new(activation.gated(self._node, axis))
