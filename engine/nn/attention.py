"""Attention of many heads, grouped key and value heads, rotary position embeddings."""

from __future__ import annotations

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn.linear import Linear
from engine.nn.module import Module
from engine.tensor import Tensor

Rotary = tuple[Tensor, Tensor]


def rotary(
    length: int, width: int, base: float = 10000.0, dtype: DType = dt.float32, device: str | None = None
) -> Rotary:
    """Cosines and signed sines (length, width) of `rotate`: pair i of position p turns by p / base ** (2 i / width).

    Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021). Pairs are an element
    of the first half and the one at its place in the second, as in Llama's published weights.
    """
    if width % 2:
        raise InvalidGraph(f"a width of {width} has no two halves", "rotary")
    angles = np.outer(np.arange(length), base ** (-np.arange(0, width, 2) / width))
    cosine, sine = np.cos(angles), np.sin(angles)
    tables = np.concatenate([cosine, cosine], 1), np.concatenate([-sine, sine], 1)
    return Tensor(tables[0], dtype, device), Tensor(tables[1], dtype, device)


def rotate(x: Tensor, tables: Rotary) -> Tensor:
    """x (…, length, width) turned by its position; the tables may be of more positions."""
    *batch, length, width = x.shape
    halves = x.reshape(*batch, length, 2, width // 2)
    swapped = halves.flip(-2).reshape(x.shape)
    cosine, sine = (_first(table, length).cast(x.dtype) for table in tables)
    return x * cosine + swapped * sine


def _first(table: Tensor, length: int) -> Tensor:
    if table.shape[0] < length:
        raise InvalidGraph(f"the tables are of {table.shape[0]} positions, x has {length}", "rotate")
    return table.narrow(0, 0, length)


class MultiHeadAttention(Module):
    """(…, n, embed_dim) → the same shape: attention of `num_heads` heads, of which `kv_heads` have their own keys.

    Projections q_proj, k_proj, v_proj and out_proj are Linear. `causal`: nobody looks ahead.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        kv_heads: int | None = None,
        bias: bool = True,
        causal: bool = False,
        dtype: DType = dt.float32,
    ) -> None:
        kv_heads = num_heads if kv_heads is None else kv_heads
        if embed_dim % num_heads or num_heads % kv_heads:
            sizes = f"{embed_dim} into {num_heads} heads, or those into {kv_heads} key heads"
            raise InvalidGraph(f"cannot divide {sizes}", "MultiHeadAttention")
        self.num_heads, self.kv_heads, self.causal = num_heads, kv_heads, causal
        self.width = embed_dim // num_heads
        self.q_proj = Linear(embed_dim, embed_dim, bias, dtype)
        self.k_proj = Linear(embed_dim, kv_heads * self.width, bias, dtype)
        self.v_proj = Linear(embed_dim, kv_heads * self.width, bias, dtype)
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        rotary: Rotary | None = None,
    ) -> Tensor:
        """`context` (…, m, embed_dim) gives keys and values, x itself if there is none; `rotary` turns both."""
        other = x if context is None else context
        query = self._split(self.q_proj(x), self.num_heads)
        key = self._split(self.k_proj(other), self.kv_heads)
        value = self._split(self.v_proj(other), self.kv_heads)
        if rotary is not None:
            query, key = rotate(query, rotary), rotate(key, rotary)
        found = query.scaled_dot_product_attention(key, value, mask, self.causal, enable_gqa=True)
        found = found.transpose(-3, -2)
        return self.out_proj(found.reshape(x.shape))  # type: ignore[no-any-return]

    def _split(self, x: Tensor, heads: int) -> Tensor:
        """(…, n, heads · width) → (…, heads, n, width)."""
        return x.reshape(*x.shape[:-1], heads, self.width).transpose(-3, -2)
