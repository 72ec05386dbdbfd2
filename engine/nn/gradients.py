"""Gradients held within limits, between `backward` and an optimizer's step: torch.nn.utils."""

from __future__ import annotations

from collections.abc import Iterable

from engine.autograd import no_grad
from engine.tensor import Tensor


@no_grad()
def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float, norm_type: float = 2.0) -> Tensor:
    """Scale all gradients so that their norm, as of one vector, is `max_norm` at most; the norm that it was."""
    held = [p for p in _several(parameters) if p.grad is not None]
    if not held:
        return Tensor(0.0)
    norms = [p.grad.norm(norm_type) for p in held if p.grad is not None]
    total: Tensor = Tensor.stack(norms).norm(norm_type)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for p in held:
        assert p.grad is not None
        p.grad = p.grad * factor.cast(p.dtype)
    return total


@no_grad()
def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Hold every element of the gradients within ± `clip_value`."""
    for p in _several(parameters):
        if p.grad is not None:
            p.grad = p.grad.clamp(-clip_value, clip_value)


def _several(parameters: Iterable[Tensor] | Tensor) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)
