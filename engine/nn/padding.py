"""Padding as layers: so many elements before and behind the last axes."""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import InvalidGraph
from engine.nn.module import Module
from engine.tensor import Tensor


class _Pad(Module):
    AXES, MODE = 0, ""

    def __init__(self, padding: int | Sequence[int]) -> None:
        given = (padding,) * 2 * self.AXES if isinstance(padding, int) else tuple(padding)
        if len(given) != 2 * self.AXES:
            raise InvalidGraph(f"{given} is not {2 * self.AXES} numbers", f"{type(self).__name__}: padding")
        self.padding, self.value = given, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """See `Tensor.pad`."""
        return x.pad(self.padding, self.MODE, self.value if x.dtype.is_float else int(self.value))


class _ConstantPad(_Pad):
    MODE = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value


class ConstantPad1d(_ConstantPad):
    """One value round the last axis."""

    AXES = 1


class ConstantPad2d(_ConstantPad):
    """One value round the last two axes."""

    AXES = 2


class ConstantPad3d(_ConstantPad):
    """One value round the last three axes."""

    AXES = 3


class _ZeroPad(_Pad):
    MODE = "constant"


class ZeroPad1d(_ZeroPad):
    """Zeros round the last axis."""

    AXES = 1


class ZeroPad2d(_ZeroPad):
    """Zeros round the last two axes."""

    AXES = 2


class ZeroPad3d(_ZeroPad):
    """Zeros round the last three axes."""

    AXES = 3


class _ReflectionPad(_Pad):
    MODE = "reflect"


class ReflectionPad1d(_ReflectionPad):
    """The last axis mirrored at its ends, which are not repeated."""

    AXES = 1


class ReflectionPad2d(_ReflectionPad):
    """The last two axes mirrored at their ends, which are not repeated."""

    AXES = 2


class ReflectionPad3d(_ReflectionPad):
    """The last three axes mirrored at their ends, which are not repeated."""

    AXES = 3


class _ReplicationPad(_Pad):
    MODE = "replicate"


class ReplicationPad1d(_ReplicationPad):
    """The ends of the last axis repeated."""

    AXES = 1


class ReplicationPad2d(_ReplicationPad):
    """The ends of the last two axes repeated."""

    AXES = 2


class ReplicationPad3d(_ReplicationPad):
    """The ends of the last three axes repeated."""

    AXES = 3


class _CircularPad(_Pad):
    MODE = "circular"


class CircularPad1d(_CircularPad):
    """The last axis as if it were a ring."""

    AXES = 1


class CircularPad2d(_CircularPad):
    """The last two axes as if they were rings."""

    AXES = 2


class CircularPad3d(_CircularPad):
    """The last three axes as if they were rings."""

    AXES = 3
