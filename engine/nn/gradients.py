"""torch.nn.utils: gradients held within limits, between `backward` and a step, and parameters as one vector."""

from __future__ import annotations

from collections.abc import Iterable

from engine.autograd import no_grad
from engine.errors import InvalidGraph
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


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters, one behind the other."""
    return Tensor.cat([p.flatten() for p in parameters])


@no_grad()
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """The elements of a vector to all parameters, as `parameters_to_vector` took them.

    InvalidGraph if there are not as many.
    """
    every = list(parameters)
    count = sum(p.numel() for p in every)
    if vec.shape != (count,):
        raise InvalidGraph(f"{vec.shape} is not one element for each of the parameters' {count}", "vec")
    for p, part in zip(every, vec.split([p.numel() for p in every]), strict=True):
        p.copy_(part.reshape(p.shape))
