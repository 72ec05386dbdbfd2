"""Layers of one matrix: Linear and Embedding."""

from __future__ import annotations

from typing import Self

from engine import dtype as dt
from engine.autograd import no_grad
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn import initial
from engine.nn.functional import embedding
from engine.nn.module import Module, Parameter
from engine.tensor import Tensor


class Linear(Module):
    """(…, in_features) → (…, out_features): x @ weight.T + bias, weight (out_features, in_features)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, dtype: DType = dt.float32
    ) -> None:
        initial.check_sizes(in_features=in_features, out_features=out_features)
        shape = (out_features, in_features)
        self.in_features, self.out_features = in_features, out_features
        bound = initial.fan_in_bound(shape)
        self.weight = initial.uniform(shape, bound, dtype)
        self.bias = initial.uniform(shape[:1], bound, dtype) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """InvalidGraph if the last axis has not in_features."""
        return x.linear(self.weight, self.bias)


class Embedding(Module):
    """Integers (…) → rows (…, embedding_dim) of weight (num_embeddings, embedding_dim).

    The row `padding_idx` starts as zeros and gets no gradient.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: DType = dt.float32,
    ) -> None:
        initial.check_sizes(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise InvalidGraph(f"{padding_idx} is not one of the {num_embeddings} rows", "padding_idx")
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.weight = initial.normal((num_embeddings, embedding_dim), dtype=dtype)
        if padding_idx is not None:
            with no_grad():
                self.weight[padding_idx] = 0
                self.weight.realize()

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Self:
        """Rows that are there already; `freeze`: they are not to be trained."""
        rows, width = embeddings.shape
        found = cls(rows, width, dtype=embeddings.dtype)
        found.padding_idx, found.weight = padding_idx, Parameter(embeddings, not freeze)
        return found

    def forward(self, index: Tensor) -> Tensor:
        """IndexError for a row that is known not to be there (one not computed yet is zeros); see nn.functional."""
        return embedding(index, self.weight, self.padding_idx)
