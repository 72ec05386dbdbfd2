"""Reading and writing elements by their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np

from engine import build
from engine.arguments import axis_of, data_node, takes_dim
from engine.errors import InvalidGraph
from engine.functions import arithmetic, indexing, movement, scattering
from engine.shapes import shape_of
from engine.sizes import is_open
from engine.tensor.keys import entries_of, only_mask, spelled
from engine.tensor.known import check_places
from engine.tensor.value import Operand, Value

_SCATTERS = {None: "set", "add": "add", "sum": "add", "amax": "max", "max": "max"}


class Indexing(Value):
    """x[…] and its relatives. Places that a tensor names are not checked: one that does not exist reads 0."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Self:
        """Numbers, slices of any step, None, ..., arrays or tensors of integers, boolean masks: by NumPy's rules.

        IndexError for a number or slice list that is out of range. A mask that is a tensor is computed now, as the
        shape depends on it.
        """
        key, shape = spelled(key, self.shape)
        if shape != self.shape:
            return self._new(build.reshape(self._node, shape))[key]
        entries = entries_of(key, shape, self._operand)
        if any(isinstance(entry, indexing.Places) for entry in entries):
            return self._new(indexing.read(self._node, entries))
        return self._view(lambda node: indexing.read(node, entries))

    def __setitem__(self, key: Any, value: Operand) -> None:
        """`value` is put at the key; views of this tensor see it, and so does what it is a view of.

        Of places named twice the last value stays. The value is cast to this tensor's dtype and broadcast. A leaf
        stays one: InvalidGraph if it is given something with a gradient.
        """
        new = self._operand(value)
        mask = only_mask(key)
        if mask is not None and not shape_of(new) and mask.shape == self.shape[: mask.ndim]:
            here = build.reshape(self._operand(mask), mask.shape + (1,) * (self.ndim - mask.ndim))
            self._put(arithmetic.where(here, build.cast(new, self.dtype), self._value))
            return
        key, shape = spelled(key, self.shape)
        entries = entries_of(key, shape, self._operand)
        self._put(build.reshape(indexing.write(build.reshape(self._value, shape), entries, new), self.shape))

    def __iter__(self) -> Iterator[Self]:
        if not self.shape:
            raise TypeError("a 0-d tensor has nothing to iterate over")
        return (self[place] for place in range(len(self)))

    def _index(self, index: Any, axis: int | None, name: str, from_end: bool = False) -> Any:
        """An index as a node; IndexError for a place that is known not to be there (axis None: of all elements)."""
        node = self._operand(index) if isinstance(index, Value) else data_node(np.asarray(index), None)
        if axis is None:
            check_places(node, 0, self.numel(), name, from_end=from_end)
        elif self.shape and not is_open(self.shape[axis_of(axis, self.ndim)]):
            check_places(node, axis, self.shape[axis], name, from_end=from_end)
        return node

    @takes_dim
    def gather(self, axis: int, index: Operand) -> Self:
        """self[…, index[…, i, …], …] along an axis; the index has as many axes and may be smaller in the others."""
        return self._new(scattering.gather(self._node, axis, self._index(index, axis, "gather")))

    @takes_dim
    def index_select(self, axis: int, index: Operand) -> Self:
        """The slices of an axis that a 1-d index names."""
        return self._new(scattering.select(self._node, axis, self._index(index, axis, "index_select", True)))

    def take(self, index: Operand) -> Self:
        """The elements, numbered in row-major order, that an index of any shape names."""
        return self._new(scattering.take(self._node, self._index(index, None, "take", True)))

    @takes_dim
    def scatter(self, axis: int, index: Operand, src: Operand, reduce: str | None = None) -> Self:
        """This tensor with `src` (a tensor or a number) put at index along an axis; duplicates in order.

        `reduce`: None puts, "add" adds, "amax" keeps the greater.
        """
        if reduce not in _SCATTERS:
            raise InvalidGraph(f"reduce {reduce!r} is not one of None, add, amax", "scatter")
        at = self._index(index, axis, "scatter")
        source = self._operand(src)
        if not isinstance(src, Value):
            source = build.broadcast(source, shape_of(at))
        return self._new(scattering.scatter(self._node, axis, at, source, _SCATTERS[reduce]))

    @takes_dim
    def scatter_add(self, axis: int, index: Operand, src: Value) -> Self:
        """This tensor with `src` added in at index along an axis."""
        return self.scatter(axis, index, src, "add")

    @takes_dim
    def scatter_reduce(
        self, axis: int, index: Operand, src: Value, reduce: str, include_self: bool = True
    ) -> Self:
        """This tensor with, at each place, the sum, prod, mean, amax or amin of what is scattered there.

        With `include_self` its own element takes part. Places that nothing is scattered to stay.
        """
        source, at = self._operand(src), self._index(index, axis, "scatter_reduce")
        return self._new(scattering.scatter_reduce(self._node, axis, at, source, reduce, include_self))

    def _along(self, axis: int, index: Any, name: str) -> tuple[Any, int]:
        """A 1-d index spread over the other axes, and the axis counted from the front."""
        place = axis_of(axis, self.ndim)
        at = self._index(index, place, name)
        shape = shape_of(at)
        if len(shape) != 1:
            raise InvalidGraph(f"index {shape} is not 1-d", name)
        wanted = (*self.shape[:place], shape[0], *self.shape[place + 1 :])
        along = tuple(n if i == place else 1 for i, n in enumerate(wanted))
        return build.expand(build.reshape(at, along), wanted), place

    def _put_along(self, axis: int, index: Any, source: Any, how: str, name: str) -> Self:
        at, place = self._along(axis, index, name)
        given = build.broadcast(self._operand(source), shape_of(at))
        return self._new(scattering.scatter(self._node, place, at, given, how))

    @takes_dim
    def index_add(self, axis: int, index: Operand, source: Value, alpha: float = 1) -> Self:
        """This tensor with the slices of `source`, times alpha, added at the places that a 1-d index names."""
        return self._put_along(axis, index, source if alpha == 1 else source * alpha, "add", "index_add")  # type: ignore[operator]

    @takes_dim
    def index_copy(self, axis: int, index: Operand, source: Value) -> Self:
        """This tensor with the slices of `source` at the places that a 1-d index names."""
        return self._put_along(axis, index, source, "set", "index_copy")

    @takes_dim
    def index_fill(self, axis: int, index: Operand, value: Operand) -> Self:
        """This tensor with one value at the places of an axis that a 1-d index names."""
        at = self._new(self._index(index, axis_of(axis, self.ndim), "index_fill", True))
        counted = at._with(
            lambda a, n: arithmetic.where(arithmetic.less(a, 0), arithmetic.add(a, n), a), self.shape[axis]
        )
        return self._put_along(axis, counted, value, "set", "index_fill")

    @takes_dim
    def take_along_dim(self, indices: Operand, axis: int | None = None) -> Self:
        """`gather` by an index that is broadcast beside the axis; without an axis, of all elements in order."""
        if axis is None:
            return self.take(indices)
        place = axis_of(axis, self.ndim)
        at = self._index(indices, place, "take_along_dim")
        both = ([n if i != place else 1 for i, n in enumerate(s)] for s in (self.shape, shape_of(at)))
        beside = build.broadcast_shape(*map(tuple, both))
        own, named = (
            build.broadcast(node, (*beside[:place], shape_of(node)[place], *beside[place + 1 :]))
            for node in (self._node, at)
        )
        return self._new(scattering.gather(own, place, named))

    @takes_dim
    def select(self, axis: int, index: int) -> Self:
        """One slice of an axis, which disappears."""
        place = axis_of(axis, self.ndim)
        return self[(*[slice(None)] * place, index)]

    def argwhere(self) -> Self:
        """`nonzero`: a row of places for each element that is not 0; computed now."""
        found: Self = self.nonzero()
        return found

    def masked_select(self, mask: Value) -> Self:
        """The elements where a mask (broadcast) is true, 1-d in row-major order; the mask is computed now."""
        whole = self._new(movement.expand(self._node, build.broadcast_shape(self.shape, mask.shape)))
        return whole[mask.numpy() & np.ones(whole.shape, np.bool_)]

    def nonzero(self, as_tuple: bool = False) -> Any:
        """The int64 places of the elements that are not 0, a row each (or a tensor for each axis); computed now."""
        places: Sequence[Any] = np.nonzero(self.numpy()) if self.shape else ()
        if as_tuple:
            return tuple(type(self)(axis, device=self.device) for axis in places)
        count = len(places[0]) if self.shape else int(bool(self.item()))
        rows = np.stack(places, 1) if self.shape else np.zeros((count, 0), np.int64)
        return type(self)(rows.astype(np.int64), device=self.device)

    def one_hot(self, num_classes: int = -1) -> Self:
        """int64: for each number a last axis of `num_classes` that is 1 at it and 0 elsewhere.

        -1 classes are as many as the greatest number needs, which is computed now.
        """
        if num_classes < 0:
            num_classes = int(self.numpy().max(initial=-1)) + 1
        check_places(self._node, self.ndim, num_classes, "one_hot")
        return self._new(scattering.one_hot(self._node, num_classes))
