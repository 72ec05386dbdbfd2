"""PyTorch's functions: the methods of Tensor, taken by name, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from engine.errors import InvalidGraph
from engine.nn.normalization import instance_norm as instance_norm
from engine.nn.normalization import track
from engine.tensor import Tensor
from engine.tensor.known import check_places


def _function(name: str) -> Callable[..., Any]:
    """The method of that name as a function: its tensor may be named `input`; `inplace` is taken and changes nothing."""
    method = getattr(Tensor, name)

    @wraps(method)
    def called(input: Tensor, *args: Any, inplace: bool = False, **options: Any) -> Any:
        return method(input, *args, **options)

    return called


# What is the same as a method.
relu, relu6, leaky_relu, elu = map(_function, ("relu", "relu6", "leaky_relu", "elu"))
selu, sigmoid, logsigmoid, tanh = map(_function, ("selu", "sigmoid", "logsigmoid", "tanh"))
softplus, softsign, silu, mish = map(_function, ("softplus", "softsign", "silu", "mish"))
gelu, glu, hardtanh, hardsigmoid = map(_function, ("gelu", "glu", "hardtanh", "hardsigmoid"))
hardswish, softshrink, hardshrink, softmax = map(
    _function, ("hardswish", "softshrink", "hardshrink", "softmax")
)
log_softmax, linear, pad, one_hot = map(_function, ("log_softmax", "linear", "pad", "one_hot"))
interpolate, conv1d, conv2d, conv3d = map(_function, ("interpolate", "conv1d", "conv2d", "conv3d"))
conv_transpose1d, conv_transpose2d, conv_transpose3d, max_pool1d = map(
    _function, ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "max_pool1d")
)
max_pool2d, max_pool3d, avg_pool1d, avg_pool2d = map(
    _function, ("max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d")
)
avg_pool3d, adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(
    _function, ("avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
)
cross_entropy, nll_loss, mse_loss, l1_loss = map(
    _function, ("cross_entropy", "nll_loss", "mse_loss", "l1_loss")
)
smooth_l1_loss, huber_loss, kl_div, binary_cross_entropy = map(
    _function, ("smooth_l1_loss", "huber_loss", "kl_div", "binary_cross_entropy")
)
binary_cross_entropy_with_logits, dropout, scaled_dot_product_attention, group_norm = map(
    _function, ("binary_cross_entropy_with_logits", "dropout", "scaled_dot_product_attention", "group_norm")
)
rms_norm, layer_norm = map(_function, ("rms_norm", "layer_norm"))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(
    _function, ("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
)


def softmin(x: Tensor, dim: int = -1) -> Tensor:
    """`softmax` of -x."""
    return (-x).softmax(dim)


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x over its p-norm along an axis, which counts as `eps` at least."""
    return x / x.norm(p, dim, True).clamp(min=eps)


def cosine_similarity(x: Tensor, other: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between two tensors along an axis; norms count as `eps` at least."""
    sizes = [one.norm(2, dim).clamp(min=eps) for one in (x, other)]
    return (x * other).sum(dim) / (sizes[0] * sizes[1])


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """x where it is above 0, else x times the weight of its channel (axis 1), or the only one."""
    shape = [weight.numel() if i == 1 else 1 for i in range(max(x.ndim, 1))]
    slope = weight.reshape(shape) if weight.numel() > 1 else weight
    return (x > 0).where(x, x * slope)


def embedding(index: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Integers (…) → rows (…, width) of a weight (rows, width); the row `padding_idx` gets no gradient.

    IndexError for a place that is known and does not exist; one that has yet to be computed gives zeros, as the
    index is not looked at then. InvalidGraph if it is not of integers.
    """
    if not index.dtype.is_int:
        raise InvalidGraph(f"takes integers, not {index.dtype.name}", "Embedding")
    rows, width = weight.shape
    check_places(index.node, 0, rows, "Embedding")
    found = weight.gather(0, index.reshape(-1, 1).expand(index.numel(), width)).reshape(*index.shape, width)
    if padding_idx is None:
        return found
    row = padding_idx % rows
    return (index == row).unsqueeze(-1).where(found.detach(), found)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(batch, channels, …): each channel by the running statistics, or in training by the batch's.

    In training the running ones move towards the batch's by the share `momentum`. InvalidGraph for one value a channel.
    """
    if training or running_mean is None or running_var is None:
        mean, variance = x.batch_statistics()
        if training:
            track(running_mean, running_var, mean, variance, x.numel() // max(x.shape[1], 1), momentum)
        running_mean, running_var = mean, variance
    return x.batch_norm(running_mean, running_var, weight, bias, eps)


Pair = int | Sequence[int]


def unfold(x: Tensor, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """(batch, channels, h, w) → (batch, channels · k · k, windows): each window of the last two axes as a column.

    The batch may be missing. InvalidGraph where no window fits.
    """
    given = (kernel_size, dilation, padding, stride)
    sizes, apart, around, steps = ((n, n) if isinstance(n, int) else tuple(n) for n in given)
    alone = x.ndim == 3
    seen = (x.unsqueeze(0) if alone else x).pad((around[1], around[1], around[0], around[0]))
    for axis in (0, 1):
        reach = apart[axis] * (sizes[axis] - 1) + 1
        seen = seen.unfold(2 + axis, reach, steps[axis])[..., :: apart[axis]]
    batch, channels, rows, columns = seen.shape[:4]
    found = seen.permute(0, 1, 4, 5, 2, 3).reshape(batch, channels * sizes[0] * sizes[1], rows * columns)
    return found.squeeze(0) if alone else found


def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """(…, c · r², h, w) → (…, c, h · r, w · r): channels become places of squares of r. InvalidGraph for other channels."""
    r = upscale_factor
    *batch, channels, rows, columns = x.shape
    if r < 1 or channels % (r * r):
        raise InvalidGraph(f"{channels} channels are no squares of {r}", "pixel_shuffle")
    cut = x.reshape(-1, channels // (r * r), r, r, rows, columns).permute(0, 1, 4, 2, 5, 3)
    return cut.reshape(*batch, channels // (r * r), rows * r, columns * r)


def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of `pixel_shuffle`. InvalidGraph for sizes that r does not divide."""
    r = downscale_factor
    *batch, channels, rows, columns = x.shape
    if r < 1 or rows % r or columns % r:
        raise InvalidGraph(f"{rows} × {columns} is no whole number of squares of {r}", "pixel_unshuffle")
    cut = x.reshape(-1, channels, rows // r, r, columns // r, r).permute(0, 1, 3, 5, 2, 4)
    return cut.reshape(*batch, channels * r * r, rows // r, columns // r)


def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, dim: int = -1) -> Tensor:
    """A softmax of logits plus Gumbel's noise; with `hard` one-hot, with the soft one's gradient."""
    noise = -(-Tensor.rand(*logits.shape, device=logits.device).clamp(min=1e-20).log()).clamp(min=1e-20).log()
    soft = ((logits + noise) / tau).softmax(dim)
    if not hard:
        return soft
    chosen = soft.detach().argmax(dim, True)
    one = Tensor.zeros(*soft.shape, dtype=soft.dtype, device=soft.device).scatter(dim, chosen, 1.0)
    return one - soft.detach() + soft
