"""The same call on a Tensor and on PyTorch's gives the same shape, dtype and values.

Run it with a Python that has PyTorch and pytest, from the root: `python -m pytest --noconftest tests/peers/calls.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from engine import dtypes
from engine.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def whole(*shape: int, low: int = -9, high: int = 10, dtype: Any = np.int64) -> Array:
    return RANDOM.integers(low, high, shape).astype(dtype)


X = normal(4, 5, 6)
Y = normal(4, 5, 6)
ROW = normal(6)
I = whole(4, 5, 6)  # noqa: E741
SHORT = whole(5, 6, dtype=np.int16)
BYTES = whole(5, 6, low=0, high=255, dtype=np.uint8)
FLAGS = X > 0
HALF = X.astype(np.float16)
DOUBLE = X.astype(np.float64)
TIED = whole(4, 50).astype(np.float32)
HOLED = np.where(RANDOM.random((4, 50)) < 0.1, np.nan, TIED).astype(np.float32)
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e-30, 1e30], np.float32)
IMAGE = normal(2, 6, 11, 9)
LINE = normal(2, 4, 17)
VOLUME = normal(1, 2, 5, 6, 7)
SCORES = normal(7, 5)
CLASSES = np.array([0, 4, 2, -100, 1, 1, 3])
CHANCES = np.abs(normal(7, 5)) / np.abs(normal(7, 5)).sum()
Q, K, V = normal(2, 4, 7, 8), normal(2, 4, 9, 8), normal(2, 4, 9, 8)
Case = tuple[str, tuple[Any, ...], dict[str, Any]]


def case(name: str, *args: Any, **keywords: Any) -> Case:
    return name, args, keywords


def elementwise() -> Iterator[Case]:
    for name in (
        *(
            "floor",
            "ceil",
            "trunc",
            "round",
            "abs",
            "sign",
            "signbit",
            "square",
            "sqrt",
            "rsqrt",
            "reciprocal",
        ),
        *(
            "exp",
            "exp2",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "erf",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
        ),
        *(
            "atan",
            "sinh",
            "cosh",
            "tanh",
            "sigmoid",
            "isnan",
            "isinf",
            "isfinite",
            "nan_to_num",
            "relu",
            "neg",
        ),
        *("relu6", "leaky_relu", "elu", "selu", "logsigmoid", "softplus", "silu", "mish", "gelu", "softsign"),
        *("hardtanh", "hardsigmoid", "hardswish", "softshrink", "hardshrink", "logical_not", "frac"),
    ):
        yield case(name, X)
        if name not in ("gelu",):  # of infinity PyTorch gives NaN
            yield case(name, SPECIAL)
    for name in ("sqrt", "exp", "sin", "tanh", "sigmoid", "log1p", "erf", "gelu", "silu", "softplus"):
        yield case(name, np.abs(HALF))
        yield case(name, np.abs(DOUBLE))
    for name in ("exp", "sqrt", "sin", "sigmoid", "abs", "sign", "reciprocal", "floor"):
        yield case(name, np.abs(SHORT))
    yield case("gelu", X, approximate="tanh")
    yield case("round", X * 100, decimals=1)
    yield case("nan_to_num", SPECIAL, nan=7.0, posinf=8.0, neginf=9.0)
    yield case("clamp", X, -0.5, 0.5)
    yield case("clamp", X, min=Y)
    yield case("clamp", I, max=3)
    yield case("glu", X, dim=-1)


def two_operands() -> Iterator[Case]:
    for name in ("add", "sub", "mul", "div", "remainder", "fmod", "floor_divide", "maximum", "minimum"):
        yield case(name, X, Y)
        yield case(name, X, ROW)
        yield case(name, I, np.where(whole(6) == 0, 5, 7))
        yield case(name, SHORT, np.where(BYTES == 0, 5, BYTES).astype(np.uint8))
        yield case(name, HALF, DOUBLE)
        yield case(name, I, np.where(Y == 0, 1, Y))
    for name in ("add", "sub", "mul", "div", "remainder", "floor_divide", "pow"):
        for number in (2, 3.5, -3):
            yield case(name, X, number)
            if not (name == "pow" and number == -3):
                yield case(name, I, number)
                yield case(name, SHORT, number)
            yield case(name, HALF, number)
    for name in ("lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_xor"):
        yield case(name, TIED, HOLED)
        yield case(name, I, I[0])
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        yield case(name, I, 3)
    for name in ("copysign", "hypot", "logaddexp", "atan2"):
        yield case(name, X, Y)
        yield case(name, SPECIAL[:, None], SPECIAL)
    for name in ("remainder", "fmod", "floor_divide", "pow", "maximum"):
        yield case(name, SPECIAL[:, None], SPECIAL)
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        yield case(name, I, 6)
        yield case(name, FLAGS, FLAGS[0])
    yield case("bitwise_left_shift", SHORT, 3)
    yield case("bitwise_right_shift", SHORT, 3)
    yield case("pow", np.abs(X), Y)
    yield case("pow", I, np.abs(whole(6)))
    yield case("pow", X, whole(6))
    yield case("pow", DOUBLE, whole(6))
    yield case("lerp", X, Y, 0.3)
    yield case("masked_fill", X, FLAGS, 2.0)
    yield case("isclose", X, X + np.float32(1e-6))
    yield case("add", np.ones(3, np.float16), np.array(2.0, np.float32))  # 0-d lifts no width
    yield case("add", np.ones(3, np.int32), np.array(2.0, np.float64))
    yield case("add", np.ones(3, np.uint8), np.array(2, np.int64))
    yield case("add", FLAGS, np.array(2, np.int32))


def movements() -> Iterator[Case]:
    yield case("reshape", X, 20, -1)
    yield case("view", X, (2, 10, 6))
    yield case("permute", X, 2, 0, 1)
    yield case("transpose", X, 0, -1)
    yield case("swapaxes", X, 0, 1)
    yield case("movedim", X, (0, 1), (2, 0))
    yield case("movedim", X, 0, -1)
    yield case("flatten", X, 1, 2)
    yield case("unflatten", X, 2, (2, -1))
    yield case("squeeze", X[:, :1])
    yield case("squeeze", X[:1, :1], 1)
    yield case("unsqueeze", X, -2)
    yield case("expand", ROW, 4, -1)
    yield case("repeat", X, 2, 1, 3)
    yield case("tile", X, (2, 3))
    yield case("repeat_interleave", X, 3, dim=1)
    yield case("repeat_interleave", X, 2)
    yield case("flip", X, (0, 2))
    yield case("roll", X, 2, 1)
    yield case("roll", X, (1, -2), (0, 2))
    yield case("roll", X, 7)
    for turns in (-1, 0, 1, 2, 3):
        yield case("rot90", X, turns, (0, 1))
    for mode in ("constant", "reflect", "replicate", "circular"):
        yield case("pad", LINE, (2, 3), mode)
        yield case("pad", IMAGE, (1, 2, 3, 1), mode)
    yield case("pad", X, (1, 0, 2, -1), value=3.5)
    for name, args in (("split", (2,)), ("split", ([1, 3],)), ("chunk", (3,)), ("unbind", ())):
        yield case(name, X[:, :4], *args, dim=1)
    yield case("unfold", X, 1, 2, 3)
    yield case("narrow", X, 1, 2, 3)
    yield case("diagonal", X, 1, 0, 2)
    yield case("diagonal", X, -2, 2, 1)
    yield case("tril", X, -1)
    yield case("triu", X, 2)
    yield case("t", SCORES)


def reductions() -> Iterator[Case]:
    for name in ("sum", "prod", "mean", "amax", "amin", "logsumexp", "any", "all", "argmax", "argmin"):
        yield case(name, X, dim=1)
        yield case(name, X, dim=-1, keepdim=True)
        yield case(name, HALF, dim=0)
        if name not in ("mean", "logsumexp"):
            yield case(name, I, dim=1)
            yield case(name, HOLED, dim=1)
        if name in ("sum", "prod"):
            for array in (FLAGS, SHORT, BYTES):
                yield case(name, array)
    for name in ("sum", "mean", "amax", "logsumexp", "any"):
        yield case(name, X, dim=(0, 2))
    for name in ("std", "var"):
        yield case(name, X)
        yield case(name, X, dim=1, correction=0)
        yield case(name, X, dim=(0, 1), keepdim=True)
    for p in (0, 1, 2, 3, np.inf, -np.inf):
        yield case("norm", X, p, dim=1)
    for name in ("cumsum", "cumprod", "cummax", "cummin"):
        yield case(name, X, dim=1)
        yield case(name, HOLED, dim=1)
        yield case(name, I, dim=0)
        yield case(name, np.tile(X, (1, 40, 1)) / 4, dim=1)
    yield case("count_nonzero", I, dim=1)
    yield case("softmax", X, dim=1)
    yield case("log_softmax", HALF, dim=-1)
    yield case("sum", SHORT, dim=0, dtype="float32")
    yield case("cumsum", FLAGS, dim=1)


def sortings() -> Iterator[Case]:
    for array in (HOLED, TIED, I[0], BYTES, SHORT, FLAGS[0], TIED.astype(np.float16), DOUBLE):
        for descending in (False, True):
            yield case("sort", array, dim=-1, descending=descending, stable=True)
        yield case("argsort", array, dim=0, stable=True)
    yield case("sort", np.tile(HOLED, (1, 8)), dim=1, stable=True)
    yield case("sort", normal(3, 1000), dim=1, descending=True, stable=True)
    yield case("sort", whole(700, low=-(2**62), high=2**62), dim=0, stable=True)
    yield case("sort", DOUBLE.ravel(), dim=0, stable=True)
    yield case("topk", X, 3)
    yield case("topk", X, 2, dim=1, largest=False)
    yield case("median", HOLED)
    yield case("median", TIED[:, :49])


def contractions() -> Iterator[Case]:
    for a, b in (
        (X, normal(6, 3)),
        (ROW, normal(6, 3)),
        (X, ROW),
        (ROW, ROW),
        (X, normal(1, 6, 2)),
        (Q, normal(8, 3)),
    ):
        yield case("matmul", a, b)
    yield case("matmul", HALF, HALF[0].T)
    yield case("matmul", I, I[0].T)
    yield case("bmm", X, normal(4, 6, 2))
    yield case("outer", ROW, normal(3))
    yield case("tensordot", X, normal(5, 6, 2), dims=2)
    yield case("tensordot", X, normal(6, 3, 4), dims=([0, 2], [2, 0]))
    yield case("linear", X, normal(3, 6), normal(3))


def layers() -> Iterator[Case]:
    for keywords in (
        {},
        {"stride": 2, "padding": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (2, 1)},
        {"groups": 3},
        {"padding": "same", "dilation": 2},
        {"padding": "valid"},
    ):
        weight = normal(6, 6 // int(keywords.get("groups", 1)), 3, 2)  # type: ignore[call-overload]
        yield case("conv2d", IMAGE, weight, normal(6), **keywords)
    yield case("conv2d", IMAGE[0], normal(4, 6, 1, 1))
    yield case("conv1d", LINE, normal(3, 4, 5), stride=3, padding=2)
    yield case("conv3d", VOLUME, normal(3, 2, 2, 3, 2), padding=1)
    yield case("conv2d", IMAGE.astype(np.float16), normal(4, 6, 3, 3).astype(np.float16))
    for keywords in (
        {},
        {"stride": 2, "padding": 1, "output_padding": 1},
        {"stride": (3, 2), "padding": (1, 0), "dilation": 2},
        {"groups": 2, "padding": 3},
    ):
        yield case(
            "conv_transpose2d",
            IMAGE,
            normal(6, 2, 3, 2),
            normal(2 * int(keywords.get("groups", 1))),
            **keywords,
        )  # type: ignore[call-overload]
    yield case("conv_transpose1d", LINE, normal(4, 3, 5), stride=2)
    yield case("conv_transpose3d", VOLUME, normal(2, 3, 2, 3, 2), stride=2)
    for keywords in (
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 0), "ceil_mode": True},
        {"kernel_size": 2, "stride": 3, "ceil_mode": True},
    ):
        yield case("max_pool2d", IMAGE, **keywords)
        yield case("avg_pool2d", IMAGE, **keywords)
        yield case("avg_pool2d", IMAGE, **keywords, count_include_pad=False)
    yield case("max_pool2d", IMAGE, 2, dilation=3, stride=1)
    yield case("max_pool1d", LINE, 3)
    yield case("avg_pool1d", LINE, 3, stride=2)
    yield case("max_pool3d", VOLUME, 2)
    yield case("avg_pool3d", VOLUME, 2, padding=1)
    yield case("adaptive_avg_pool2d", IMAGE, (3, 9))
    yield case("adaptive_avg_pool2d", IMAGE, 1)
    yield case("adaptive_avg_pool1d", LINE, 5)
    yield case("interpolate", IMAGE, size=(22, 5))
    yield case("interpolate", IMAGE, scale_factor=2)
    yield case("interpolate", IMAGE, scale_factor=1.5)
    for align in (False, True):
        yield case("interpolate", IMAGE, size=(22, 5), mode="bilinear", align_corners=align)
    yield case("interpolate", LINE, scale_factor=1.7, mode="linear")
    yield case("interpolate", VOLUME, scale_factor=2, mode="trilinear")
    yield case("layer_norm", X, (5, 6), normal(5, 6), normal(5, 6))
    yield case("layer_norm", HALF, (6,))
    yield case("rms_norm", X, (6,), ROW)
    yield case("group_norm", IMAGE, 3, normal(6), normal(6))
    yield case("instance_norm", IMAGE)
    yield case("batch_norm", IMAGE, normal(6), np.abs(normal(6)), normal(6), normal(6))


def losses() -> Iterator[Case]:
    for reduction in ("mean", "sum", "none"):
        yield case("mse_loss", X, Y, reduction=reduction)
        yield case("l1_loss", X, Y, reduction=reduction)
        yield case("smooth_l1_loss", X, Y, reduction=reduction, beta=0.7)
        for weight in (None, np.abs(normal(5))):
            yield case("cross_entropy", SCORES, CLASSES, weight=weight, reduction=reduction)
            yield case(
                "cross_entropy", SCORES, CLASSES, weight=weight, reduction=reduction, label_smoothing=0.2
            )
            yield case(
                "cross_entropy", SCORES, CHANCES, weight=weight, reduction=reduction, label_smoothing=0.1
            )
        yield case("nll_loss", SCORES, np.abs(CLASSES) % 5, reduction=reduction, ignore_index=1)
        yield case("binary_cross_entropy", CHANCES, (SCORES > 0).astype(np.float32), reduction=reduction)
        yield case("binary_cross_entropy_with_logits", SCORES * 50, CHANCES, reduction=reduction)
    yield case("binary_cross_entropy_with_logits", SCORES, CHANCES, pos_weight=np.abs(normal(5)))
    yield case("cross_entropy", normal(2, 5, 3, 4), whole(2, 3, 4, low=0, high=5))
    yield case("cross_entropy", normal(5), np.array(3))
    yield case("scaled_dot_product_attention", Q, K, V)
    yield case("scaled_dot_product_attention", Q, K, V, is_causal=True)
    yield case("scaled_dot_product_attention", Q, K, V, attn_mask=normal(7, 9) > -1, scale=0.7)
    yield case("scaled_dot_product_attention", Q, K, V, attn_mask=normal(7, 9))
    yield case("scaled_dot_product_attention", Q, K[:, :2], V[:, :2], enable_gqa=True)
    yield case("scaled_dot_product_attention", Q, K, V, attn_mask=np.arange(7)[:, None] > np.arange(9))


def indexings() -> Iterator[Case]:
    yield case("gather", X, 1, whole(4, 3, 6, low=0, high=5))
    yield case("index_select", X, 2, np.array([0, 5, 5]))
    yield case("take", X, np.array([[0, 100], [-1, 3]]))
    yield case("scatter", X, 1, whole(3, 1, 6, low=0, high=5), 2.5)
    yield case("scatter_add", X, 1, whole(4, 5, 6, low=0, high=5), Y)
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for itself in (True, False):
            yield case("scatter_reduce", X, 0, whole(4, 5, 6, low=0, high=4), Y, reduce, include_self=itself)
    yield case("masked_select", X, FLAGS)
    yield case("nonzero", whole(4, 5, low=0, high=2))
    yield case("searchsorted", np.sort(ROW), X)
    yield case("searchsorted", np.sort(X), Y, right=True)


GROUPS = (elementwise, two_operands, movements, reductions, sortings, contractions, layers, losses, indexings)
CASES = [(f"{group.__name__}-{i}-{c[0]}", c) for group in GROUPS for i, c in enumerate(group())]


def ours(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return Tensor(value, device="INTERP")
    return getattr(dtypes, value) if value in ("float32",) else value


def theirs(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.tensor(value)
    return getattr(torch, value) if value in ("float32",) else value


def peer(name: str, first: Any) -> Any:
    """PyTorch's function: a method, or one of nn.functional or torch."""
    homes = (type(first), torch.nn.functional, torch)
    return next(getattr(home, name) for home in homes if hasattr(home, name))


