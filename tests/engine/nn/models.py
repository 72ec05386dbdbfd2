"""Models built with engine.nn as a user would: an MLP, a block of GPT-2 and one of Llama."""

from __future__ import annotations

from itertools import pairwise

from engine import dtype as dt
from engine import nn
from engine.dtype import DType
from engine.tensor import Tensor


def mlp(sizes: tuple[int, ...], dtype: DType = dt.float32) -> nn.Sequential:
    """Linear layers of these sizes with relu between."""
    layers: list[object] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, dtype=dtype), Tensor.relu]
    return nn.Sequential(*layers[:-1])


def convolutions() -> nn.Sequential:
    """Two convolutions, a batch norm and a pooling on images 3 × 16 × 16: ten scores."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, groups=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


class GptBlock(nn.Module):
    """Causal attention and a wide layer with GELU, each behind a LayerNorm and added to what came in."""

    def __init__(self, width: int, heads: int, dtype: DType = dt.float32) -> None:
        self.ln_1, self.ln_2 = nn.LayerNorm(width, dtype=dtype), nn.LayerNorm(width, dtype=dtype)
        self.attn = nn.MultiHeadAttention(width, heads, causal=True, dtype=dtype)
        self.up = nn.Linear(width, 4 * width, dtype=dtype)
        self.down = nn.Linear(4 * width, width, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) → the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.down(self.up(self.ln_2(x)).gelu(approximate="tanh"))


class LlamaBlock(nn.Module):
    """As GptBlock with RMSNorm, rotary positions, grouped key heads and a gated layer; no biases."""

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int, dtype: DType = dt.float32) -> None:
        self.input_layernorm = nn.RMSNorm(width, eps=1e-5, dtype=dtype)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=1e-5, dtype=dtype)
        self.attn = nn.MultiHeadAttention(width, heads, kv_heads, bias=False, causal=True, dtype=dtype)
        self.gate = nn.Linear(width, hidden, bias=False, dtype=dtype)
        self.up = nn.Linear(width, hidden, bias=False, dtype=dtype)
        self.down = nn.Linear(hidden, width, bias=False, dtype=dtype)
        self._width = width // heads

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, width) → the same."""
        tables = nn.rotary(x.shape[-2], self._width, dtype=x.dtype, device=x.device)
        x = x + self.attn(self.input_layernorm(x), rotary=tables)
        normed = self.post_attention_layernorm(x)
        return x + self.down(self.gate(normed).silu() * self.up(normed))
