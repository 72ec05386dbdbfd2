"""Every method of a Tensor of a leading size does for each size what the plain one does, or is refused by name."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from engine import dtypes, jit
from engine.errors import InvalidGraph
from engine.sizes import Var
from engine.tensor import Tensor
from tests.engine.leading import Function, elements, is_like, poisoned, rows

N = Var("n", 1, 5)
SIZES = (5, 3, 1, 2, 3, 4, 5)
OTHER = Tensor(rows(6, 4, seed=9), device="INTERP")
KERNEL1, KERNEL2, KERNEL3 = (
    Tensor(rows(3, *shape), device="INTERP") for shape in ((6,), (2, 3, 3), (2, 1, 2, 2))
)
ALONE = (
    *("abs", "acos", "asin", "atan", "bfloat16", "bool", "byte", "ceil", "char", "contiguous", "cos", "cosh"),
    *("count_nonzero", "detach", "dim", "double", "element_size", "elu", "erf", "exp", "exp2", "expm1"),
    *("flatten", "float", "floor", "frac", "gelu", "half", "hardshrink", "hardsigmoid", "hardswish"),
    *("hardtanh", "int", "is_floating_point", "isfinite", "isinf", "isnan", "layernorm", "leaky_relu"),
    *("log", "log10", "log1p", "log2", "logical_not", "logsigmoid", "long", "median", "mish", "nan_to_num"),
    *("ones_like", "quick_gelu", "ravel", "reciprocal", "relu", "relu6", "round", "rsqrt", "selu", "short"),
    *("sigmoid", "sign", "signbit", "silu", "sin", "sinh", "softplus", "softshrink", "softsign", "sqrt"),
    *("square", "squeeze", "t", "tan", "tanh", "trunc", "zeros_like", "all", "any", "argmax", "argmin"),
    *("logsumexp", "max", "mean", "min", "norm", "prod", "std", "sum", "var", "neg", "negative", "swish"),
    *(
        "empty_like",
        "unbind",
        "acosh",
        "arccos",
        "arccosh",
        "arcsin",
        "arcsinh",
        "arctan",
        "arctanh",
        "asinh",
    ),
    *(
        "atanh",
        "clone",
        "cpu",
        "deg2rad",
        "diag_embed",
        "diff",
        "erfc",
        "fliplr",
        "lgamma",
        "digamma",
        "logit",
        "msort",
        "nanmean",
    ),
    *("absolute", "fix", "sgn", "sinc", "isposinf", "isneginf", "corrcoef", "cov", "nanmedian"),
    *("nansum", "rad2deg", "std_mean", "aminmax", "flipud", "diag", "trace", "diagflat"),
)
ALONG = (
    *("all", "any", "argmax", "argmin", "argsort", "count_nonzero", "cummax", "cummin", "cumprod", "cumsum"),
    *("flip", "log_softmax", "logsumexp", "max", "mean", "median", "min", "prod", "softmax", "sort", "std"),
    *("sum", "unsqueeze", "var", "layernorm", "norm", "amax", "amin", "var_mean", "logcumsumexp"),
)
PAIRS = (
    *("atan2", "copysign", "fmod", "hypot", "l1_loss", "logaddexp", "logical_and", "logical_or"),
    *("logical_xor", "maximum", "minimum", "mse_loss", "smooth_l1_loss", "isclose", "lerp"),
    *("binary_cross_entropy_with_logits", "broadcast_tensors", "expand_as", "reshape_as", "cat", "stack"),
    *("add", "div", "divide", "eq", "floor_divide", "greater", "greater_equal", "gt", "less", "less_equal"),
    *("true_divide", "logaddexp2", "heaviside", "ldexp", "float_power"),
    *("arctan2", "dist", "fmax", "fmin", "huber_loss", "xlogy", "kron"),
    *(
        "lt",
        "multiply",
        "ne",
        "not_equal",
        "remainder",
        "sub",
        "subtract",
        "type_as",
        "view_as",
        "concat",
        "concatenate",
    ),
)
BITS = (
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "bitwise_not"),
)


def whole(x: Tensor) -> Tensor:
    """Places from 0 to 3 made of x, one for each row."""
    return x.abs().sum(1).cast(dtypes.int64) % 4


CALLS: dict[str, Function] = {
    **{name: lambda x, name=name: getattr(x, name)() for name in ALONE},
    **{
        f"{name} {axis}": lambda x, name=name, axis=axis: (
            getattr(x, name)(axis=axis) if name == "norm" else getattr(x, name)(axis)
        )
        for name in ALONG
        for axis in (0, 1)
    },
    "layernorm 0": lambda x: x.layernorm(axis=0),
    **{
        name: lambda x, name=name: getattr(x, name)(*([x * 2 + 1, 0.5] if name == "lerp" else [x * 2 + 1]))
        for name in PAIRS
    },
    **{
        name: lambda x, name=name: getattr(x.int(), name)(*([x.abs().int()] * (name != "bitwise_not")))
        for name in BITS
    },
    "where": lambda x: (x > 0).where(x, 1.0),
    "outer": lambda x: x[:, 0].outer(x[:, 1]),
    "matmul": lambda x: (x @ OTHER, x.matmul(OTHER), x.linear(OTHER.T), x.dot(OTHER)),
    "between": lambda x: (x @ x.T, x.T @ x, Tensor.einsum("ni,mi->nm", x, x), x.tensordot(x.T, 1)),
    "products": lambda x: (x.mm(OTHER), x.mv(OTHER[:, 0])),
    "batched": lambda x: x.reshape(-1, 2, 3).bmm(x.reshape(-1, 3, 2)),
    "gather 0": lambda x: x.gather(0, x.abs().cast(dtypes.int64)),
    "gather 1": lambda x: x.gather(1, x.abs().cast(dtypes.int64) % 6),
    "gather of a table": lambda x: OTHER[whole(x)],
    "index_select": lambda x: (
        x.index_select(1, Tensor([0, 5], device="INTERP")),
        OTHER.index_select(0, whole(x)),
    ),
    "take": lambda x: x.take(whole(x)),
    "take from the end": lambda x: x.take(-1 - whole(x) % 2),
    "places": lambda x: x[whole(x) % 1, whole(x)],
    "places from the end": lambda x: x[-1 - whole(x) % 1],
    "scatter 1": lambda x: x.scatter(1, x.abs().cast(dtypes.int64) % 6, x * 2),
    "scatter_add 0": lambda x: x.scatter_add(0, x.abs().cast(dtypes.int64) % 1, x * 2),
    "scatter_add of a table": lambda x: OTHER.scatter_add(0, x[:, :4].abs().cast(dtypes.int64), x[:, :4]),
    "scatter_reduce": lambda x: x.scatter_reduce(1, x.abs().cast(dtypes.int64) % 6, x * 2, "mean"),
    "one_hot": lambda x: whole(x).one_hot(4),
    "searchsorted": lambda x: Tensor([-2.0, 0.0, 2.0], device="INTERP").searchsorted(x),
    "searchsorted rows": lambda x: x[:, 0].sort()[0].searchsorted(Tensor([0.0], device="INTERP")),
    "topk": lambda x: (x.topk(2, 1), x.topk(1, 0)),
    "tril": lambda x: (x.tril(), x.triu()),
    "diagonal": lambda x: x.diagonal(),
    "written": lambda x: written(x, (slice(None), 1)),
    "written row": lambda x: written(x, 0),
    "written from the end": lambda x: written(x, -1),
    "repeat": lambda x: x.repeat(1, 2),
    "repeat rows": lambda x: x.repeat(2, 1),
    "repeat_interleave": lambda x: (x.repeat_interleave(2, 1), x.repeat_interleave(2, 0)),
    "expand": lambda x: x[:, None].expand(-1, 3, -1),
    "roll": lambda x: x.roll(1, 1),
    "roll rows": lambda x: x.roll(1, 0),
    "rot90": lambda x: x.rot90(),
    "split": lambda x: (x.split(2, 1), x.chunk(3, 1)),
    "split rows": lambda x: x.split(2),
    "narrow": lambda x: (x.narrow(1, 1, 2), x.narrow(0, 0, 1)),
    "swapaxes": lambda x: (x.moveaxis(0, 1), x.swapaxes(0, 1), x.broadcast_to(x.shape[0], 6), x.tile(2)),
    "shrink": lambda x: (x.shrink((None, (1, 3))), x.shrink(((0, 1), None))),
    "movedim": lambda x: (x.movedim(0, 1), x.transpose(0, 1), x.permute(1, 0), x.T),
    "unflatten": lambda x: (x.unflatten(1, (2, 3)), x.view(x.shape[0], 3, 2)),
    "unflatten rows": lambda x: x.flatten().unflatten(0, (-1, 6)),
    "unfold": lambda x: x.unfold(1, 2, 2) if hasattr(x, "unfold") else x,
    "pad": lambda x: (x.pad(((0, 0), (1, 2))), x.pad((1, 1), mode="circular")),
    "meshgrid": lambda x: x[:, 0].meshgrid(x[0]),
    "clamp": lambda x: (x.clamp(-1, 1), x.masked_fill(x > 0, 1.0), x.clip(0)),
    "pow": lambda x: (x**2, 2**x, x.pow(3), x % 3, x // 2, x / 3, -x, x > 1, x == x),
    "losses": lambda x: (
        x.cross_entropy(whole(x)),
        x.cross_entropy(whole(x), label_smoothing=0.1),
        x.cross_entropy(whole(x), ignore_index=2),
        x.log_softmax().nll_loss(whole(x), reduction="sum"),
        x.sigmoid().binary_cross_entropy((x > 0).float()),
    ),
    "norms": lambda x: (
        x.layer_norm((6,)),
        x.rms_norm((6,)),
        x.group_norm(2),
        x.batch_statistics(),
        x.batch_norm(*x.batch_statistics()),
    ),
    "logs": lambda x: (
        x.kl_div(x.sigmoid()),
        x.sparse_categorical_crossentropy(whole(x)),
        x.addcmul(x, x, value=2),
        x.addcdiv(x, x + 9),
        x.clamp_min(-1),
        x.clamp_max(1),
    ),
    "matrices": lambda x: (
        x.addmm(x, Tensor.ones(6, 6)),
        x[:, 0].addmv(x, Tensor.ones(6)),
        x.baddbmm(x, Tensor.ones(6, 6)),
        x[:, :3].cross(x[:, 3:]),
    ),
    "slices": lambda x: (
        x.select(1, 2),
        x.index_fill(1, Tensor([0, 5]), 1.0),
        x.kthvalue(2, 1),
        x.take_along_dim(whole(x)[:, None], 1),
    ),
    "slices by an index": lambda x: (
        OTHER.index_add(0, whole(x), x[:, :4]),
        OTHER.index_copy(0, whole(x), x[:, :4]),
    ),
    "new": lambda x: (
        x.new_full((2,), 1.0),
        x.new_zeros(2),
        x.new_ones(2),
        x.new_empty(2),
        x.new_tensor([1.0]),
    ),
    "rows": lambda x: (
        x.quantile(0.5, 1),
        x.isin([0.0]),
        x.swapdims(0, 1),
        x.cdist(x[:1]),
        x.hstack(x * 2),
        x.inner(OTHER.T),
        x[:, 0].ger(x[:, 1]),
        x[:, 0].vdot(x[:, 1]),
        x.addr(x[:, 0], x[0]),
        x.tensor_split(2, 1),
    ),
    "rows below": lambda x: x.vstack(x),
    "pairs of rows": lambda x: x[:, 0].cartesian_prod(x[0]),
    "put by a mask": lambda x: x.masked_scatter(x > 0, x * 2),
    "put by an index": lambda x: x.index_put((whole(x) % 1, whole(x)), 1.0),
    "glu": lambda x: (x.glu(), x.glu(1)),
    "attention": lambda x: x.scaled_dot_product_attention(x, x),
    "conv1d": lambda x: x[:, :, None].conv1d(KERNEL1[:, :, None]),
    "conv2d": lambda x: image(x).conv2d(KERNEL2),
    "conv3d": lambda x: image(x)[:, None].conv3d(KERNEL3[:, :1]),
    "conv_transpose2d": lambda x: image(x).conv_transpose2d(KERNEL2.permute(1, 0, 2, 3)),
    "pools": lambda x: (
        image(x).max_pool2d(2),
        image(x).avg_pool2d(2),
        image(x).adaptive_avg_pool2d(1),
        image(x).adaptive_max_pool2d(2),
    ),
    "other pools": lambda x: (
        *(
            x[:, None].max_pool1d(2),
            x[:, None].avg_pool1d(2),
            x[:, None].adaptive_avg_pool1d(3),
            x[:, None].adaptive_max_pool1d(4),
        ),
        *(image(x)[:, None].max_pool3d(2), image(x)[:, None].avg_pool3d(2)),
        image(x)[:, None].adaptive_avg_pool3d(1),
        image(x)[:, None].adaptive_max_pool3d(1),
    ),
    "other transposed convolutions": lambda x: (
        x[:, :, None].conv_transpose1d(KERNEL1.T[:, :, None]),
        image(x)[:, None].conv_transpose3d(KERNEL3[:1]),
    ),
    "instance_norm": lambda x: image(x).instance_norm(),
    "interpolate": lambda x: image(x).interpolate(scale_factor=2),
    "random": lambda x: (
        x.rand_like(seed=1),
        x.randn_like(seed=2),
        x.randint_like(seed=3, dtype=dtypes.int64),
    ),
    "chances": lambda x: (x.sigmoid().bernoulli(seed=1), x.dropout(0.5, seed=2)),
    "multinomial": lambda x: x.sigmoid().multinomial(2, True, seed=1),
    "made": lambda x: (
        Tensor.full((x.shape[0], 2), 3),
        Tensor.eye(x.shape[0]),
        Tensor.tri(x.shape[0]),
        Tensor.ones(x.shape[0]).sum(),
        x.full_like(2),
    ),
    "arange": lambda x: (Tensor.arange(x.shape[0]), Tensor.arange(x.size(0)).sum()),
    "arange from 1": lambda x: Tensor.arange(1, x.shape[0]),
    "linspace": lambda x: Tensor.linspace(0, 1, x.shape[0]),
    "randperm": lambda x: Tensor.randperm(x.shape[0], seed=1),
    "drawn": lambda x: (
        *(Tensor.normal(x.shape[0], seed=1), Tensor.uniform(x.shape[0], seed=1), Tensor.empty(x.shape[0])),
        *(Tensor.randn(x.shape[0], 2, seed=1), Tensor.randint(x.shape[0], 2, seed=1)),
    ),
    "drawn behind": lambda x: Tensor.randn(2, x.shape[0], seed=1),
    "bits": lambda x: (x.bitcast(dtypes.int32), x.cast(dtypes.int32) & 3, x.to(dtypes.float16)),
    "numbers": lambda x: x * x.numel() + x.shape[0] * 2 - 1 + x / (x.shape[0] + 1) + x.ndim,
}
REFUSED = {
    *(
        "flip 0",
        "cat",
        "concat",
        "concatenate",
        "unbind",
        "drawn behind",
        "roll rows",
        "split rows",
        "repeat rows",
        "written from the end",
    ),
    *("rows below", "corrcoef", "flipud", "diag", "trace", "kron"),
    *("arange from 1", "linspace", "median", "median 0", "squeeze", "searchsorted rows", "diagonal"),
}
# What reads elements, changes a tensor or makes weights.
NOT_ASKED = {
    *("assign", "backward", "gradient", "item", "manual_seed", "masked_select", "nbytes", "nonzero", "numpy"),
    *("realize", "requires_grad_", "tolist", "glorot_normal", "glorot_uniform", "kaiming_normal"),
    *("kaiming_uniform", "xavier_normal", "xavier_uniform", "allclose", "equal", "argwhere", "is_nonzero"),
    *("bincount", "histc", "unique", "logspace", "tril_indices", "triu_indices", "type"),
    *("nelement", "ndimension", "is_contiguous", "is_signed", "no_grad", "train", "test"),
}


def image(x: Tensor) -> Tensor:
    return x.pad(((0, 0), (0, 26))).reshape(x.shape[0], 2, 4, 4)


def written(x: Tensor, key: Any) -> Tensor:
    changed = x * 1
    changed[key] = 9.0
    return changed


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_right_at_every_size_or_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")
    function = CALLS[name]
    fast = jit(function, leading={"x": N})
    with np.errstate(all="ignore"):
        for number, size in enumerate(SIZES):
            given = rows(size, 6)
            wanted = function(Tensor(given))
            if name in REFUSED and number == 1:
                with pytest.raises(InvalidGraph, match=r"\bn\b"):
                    fast(Tensor(given))
                return
            is_like(elements(fast(Tensor(given))), elements(wanted))
            if fast.plans:
                poisoned(fast, float("nan"))


def test_the_calls_are_all_there_are() -> None:
    methods = {name for name, _ in inspect.getmembers(Tensor, callable) if not name.startswith("_")}
    text = inspect.getsource(inspect.getmodule(written))  # type: ignore[arg-type]
    asked = {name for name in methods if f".{name}(" in text or f'"{name}' in text or name.endswith("_")}
    assert asked == methods
