"""The models of tests/engine/nn/models.py, forward and backward, against PyTorch from the same seeded weights.

Run it with a Python that has PyTorch and scikit-learn, from the root: `DEV=CPU python -m tests.peers.models`. It
prints the rows of docs/models.md, which says what they are, writes that file, with the digits' losses, and fails beyond
a tolerance.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from engine import nn
from engine.target import processor_target
from engine.tensor import Tensor
from tests.engine.nn.models import GptBlock, LlamaBlock, convolutions, mlp
from tests.model_table import MODELS, PATH, Row, model_rows, render
from tests.peers import digits

Array = np.ndarray
Weights = dict[str, torch.Tensor]
Peer = Callable[[torch.Tensor, Weights], torch.Tensor]


def linear(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def layer_norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def peer_mlp(x: torch.Tensor, w: Weights) -> torch.Tensor:
    numbers = sorted({int(name.split(".")[0]) for name in w})
    for number in numbers:
        x = linear(x, w, str(number))
        x = torch.relu(x) if number != numbers[-1] else x
    return x


def turned(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions with complex numbers: another way than the engine's."""
    length, width = x.shape[-2:]
    angles = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, width, 2) / width)).double()
    pairs = torch.complex(x[..., : width // 2].double(), x[..., width // 2 :].double())
    found = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([found.real, found.imag], -1).to(x.dtype)


def attended(x: torch.Tensor, w: Weights, heads: int, kv_heads: int, rotary: bool) -> torch.Tensor:
    batch, length, width = x.shape

    def split(name: str, count: int) -> torch.Tensor:
        return linear(x, w, f"attn.{name}_proj").view(batch, length, count, width // heads).transpose(1, 2)

    q, k, v = split("q", heads), split("k", kv_heads), split("v", kv_heads)
    q, k = (turned(q), turned(k)) if rotary else (q, k)
    found = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return linear(found.transpose(1, 2).reshape(x.shape), w, "attn.out_proj")


def peer_convolutions(x: torch.Tensor, w: Weights) -> torch.Tensor:
    x = functional.conv2d(x, w["0.weight"], padding=1)
    x = torch.relu(functional.batch_norm(x, None, None, w["1.weight"], w["1.bias"], training=True))
    x = functional.max_pool2d(functional.conv2d(x, w["3.weight"], w["3.bias"], stride=2, groups=2), 2)
    return linear(x.flatten(1), w, "6")


def peer_gpt(heads: int) -> Peer:
    def forward(x: torch.Tensor, w: Weights) -> torch.Tensor:
        x = x + attended(layer_norm(x, w, "ln_1"), w, heads, heads, rotary=False)
        hidden = functional.gelu(linear(layer_norm(x, w, "ln_2"), w, "up"), approximate="tanh")
        return x + linear(hidden, w, "down")

    return forward


def peer_llama(heads: int, kv_heads: int) -> Peer:
    def normed(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
        return functional.rms_norm(x, x.shape[-1:], w[f"{name}.weight"], 1e-5)

    def forward(x: torch.Tensor, w: Weights) -> torch.Tensor:
        x = x + attended(normed(x, w, "input_layernorm"), w, heads, kv_heads, rotary=True)
        y = normed(x, w, "post_attention_layernorm")
        return x + linear(functional.silu(linear(y, w, "gate")) * linear(y, w, "up"), w, "down")

    return forward


def seeded(model: nn.Module, seed: int) -> dict[str, Array]:
    """Weights of about the size that training gives, also for what starts as ones and zeros."""
    random = np.random.default_rng(seed)
    found = {}
    for name, tensor in model.state_dict().items():
        values = random.normal(size=tensor.shape) * (tensor.shape[-1] ** -0.5 if tensor.ndim > 1 else 0.1)
        found[name] = (values + (tensor.ndim == 1 and name.endswith("weight"))).astype(np.float32)
    model.load_state_dict(found)
    return found


def error(got: Array, wanted: Array, least: float = 0.0) -> float:
    """The largest difference, relative to the largest magnitude, or to `least` if that is more."""
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), least))


def compare(name: str, model: nn.Module, peer: Peer, shape: tuple[int, ...]) -> list[Row]:
    """The errors of the output, of the gradient of the input and of those of all weights."""
    arrays = seeded(model, 1)
    parameters = dict(model.named_parameters())
    random = np.random.default_rng(2)
    data = random.normal(size=shape).astype(np.float32)
    weights = {n: torch.tensor(a, requires_grad=True) for n, a in arrays.items() if n in parameters}
    x = torch.tensor(data, requires_grad=True)
    out = peer(x, weights)
    seed = random.normal(size=out.shape).astype(np.float32)
    out.backward(torch.tensor(seed))

    ours = Tensor(data, requires_grad=True)
    found = model(ours)
    found.backward(Tensor(seed))
    found.realize(ours.grad, *(p.grad for p in parameters.values()))
    least = 1e-2 * max(float(weights[n].grad.abs().max()) for n in parameters)
    errors = [
        error(found.numpy(), out.detach().numpy()),
        error(ours.grad.numpy(), x.grad.numpy()),
        max(error(p.grad.numpy(), weights[n].grad.numpy(), least) for n, p in parameters.items()),
    ]
    return model_rows(name, errors)


COMPARED: dict[str, Callable[[], tuple[nn.Module, Peer, tuple[int, ...]]]] = {
    MODELS[0]: lambda: (mlp((64, 128, 128, 10)), peer_mlp, (32, 64)),
    MODELS[1]: lambda: (convolutions(), peer_convolutions, (8, 3, 16, 16)),
    MODELS[2]: lambda: (GptBlock(768, 12), peer_gpt(12), (1, 64, 768)),
    MODELS[3]: lambda: (LlamaBlock(512, 8, 2, 1376), peer_llama(8, 2), (2, 48, 512)),
}


def made_with() -> str:
    """The kind of machine and the versions."""
    machine = f"{platform.system()} on {platform.machine()} with {processor_target().isa}"
    versions = f"Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__}"
    return f"{machine}, {versions}"


def main() -> int:
    """Every model and the digits; 1 if one is beyond its tolerance."""
    rows = []
    for name, made in COMPARED.items():
        rows += compare(name, *made())
        print(*rows[-3:], sep="\n", flush=True)
    for row in digits.rows():
        rows.append(row)
        print(row, flush=True)
    PATH.write_text(render(rows, made_with()), encoding="utf-8")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
