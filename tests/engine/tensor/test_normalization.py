"""Norms and attention against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, normal, same

X = normal(4, 6, 5, 3)
W, B = normal(6, seed=1), normal(6, seed=2)


def normalized(x: Array, axes: Any, eps: float = 1e-5) -> Array:
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def along(v: Array) -> Array:
    return v[:, None, None]


def test_layer_norms() -> None:
    w, b = normal(5, 3, seed=3), normal(5, 3, seed=4)
    same(Tensor(X).layer_norm((5, 3), Tensor(w), Tensor(b)), normalized(X, (2, 3)) * w + b, 1e-5, 1e-5)
    same(Tensor(X).layer_norm(3, eps=0.1), normalized(X, 3, 0.1), 1e-5, 1e-5)
    same(Tensor(X).layernorm(dim=(1, -1)), normalized(X, (1, 3)), 1e-5, 1e-5)
    root = np.sqrt((X.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6)
    same(Tensor(X).rms_norm(3, Tensor(W[:3]), 1e-6), X / root * W[:3], 1e-5, 1e-5)


def test_norms_of_channels() -> None:
    grouped = normalized(X.reshape(4, 2, 45), 2).reshape(X.shape)
    same(Tensor(X).group_norm(2, Tensor(W), Tensor(B)), grouped * along(W) + along(B), 1e-5, 1e-5)
    same(Tensor(X).instance_norm(), normalized(X, (2, 3)), 1e-5, 1e-5)
    own = normalized(X, (0, 2, 3)) * along(W) + along(B)
    same(Tensor(X).batch_norm(weight=Tensor(W), bias=Tensor(B)), own, 1e-5, 1e-5)
    kept = (X - along(B)) / np.sqrt(along(W**2) + 1e-3)
    same(Tensor(X).batch_norm(Tensor(B), Tensor(W**2), eps=1e-3), kept, 1e-5, 1e-5)
    mean, variance = Tensor(X).batch_statistics()
    same(mean, X.mean((0, 2, 3)), 1e-5)
    same(variance, X.var((0, 2, 3)), 1e-5)


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_half_floats_are_normalized_in_float32(dtype: dt.DType) -> None:
    x = (Tensor(X) * 300 + 100).cast(dtype)  # whose squares are no float16
    for got in (x.layer_norm(3), x.rms_norm(3), x.group_norm(3), x.batch_norm()):
        assert got.dtype is dtype
        assert np.isfinite(got.float().numpy()).all()
    same(x.layer_norm(3).float(), normalized(x.float().numpy(), 3), 1e-2, 1e-2)


def attended(q: Array, k: Array, v: Array, bias: Any = 0.0, scale: float | None = None) -> Array:
    scores = q.astype(np.float64) @ k.swapaxes(-1, -2) * (scale or q.shape[-1] ** -0.5) + bias
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True) @ v


Q, K, V = normal(2, 4, 5, 8), normal(2, 4, 7, 8, seed=1), normal(2, 4, 7, 3, seed=2)


def test_attention_and_its_masks() -> None:
    q, k, v = map(Tensor, (Q, K, V))
    same(q.scaled_dot_product_attention(k, v), attended(Q, K, V), 1e-5)
    same(q.scaled_dot_product_attention(k, v, scale=0.3), attended(Q, K, V, scale=0.3), 1e-5)
    bias = normal(5, 7, seed=5)
    same(q.scaled_dot_product_attention(k, v, Tensor(bias)), attended(Q, K, V, bias), 1e-5)
    seen = np.tril(np.ones((5, 7), np.bool_))
    causal = attended(Q, K, V, np.where(seen, 0, -np.inf))
    same(q.scaled_dot_product_attention(k, v, Tensor(seen)), causal, 1e-5)
    same(q.scaled_dot_product_attention(k, v, is_causal=True), causal, 1e-5)


def test_heads_may_share_keys_and_a_query_may_see_nothing() -> None:
    shared = attended(Q, np.repeat(K[:, :2], 2, 1), np.repeat(V[:, :2], 2, 1))
    got = Tensor(Q).scaled_dot_product_attention(Tensor(K[:, :2]), Tensor(V[:, :2]), enable_gqa=True)
    same(got, shared, 1e-5)
    nothing = Tensor(Q).scaled_dot_product_attention(Tensor(K), Tensor(V), Tensor(np.zeros((5, 7), np.bool_)))
    same(nothing, np.zeros((2, 4, 5, 3)))
    half = Tensor(Q).half().scaled_dot_product_attention(Tensor(K).half(), Tensor(V).half())
    assert half.dtype is dt.float16


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x.layer_norm((6, 3)), r"\(4, 6, 5, 3\) does not end in \(6, 3\)"),
        (lambda x: x.layer_norm(3, Tensor(W)), r"weight has shape \(6,\), not \(3,\)"),
        (lambda x: x.group_norm(4), "not 4 groups"),
        (lambda x: x[0, 0, 0].batch_norm(Tensor(W), Tensor(W)), "no channels"),
        (lambda x: x.batch_norm(Tensor(W[:2]), Tensor(W)), r"mean has shape \(2,\), not \(6,\)"),
        (lambda x: x.scaled_dot_product_attention(x, x, x, is_causal=True), "not both"),
        (lambda x: x.scaled_dot_product_attention(x[:, :4], x[:, :4], enable_gqa=True), "no multiple"),
        (lambda x: x[0, 0, 0].scaled_dot_product_attention(x, x), "length, width"),
        (lambda x: x.scaled_dot_product_attention(x[..., :2], x), "3 columns against 2 rows"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        wrong(Tensor(X))
