"""Functions of a tensor as layers, for those who write models as lists of layers."""

from __future__ import annotations

from typing import Any

from engine.nn import initial
from engine.nn.functional import prelu
from engine.nn.module import Module
from engine.tensor import Tensor


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        pass

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


class LeakyReLU(Module):
    """x, times a small slope where it is below 0."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.leaky_relu`."""
        return x.leaky_relu(self.negative_slope)


class ELU(Module):
    """x, or alpha (exp(x) - 1) where it is below 0."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.elu`."""
        return x.elu(self.alpha)


class PReLU(Module):
    """x, times a learnt slope where it is below 0: one, or one for each channel (axis 1)."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.weight = initial.constant((num_parameters,), init)

    def forward(self, x: Tensor) -> Tensor:
        """See `nn.functional.prelu`."""
        return prelu(x, self.weight)


class Softplus(Module):
    """log(1 + exp(beta x)) / beta."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.softplus`."""
        return x.softplus(self.beta, self.threshold)


class Softmax(Module):
    """exp(x) over its sum along an axis."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.softmax`."""
        return x.softmax(self.dim)


class LogSoftmax(Module):
    """The logarithm of softmax along an axis."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.log_softmax`."""
        return x.log_softmax(self.dim)


class Mish(Module):
    """x · tanh(softplus(x))."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.mish`."""
        return x.mish()


class Hardswish(Module):
    """x · relu6(x + 3) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.hardswish`."""
        return x.hardswish()


class Identity(Module):
    """Its argument; what it is made with is not looked at."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def forward(self, x: Any) -> Any:
        """x."""
        return x


class Flatten(Module):
    """Axes from `start_dim` to `end_dim` made one: all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.flatten`."""
        return x.flatten(self.start_dim, self.end_dim)


class _Plain(Module):
    """A method of Tensor without arguments."""

    METHOD = ""

    def __init__(self, inplace: bool = False) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        """See the method of Tensor by that name."""
        found: Tensor = getattr(x, self.METHOD)()
        return found


class ReLU6(_Plain):
    """min(max(x, 0), 6)."""

    METHOD = "relu6"


class SELU(_Plain):
    """`elu` with the scale and alpha that keep mean 0 and variance 1."""

    METHOD = "selu"


class LogSigmoid(_Plain):
    """log(sigmoid(x))."""

    METHOD = "logsigmoid"


class Softsign(_Plain):
    """x / (1 + |x|)."""

    METHOD = "softsign"


class Hardsigmoid(_Plain):
    """relu6(x + 3) / 6."""

    METHOD = "hardsigmoid"


class Hardtanh(Module):
    """x held between two limits."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val, self.max_val = min_val, max_val

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.hardtanh`."""
        return x.hardtanh(self.min_val, self.max_val)


class GLU(Module):
    """The first half of an axis times the sigmoid of the second."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.glu`."""
        return x.glu(self.dim)
