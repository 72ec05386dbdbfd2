"""Counts, quantiles, pairs of rows and what else PyTorch's scripts compute of a tensor; results are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest

import engine.torch as torch
from engine import Tensor, dtypes
from engine.errors import InvalidGraph
from tests.engine.tensor.comparing import Array, equal, integers, normal, same

A, B = normal(3, 4), normal(3, 4, seed=1)
HOLED = np.where(np.arange(12).reshape(3, 4) % 5 == 1, np.nan, A).astype(np.float32)


def test_quantiles_lie_between_two_elements() -> None:
    for q in (0.0, 0.3, 0.5, 1.0):
        same(Tensor(A).quantile(q), np.quantile(A, q).astype(np.float32))
        same(
            Tensor(A).quantile(q, dim=1, keepdim=True), np.quantile(A, q, 1, keepdims=True).astype(np.float32)
        )
    same(Tensor(A).quantile([0.25, 0.75], dim=0), np.quantile(A, [0.25, 0.75], 0).astype(np.float32))
    assert np.isnan(Tensor(HOLED).quantile(0.5, dim=1).numpy()).tolist() == np.isnan(HOLED).any(1).tolist()
    with pytest.raises(InvalidGraph, match=r"quantile: q: 2\.0 is not from 0 to 1"):
        Tensor(A).quantile(2)
    assert Tensor([1.0, np.nan, 3.0, 2.0]).nanmedian().item() == 2.0


def test_what_there_is_and_how_often() -> None:
    x = integers(40, low=0, high=5).astype(np.int64)
    for got, wanted in zip(
        Tensor(x).unique(return_inverse=True, return_counts=True),
        np.unique(x, return_inverse=True, return_counts=True),
        strict=True,
    ):
        equal(got, wanted)
    equal(Tensor(x.reshape(20, 2)).unique(dim=0), np.unique(x.reshape(20, 2), axis=0))
    equal(Tensor(x).bincount(minlength=9), np.bincount(x, minlength=9))
    same(
        Tensor(x).bincount(Tensor(normal(40))),
        np.bincount(x, normal(40)).astype(np.float32),
        rtol=1e-5,
        atol=1e-5,
    )
    equal(
        Tensor(normal(60)).histc(6, -1.5, 1.5), np.histogram(normal(60), 6, (-1.5, 1.5))[0].astype(np.float32)
    )
    equal(Tensor(normal(60)).histc(5), np.histogram(normal(60), 5)[0].astype(np.float32))
    equal(Tensor(x).isin([1, 4]), np.isin(x, [1, 4]))
    with pytest.raises(InvalidGraph, match="bincount: takes a vector of integers"):
        Tensor(A).bincount()


def test_covariances_and_distances_of_rows() -> None:
    same(Tensor(A).cov(), np.cov(A).astype(np.float32), rtol=1e-5)
    same(Tensor(A[0]).cov(), np.cov(A[0]).astype(np.float32), rtol=1e-5)
    same(Tensor(A).corrcoef(), np.corrcoef(A).astype(np.float32), rtol=1e-5)
    for p in (1, 2, 3, inf):
        wanted = np.linalg.norm(A[:, None] - B[None], p, axis=-1)
        same(Tensor(A).cdist(Tensor(B), p), wanted.astype(np.float32), rtol=1e-5)
    same(Tensor(A).inner(Tensor(B)), np.inner(A, B), rtol=1e-5)
    same(
        Tensor(A).addr(Tensor(A[:, 0]), Tensor(B[0]), 0.5, 2),
        0.5 * A + 2 * np.outer(A[:, 0], B[0]),
        rtol=1e-5,
    )


def test_putting_by_masks_and_indices() -> None:
    wanted = A.copy()
    wanted[A > 0] = B.ravel()[: (A > 0).sum()]
    equal(Tensor(A).masked_scatter(Tensor(A > 0), Tensor(B)), wanted)
    wanted = A.copy()
    wanted[[0, 2], [1, 1]] = [7, 8]
    equal(Tensor(A).index_put((Tensor([0, 2]), Tensor([1, 1])), Tensor([7.0, 8.0])), wanted)
    wanted = A.copy()
    np.add.at(wanted, ([0, 0], [1, 1]), [7, 8])
    same(Tensor(A).index_put((Tensor([0, 0]), Tensor([1, 1])), Tensor([7.0, 8.0]), accumulate=True), wanted)


def test_cutting_and_joining() -> None:
    for parts in (3, (1, 3), (3, 1), (-1,)):
        cuts = np.array_split(A, parts, 1) if isinstance(parts, int) else np.split(A, parts, 1)
        for got, wanted in zip(Tensor(A).tensor_split(parts, dim=1), cuts, strict=True):
            equal(got, wanted)
    equal(Tensor.hstack([Tensor(A), Tensor(B)]), np.hstack([A, B]))
    equal(Tensor.hstack([Tensor(A[0]), Tensor(B[0])]), np.hstack([A[0], B[0]]))
    equal(Tensor.vstack([Tensor(A[0]), Tensor(B)]), np.vstack([A[0], B]))
    equal(
        Tensor([1, 2]).cartesian_prod(Tensor([3, 4, 5])),
        np.array([[i, j] for i in (1, 2) for j in (3, 4, 5)]),
    )
    equal(Tensor.triu_indices(3, 4, 1), np.stack(np.triu_indices(3, 1, 4)))
    equal(Tensor.tril_indices(3, 4), np.stack(np.tril_indices(3, 0, 4)))
    same(Tensor.logspace(-1, 2, 5), np.logspace(-1, 2, 5).astype(np.float32))


X = np.float32([-2.3, -1, -0.5, -1e-4, 0, 1e-4, 0.05, 0.5, 1, 3])
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Array], Array]]] = {
    "sinc": (lambda x: x.sinc(), np.sinc),
    "ldexp": (lambda x: x.ldexp(Tensor([3])), lambda x: x * 8),
    "logaddexp2": (lambda x: x.logaddexp2(0.5), lambda x: np.logaddexp2(x, 0.5)),
    "add": (lambda x: x.add(Tensor([2.0]), alpha=3), lambda x: x + 6),
    "sub": (lambda x: x.sub(1, alpha=3), lambda x: x - 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_slope_are_right(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    x, wide, h = Tensor(X, requires_grad=True), X.astype(np.float64), 1e-5
    same(ours(x), theirs(wide).astype(np.float32), rtol=2e-6)
    ours(x).sum().backward()
    assert x.grad is not None
    slope = (theirs(wide + h) - theirs(wide - h)) / (2 * h)
    np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-4, atol=1e-6)


def test_divisions_are_rounded_as_asked() -> None:
    a, b = integers(30), np.where(integers(30, seed=3) == 0, 2, integers(30, seed=3))
    equal(Tensor(a).div(Tensor(b), rounding_mode="trunc"), np.trunc(a / b).astype(np.int32))
    equal(Tensor(a).div(Tensor(b), rounding_mode="floor"), a // b)
    same(Tensor(a).div(Tensor(b)), (a / b).astype(np.float32))
    equal(Tensor([7.5, -7.5]).div(2, rounding_mode="trunc"), np.float32([3, -3]))
    with pytest.raises(InvalidGraph, match="rounding_mode: 'up' is not"):
        Tensor(a).div(2, rounding_mode="up")
    quotient, rest = divmod(Tensor(a), 4)
    equal(quotient * 4 + rest, a)
    equal(Tensor([0.0, -0.0, 3.0, -1.0]).heaviside(Tensor([0.5])), np.float32([0.5, 0.5, 1, 0]))
    assert Tensor([2.0]).float_power(0.5).dtype is dtypes.float64
    assert (Tensor([inf]).isposinf().item(), Tensor([inf]).isneginf().item()) == (True, False)
    assert Tensor([1.0, 2.0]).softmax(dtype=dtypes.float64).dtype is dtypes.float64


def test_pytorchs_module_is_there_by_another_import(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 5.0, 2.0]], requires_grad=True)
    values, places = torch.max(x, 1)
    assert (values.item(), places.item(), torch.max(x).item()) == (5.0, 1, 5.0)
    assert torch.min(x, dim=1, keepdim=True).indices.tolist() == [[0]]
    assert torch.cat([x, x], dim=0).shape == (2, 3)
    assert torch.relu(input=-x).sum().item() == 0
    assert torch.zeros(2, dtype=torch.float64).dtype is torch.double
    assert torch.as_tensor(x) is x
    assert torch.is_tensor(torch.from_numpy(A))
    with torch.no_grad():
        assert not (x * 2).requires_grad
    assert torch.nn.Linear(3, 1)(x).shape == (1, 1)
    assert torch.optim.SGD([x], lr=0.1).param_groups[0].lr == 0.1
    assert torch.device("cuda" if torch.cuda.is_available() else "cpu") == "CPU"
    layer, path = torch.nn.Linear(3, 1), tmp_path / "layer.safetensors"
    torch.save(layer.state_dict(), path)
    layer.load_state_dict(torch.load(path, map_location="cpu"))
    with pytest.raises(InvalidGraph, match="save: Linear: save its state_dict"):
        torch.save(layer, path)
    with pytest.raises(AttributeError, match=r"engine.torch has no 'svd': see docs/moving.md"):
        torch.svd(x)
