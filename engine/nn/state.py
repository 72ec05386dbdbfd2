"""tinygrad's functions of what a model holds: any object's tensors by the way there, with dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.nn.checkpoint import safe_load, safe_save
from engine.nn.module import Keys, load, modules_of, tensors_of
from engine.tensor import Tensor

__all__ = ["get_parameters", "get_state_dict", "load_state_dict", "safe_load", "safe_save"]


def get_state_dict(model: Any, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor that an object holds, also within its lists, tuples, dicts and objects, by its name."""
    start = prefix.strip(".")
    return {f"{start}.{name}" if start else name: tensor for name, tensor in tensors_of(model).items()}


def get_parameters(model: Any) -> list[Tensor]:
    """The parameters of an object, each once: what its modules have, and every float that it holds itself.

    Those floats are made to require gradients here, which in tinygrad the optimizer does.
    """
    of_modules = {id(tensor) for module in modules_of(model) for tensor in module.state_dict().values()}
    found: dict[int, Tensor] = {}
    for tensor in tensors_of(model).values():
        if id(tensor) not in of_modules and tensor.is_floating_point() and tensor.is_leaf:
            tensor.requires_grad = True
        if tensor.is_parameter:
            found[id(tensor)] = tensor
    return list(found.values())


def load_state_dict(
    model: Any, state_dict: Mapping[str, Any], strict: bool = True, verbose: bool = False
) -> Keys:
    """Give the tensors of an object the values of those names; InvalidGraph as `Module.load_state_dict`."""
    return load(tensors_of(model), state_dict, strict)
