"""Putting elements in order."""

from __future__ import annotations

from typing import Any, Self

from engine.arguments import takes_dim
from engine.functions import movement, sorting
from engine.tensor.chosen import Chosen
from engine.tensor.value import Operand, Value


class Sorting(Value):
    """Methods that order an axis. NaN is greater than all numbers; equal elements stay in their order."""

    __slots__ = ()

    @takes_dim
    def sort(self, axis: int = -1, descending: bool = False, stable: bool = True) -> Chosen[Self]:
        """(the values in order, the int64 place each came from); always stable."""
        values, places = sorting.sort(self._node, axis, descending)
        return Chosen(self._new(values), self._new(places))

    @takes_dim
    def argsort(self, axis: int = -1, descending: bool = False, stable: bool = True) -> Self:
        """The int64 places of the elements in order; always stable."""
        return self._new(sorting.argsort(self._node, axis, descending))

    @takes_dim
    def topk(self, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> Chosen[Self]:
        """(the k greatest or least elements, their int64 places), in order whether or not `sorted`."""
        values, places = sorting.topk(self._node, k, axis, largest)
        return Chosen(self._new(values), self._new(places))

    def median(self, axis: int | None = None, keepdim: bool = False, *, dim: int | None = None) -> Any:
        """The middle element (of two the lesser) of an axis, or of all; NaN where there is one.

        By `axis` the values alone; by `dim`, as PyTorch, (values, indices).
        """
        if dim is not None:
            return Chosen(*map(self._new, sorting.median(self._node, dim, keepdim)))
        node = movement.flatten(self._node, 0, -1) if axis is None else self._node
        return self._new(sorting.median(node, 0 if axis is None else axis, keepdim)[0])

    @takes_dim
    def kthvalue(self, k: int, axis: int = -1, keepdim: bool = False) -> Chosen[Self]:
        """(the k-th least element of an axis, counted from 1, its int64 place)."""
        found = sorting.ranked(self._node, axis, k - 1, keepdim, "kthvalue")
        return Chosen(*map(self._new, found))

    def msort(self) -> Self:
        """Sorted along the first axis."""
        return self.sort(0).values

    def searchsorted(self, values: Operand, right: bool = False) -> Self:
        """Where each value would be put into this sorted tensor: before equal elements, with `right` behind them."""
        return self._with(lambda sequence, found: sorting.search(sequence, found, right), values)
