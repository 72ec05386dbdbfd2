"""torch.autograd: gradients of some tensors with respect to others, without leaving any in `grad`."""

from __future__ import annotations

from collections.abc import Sequence

from engine.autograd import enable_grad, no_grad, set_grad_enabled
from engine.errors import InvalidGraph
from engine.gradient import gradients
from engine.tensor import Tensor

__all__ = ["backward", "enable_grad", "grad", "no_grad", "set_grad_enabled"]

Several = Tensor | Sequence[Tensor]
Seeds = Tensor | Sequence[Tensor | None] | None


def grad(
    outputs: Several,
    inputs: Several,
    grad_outputs: Seeds = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradient of Σ outputs · grad_outputs with respect to each input; `create_graph`: to be differentiated again.

    Graphs are kept whatever `retain_graph` says. InvalidGraph for an input that no output depends on (None of it with
    `allow_unused`), and for an output of several elements without its share of `grad_outputs`.
    """
    tops, targets = _several(outputs), _several(inputs)
    seeds = [top._seed(seed) for top, seed in zip(tops, _seeds(grad_outputs, len(tops)), strict=True)]
    found = gradients([top.node for top in tops], seeds, [target.node for target in targets])
    unused = [str(number) for number, node in enumerate(found) if node is None]
    if unused and not allow_unused:
        raise InvalidGraph(
            f"no output depends on inputs[{', '.join(unused)}]: pass allow_unused=True for None", "grad"
        )
    tensors = [
        None if node is None else Tensor._of(node, t.device) for node, t in zip(found, targets, strict=True)
    ]
    return tuple(t if t is None or create_graph else t.detach() for t in tensors)


def backward(tensors: Several, grad_tensors: Seeds = None) -> None:
    """`Tensor.backward` of each."""
    tops = _several(tensors)
    for top, seed in zip(tops, _seeds(grad_tensors, len(tops)), strict=True):
        top.backward(seed)


def _several(given: Several) -> list[Tensor]:
    return [given] if isinstance(given, Tensor) else list(given)


def _seeds(given: Seeds, count: int) -> list[Tensor | None]:
    if given is None:
        return [None] * count
    return [given] if isinstance(given, Tensor) else list(given)
