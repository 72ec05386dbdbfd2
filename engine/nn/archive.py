"""Checkpoints of any shape: tensors within dicts, lists and tuples, beside numbers and text, in a safetensors file.

The tensors are those of the file, by the way there with slashes; the rest is JSON in its head, so that nothing is
executed when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from engine.errors import InvalidGraph
from engine.nn.checkpoint import Checkpoint, safe_load, safe_save
from engine.tensor import Tensor

KEY = "structure"  # in the file's metadata


def save(value: Any, path: str | PathLike[str]) -> None:
    """Write a value. InvalidGraph, with the way there, for what is none of the kinds above, such as a module."""
    if isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(one, Tensor) for name, one in value.items()
    ):
        safe_save(value, path)
        return
    tensors: dict[str, Tensor] = {}
    structure = _described(value, "", tensors)
    safe_save(tensors, path, {KEY: json.dumps(structure)})


def load(path: str | PathLike[str], device: str | None = None) -> Any:
    """What `save` wrote; of any other safetensors file its tensors by name. InvalidGraph if it is no such file."""
    found = safe_load(path, device)
    described = found.metadata.get(KEY)
    return dict(found) if described is None else _rebuilt(json.loads(described), found)


def _described(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """The value as JSON: what JSON has not as {kind: …}. Tensors are gathered by name."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        tensors[name] = value if isinstance(value, Tensor) else Tensor(value)
        return {"tensor": name}
    if isinstance(value, Mapping):
        pairs = []
        for key, one in value.items():
            if not isinstance(key, str | int):
                raise InvalidGraph(
                    f"{name or 'the top'} has the key {key!r}: keys are text or integers", "save"
                )
            pairs.append([key, _described(one, f"{name}/{key}" if name else str(key), tensors)])
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        parts = [_described(one, f"{name}/{n}" if name else str(n), tensors) for n, one in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    where = f"{name} is " if name else ""
    raise InvalidGraph(
        f"{where}{type(value).__name__}: save its state_dict(); tensors, dicts, lists, numbers and "
        "text can be kept",
        "save",
    )


def _rebuilt(node: Any, tensors: Checkpoint) -> Any:
    if isinstance(node, list):
        return [_rebuilt(one, tensors) for one in node]
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_rebuilt(one, tensors) for one in content)
    return {key: _rebuilt(one, tensors) for key, one in content}
