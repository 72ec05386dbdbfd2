"""Reductions and scans are NumPy's, half floats are summed in float32, NaN is not lost."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import equal, integers, normal, same

A = normal(4, 5, 6)
HOLED = np.where(np.random.default_rng(3).random((4, 5, 6)) < 0.1, np.float32(np.nan), np.round(A))
AXES = [None, 0, 1, -1, (0, 2), (), (0, 1, 2)]


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("keepdim", [False, True])
def test_means_spreads_and_truths(axis: Any, keepdim: bool) -> None:
    given: dict[str, Any] = {"axis": axis, "keepdims": keepdim}
    x = Tensor(A)
    same(x.mean(axis, keepdim), A.mean(**given), rtol=1e-5)
    same(x.var(axis, 0, keepdim), A.var(**given), rtol=1e-5)
    same(x.std(dim=axis, correction=0, keepdim=keepdim), A.std(**given), rtol=1e-5)
    if axis != ():
        same(x.var(axis, keepdim=keepdim), A.var(ddof=1, **given), rtol=1e-5)
    equal((x > 1).any(axis, keepdim), (A > 1).any(**given))
    equal((x > -1).all(axis, keepdim), (A > -1).all(**given))
    same(x.logsumexp(axis, keepdim), np.log(np.exp(A).sum(**given)), rtol=1e-5)
    equal(
        (x > 1).count_nonzero(axis), np.count_nonzero(A > 1, axis) if axis != () else (A > 1).astype(np.int64)
    )


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("array", [A, HOLED, integers(4, 5, 6), A > 0], ids=["float", "nan", "int", "bool"])
def test_places_of_extremes_are_the_first(axis: int | None, array: Any) -> None:
    for name in ("argmax", "argmin"):
        wanted = getattr(np, name)(array, axis)
        equal(getattr(Tensor(array), name)(axis), np.asarray(wanted, np.int64))
        kept = getattr(np, name)(array, axis, keepdims=True)
        equal(getattr(Tensor(array), name)(axis, keepdim=True), np.asarray(kept, np.int64))


def test_reductions_of_nothing_and_of_one() -> None:
    empty = Tensor.zeros(0, 3)
    equal(empty.any(0), np.zeros(3, np.bool_))
    equal(empty.all(0), np.ones(3, np.bool_))
    assert empty.logsumexp(0).tolist() == [-inf] * 3
    assert np.isnan(Tensor([2.0]).var().item())
    assert Tensor(2.0).argmax().item() == Tensor(2.0).cumsum().item() - 2 == 0
    for wrong in (empty.max, empty.argmin):
        with pytest.raises(ValueError, match=r"over no elements: shape \(0, 3\), axis 0"):
            wrong(0)
    assert empty.argmax(1).shape == (0,)


def test_half_floats_are_summed_in_float32_and_come_back() -> None:
    for dtype in (dt.float16, dt.bfloat16):
        x = Tensor.ones(5000, dtype=dtype)
        assert (x.sum().dtype, x.sum().item()) == (dtype, 5000 if dtype is dt.float16 else 4992)
        assert (x.mean().dtype, x.mean().item()) == (dtype, 1.0)
        assert x.cumsum(0)[-1].item() == x.sum().item()
        assert (x * 20).norm().item() == pytest.approx(1414, rel=4e-3)
    big = Tensor([60000.0, 60000.0], dtype=dt.float16)
    assert big.mean().item() == 60000


def test_a_dtype_is_cast_to_before_the_sum() -> None:
    x = Tensor([200, 100], dtype=dt.uint8)
    assert (x.sum(dtype=dt.uint8).item(), x.sum().item(), x.sum().dtype) == (44, 300, dt.int64)
    assert Tensor([0.6, 0.6]).sum(dtype=dt.int32).item() == 0
    assert Tensor([3, 4]).mean(dtype=dt.float64).dtype is dt.float64


@pytest.mark.parametrize("p", [0, 1, 2, 3, 0.5, inf, -inf])
def test_norms(p: float) -> None:
    wanted = np.stack([np.linalg.norm(row, p) for row in A.reshape(20, 6)]).reshape(4, 5)
    same(Tensor(A).norm(p, -1), wanted, rtol=1e-5)
    with pytest.raises(InvalidGraph, match="floats, not for int32"):
        Tensor(integers(3)).norm()


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 4096, 4097, 5000])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running_sums_and_products(length: int, name: str) -> None:
    numbers = integers(2, length, low=-3, high=3)
    numbers[numbers == 0] = 1
    if name == "cumprod":
        numbers = np.sign(numbers)
    equal(getattr(Tensor(numbers), name)(1), getattr(np, name)(numbers, 1, dtype=np.int64))
    equal(getattr(Tensor(numbers.T), name)(0), getattr(np, name)(numbers.T, 0, dtype=np.int64))


def test_a_long_running_sum_takes_little_memory() -> None:
    x = np.ones(100_000, np.float32)
    equal(Tensor(x).cumsum(0), np.cumsum(x))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, nan, inf, -inf]), min_size=1, max_size=150))
def test_running_extremes_and_where_they_were(numbers: list[float]) -> None:
    for name in ("cummax", "cummin"):
        best, place = numbers[0], 0
        values, places = [], []
        for i, x in enumerate(numbers):
            better = x >= best if name == "cummax" else x <= best
            if x != x or (best == best and better):
                best, place = x, i
            values.append(best)
            places.append(place)
        got, at = getattr(Tensor(numbers), name)(0)
        np.testing.assert_array_equal(got.numpy(), np.float32(values))
        assert at.tolist() == places


def test_softmax_sums_to_one_and_is_safe() -> None:
    x = np.array([[1000.0, 1001.0, -inf], [-1000.0, 0.0, -1e30]], np.float32)
    powers = np.exp(x - x.max(1, keepdims=True))
    wanted = powers / powers.sum(1, keepdims=True)
    same(Tensor(x).softmax(1), wanted)
    assert Tensor([0.0, 200.0]).log_softmax(dim=-1).tolist() == [-200.0, 0.0]
    same(Tensor(A).log_softmax(1), np.log(np.exp(A) / np.exp(A).sum(1, keepdims=True)), rtol=1e-5)
    same(Tensor(A).softmax(1).sum(1), np.ones((4, 6)))
    assert Tensor(3.0).softmax(0).item() == 1.0
    assert Tensor.zeros(2, 0).softmax(1).shape == (2, 0)
    half = Tensor(A).half().log_softmax(-1)
    assert half.dtype is dt.float16


@pytest.mark.parametrize("axis", [0, -1])
def test_a_number_has_an_axis_to_be_reduced_over_as_in_pytorch(axis: int) -> None:
    x = Tensor(3.0)
    for name in ("sum", "mean", "prod", "amax", "logsumexp", "max"):
        found = getattr(x, name)(axis)
        assert found.shape == ()
        assert found.item() == pytest.approx(3)
    assert x.sum(axis, keepdim=True).shape == ()
    with pytest.raises(IndexError, match="axis 1 does not exist"):
        x.sum(1)
