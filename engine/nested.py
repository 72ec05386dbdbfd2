"""Tensors inside lists, tuples, dicts and dataclasses: taken out in a fixed order, and put back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from engine.cell import Cell
from engine.errors import CaptureError
from engine.sizes import is_open

C = TypeVar("C", bound=Cell)


def cells_of(value: Any) -> Iterator[Cell]:
    """The tensors in `value`, in the order in which `rebuilt` asks for them."""
    if isinstance(value, Cell):
        yield value
        return
    for _, part in _parts(value):
        yield from cells_of(part)


def values_of(value: Any) -> Iterator[Any]:
    """What stands in `value` where neither tensors nor containers do."""
    if isinstance(value, Cell):
        return
    if is_open(value) or not _is_container(value):
        yield value
        return
    for _, part in _parts(value):
        yield from values_of(part)


def rebuilt(value: Any, replace: Callable[[Cell], Any]) -> Any:
    """`value` with each tensor replaced, in containers of its own; what holds no tensor is as it was."""
    if isinstance(value, Cell):
        return replace(value)
    parts = [(name, rebuilt(part, replace)) for name, part in _parts(value)]
    if all(new is old for (_, new), (_, old) in zip(parts, _parts(value), strict=True)):
        return value
    return _assembled(value, parts)


def key_of(value: Any, place: str) -> Hashable:
    """What two arguments must share to be one case: structure and plain values; of tensors only that they are there.

    CaptureError names the place of a value that cannot be compared (it has no hash).
    """
    if isinstance(value, Cell):
        return Cell
    if _is_container(value):
        return (
            type(value),
            tuple((n, key_of(part, f"{place}{_step(value, n)}")) for n, part in _parts(value)),
        )
    try:
        hash(value)
    except TypeError:
        kind = type(value).__name__
        why = "pass a Tensor for data, or what can be compared: numbers, strings, tuples"
        raise CaptureError(f"{place} is a {kind}, which jit cannot tell from another: {why}") from None
    # 1, 1.0 and True are equal, and so are 0.0 and -0.0: they are different cases
    return (type(value), repr(value) if isinstance(value, float | complex) else value)


def _is_container(value: Any) -> bool:
    return isinstance(value, list | tuple | dict) or (is_dataclass(value) and not isinstance(value, type))


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return []


def _assembled(value: Any, parts: list[tuple[Any, Any]]) -> Any:
    if isinstance(value, dict):
        return type(value)(parts)
    values = [part for _, part in parts]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*values)
    if isinstance(value, list | tuple):
        return type(value)(values)
    found = copy.copy(value)
    for name, part in parts:
        object.__setattr__(found, name, part)  # also of a frozen one: nobody else has seen it yet
    return found


def _step(value: Any, name: Any) -> str:
    return f".{name}" if is_dataclass(value) else f"[{name!r}]"
