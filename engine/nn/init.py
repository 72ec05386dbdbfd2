"""torch.nn.init: distributions that a tensor is filled from, in place; each returns it."""

from __future__ import annotations

from math import sqrt

from engine.autograd import no_grad
from engine.errors import InvalidGraph
from engine.tensor import Tensor

_GAINS = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0}
_GAINS |= {"tanh": 5 / 3, "relu": sqrt(2.0), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights in front of a function are larger. InvalidGraph for one that is not known."""
    if nonlinearity == "leaky_relu":
        return sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise InvalidGraph(f"{nonlinearity!r} is not leaky_relu, {', '.join(_GAINS)}", "nonlinearity")
    return _GAINS[nonlinearity]


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform from a to b."""
    return tensor.uniform_(a, b).realize()


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal."""
    return tensor.normal_(mean, std).realize()


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value."""
    return tensor.fill_(val).realize()


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Glorot's uniform weights (out, in, …)."""
    return _taken(tensor, Tensor.xavier_uniform(*tensor.shape, gain=gain, device=tensor.device))


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Glorot's normal weights (out, in, …)."""
    return _taken(tensor, Tensor.xavier_normal(*tensor.shape, gain=gain, device=tensor.device))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """He's uniform weights (out, in, …)."""
    bound = sqrt(3.0) * calculate_gain(nonlinearity, a) / sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """He's normal weights (out, in, …)."""
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / sqrt(_fan(tensor, mode)))


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise InvalidGraph(f"{mode!r} is not fan_in or fan_out", "mode")
    if tensor.ndim < 2 or not tensor.numel():
        raise InvalidGraph(
            f"weights have at least the axes (out, in), and elements: not {tensor.shape}", "fan"
        )
    return tensor.numel() // tensor.shape[0 if mode == "fan_in" else 1]


@no_grad()
def _taken(tensor: Tensor, drawn: Tensor) -> Tensor:
    return tensor.copy_(drawn).realize()
