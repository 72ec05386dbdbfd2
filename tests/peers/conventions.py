"""Values, their signs of zero, and gradients at the points where they could be otherwise are PyTorch's; so are layers
and optimizers by its names.

Run it with a Python that has PyTorch and pytest, from the root: `python -m pytest --noconftest tests/peers/conventions.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from engine import Tensor, nn

Array = np.ndarray[Any, np.dtype[Any]]
F = torch.nn.functional
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, math.inf, -math.inf, math.nan]
LINE = np.float32([*EDGES, 0.2, -0.2, 1.5, 2.5, -1.5, 1e-8, 1e6, -1e6, 1e30, 9.0])
LEFT, RIGHT = (v.ravel().astype(np.float32) for v in np.meshgrid(EDGES, EDGES))


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def is_like(got: Any, wanted: Any, rtol: float = 1e-5, atol: float = 1e-6, *, signs: bool = False) -> None:
    a, b = got.numpy(), wanted.detach().numpy()
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    zeros = (a == 0) & (b == 0) & signs
    assert (np.signbit(a) == np.signbit(b))[zeros].all()


def compare(
    ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Array, signs: bool = False
) -> None:
    """Values, and the gradients of floats for a random weighting of the (first) result."""
    mine, wanted = [Tensor(a) for a in arrays], [torch.tensor(a) for a in arrays]
    for a, b in zip(mine, wanted, strict=True):
        if b.is_floating_point():
            a.requires_grad_()
            b.requires_grad_()
    got, right = ours(*mine), theirs(*wanted)
    pairs = list(zip(got, right, strict=True)) if isinstance(right, tuple) else [(got, right)]
    for one, other in pairs:
        is_like(one, other, signs=signs)
    first, target = pairs[0]
    weights = np.ones(target.shape, np.float32) if signs else normal(*target.shape)
    (first * Tensor(weights)).sum().backward()
    (target * torch.tensor(weights)).sum().backward()
    for a, b in zip(mine, wanted, strict=True):
        if b.grad is not None:
            assert a.grad is not None
            is_like(a.grad, b.grad, rtol=1e-4)


ONE = (
    *("floor", "ceil", "trunc", "round", "abs", "sign", "frac", "asin", "acos", "atan", "sin", "cos", "sinh"),
    *("cosh", "tanh", "exp", "exp2", "expm1", "log", "log2", "log1p", "sqrt", "rsqrt", "reciprocal", "erf"),
    *("asinh", "acosh", "atanh", "erfc", "logit", "deg2rad", "square", "sigmoid"),
)
TWO = ("pow", "fmod", "atan2", "maximum", "minimum", "fmax", "fmin")


@pytest.mark.parametrize("name", ONE)
def test_a_function_of_the_edges(name: str) -> None:
    line = LINE[~(LINE < 1)] if name == "acosh" else LINE  # below 1 PyTorch has a slope of NaN's
    compare(lambda x: getattr(x, name)(), getattr(torch, name), line, signs=True)


@pytest.mark.parametrize("name", TWO)
def test_a_function_of_two_edges(name: str) -> None:
    where = ~((LEFT == 0) & (RIGHT == 0)) | (name not in ("fmax", "fmin", "maximum", "minimum"))
    pair = LEFT[where], RIGHT[where]  # which of two zeros is the greater is left open
    compare(lambda x, y: getattr(x, name)(y), getattr(torch, name), *pair, signs=True)


@pytest.mark.parametrize("exponent", [0, 0.0, 1, 2, 3, -1, -2, 0.5])
def test_a_power_of_the_edges(exponent: float) -> None:
    compare(lambda x: x**exponent, lambda x: x**exponent, LINE, signs=True)


def test_remainders_of_all_sizes() -> None:
    rng = np.random.default_rng(0)
    for kind in (np.float32, np.float64):
        a, b = (rng.standard_normal(4000) * 10.0 ** rng.uniform(-30, 30, 4000) for _ in range(2))
        x, y = a.astype(kind), b.astype(kind)
        for ours, theirs in (
            (Tensor(x) % Tensor(y), torch.remainder),
            (Tensor(x).fmod(Tensor(y)), torch.fmod),
            (Tensor(x) // Tensor(y), torch.floor_divide),
        ):
            wanted = theirs(torch.tensor(x), torch.tensor(y)).numpy()
            # PyTorch's float32 lanes give NaN where the quotient is no float32; its float64 does not.
            right = ~np.isnan(wanted)
            # A quotient of many digits is rounded once here, three times there.
            loose = 3e-7 if theirs is torch.floor_divide and kind is np.float32 else 0
            np.testing.assert_allclose(ours.numpy()[right], wanted[right], rtol=loose)


A, B, S = normal(3, 4), normal(4, 5), np.random.default_rng(9).standard_normal((3, 4), dtype=np.float32)
INDEX = np.array([0, 2, 0])
SAME: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "addmm": (lambda c, a, b: c.addmm(a, b, beta=0.5, alpha=2), (normal(3, 5), A, B)),
    "diag of a vector": (lambda v: v.diag(1), (A[0],)),
    "diag of a matrix": (lambda v: v.diag(-1), (A,)),
    "diag_embed": (lambda v: v.diag_embed(-1), (normal(2, 3, 4),)),
    "trace": (lambda v: v.trace(), (normal(3, 3),)),
    "diff": (lambda v: v.diff(2, dim=0), (A,)),
    "kron": (lambda a, b: a.kron(b), (A, B)),
    "nansum": (lambda v: v.nansum(1), (np.where(A > 1, np.nan, A).astype(np.float32),)),
    "max": (lambda v: tuple(v.max(dim=1)), (np.round(A),)),
    "min": (lambda v: tuple(v.min(dim=0, keepdim=True)), (np.round(A),)),
    "median": (lambda v: tuple(v.median(dim=1)), (A,)),
    "kthvalue": (lambda v: tuple(v.kthvalue(2, dim=1)), (A,)),
    "sort": (lambda v: (v.sort(dim=0).values, v.sort(dim=0).indices), (A,)),
    "topk": (lambda v: (v.topk(2).values, v.topk(2).indices), (A,)),
    "var": (lambda v: v.var(1, False), (A,)),
    "std": (lambda v: v.std(1, unbiased=True, keepdim=True), (A,)),
    "index_add": (lambda x, i, s: x.index_add(0, i, s, alpha=2), (A, INDEX, S)),
    "index_copy": (lambda x, i, s: x.index_copy(0, i, s), (A, np.array([2, 0, 1]), S)),
    "index_fill": (lambda x, i: x.index_fill(1, i, 7.0), (A, INDEX)),
    "take_along_dim": (lambda x, i: x.take_along_dim(i, 1), (A, np.array([[1], [0], [3]]))),
    "addcdiv": (lambda x, y, z: x.addcdiv(y, z, value=0.3), (A, S, A + 5)),
}


@pytest.mark.parametrize("name", SAME)
def test_an_expression_is_pytorchs(name: str) -> None:
    expression, arrays = SAME[name]
    compare(expression, expression, *arrays)


@pytest.mark.parametrize("geometry", [(2,), (3, 2, 1), (3, 1, 0, 2), (3, 2, 0, 1, True)])
def test_pools_of_ties_and_their_places(geometry: tuple[Any, ...]) -> None:
    ties = np.maximum(np.round(normal(2, 3, 9, 10)), 0)
    compare(
        lambda x: x.max_pool2d(*geometry, return_indices=True),
        lambda x: F.max_pool2d(x, *geometry, return_indices=True),
        ties,
    ) if len(geometry) < 5 else compare(
        lambda x: x.max_pool2d(*geometry), lambda x: F.max_pool2d(x, *geometry), ties
    )


def _alike(ours: nn.Module, theirs: torch.nn.Module) -> None:
    theirs.load_state_dict({name: torch.tensor(t.numpy()) for name, t in ours.state_dict().items()})


def _attends(ours: Any, theirs: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    mask = np.triu(np.ones((4, 4), np.bool_), 1)
    return (
        lambda x: ours(x, x, x, attn_mask=Tensor(mask), average_attn_weights=False),
        lambda x: theirs(x, x, x, attn_mask=torch.tensor(mask), average_attn_weights=False),
    )


LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "reflecting": (lambda n: n.Conv2d(2, 3, (3, 2), padding=(1, 1), padding_mode="reflect"), (2, 2, 6, 7)),
    "circular": (lambda n: n.Conv2d(2, 3, 4, padding="same", padding_mode="circular"), (2, 2, 6, 7)),
    "turned": (lambda n: n.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 3, 4, 3)),
    "PReLU": (lambda n: n.PReLU(3), (2, 3, 4)),
    "BatchNorm": (lambda n: n.BatchNorm2d(3, momentum=None), (4, 3, 5, 5)),
    "attention": (lambda n: n.MultiheadAttention(8, 2, batch_first=True), (3, 4, 8)),
    "attention in rows": (lambda n: n.MultiheadAttention(8, 2), (4, 3, 8)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_pytorchs(name: str) -> None:
    make, shape = LAYERS[name]
    ours, theirs = make(nn), make(torch.nn)
    _alike(ours, theirs)
    calls = _attends(ours, theirs) if "attention" in name else (ours, theirs)
    for _ in range(3):
        compare(*calls, normal(*shape))
    for key, value in theirs.state_dict().items():
        is_like(ours.state_dict()[key], value)


OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "Adam": ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True}),
    "AdamW": ("AdamW", {"lr": 0.01, "betas": (0.5, 0.9), "amsgrad": True}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sixty_steps_with_gaps_and_a_restart_are_pytorchs(name: str) -> None:
    kind, options = OPTIMIZERS[name]
    start = [normal(4, 3), normal(3)]
    ours, theirs = (
        [Tensor(w, requires_grad=True) for w in start],
        [torch.tensor(w).requires_grad_() for w in start],
    )
    stepper, peer = getattr(nn, kind)(ours, **options), getattr(torch.optim, kind)(theirs, **options)
    for number in range(60):
        x = np.random.default_rng(number).standard_normal((5, 4), dtype=np.float32)
        for weights, optimizer, made in ((ours, stepper, Tensor), (theirs, peer, torch.tensor)):
            optimizer.zero_grad()
            found = made(x) @ weights[0]
            ((found + weights[1] if number % 3 else found) ** 2).mean().backward()
            optimizer.step()
        if number == 30:
            state, ours = stepper.state_dict(), [Tensor(w.numpy(), requires_grad=True) for w in ours]
            stepper = getattr(nn, kind)(ours, lr=5.0)
            stepper.load_state_dict(state)
    for w, wanted in zip(ours, theirs, strict=True):
        is_like(w, wanted, rtol=1e-4)
