"""Reductions, and scans along an axis. What they do with no elements, NaN and half floats: engine.functions."""

from __future__ import annotations

from typing import Any, Self

from engine.arguments import Axes, takes_dim, takes_unbiased
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions import arithmetic, log_scan, reduction, scan
from engine.ops import Op
from engine.tensor.chosen import Chosen
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

    def max(self, axis: Axes | Value = None, keepdim: bool = False, *, dim: int | None = None) -> Any:
        """The greatest value, NaN if any is; ValueError of no elements.

        By `axis` the values alone, as NumPy and tinygrad give them; by `dim`, as PyTorch, (values, indices): the
        first place of each, which alone gets its gradient. Beside another tensor it is `maximum`.
        """
        return self._extreme(Op.MAX, axis, keepdim, dim)

    def min(self, axis: Axes | Value = None, keepdim: bool = False, *, dim: int | None = None) -> Any:
        """The least value, NaN if any is; otherwise as `max`."""
        return self._extreme(Op.MIN, axis, keepdim, dim)

    def _extreme(self, op: Op, axis: Any, keepdim: bool, dim: int | None) -> Any:
        if isinstance(axis, Value):
            return self._with(arithmetic.maximum if op is Op.MAX else arithmetic.minimum, axis)
        if dim is None:
            return self._new(reduction.extreme(op, self._node, axis, keepdim))
        if axis is not None:
            raise TypeError("axis and dim are two names of one argument")
        return Chosen(*map(self._new, reduction.chosen_extreme(op, self._node, dim, keepdim)))

    @takes_dim
    def amax(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The greatest value, NaN if any is; equals share the gradient. ValueError of no elements."""
        return self._new(reduction.extreme(Op.MAX, self._node, axis, keepdim))

    @takes_dim
    def amin(self, axis: Axes = None, keepdim: bool = False) -> Self:
        """The least value, NaN if any is; equals share the gradient. ValueError of no elements."""
        return self._new(reduction.extreme(Op.MIN, self._node, axis, keepdim))

    @takes_dim
    def aminmax(self, axis: Axes = None, keepdim: bool = False) -> tuple[Self, Self]:
        """(`amin`, `amax`)."""
        return self.amin(axis, keepdim), self.amax(axis, keepdim)

    @takes_dim
    def mean(self, axis: Axes = None, keepdim: bool = False, dtype: DType | None = None) -> Self:
        """The mean, a float; of nothing, NaN."""
        return self._new(reduction.mean(self._node, axis, keepdim, dtype))

    @takes_dim
    @takes_unbiased
    def var(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> Self:
        """The variance: squared distances from the mean, over the count less `correction` (`unbiased`: 1 or 0)."""
        return self._new(reduction.variance(self._node, axis, correction, keepdim))

    @takes_dim
    @takes_unbiased
    def std(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> Self:
        """The standard deviation: the root of `var`."""
        return self._new(reduction.deviation(self._node, axis, correction, keepdim))

    @takes_dim
    @takes_unbiased
    def var_mean(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> tuple[Self, Self]:
        """(`var`, `mean`)."""
        mean = self._new(reduction.mean(self._node, axis, keepdim))
        return self._new(reduction.variance(self._node, axis, correction, keepdim)), mean

    @takes_dim
    @takes_unbiased
    def std_mean(self, axis: Axes = None, correction: float = 1, keepdim: bool = False) -> tuple[Self, Self]:
        """(`std`, `mean`)."""
        return self.std(axis, correction, keepdim), self.mean(axis, keepdim)

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
    def norm(self, p: float | str = 2, axis: Axes = None, keepdim: bool = False) -> Self:
        """(Σ |x|ᵖ)^(1/p); p of ±inf is the greatest or least |x|, of 0 the number that are not 0. Floats only.

        "fro" is 2. InvalidGraph for "nuc", which takes singular values.
        """
        if isinstance(p, str):
            if p != "fro":
                raise InvalidGraph(f"{p!r} is no number and not 'fro'", "norm: p")
            p = 2
        return self._new(reduction.norm(self._node, p, axis, keepdim))

    @takes_dim
    def logcumsumexp(self, axis: int) -> Self:
        """The running log Σ exp(x) along an axis, safe for large x."""
        return self._new(log_scan.running_log_sum_exp(self._node, axis))

    @takes_dim
    def cumsum(self, axis: int = 0, dtype: DType | None = None) -> Self:
        """The running sum along an axis; of bool and integers int64."""
        return self._new(scan.accumulated(Op.ADD, self._node, axis, dtype))

    @takes_dim
    def cumprod(self, axis: int = 0, dtype: DType | None = None) -> Self:
        """The running product along an axis; of bool and integers int64."""
        return self._new(scan.accumulated(Op.MUL, self._node, axis, dtype))

    @takes_dim
    def cummax(self, axis: int = 0) -> Chosen[Self]:
        """(running maximum, the int64 place of each: the last of equals); NaN from the first NaN on."""
        values, places = scan.running_extreme(Op.MAX, self._node, axis)
        return Chosen(self._new(values), self._new(places))

    @takes_dim
    def cummin(self, axis: int = 0) -> Chosen[Self]:
        """(running minimum, the int64 place of each: the last of equals); NaN from the first NaN on."""
        values, places = scan.running_extreme(Op.MIN, self._node, axis)
        return Chosen(self._new(values), self._new(places))
