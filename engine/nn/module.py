"""What a model is: tensors with names, found by looking at the attributes; `forward` says what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from engine.autograd import no_grad
from engine.errors import InvalidGraph
from engine.tensor import Tensor


class Module:
    """A part of a model. Calling it calls `forward`.

    Its state is every Tensor that an attribute holds, also within lists, tuples, dicts and other modules: named by
    the way there with dots, as in PyTorch ("layers.0.weight"). Names that begin with "_" are left out. Those tensors
    that require gradients are its parameters.
    """

    training = True

    def forward(self, *inputs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor of the state by its name, in the order of the attributes: the tensors themselves."""
        return {name: found for name, found in _walk(self) if isinstance(found, Tensor)}

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors that require gradients, each once, by their first name."""
        seen: set[Tensor] = set()
        for name, tensor in self.state_dict().items():
            if tensor.requires_grad and tensor not in seen:
                seen.add(tensor)
                yield name, tensor

    def parameters(self) -> list[Tensor]:
        """The tensors that require gradients, each once."""
        return [tensor for _, tensor in self.named_parameters()]

    def modules(self) -> list[Module]:
        """This module and those it is made of."""
        return [found for _, found in _walk(self) if isinstance(found, Module)]

    def train(self, mode: bool = True) -> Self:
        """Have Dropout drop and BatchNorm take statistics from here on (or not); returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for tensor in self.parameters():
            tensor.grad = None

    @no_grad()
    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Give the tensors of the state the values of those names (Tensors or arrays), cast to their dtypes.

        All or nothing: InvalidGraph names what is missing, what is unexpected (both only if `strict`) and which
        shapes differ.
        """
        own = self.state_dict()
        problems = _mismatches(own, state) + (_differences(own, state) if strict else [])
        if problems:
            raise InvalidGraph("; ".join(problems), "load_state_dict")
        for name in own.keys() & state.keys():
            own[name].assign(_tensor(state[name], own[name].device).cast(own[name].dtype))


def _tensor(value: Any, device: str) -> Tensor:
    return value.to(device) if isinstance(value, Tensor) else Tensor(value, device=device)


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[str]:
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    named = (("missing", missing), ("unexpected", unexpected))
    return [f"{word}: {', '.join(names)}" for word, names in named if names]


def _mismatches(own: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} has shape {tuple(state[name].shape)}, the model's is {tensor.shape}"
        for name, tensor in own.items()
        if name in state and tuple(state[name].shape) != tensor.shape
    ]


def _walk(root: Module) -> list[tuple[str, Module | Tensor]]:
    """Every module and tensor below `root`, and itself, by name: depth first, in the order of the attributes."""
    found: list[tuple[str, Module | Tensor]] = []
    stack: list[tuple[str, Any]] = [("", root)]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Module | Tensor):
            found.append((name, value))
        prefix = f"{name}." if name else ""
        stack.extend((prefix + key, child) for key, child in reversed(_children(value)))
    return found


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Module):
        return [(key, child) for key, child in vars(value).items() if not key.startswith("_")]
    if isinstance(value, list | tuple):
        return [(str(i), child) for i, child in enumerate(value)]
    if isinstance(value, dict):
        return [(str(key), child) for key, child in value.items()]
    return []


class Sequential(Module):
    """One layer after the other; a layer is a Module or any function of a tensor."""

    def __init__(self, *layers: Callable[[Any], Any]) -> None:
        for number, layer in enumerate(layers):
            setattr(self, str(number), layer)

    @property
    def layers(self) -> list[Callable[[Any], Any]]:
        """The layers in order."""
        return [layer for name, layer in vars(self).items() if name.isdigit()]

    def forward(self, x: Any) -> Any:
        """The last layer's result."""
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, number: int) -> Callable[[Any], Any]:
        return self.layers[number]
