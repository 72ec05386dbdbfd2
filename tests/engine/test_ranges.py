"""Axes and leaves are plain values."""

from __future__ import annotations

from engine.opts import RangeType
from engine.ranges import Axis, Leaf


def test_an_axis_of_a_reduce_disappears_and_one_of_the_output_does_not() -> None:
    assert Axis("r0", 0, 8).reduce
    assert not Axis("out", 0, 8).reduce


def test_axes_are_equal_by_what_they_are() -> None:
    assert Axis("out", 1, 8) == Axis("out", 1, 8)
    assert Axis("out", 1, 8) != Axis("r0", 1, 8)


def test_a_leaf_reads_as_its_axis_extent_stride_and_type() -> None:
    assert str(Leaf(3, Axis("out", 1, 64), 4, 16, RangeType.UPCAST)) == "out.1:4x16:UPCAST"
