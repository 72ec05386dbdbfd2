"""Comparing a tensor with what NumPy says it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


def same(tensor: Tensor, wanted: Any, rtol: float = 1e-6, atol: float = 1e-6) -> None:
    """Equal shape and nearly equal values; the tensor's dtype is what comes out of it."""
    got = tensor.numpy()
    wanted = np.asarray(wanted)
    assert got.shape == tensor.shape == wanted.shape
    assert got.dtype == tensor.dtype.numpy
    np.testing.assert_allclose(got.astype(wanted.dtype), wanted, rtol=rtol, atol=atol)


def equal(tensor: Tensor, wanted: Any) -> None:
    """The same shape, dtype and values."""
    got = tensor.numpy()
    wanted = np.asarray(wanted)
    assert (got.shape, got.dtype) == (tensor.shape, tensor.dtype.numpy) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(got, wanted)


def normal(*shape: int, seed: int = 0) -> Array:
    """Random float32."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def integers(*shape: int, low: int = -9, high: int = 9, seed: int = 0) -> Array:
    """Random int32 from low to high."""
    return np.random.default_rng(seed).integers(low, high, shape, np.int32, endpoint=True)
