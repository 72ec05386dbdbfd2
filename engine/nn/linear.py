"""Layers of one matrix: Linear and Embedding."""

from __future__ import annotations

from engine import build
from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn import initial
from engine.nn.module import Module
from engine.tensor import Tensor
from engine.tensor.known import check_places


class Linear(Module):
    """(…, in_features) → (…, out_features): x @ weight.T + bias, weight (out_features, in_features)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: DType = dt.float32
    ) -> None:
        shape = (out_features, in_features)
        bound = initial.fan_in_bound(shape)
        self.weight = initial.uniform(shape, bound, dtype)
        self.bias = initial.uniform(shape[:1], bound, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """InvalidGraph if the last axis has not in_features."""
        return x.linear(self.weight, self.bias)


class Embedding(Module):
    """Integers (…) → rows (…, embedding_dim) of weight (num_embeddings, embedding_dim); zeros where there is none."""

    def __init__(self, num_embeddings: int, embedding_dim: int, dtype: DType = dt.float32) -> None:
        self.weight = initial.normal((num_embeddings, embedding_dim), dtype=dtype)

    def forward(self, index: Tensor) -> Tensor:
        """InvalidGraph if the index is not of integers."""
        width = self.weight.shape[1]
        rows = index.reshape(-1, 1).expand(index.numel(), width)
        if not index.dtype.is_int:
            raise InvalidGraph(f"takes integers, not {index.dtype.name}", "Embedding")
        check_places(index.node, 0, self.weight.shape[0], "Embedding")
        found = build.gather(self.weight.node, rows.node, 0)
        return Tensor._of(found, self.weight.device).reshape(*index.shape, width)
