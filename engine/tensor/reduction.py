"""Reductions, and scans along an axis. What they do with no elements, NaN and half floats: engine.functions."""

from __future__ import annotations

from typing import Self

from engine.arguments import Axes, takes_dim
from engine.dtype import DType
from engine.functions import reduction, scan
from engine.ops import Op
from engine.tensor.value import Value


class Reduction(Value):
    """Methods that reduce `axis`: one, several, or (None) all of them."""

    __slots__ = ()

    @takes_dim
    def sum(self, axis: Axes = None, keepdim: bool = False, dtype: DType | None = None) -> Self:
        """The sum; of bool and integers an int64. Of nothing, 0."""
        return self._new(reduction.accumulated(Op.ADD, self._node, axis, keepdim, dtype))

    @takes_dim
    def prod(self, axis: Axes = None, keepdim: bool = False, dtype: DType | None = None) -> Self:
        """The product; of bool and integers an int64. Of nothing, 1."""
        return self._new(reduction.accumulated(Op.MUL, self._node, axis, keepdim, dtype))

    @takes_dim
    def max(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The greatest value, NaN if any is; ValueError of no elements. `argmax` has the place."""
        return self._new(reduction.extreme(Op.MAX, self._node, axis, keepdim))

    @takes_dim
    def min(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The least value, NaN if any is; ValueError of no elements. `argmin` has the place."""
        return self._new(reduction.extreme(Op.MIN, self._node, axis, keepdim))

    amax, amin = max, min

    @takes_dim
    def mean(self, axis: Axes = None, keepdim: bool = False, dtype: DType | None = None) -> Self:
        """The mean, a float; of nothing, NaN."""
        return self._new(reduction.mean(self._node, axis, keepdim, dtype))

    @takes_dim
    def var(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> Self:
        """The variance: squared distances from the mean, over the count less `correction`."""
        return self._new(reduction.variance(self._node, axis, correction, keepdim))

    @takes_dim
    def std(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> Self:
        """The standard deviation: the root of `var`."""
        return self._new(reduction.deviation(self._node, axis, correction, keepdim))

    @takes_dim
    def var_mean(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> tuple[Self, Self]:
        """(`var`, `mean`)."""
        mean = self._new(reduction.mean(self._node, axis, keepdim))
        return self._new(reduction.variance(self._node, axis, correction, keepdim)), mean

    @takes_dim
    def argmax(self, axis: int | None = None, keepdim: bool = False) -> Self:
        """The int64 place of the first greatest element (the first NaN if any); without an axis, of all in order."""
        return self._new(reduction.place_of_extreme(Op.MAX, self._node, axis, keepdim))

    @takes_dim
    def argmin(self, axis: int | None = None, keepdim: bool = False) -> Self:
        """The int64 place of the first least element (the first NaN if any); without an axis, of all in order."""
        return self._new(reduction.place_of_extreme(Op.MIN, self._node, axis, keepdim))

    @takes_dim
    def any(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """Whether any element is true (not 0); of nothing, False."""
        return self._new(reduction.any_of(self._node, axis, keepdim))

    @takes_dim
    def all(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """Whether all elements are true (not 0); of nothing, True."""
        return self._new(reduction.all_of(self._node, axis, keepdim))

    @takes_dim
    def count_nonzero(self, axis: Axes = None) -> Self:
        """How many elements are not 0, int64."""
        return self._new(reduction.count_nonzero(self._node, axis))

    @takes_dim
    def logsumexp(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """log Σ exp(x), safe for large x."""
        return self._new(reduction.log_sum_exp(self._node, axis, keepdim))

    @takes_dim
    def norm(self, p: float = 2, axis: Axes = None, keepdim: bool = False) -> Self:
        """(Σ |x|ᵖ)^(1/p); p of ±inf is the greatest or least |x|, of 0 the number that are not 0. Floats only."""
        return self._new(reduction.norm(self._node, p, axis, keepdim))

    @takes_dim
    def cumsum(self, axis: int = 0, dtype: DType | None = None) -> Self:
        """The running sum along an axis; of bool and integers int64."""
        return self._new(scan.accumulated(Op.ADD, self._node, axis, dtype))

    @takes_dim
    def cumprod(self, axis: int = 0, dtype: DType | None = None) -> Self:
        """The running product along an axis; of bool and integers int64."""
        return self._new(scan.accumulated(Op.MUL, self._node, axis, dtype))

    @takes_dim
    def cummax(self, axis: int = 0) -> tuple[Self, Self]:
        """(running maximum, the int64 place of each: the last of equals); NaN from the first NaN on."""
        values, places = scan.running_extreme(Op.MAX, self._node, axis)
        return self._new(values), self._new(places)

    @takes_dim
    def cummin(self, axis: int = 0) -> tuple[Self, Self]:
        """(running minimum, the int64 place of each: the last of equals); NaN from the first NaN on."""
        values, places = scan.running_extreme(Op.MIN, self._node, axis)
        return self._new(values), self._new(places)