@pytest.mark.parametrize("drawn", [c for _, c in CASES], ids=[name for name, _ in CASES])
def test_the_same_call_gives_the_same(drawn: Case) -> None:
    name, args, keywords = drawn
    mine = getattr(ours(args[0]), name)(*map(ours, args[1:]), **{k: ours(v) for k, v in keywords.items()})
    first = theirs(args[0])
    wanted = peer(name, first)(first, *map(theirs, args[1:]), **{k: theirs(v) for k, v in keywords.items()})
    for one, other in zip(listed(mine), listed(wanted), strict=True):
        alike(one, other)


def listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def alike(mine: Any, wanted: Any) -> None:
    assert (mine.shape, mine.dtype.name) == (tuple(wanted.shape), str(wanted.dtype).removeprefix("torch."))
    a, b = mine.numpy().astype(np.float64), wanted.double().numpy()
    if wanted.dtype in (torch.bool, torch.int64, torch.int32, torch.int16, torch.uint8):
        np.testing.assert_array_equal(mine.numpy(), wanted.numpy())
        return
    rtol = {torch.float16: 2e-3, torch.float64: 1e-12}.get(wanted.dtype, 2e-5)
    scale = np.max(np.abs(b[np.isfinite(b)]), initial=0)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * min(float(scale), 1.0) * 0.1)


