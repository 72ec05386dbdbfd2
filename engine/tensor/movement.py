"""Shapes and the order of elements: views, which copy nothing."""

from __future__ import annotations

from typing import Any, Self

from engine import build
from engine.arguments import Axes, axes_of, axis_of, inferred, integers
from engine.errors import InvalidGraph
from engine.shapes import shape_of
from engine.tensor.value import Value


class Movement(Value):
    """Methods that move elements."""

    __slots__ = ()

    def reshape(self, *shape: Any) -> Self:
        """The same elements in another shape; one size may be -1: whatever is left."""
        return self._new(build.reshape(self._node, inferred(integers(shape, "shape"), self.shape)))

    def flatten(self) -> Self:
        """All elements along one axis."""
        return self.reshape(self.numel())

    def unsqueeze(self, axis: int) -> Self:
        """With a new axis of size 1 at `axis`."""
        place = axis_of(axis, self.ndim + 1)
        return self.reshape((*self.shape[:place], 1, *self.shape[place:]))

    def squeeze(self, axis: Axes = None) -> Self:
        """Without the axes of size 1 (of those named, if any are)."""
        axes = axes_of(axis, self.ndim)
        return self.reshape(tuple(n for i, n in enumerate(self.shape) if n != 1 or i not in axes))

    def permute(self, *axes: Any) -> Self:
        """The axes in another order."""
        order = tuple(axis_of(axis, self.ndim) for axis in integers(axes, "axes"))
        if sorted(order) != list(range(self.ndim)):
            raise InvalidGraph(f"{order} is not an order of the {self.ndim} axes of {self.shape}", "permute")
        return self._new(build.permute(self._node, order))

    def transpose(self, first: int = 0, second: int = 1) -> Self:
        """Two axes swapped."""
        order = list(range(self.ndim))
        i, j = axis_of(first, self.ndim), axis_of(second, self.ndim)
        order[i], order[j] = order[j], order[i]
        return self.permute(order)

    @property
    def T(self) -> Self:
        """The axes in reverse order."""
        return self.permute(tuple(range(self.ndim))[::-1])

    def expand(self, *shape: Any) -> Self:
        """Axes of size 1 grown to `shape`, new axes in front; -1 keeps an axis."""
        wanted = integers(shape, "shape")
        old = (1,) * (len(wanted) - self.ndim) + self.shape
        if len(old) != len(wanted):
            raise InvalidGraph(f"cannot expand {self.shape} to {wanted}: fewer axes", "expand")
        kept = tuple(n if m == -1 else m for n, m in zip(old, wanted, strict=True))
        node = build.broadcast(self._node, kept)
        shape_of(node)
        return self._new(node)
