"""What stands between the brackets of x[…], as entries that engine.functions.indexing reads and writes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index as as_integer
from types import EllipsisType
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.arguments import data_node
from engine.functions.indexing import Entry, NewAxis, Places, number_of, span_of
from engine.ir import UOp
from engine.realize import Array
from engine.shapes import Shape
from engine.sizes import is_open
from engine.tensor.known import check_places
from engine.tensor.value import Value

NodeOf = Callable[[Value], UOp]


def entries_of(key: Any, shape: Shape, node_of: NodeOf) -> list[Entry]:
    """One entry for each axis of `shape`, and NewAxis besides.

    A mask, of bool or of uint8 as in PyTorch, becomes the places where it is true: a tensor that is one is computed
    here and now. IndexError
    for numbers that are out of range, for too many of them, and for a mask of another shape; TypeError for the rest.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    parts = [_array(part) if isinstance(part, Sequence | np.ndarray) else part for part in parts]
    parts = _without_ellipsis(parts, len(shape))
    found: list[Entry] = []
    axis = 0
    for part in parts:
        entries = _entries(part, axis, shape, node_of)
        axis += sum(not isinstance(entry, NewAxis) for entry in entries)
        found += entries
    return found


def spelled(key: Any, shape: Shape) -> tuple[Any, Shape]:
    """`key` with masks of no axes (True, False, 0-d tensors of bool) as masks of an axis of size 1, and the shape with it."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if not any(map(_is_flag, parts)):
        return key, shape
    parts = [part if _is_flag(part) or not isinstance(part, Sequence) else _array(part) for part in parts]
    found: list[Any] = []
    sizes = list(shape)
    axis = 0
    for part in _without_ellipsis(parts, len(shape)):
        if _is_flag(part):
            sizes.insert(axis, 1)
            part = np.array([bool(part)])
        found.append(part)
        axis += _axes(part)
    return tuple(found), tuple(sizes)


def _is_flag(part: Any) -> bool:
    return isinstance(part, bool | np.bool_) or (
        _is_mask(part) and part.ndim == 0 and part.dtype in (dt.bool_, np.bool_)
    )


def _array(part: Any) -> Array:
    if isinstance(part, str):
        raise TypeError(f"an index is a number, a slice, an array, None or ..., not {part!r}")
    if isinstance(part, Sequence) and any(isinstance(item, Value) for item in part):
        part = [item.item() if isinstance(item, Value) else item for item in part]
    array = np.asarray(part)
    array = array.astype(np.int64) if array.size == 0 and not isinstance(part, np.ndarray) else array
    if array.dtype.kind not in "biu":
        raise TypeError(f"an index is of integers or bool, not {array.dtype}")
    return array


def _axes(part: Any) -> int:
    """How many axes a part of a key speaks of."""
    if part is None or _is_flag(part):
        return 0
    return part.ndim if _is_mask(part) else 1


def _is_mask(part: Any) -> bool:
    if isinstance(part, Value):
        return part.dtype in (dt.bool_, dt.uint8)
    return isinstance(part, np.ndarray) and part.dtype in (np.bool_, np.uint8)


def _without_ellipsis(parts: list[Any], ndim: int) -> list[Any]:
    """... spelled out as the slices it stands for, perhaps none."""
    places = [i for i, part in enumerate(parts) if isinstance(part, EllipsisType)]
    if len(places) > 1:
        raise IndexError("an index has at most one ...")
    named = sum(_axes(part) for part in parts if not isinstance(part, EllipsisType))
    if named > ndim:
        raise IndexError(f"{named} indices for {ndim} axes")
    at = places[0] if places else len(parts)
    whole: list[Any] = [slice(None)] * (ndim - named)
    return [*parts[:at], *whole, *parts[at + 1 :]]


def _entries(part: Any, axis: int, shape: Shape, node_of: NodeOf) -> list[Entry]:
    if part is None:
        return [NewAxis()]
    if isinstance(part, slice):
        return [span_of(slice(*map(_bound, (part.start, part.stop, part.step))), shape[axis])]
    if _is_mask(part):
        return _mask(part.numpy() if isinstance(part, Value) else part, axis, shape)
    if isinstance(part, Value):
        if not part.dtype.is_int:
            raise TypeError(f"an index is of integers or bool, not {part.dtype.name}")
        node = node_of(part)
        if not is_open(shape[axis]):
            check_places(node, axis, shape[axis], "x[…]", from_end=True)
        return [Places(node)]
    if isinstance(part, np.ndarray):
        return [_checked(part, axis, shape[axis])]
    try:
        return [number_of(as_integer(part), axis, shape[axis])]
    except TypeError:
        raise TypeError(f"an index is a number, a slice, an array, None or ..., not {part!r}") from None


def _bound(value: Any) -> int | None:
    return value if value is None or is_open(value) else as_integer(value)


def _mask(mask: Array, axis: int, shape: Shape) -> list[Entry]:
    if mask.shape != shape[axis : axis + mask.ndim]:
        hint = " (cast uint8 to int64 if it names places)" if mask.dtype == np.uint8 else ""
        raise IndexError(f"a mask of shape {mask.shape} does not fit axes {axis}… of shape {shape}{hint}")
    return [Places(data_node(places, None)) for places in np.nonzero(mask)]


def _checked(array: Array, axis: int, n: int) -> Places:
    wrong = array[(array < -n) | (array >= n)]
    if wrong.size:
        number_of(int(wrong.flat[0]), axis, n)
    return Places(data_node(array, None))


def only_mask(key: Any) -> Value | None:
    """The tensor of a key that is a mask and nothing else."""
    part = key[0] if isinstance(key, tuple) and len(key) == 1 else key
    return part if isinstance(part, Value) and part.dtype is dt.bool_ else None
