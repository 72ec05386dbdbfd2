"""Sorting is NumPy's stable sort: NaN last, equal elements in their order, every dtype and length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import equal, integers, normal

TYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]


@st.composite
def rows(draw: st.DrawFn) -> Any:
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    return draw(arrays(dtype, st.integers(1, 40)))


def reversed_order(array: Any) -> Any:
    """Stable places from the greatest: that of the array turned round, turned round."""
    return (len(array) - 1 - np.argsort(array[::-1], kind="stable"))[::-1]


@settings(max_examples=100, deadline=None)
@given(rows())
@pytest.mark.slow
def test_sorting_is_stable_for_every_dtype(array: Any) -> None:
    values, places = Tensor(array).sort()
    order = np.argsort(array, kind="stable")
    assert places.tolist() == order.tolist()
    np.testing.assert_array_equal(values.numpy(), array[order])
    assert Tensor(array).argsort(descending=True).tolist() == reversed_order(array).tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 255, 256, 257, 511, 1025])
@pytest.mark.parametrize("axis", [0, 1])
def test_long_axes_are_sorted_by_the_network(n: int, axis: int) -> None:
    array = integers(2, n, low=-50, high=50)
    array = array.T if axis == 0 else array
    values, places = Tensor(array).sort(axis)
    equal(values, np.sort(array, axis, kind="stable"))
    equal(places, np.argsort(array, axis, kind="stable"))


def test_long_axes_of_64_bits_and_half_floats() -> None:
    wide = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 300, np.int64)
    equal(Tensor(wide).sort()[0], np.sort(wide))
    double = np.random.default_rng(1).standard_normal(300)
    equal(Tensor(double).sort(descending=True)[0], np.sort(double)[::-1])
    for half in (dt.float16, dt.bfloat16):
        x = Tensor(normal(3, 50)).cast(half)
        assert x.sort()[0].dtype is half
        np.testing.assert_array_equal(x.sort()[0].float().numpy(), np.sort(x.float().numpy()))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("k", [0, 1, 3, 6])
def test_topk_is_the_front_of_the_order(largest: bool, k: int) -> None:
    array = normal(4, 6)
    order = np.argsort(-array if largest else array, 1, kind="stable")[:, :k]
    values, places = Tensor(array).topk(k, largest=largest)
    equal(places, order)
    equal(values, np.take_along_axis(array, order, 1))


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_the_median_is_the_lesser_of_two_and_nan_if_any_is(n: int) -> None:
    array = normal(3, n)
    wanted = np.sort(array, 1)[:, (n - 1) // 2]
    equal(Tensor(array).median(1), wanted)
    equal(Tensor(array).median(dim=1, keepdim=True).values, wanted[:, None])
    array[0, -1] = np.nan
    assert np.isnan(Tensor(array).median(1).numpy()).tolist() == [True, False, False]
    assert np.isnan(Tensor(array).median().item())


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 33])
def test_searchsorted_is_numpys(right: bool, n: int) -> None:
    sequence = np.sort(integers(n, low=-5, high=5).astype(np.float32))
    values = np.array([[-9, -5, 0, 1], [0.5, 5, np.inf, np.nan]], np.float32)
    side = "right" if right else "left"
    equal(Tensor(sequence).searchsorted(Tensor(values), right), np.searchsorted(sequence, values, side))  # type: ignore[call-overload]


def test_searchsorted_in_rows() -> None:
    sequence, values = np.sort(normal(3, 9)), normal(3, 4, seed=1)
    wanted = np.stack([np.searchsorted(s, v) for s, v in zip(sequence, values, strict=True)])
    equal(Tensor(sequence).searchsorted(Tensor(values)), wanted)
    with pytest.raises(InvalidGraph, match="leading axes"):
        Tensor(sequence).searchsorted(Tensor(values[:2]))


def test_what_cannot_be_sorted_is_refused() -> None:
    with pytest.raises(InvalidGraph, match=r"not 7 elements along axis 1 of \(4, 6\)"):
        Tensor(normal(4, 6)).topk(7, 1)
    with pytest.raises(IndexError, match="axis 2"):
        Tensor(normal(4, 6)).sort(2)
    with pytest.raises(ValueError, match="median over no elements"):
        Tensor.zeros(2, 0).median(1)
    assert Tensor(3.0).sort(0)[1].item() == 0
