"""Attention of many heads, grouped key and value heads, rotary position embeddings."""

from __future__ import annotations

import numpy as np

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn import initial
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


class MultiheadAttention(Module):
    """PyTorch's own: query, key and value projected by one weight (3 · embed_dim, embed_dim), of which it gives two.

    Names of the state are PyTorch's. `MultiHeadAttention` is the plainer one.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        dtype: DType = dt.float32,
    ) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise InvalidGraph(f"cannot divide {embed_dim} into {num_heads} heads", "MultiheadAttention")
        self.embed_dim, self.num_heads, self.dropout, self.batch_first = (
            embed_dim,
            num_heads,
            dropout,
            batch_first,
        )
        shape = (3 * embed_dim, embed_dim)
        self.in_proj_weight = initial.uniform(shape, initial.glorot_bound(shape), dtype)
        self.in_proj_bias = initial.constant(shape[:1], 0.0, dtype) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(n, batch, embed_dim), or (batch, n, embed_dim) with `batch_first`, or without a batch: (the same, weights).

        Masks are true (or -inf) where nobody may look; `attn_mask` is (n, m) or one for each head, `key_padding_mask`
        (batch, m). `is_causal` says that `attn_mask` is the causal one, and makes it if it is not given. The weights
        (batch, n, m), the mean of all heads' unless told otherwise, are None where they are not needed.
        """
        inputs = [query, key, value]
        alone = query.ndim == 2
        if alone or not self.batch_first:
            inputs = [x.unsqueeze(0) if alone else x.transpose(0, 1) for x in inputs]
        q, k, v = (self._projected(x, place) for place, x in enumerate(inputs))
        scores = q @ k.mT * (1 / (self.embed_dim // self.num_heads) ** 0.5)
        scores = _masked(scores, key_padding_mask, attn_mask, is_causal)
        weights = scores.softmax(-1)
        seen = weights.dropout(self.dropout, self.trains) @ v
        found = self.out_proj(seen.transpose(1, 2).reshape(inputs[0].shape))
        found = found.squeeze(0) if alone else found if self.batch_first else found.transpose(0, 1)
        if not need_weights:
            return found, None
        shown = weights.mean(1) if average_attn_weights else weights
        return found, shown.squeeze(0) if alone else shown

    def _projected(self, x: Tensor, place: int) -> Tensor:
        """(batch, n, embed_dim) by the query's, key's or value's third: (batch, heads, n, width)."""
        first = place * self.embed_dim
        bias = self.in_proj_bias
        own = x.linear(
            self.in_proj_weight[first : first + self.embed_dim],
            None if bias is None else bias[first : first + self.embed_dim],
        )
        return own.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


def _masked(scores: Tensor, padding: Tensor | None, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Scores (batch, heads, n, m) with -inf where a mask is true, and plus a mask of numbers."""
    batch, heads, n, m = scores.shape
    if padding is not None and padding.ndim == 1:
        padding = padding.unsqueeze(0)
    if mask is None and is_causal:
        mask = Tensor.ones(n, m, device=scores.device).triu(1).bool()
    if padding is not None:
        scores = _hidden(scores, padding.reshape(batch, 1, 1, m))
    if mask is not None:
        scores = _hidden(scores, mask.reshape(batch, heads, n, m) if mask.ndim == 3 else mask)
    return scores


def _hidden(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask, float("-inf")) if mask.dtype is dt.bool_ else scores + mask
