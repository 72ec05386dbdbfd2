"""Counts and statistics that need an order or pairs; what has a size that depends on the elements is computed now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor
from typing import Any, Self

import numpy as np

from engine.arguments import axis_of, takes_dim
from engine.build import detach
from engine.errors import InvalidGraph
from engine.tensor.casting import Casting
from engine.tensor.creation import Creation
from engine.tensor.elementwise import Elementwise
from engine.tensor.indexing import Indexing
from engine.tensor.linear import Linear
from engine.tensor.movement import Movement
from engine.tensor.operators import Operators
from engine.tensor.reduction import Reduction
from engine.tensor.sorting import Sorting

# How far on the way from the place before to the place behind, by the share of the way and the place.
_BETWEEN: dict[str, Callable[[float, float], float]] = {
    "linear": lambda share, at: share,
    "lower": lambda share, at: 0.0,
    "higher": lambda share, at: 1.0,
    "midpoint": lambda share, at: 0.5 if share else 0.0,
    "nearest": lambda share, at: float(round(at) - floor(at)),
}


class Statistics(Creation, Reduction, Casting, Elementwise, Operators, Movement, Indexing, Linear, Sorting):
    """Methods that are made of the others'."""

    __slots__ = ()

    @takes_dim
    def quantile(
        self, q: Any, axis: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
    ) -> Self:
        """Below which a share `q` of an axis's elements lie (of all, without an axis).

        `interpolation` between two of them: linear, lower, higher, midpoint or nearest. Several shares give an axis in
        front. NaN where there is one. InvalidGraph for a share that is none.
        """
        if interpolation not in _BETWEEN:
            raise InvalidGraph(f"{interpolation!r} is not one of {', '.join(_BETWEEN)}", "interpolation")
        shares = q.tolist() if hasattr(q, "tolist") else q
        x = self.flatten() if axis is None else self
        place = 0 if axis is None else axis_of(axis, self.ndim)
        order, spoilt = x.sort(place).values, x.isnan().any(place, True)

        def one(share: float) -> Any:
            if not 0 <= share <= 1:
                raise InvalidGraph(f"{share} is not from 0 to 1", "quantile: q")
            at = share * (x.shape[place] - 1)
            low, high = (order.narrow(place, end, 1) for end in (floor(at), ceil(at)))
            between = spoilt.where(
                float("nan"), low + (high - low) * _BETWEEN[interpolation](at - floor(at), at)
            )
            if not keepdim:
                return between.squeeze(place)
            return between if axis is not None else between.reshape((1,) * self.ndim)

        if not isinstance(shares, Sequence):
            found: Self = one(float(shares))
            return found
        every: Self = type(self).stack([one(share) for share in shares])
        return every

    @takes_dim
    def nanmedian(self, axis: int | None = None, keepdim: bool = False) -> Self:
        """The middle one (of two the lesser) of what is not NaN; NaN where nothing else is."""
        x = self.flatten() if axis is None else self
        place = 0 if axis is None else axis_of(axis, self.ndim)
        count = x.isnan().logical_not().sum(place, True)
        found = x.sort(place).values.gather(place, ((count - 1) // 2).clamp(min=0))
        return found if keepdim else found.squeeze(place)

    def unique(
        self,
        sorted: bool = True,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Any:
        """The different elements in order (slices of `dim`), and if asked for where each came to be and how often.

        Computed now.
        """
        found = np.unique(self.numpy(), return_inverse=True, return_counts=True, axis=dim)
        values, inverse, counts = (type(self)(part, device=self.device) for part in found)
        if not (return_inverse or return_counts):
            return values
        shaped = inverse.reshape(self.shape) if dim is None else inverse.flatten()
        return (values, *([shaped] if return_inverse else []), *([counts] if return_counts else []))

    def bincount(self, weights: Self | None = None, minlength: int = 0) -> Self:
        """How often each number from 0 on is there, or the sum of the weights of those; the size is computed now."""
        if self.ndim != 1 or not self.dtype.is_int:
            raise InvalidGraph(f"takes a vector of integers, not {self.dtype.name} {self.shape}", "bincount")
        count = max(int(self.numpy().max(initial=-1)) + 1, minlength)
        given = weights if weights is not None else self.ones_like(self.long().dtype)
        start = type(self).zeros(count, dtype=given.dtype, device=self.device)
        return start.scatter_add(0, self, given)

    def histc(self, bins: int = 100, min: float = 0, max: float = 0) -> Self:
        """How many elements lie in each of so many equal parts from min to max (if equal, of what there is, computed now)."""
        if min == max:
            values = self.numpy()
            min, max = float(values.min()), float(values.max())
            min, max = (min - 1, max + 1) if min == max else (min, max)
        flat = self.flatten()
        place = ((flat - min) / (max - min) * bins).floor().clamp(0, bins - 1).long()
        inside = (flat >= min).logical_and(flat <= max)
        start = type(self).zeros(bins, dtype=self.dtype, device=self.device)
        return start.scatter_add(0, self._new(detach(place._node)), inside.cast(self.dtype))

    def cov(self, correction: int = 1) -> Self:
        """The covariances of rows (a vector is one) over their columns."""
        x = self if self.ndim > 1 else self.unsqueeze(0)
        apart = x - x.mean(1, True)
        found = apart @ apart.T / max(x.shape[1] - correction, 0)
        return found if self.ndim > 1 else found.squeeze()

    def corrcoef(self) -> Self:
        """The correlations of rows."""
        found = self.cov()
        if self.ndim < 2:
            return found / found
        deviation = found.diagonal().sqrt()
        return (found / deviation.unsqueeze(1) / deviation).clamp(-1, 1)

    def isin(self, elements: Any) -> Self:
        """Is each element one of `elements`?"""
        other = self._new(self._operand(elements)).flatten()
        return (self.unsqueeze(-1) == other).any(-1)

    def cdist(self, other: Self, p: float = 2.0) -> Self:
        """(…, n, d) and (…, m, d) → (…, n, m): the p-norms of all differences of rows."""
        return (self.unsqueeze(-2) - other.unsqueeze(-3)).norm(p, -1)

    def masked_scatter(self, mask: Self, source: Self) -> Self:
        """This tensor with the elements of `source`, one after the other, where a mask is true."""
        wide = mask.expand(*self.shape)
        place = (wide.flatten().cumsum(0) - 1).clamp(min=0)
        return wide.where(source.flatten().take(place).reshape(self.shape), self)

    def index_put(self, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Self:
        """This tensor with values put, or with `accumulate` added, at the places that several indices name."""
        if not accumulate:
            found = self._new(self._node)
            found[tuple(indices)] = values
            return found
        numbers = type(self).arange(self.numel(), device=self.device).reshape(self.shape)[tuple(indices)]
        given = self._new(self._operand(values)).cast(self.dtype).expand(*numbers.shape)
        return self.flatten().scatter_add(0, numbers.flatten(), given.flatten()).reshape(self.shape)

    @takes_dim
    def tensor_split(self, parts: int | Sequence[int], axis: int = 0) -> tuple[Self, ...]:
        """So many parts of an axis, the first ones longer by one where they cannot be equal; or cut at places."""
        place = axis_of(axis, self.ndim)
        n = self.shape[place]
        if isinstance(parts, int):
            sizes = [n // parts + (i < n % parts) for i in range(parts)]
            return self.split(sizes, axis)
        ends = [0, *(min(max(end + n if end < 0 else end, 0), n) for end in parts), n]
        cuts = [slice(start, max(start, stop)) for start, stop in pairwise(ends)]
        return tuple(self[(*[slice(None)] * place, cut)] for cut in cuts)

    def hstack(self: Any, *others: Any) -> Any:
        """Tensors joined along axis 1, vectors along axis 0."""
        every = [*self, *others] if isinstance(self, Sequence) else [self, *others]
        return type(every[0]).cat(every, axis=0 if every[0].ndim < 2 else 1)

    def vstack(self: Any, *others: Any) -> Any:
        """Tensors joined along axis 0, vectors as rows."""
        every = [*self, *others] if isinstance(self, Sequence) else [self, *others]
        return type(every[0]).cat([x if x.ndim > 1 else x.reshape(1, -1) for x in every], axis=0)

    def cartesian_prod(self, *others: Self) -> Self:
        """Every choice of one element of each vector, a row each."""
        if not others:
            return self
        grid = self.meshgrid(*others)
        return type(self).stack([axis.flatten() for axis in grid], axis=1)

    def inner(self, other: Self) -> Self:
        """Products of last axes, summed."""
        return self @ other.T if other.ndim > 1 else self @ other

    def addr(self, vec1: Self, vec2: Self, beta: float = 1, alpha: float = 1) -> Self:
        """beta · self + alpha · the outer product of two vectors."""
        return self * beta + vec1.outer(vec2) * alpha
