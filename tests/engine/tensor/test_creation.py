"""Tensors made from a rule, and what a tensor says of itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine
from engine import dtype as dt
from engine import dtypes
from engine.ops import Op
from engine.realize import elements
from engine.tensor import Tensor
from tests.engine.tensor.comparing import equal, same


@pytest.mark.parametrize(
    "given",
    [(5,), (0,), (2, 7), (5, 1, -2), (-3, 3), (3, -3, -1), (0, 10, 3), (0.0, 1.0, 0.1), (1.5, 4), (2.0,), (5, 5), (1 << 40, (1 << 40) + 3)],
)  # fmt: skip
def test_arange_is_numpys(given: tuple[Any, ...]) -> None:
    wanted = np.arange(*given)
    found = Tensor.arange(*given)
    same(found, wanted, 1e-6)
    assert found.dtype is (dt.int64 if wanted.dtype == np.int64 else dt.float32)


def test_whole_ranges_store_nothing() -> None:
    assert Tensor.arange(100, dtype=dt.float32).node.op is Op.CAST
    assert Tensor.arange(100).tolist() == list(range(100))


def test_grids_and_triangles() -> None:
    same(Tensor.linspace(-1, 2, 7), np.linspace(-1, 2, 7), 1e-6)
    equal(Tensor.eye(3), np.eye(3, dtype=np.float32))
    equal(Tensor.eye(2, 4, dtype=dt.int32), np.eye(2, 4, dtype=np.int32))
    equal(Tensor.tri(3, 4, 1), np.tri(3, 4, 1, dtype=np.float32))
    equal(Tensor.empty(2, 3), np.zeros((2, 3), np.float32))


def test_likes_take_shape_and_dtype() -> None:
    x = Tensor([[1, 2]], dtype=dt.int16)
    for made, value in ((x.zeros_like(), 0), (x.ones_like(), 1), (x.full_like(7), 7)):
        equal(made, np.full((1, 2), value, np.int16))
    assert x.zeros_like(dt.float64).dtype is dt.float64


def test_a_tensor_may_ask_for_its_gradient() -> None:
    assert Tensor([1.0], requires_grad=True).requires_grad
    assert Tensor.ones(2, requires_grad=True).requires_grad
    assert not Tensor([1.0]).requires_grad
    assert Tensor([1.0]).grad is None


def test_what_a_tensor_says_of_itself() -> None:
    x = Tensor.zeros(2, 3, dtype=dt.float16)
    assert (x.size(), x.size(-1), x.dim(), x.numel(), x.element_size(), x.nbytes()) == (
        (2, 3),
        3,
        2,
        6,
        2,
        12,
    )
    assert x.is_floating_point()
    assert list(range(5))[Tensor(2)] == 2
    with pytest.raises(TypeError, match="only integers"):
        [1, 2][Tensor(1.0)]


def test_the_engine_exports_what_scripts_need() -> None:
    assert engine.Tensor is Tensor
    assert (dtypes.half, dtypes.long, dtypes.bool) == (dt.float16, dt.int64, dt.bool_)
    with pytest.raises(AttributeError, match="no attribute 'tensors'"):
        engine.tensors  # noqa: B018


@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 7)])
def test_data_is_copied_to_where_a_cache_line_begins(shape: tuple[int, ...]) -> None:
    raw = np.arange(64, dtype=np.int32)
    given = raw[1 : 1 + int(np.prod(shape))].reshape(shape)
    held = elements(Tensor(given)._held)
    assert held.ctypes.data % 64 == 0
    assert np.array_equal(held, given)
    assert not np.shares_memory(held, raw)


def test_importing_the_engine_loads_no_numpy() -> None:
    program = (
        "import sys, engine; print('numpy' in sys.modules); engine.Tensor; print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: Tensor([1, 2], dtype=dtype),
        lambda dtype: Tensor(3, dtype=dtype),
        lambda dtype: Tensor(np.ones(2), dtype=dtype),
        lambda dtype: Tensor.zeros(2, dtype=dtype),
        lambda dtype: Tensor.arange(3, dtype=dtype),
        lambda dtype: Tensor.eye(2, dtype=dtype),
        lambda dtype: Tensor.linspace(0, 1, 3, dtype=dtype),
        lambda dtype: Tensor.rand(2, dtype=dtype),
        lambda dtype: Tensor([1.0]).cast(dtype),
        lambda dtype: Tensor([1.0]).sum(dtype=dtype),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", np.float32, 4])
def test_what_is_no_dtype_is_an_error_that_says_what_is(make: Callable[[Any], Tensor], dtype: object) -> None:
    with pytest.raises(TypeError, match=r"dtype must be a DType, such as engine\.dtypes\.float32"):
        make(dtype)
