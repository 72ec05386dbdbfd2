"""What parameters start from: PyTorch's distributions, from Tensor.rand and Tensor.randn."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

from engine import dtype as dt
from engine.autograd import no_grad
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.tensor import Tensor


def check_sizes(**sizes: int) -> None:
    """InvalidGraph, with the argument's name, for a size that is no whole number from 0 on."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InvalidGraph(f"{size!r} must be a whole number, 0 or more", name)


@no_grad()
def uniform(shape: Sequence[int], bound: float, dtype: DType = dt.float32) -> Tensor:
    """A parameter, uniform from -bound to bound."""
    return parameter(((Tensor.rand(*shape) * 2 - 1) * bound).cast(dtype))


@no_grad()
def normal(shape: Sequence[int], deviation: float = 1.0, dtype: DType = dt.float32) -> Tensor:
    """A parameter, normal around 0."""
    return parameter((Tensor.randn(*shape) * deviation).cast(dtype))


def constant(shape: Sequence[int], value: float, dtype: DType = dt.float32) -> Tensor:
    """A parameter with one value everywhere."""
    return parameter(Tensor.full(tuple(shape), value, dtype))


def parameter(tensor: Tensor) -> Tensor:
    """`tensor` as a leaf that requires gradients; computed now, so that no forward pass draws it anew."""
    return tensor.realize().requires_grad_()


def fan_in_bound(shape: Sequence[int]) -> float:
    """The bound of He's uniform distribution with a = √5 for a weight (out, in, …): 1 / √(inputs of an output)."""
    inputs = prod(shape[1:])
    return 1 / sqrt(inputs) if inputs else 0.0


def glorot_bound(shape: Sequence[int]) -> float:
    """The bound of Glorot's uniform distribution for a weight (out, in)."""
    return sqrt(6 / (shape[0] + shape[1]))
