"""The derivatives of what Tensor's methods are composed of are PyTorch's, near their special points too.

Run it with a Python that has PyTorch and pytest, from the root: `python -m pytest --noconftest tests/peers/gradients.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engine.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
F = torch.nn.functional


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


SPREAD = np.concatenate(
    [normal(50) * s for s in (1e-6, 0.1, 1, 5)] + [np.float32([0, 1, -1, 0.5, 100, -100, 89, -89])]
)
POSITIVE, INNER = np.abs(SPREAD) + np.float32(1e-3), SPREAD[np.abs(SPREAD) < 1]
DOMAINS = dict.fromkeys(("sqrt", "rsqrt", "log", "log2", "log10", "log1p"), POSITIVE) | {
    "asin": INNER,
    "acos": INNER,
    "hardtanh": INNER,  # at its corners PyTorch takes the other side's slope
}
NAMES = (
    *(
        "abs",
        "sqrt",
        "rsqrt",
        "reciprocal",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "erf",
        "sin",
    ),
    *("cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "sigmoid", "square", "relu", "relu6"),
    *("leaky_relu", "elu", "selu", "logsigmoid", "softplus", "silu", "mish", "gelu", "softsign", "hardtanh"),
    *("hardsigmoid", "hardswish", "softshrink", "hardshrink"),
)


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_of_a_function_is_pytorchs(name: str) -> None:
    peer = getattr(torch, name, None) or getattr(F, name)
    compare(lambda x: getattr(x, name)(), peer, DOMAINS.get(name, SPREAD), rtol=2e-5)


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Array, rtol: float = 2e-4) -> None:
    """Gradients of a random weighting of the result."""
    mine = [Tensor(array, requires_grad=True) for array in arrays]
    wanted = [torch.tensor(array, requires_grad=True) for array in arrays]
    result = theirs(*wanted)
    weights = np.random.default_rng(1).standard_normal(tuple(result.shape), dtype=np.float32)
    (result * torch.tensor(weights)).sum().backward()
    (ours(*mine) * Tensor(weights)).sum().backward()
    for a, b in zip(mine, wanted, strict=True):
        assert a.grad is not None
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=rtol, atol=1e-5)


TARGET = np.array([0, 4, 2, -100, 1, 1, 3])
PLACES = np.array([[0, 0, 2], [1, 1, 1]])
MASK = np.tril(np.ones((5, 5), np.bool_), -1)  # the first query sees nothing
Q = normal(2, 3, 5, 8)

# The same expression for both.
SAME: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "logsumexp": (lambda x: x.logsumexp(1), (normal(3, 4),)),
    "softmax": (lambda x: x.softmax(1), (normal(3, 4),)),
    "cumsum": (lambda x: x.cumsum(1), (normal(3, 100),)),
    "cumprod": (lambda x: x.cumprod(1), (normal(3, 20),)),
    "sort": (lambda x: x.sort(1)[0], (normal(3, 20),)),
    "long sort": (lambda x: x.sort(1)[0], (normal(2, 300),)),
    "topk": (lambda x: x.topk(3)[0], (normal(3, 20),)),
    "std": (lambda x: x.std(1), (normal(3, 20),)),
    "norm": (lambda x: x.norm(2, 1), (normal(3, 20),)),
    "prod": (lambda x: x.prod(1), (normal(3, 6),)),
    "tied maxima": (lambda x: x.amax(1), (np.round(normal(3, 9)),)),
    "places": (lambda x: x[[0, 2, 2], :, [1, 1, 0]], (normal(3, 4, 5),)),
    "slices": (lambda x: x[::2, 1:, -1], (normal(3, 4, 5),)),
    "power": (lambda x, y: (x.abs() + 0.1) ** y, (normal(3, 4), normal(4))),
    "remainder": (lambda x, y: x % y, (normal(3, 4), normal(4))),
    "atan2": (lambda x, y: x.atan2(y), (normal(3, 4), normal(4))),
    "hypot": (lambda x, y: x.hypot(y), (normal(3, 4), normal(4))),
    "logaddexp": (lambda x, y: x.logaddexp(y), (normal(3, 4), normal(4))),
    "lerp": (lambda x, y, w: x.lerp(y, w), (normal(3, 4), normal(4), normal(4))),
}


@pytest.mark.parametrize("name", SAME)
def test_an_expression_has_pytorchs_gradients(name: str) -> None:
    expression, arrays = SAME[name]
    compare(expression, expression, *arrays)


PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Array, ...]]] = {
    "conv2d": (
        lambda x, w, b: x.conv2d(w, b, 2, 1),
        lambda x, w, b: F.conv2d(x, w, b, 2, 1),
        (normal(2, 3, 7, 8), normal(4, 3, 3, 2), normal(4)),
    ),
    "grouped": (
        lambda x, w: x.conv2d(w, None, 1, 1, 2, 3),
        lambda x, w: F.conv2d(x, w, None, 1, 1, 2, 3),
        (normal(2, 3, 7, 8), normal(6, 1, 3, 2)),
    ),
    "transposed": (
        lambda x, w: x.conv_transpose2d(w, None, 2, 1, 1),
        lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1),
        (normal(2, 3, 7, 8), normal(3, 4, 3, 2)),
    ),
    "max_pool2d": (
        lambda x: x.max_pool2d(3, 2, 1),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        (normal(2, 3, 7, 8),),
    ),
    "avg_pool2d": (
        lambda x: x.avg_pool2d(3, 2, 1, True, False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
        (normal(2, 3, 7, 8),),
    ),
    "adaptive": (
        lambda x: x.adaptive_avg_pool2d((3, 5)),
        lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
        (normal(2, 3, 7, 8),),
    ),
    "bilinear": (
        lambda x: x.interpolate((9, 5), mode="bilinear"),
        lambda x: F.interpolate(x, (9, 5), mode="bilinear"),
        (normal(2, 3, 7, 8),),
    ),
    "layer_norm": (
        lambda x, w, b: x.layer_norm(8, w, b),
        lambda x, w, b: F.layer_norm(x, (8,), w, b),
        (normal(2, 3, 8), normal(8), normal(8)),
    ),
    "group_norm": (
        lambda x, w, b: x.group_norm(2, w, b),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        (normal(2, 4, 8), normal(4), normal(4)),
    ),
    "causal attention": (
        lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=True),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        (Q, Q[::-1].copy(), Q + 1),
    ),
    "masked attention": (
        lambda q, k, v: q.scaled_dot_product_attention(k, v, Tensor(MASK)),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.tensor(MASK)),
        (Q, Q[::-1].copy(), Q + 1),
    ),
    "cross_entropy": (
        lambda x: x.cross_entropy(Tensor(TARGET), label_smoothing=0.1),
        lambda x: F.cross_entropy(x, torch.tensor(TARGET), label_smoothing=0.1),
        (normal(7, 5),),
    ),
    "logits": (
        lambda x: x.binary_cross_entropy_with_logits(Tensor(np.abs(normal(7, 5)) % 1)),
        lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(np.abs(normal(7, 5)) % 1)),
        (normal(7, 5) * 30,),
    ),
    "reflected": (
        lambda x: x.pad((2, 1, 3, 3), "reflect"),
        lambda x: F.pad(x, (2, 1, 3, 3), "reflect"),
        (normal(2, 4, 5),),
    ),
    "cat": (
        lambda x, y: Tensor.cat([x, y, x], 1),
        lambda x, y: torch.cat([x, y, x], 1),
        (normal(2, 4), normal(2, 3)),
    ),
    "einsum": (
        lambda x, y, z: Tensor.einsum("ij,jk,kii->j", x, y, z),
        lambda x, y, z: torch.einsum("ij,jk,kii->j", x, y, z),
        (normal(2, 4), normal(4, 3), normal(3, 2, 2)),
    ),
    "scatter_add": (
        lambda x, y: x.scatter_add(1, Tensor(PLACES), y),
        lambda x, y: x.scatter_add(1, torch.tensor(PLACES), y),
        (normal(2, 4), normal(2, 3)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_call_has_pytorchs_gradients(name: str) -> None:
    ours, theirs, arrays = PAIRS[name]
    compare(ours, theirs, *arrays)
