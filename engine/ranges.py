"""Axes of a kernel's iteration space and the leaf ranges they are sums of: axis = Σ leaf · stride."""

from __future__ import annotations

from dataclasses import dataclass

from engine.opts import TARGET_OUT, RangeType


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of the iteration space: axis `index` of `target` ("out", or a reduce such as "r0").

    `extent` is in elements. Axes of one element are never made: they vanish, the numbers of the others stay.
    """

    target: str
    index: int
    extent: int

    @property
    def reduce(self) -> bool:
        """Does it disappear in the result?"""
        return self.target != TARGET_OUT

    def __str__(self) -> str:
        return f"{self.target}.{self.index}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A loop or a register dimension: value 0 … extent-1, each step moves `axis` by `stride` elements.

    The leaves of an axis cover it at least; only by its outermost leaf may they cover more, and then the
    part beyond the axis's extent is not executed. `id` is unique within a kernel.
    """

    id: int
    axis: Axis
    extent: int
    stride: int
    type: RangeType

    def __str__(self) -> str:
        return f"{self.axis}:{self.extent}x{self.stride}:{self.type.name}"
