"""Conversions between element types."""

from __future__ import annotations

from typing import Self

from engine import build
from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.tensor.value import Value


class Casting(Value):
    """Methods named after dtypes; nothing else may stand in this class, whose names hide Python's types."""

    __slots__ = ()

    def cast(self, dtype: DType) -> Self:
        """Converted: floats to integers truncate and saturate (NaN is 0), integers wrap, bool is x != 0.

        The tensor itself if it is of that dtype.
        """
        return self if dt.checked(dtype) is self.dtype else self._new(build.cast(self._node, dtype))

    def bitcast(self, dtype: DType) -> Self:
        """The same bits as another dtype of the same size; InvalidGraph where sizes differ, and for bool."""
        old = self.dtype
        if dtype != old and (dtype.itemsize != old.itemsize or dt.bool_ in (dtype, old)):
            raise InvalidGraph(
                f"{old.name} ({old.bits} bits) is not {dtype.name} ({dtype.bits} bits)", "bitcast"
            )
        return self._new(build.bitcast(self._node, dtype))

    def type_as(self, other: Value) -> Self:
        """As the dtype of another tensor."""
        return self.cast(other.dtype)

    def half(self) -> Self:
        """As float16."""
        return self.cast(dt.float16)

    def bfloat16(self) -> Self:
        """As bfloat16."""
        return self.cast(dt.bfloat16)

    def float(self) -> Self:
        """As float32."""
        return self.cast(dt.float32)

    def double(self) -> Self:
        """As float64."""
        return self.cast(dt.float64)

    def char(self) -> Self:
        """As int8."""
        return self.cast(dt.int8)

    def byte(self) -> Self:
        """As uint8."""
        return self.cast(dt.uint8)

    def short(self) -> Self:
        """As int16."""
        return self.cast(dt.int16)

    def int(self) -> Self:
        """As int32."""
        return self.cast(dt.int32)

    def long(self) -> Self:
        """As int64."""
        return self.cast(dt.int64)

    def bool(self) -> Self:
        """As bool: x != 0."""
        return self.cast(dt.bool_)
