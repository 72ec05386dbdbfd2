"""What a choice along an axis gives: the elements, and the places they came from."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

One = TypeVar("One")


class Chosen(NamedTuple, Generic[One]):
    """A pair, by name as in PyTorch: `values`, and their int64 places, `indices`."""

    values: One
    indices: One
