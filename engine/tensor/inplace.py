"""PyTorch's methods that end in "_", and `+=` and its like: this tensor takes the result, and with it its views and
what it is a view of (engine.tensor.views). A leaf that requires gradients is changed under no_grad() only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from engine import build
from engine.dtype import DType, bool_
from engine.errors import InvalidGraph
from engine.tensor.randomness import Randomness
from engine.tensor.value import Operand


def _in_place(name: str) -> Callable[..., Any]:
    """The method of that name, whose result this tensor takes."""

    def changed(self: InPlace, *args: Any, **options: Any) -> Any:
        return self._become(getattr(self, name)(*args, **options), f"{name}_")

    changed.__name__ = f"{name}_"
    changed.__doc__ = f"`{name}`, whose result this tensor takes; returns it."
    return changed


def _operator(name: str, sign: str) -> Callable[..., Any]:
    """What Python calls for an operator with "="."""

    def changed(self: InPlace, other: Operand) -> Any:
        result = self._fitting(getattr(self, f"__{name}__")(other), sign)
        self._take(result.node)
        return self

    changed.__name__ = f"__i{name}__"
    changed.__doc__ = f"self {sign} other: this tensor takes the result."
    return changed


class InPlace(Randomness):
    """Each is the method without the "_", and an assignment."""

    __slots__ = ()

    def _become(self, result: Any, name: str) -> Self:
        """Take a result, in this tensor's dtype; see `_fitting`."""
        return self.assign(self._fitting(result, name))

    def _fitting(self, result: Any, name: str) -> Self:
        """A result in this tensor's dtype. InvalidGraph for a float in an integer, a number in bool, and another shape."""
        given, own = result.dtype, self.dtype
        if (given.is_float and not own.is_float) or (own is bool_ and given is not bool_):
            raise InvalidGraph(
                f"the result is {given.name}, which {own.name} cannot take: cast this tensor before", name
            )
        if result.shape != self.shape:
            raise InvalidGraph(
                f"the result has the shape {result.shape}, and this tensor keeps its own, {self.shape}", name
            )
        fitting: Self = result.cast(own)
        return fitting

    __iadd__, __isub__ = _operator("add", "+="), _operator("sub", "-=")
    __imul__, __itruediv__ = _operator("mul", "*="), _operator("truediv", "/=")
    __ifloordiv__, __imod__ = _operator("floordiv", "//="), _operator("mod", "%=")
    __ipow__, __iand__ = _operator("pow", "**="), _operator("and", "&=")
    __ior__, __ixor__ = _operator("or", "|="), _operator("xor", "^=")
    __ilshift__, __irshift__ = _operator("lshift", "<<="), _operator("rshift", ">>=")

    def move_(self, device: str) -> Self:
        """This tensor, leaf or not, is on another device from now on; its gradient is forgotten if it was elsewhere."""
        moved = self.detach().to(device)
        if moved.device != self.device:
            self._alone()
            self._value, self.device, self.grad = moved._value, moved.device, None
        return self

    def recast_(self, dtype: DType) -> Self:
        """This tensor, leaf or not, is of another float dtype from now on; its gradient is forgotten if it was of another."""
        if dtype is not self.dtype:
            self._alone()
            self._value, self.grad = build.cast(build.detach(self._value), dtype), None
            self.realize()
        return self

    def fill_diagonal_(self, fill_value: Operand) -> Self:
        """One value where all places are the same."""
        at = np.arange(min(self.shape))
        whole: Any = self
        whole[(at,) * self.ndim] = fill_value
        return self

    def zero_(self) -> Self:
        """All elements 0."""
        return self.fill_(0)

    def fill_(self, value: Operand) -> Self:
        """All elements one value."""
        node = build.broadcast(build.cast(self._operand(value), self.dtype), self.shape)
        return self.assign(self._new(node))

    def copy_(self, source: Operand) -> Self:
        """The elements of another tensor, broadcast and cast."""
        return self.fill_(source)

    def squeeze_(self, *axes: Any) -> Self:
        """`squeeze`: this tensor, which is no leaf that requires gradients, is of that shape from now on."""
        return self._reshaped("squeeze", *axes)

    def unsqueeze_(self, axis: int) -> Self:
        """`unsqueeze`: this tensor, which is no leaf that requires gradients, is of that shape from now on."""
        return self._reshaped("unsqueeze", axis)

    def t_(self) -> Self:
        """`t`: this tensor, which is no leaf that requires gradients, is that from now on."""
        return self._reshaped("t")

    def transpose_(self, dim0: int, dim1: int) -> Self:
        """`transpose`: this tensor, which is no leaf that requires gradients, is that from now on."""
        return self._reshaped("transpose", dim0, dim1)

    def _reshaped(self, name: str, *args: Any) -> Self:
        if self._leaf is not None:
            raise InvalidGraph("a leaf that requires gradients keeps its shape", f"{name}_")
        found = getattr(self, name)(*args)
        whole, self._views = self._whole(), None
        self._value, self._origins, self._strides = found._value, (), found._strides
        if whole is not None:  # the last step of the way was made from this tensor
            path = next(origin.path for origin in found._origins if origin.whole() is whole[0])
            self._join(whole[0], path)
        return self

    def normal_(self, mean: float = 0.0, std: float = 1.0, **options: Any) -> Self:
        """Normal random numbers."""
        made = {"device": self.device, **options}
        return self.assign(type(self).normal(*self.shape, mean=mean, std=std, dtype=self.dtype, **made))

    def uniform_(self, low: float = 0.0, high: float = 1.0, **options: Any) -> Self:
        """Uniform random numbers."""
        made = {"device": self.device, **options}
        return self.assign(type(self).uniform(*self.shape, low=low, high=high, dtype=self.dtype, **made))

    abs_, neg_, sqrt_, rsqrt_ = map(_in_place, ("abs", "neg", "sqrt", "rsqrt"))
    exp_, log_, sin_, cos_ = map(_in_place, ("exp", "log", "sin", "cos"))
    tanh_, sigmoid_, relu_, reciprocal_ = map(_in_place, ("tanh", "sigmoid", "relu", "reciprocal"))
    floor_, ceil_, round_, trunc_ = map(_in_place, ("floor", "ceil", "round", "trunc"))
    add_, sub_, mul_, div_ = map(_in_place, ("add", "sub", "mul", "div"))
    pow_, remainder_, floor_divide_, fmod_ = map(_in_place, ("pow", "remainder", "floor_divide", "fmod"))
    clamp_, clip_, lerp_, square_ = map(_in_place, ("clamp", "clip", "lerp", "square"))
    addcmul_, addcdiv_, masked_fill_ = map(_in_place, ("addcmul", "addcdiv", "masked_fill"))
    scatter_, scatter_add_, scatter_reduce_ = map(_in_place, ("scatter", "scatter_add", "scatter_reduce"))
    index_add_, index_copy_, index_fill_ = map(_in_place, ("index_add", "index_copy", "index_fill"))
    index_put_, masked_scatter_, nan_to_num_ = map(_in_place, ("index_put", "masked_scatter", "nan_to_num"))
    clamp_min_, clamp_max_, cumsum_, erf_ = map(_in_place, ("clamp_min", "clamp_max", "cumsum", "erf"))
    tril_, triu_, bernoulli_ = map(_in_place, ("tril", "triu", "bernoulli"))
    logical_and_, logical_or_, logical_not_ = map(_in_place, ("logical_and", "logical_or", "logical_not"))