EINSUMS = [
    ("ij,jk", (3, 4), (4, 5)),
    ("ij,jk,kl->il", (3, 4), (4, 5), (5, 2)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("ii->i", (4, 4)),
    ("ii", (4, 4)),
    ("ij->ji", (3, 4)),
    ("i,j->ij", (3,), (4,)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("ij,ij->", (3, 4), (3, 4)),
    ("abc,cd,def->abef", (2, 3, 4), (4, 5), (5, 2, 3)),
    ("i...->...", (3, 4, 5)),
]


@pytest.mark.parametrize("drawn", EINSUMS, ids=[e[0] for e in EINSUMS])
def test_einsum_is_pytorchs(drawn: Any) -> None:
    formula, *shapes = drawn
    arrays = [normal(*shape) for shape in shapes]
    alike(Tensor.einsum(formula, *map(ours, arrays)), torch.einsum(formula, *map(theirs, arrays)))


KEYS = [
    1,
    -1,
    slice(None, None, 2),
    (slice(1, 3), 2),
    (..., 0),
    (None, ..., 1),
    ([0, 2],),
    (slice(None), [1, 2], [0, 3]),
]


@pytest.mark.parametrize("key", KEYS, ids=map(str, KEYS))
def test_keys_read_as_pytorchs(key: Any) -> None:
    alike(ours(X)[key], theirs(X)[key])


TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize("a", TYPES)
@pytest.mark.parametrize("b", TYPES)
def test_two_dtypes_meet_as_in_pytorch(a: str, b: str) -> None:
    mine = Tensor([1], device="INTERP").cast(getattr(dtypes, a)) + Tensor([1], device="INTERP").cast(
        getattr(dtypes, b)
    )
    wanted = torch.ones(1, dtype=getattr(torch, a)) + torch.ones(1, dtype=getattr(torch, b))
    assert mine.dtype.name == str(wanted.dtype).removeprefix("torch.")
