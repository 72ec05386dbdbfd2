"""What training makes small."""

from __future__ import annotations

from engine.errors import InvalidGraph
from engine.tensor import Tensor


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """The mean over all examples of -log softmax(logits) at the example's class.

    logits (examples, kinds), classes (examples,) integers; those outside 0 … kinds - 1 are left out (of the mean
    as well): -100 marks what is not to be learned. InvalidGraph for other shapes or classes that are no integers.
    """
    if logits.ndim != 2 or classes.shape != logits.shape[:1] or not classes.dtype.is_int:
        given = f"{logits.shape} and {classes.dtype.name} {classes.shape}"
        raise InvalidGraph(f"takes (examples, kinds) and integers (examples,), not {given}", "cross_entropy")
    kinds = Tensor.arange(logits.shape[1], dtype=classes.dtype, device=logits.device)
    chosen = (classes.reshape(-1, 1) == kinds).cast(logits.dtype)
    return -(logits.log_softmax(-1) * chosen).sum() / chosen.sum()


def mse_loss(x: Tensor, y: Tensor) -> Tensor:
    """The mean of (x - y)²."""
    difference = x - y
    return (difference * difference).mean()
