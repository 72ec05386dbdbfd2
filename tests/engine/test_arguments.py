"""What users pass to Tensor is refused at once when it does not fit, by the argument's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidGraph
from engine.tensor import Tensor


@pytest.mark.parametrize("size", [2.5, True, "3", None, np.float32(2), np.True_])
@pytest.mark.parametrize(
    "make",
    [
        Tensor.zeros, Tensor.ones, Tensor.rand, Tensor.randn, Tensor([1.0]).reshape, Tensor([1.0]).expand,
        lambda *shape: Tensor.full(shape, 1),
    ],
)  # fmt: skip
def test_a_size_that_is_no_integer_is_refused_when_the_tensor_is_made(make: Any, size: Any) -> None:
    with pytest.raises(TypeError, match=r"shape\[0\] must be an integer"):
        make(size, 3)


@pytest.mark.parametrize("make", [Tensor.zeros, Tensor.ones, Tensor.rand, Tensor.randn])
def test_a_shape_may_be_one_sequence_and_no_size_is_negative(make: Any) -> None:
    assert make((2, 3)).shape == make(np.int64(2), 3).shape == (2, 3)
    with pytest.raises(InvalidGraph, match="negative"):
        make(2, -1)
