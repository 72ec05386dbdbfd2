"""What a script meets that moves over from PyTorch: assignments in place, keys, frozen parameters, and the functions
that are called now and then.

Run it with a Python that has PyTorch and pytest, from the root: `python -m pytest --noconftest tests/peers/moving.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import engine.torch as ours_torch
from engine import Tensor, nn
from engine.errors import InvalidGraph

Array = np.ndarray[Any, np.dtype[Any]]
EITHER = pytest.mark.parametrize("name", ["__iadd__", "__isub__", "__imul__", "__itruediv__", "__imod__"])


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def flat(found: Any) -> list[Any]:
    return [part for one in found for part in flat(one)] if isinstance(found, tuple | list) else [found]


def compare(call: Callable[..., Any], *arrays: Array, rtol: float = 1e-5, gradients: bool = True) -> None:
    """`call(module, tensors…)` on both: shapes, dtypes, values, gradients of a random weighting of the first result."""
    mine, theirs = [Tensor(a) for a in arrays], [torch.tensor(a) for a in arrays]
    for a, b in zip(mine, theirs, strict=True):
        if b.is_floating_point() and gradients:
            a.requires_grad_()
            b.requires_grad_()
    got, wanted = flat(call(ours_torch, *mine)), flat(call(torch, *theirs))
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype.name) == (tuple(b.shape), str(b.dtype).removeprefix("torch."))
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=rtol, atol=1e-6)
    if gradients and wanted[0].requires_grad:
        weights = normal(*wanted[0].shape)
        (got[0] * Tensor(weights)).sum().backward()
        (wanted[0] * torch.tensor(weights)).sum().backward()
        for a, b in zip(mine, theirs, strict=True):
            if b.requires_grad:
                assert a.grad is not None
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------------------------- in place


@EITHER
def test_an_operator_changes_the_object_that_other_names_see(name: str) -> None:
    def call(_module: Any, x: Any, y: Any) -> Any:
        alias, before = x, x * 1
        x = getattr(x, name)(y)
        assert x is alias
        x = getattr(x, name)(2)
        return alias, before, x + alias

    compare(call, normal(3, 4), normal(4), gradients=False)


@EITHER
def test_gradients_go_through_an_operator_in_the_middle_of_a_graph(name: str) -> None:
    def call(_module: Any, x: Any, y: Any) -> Any:
        middle = x * 3
        alias = middle
        middle = getattr(middle, name)(y + 5 if name in ("__itruediv__", "__imod__") else y * y)
        return alias * y + middle

    if name != "__imod__":  # whose second gradient PyTorch has not at its steps
        compare(call, normal(3, 4), normal(4))


def test_a_leaf_is_changed_under_no_grad_only_and_a_step_of_ones_own_trains() -> None:
    start, x = normal(4, 2), normal(8, 4)
    found = []
    for module in (ours_torch, torch):
        w = module.tensor(start, requires_grad=True)
        velocity = module.zeros_like(w)
        held = {"w": w}
        with pytest.raises(Exception, match=r"no_grad|in-place"):
            w += 1
        for _ in range(20):
            loss = ((module.tensor(x) @ w) ** 2).mean()
            loss.backward()
            with module.no_grad():
                velocity *= 0.9
                velocity += w.grad
                w -= 0.1 * velocity
            w.grad.zero_()
        assert held["w"] is w
        assert w.requires_grad
        found.append(w.detach().numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "other"),
    [(np.int64, 1.5), (np.bool_, 1), (np.float16, np.float64(2)), (np.uint8, np.int64(3)), (np.int32, True)],
)
def test_dtypes_stay_or_are_refused(dtype: Any, other: Any) -> None:
    given = (
        other
        if isinstance(other, bool | int | float) and not isinstance(other, np.generic)
        else np.array([other])
    )
    found: list[Any] = []
    for made in (Tensor, torch.tensor):
        x = made(np.array([1, 0, 1], dtype))
        try:
            x += given if not isinstance(given, np.ndarray) else made(given)
            found.append((str(x.dtype).split(".")[-1], x.numpy().tolist()))
        except (InvalidGraph, RuntimeError):
            found.append("refused")
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------------------ keys

PLACES = torch.tensor([0, 2])
KEYS: dict[str, Callable[[Callable[[Any], Any]], Any]] = {
    "number, array apart": lambda t: (0, slice(None), t([0, 2])),
    "number in the middle": lambda t: (slice(None), 0, slice(None), t([0, 2])),
    "number of a tensor": lambda t: (t(1), slice(None), t([0, 2])),
    "number between arrays": lambda t: (slice(None), t([0, 2]), 0, t([1, 3])),
    "arrays apart": lambda t: (t([0, 1]), slice(None), t([0, 2])),
    "arrays round None": lambda t: (slice(None), t([0, 2]), None, t([0, 2])),
    "arrays round nothing": lambda t: (slice(None), t([0, 2]), t([0, 2]), Ellipsis),
    "arrays round ...": lambda t: (t([0, 1]), Ellipsis, t([0, 2])),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_reads_and_writes_what_pytorch_does(name: str) -> None:
    def call(module: Any, x: Any) -> Any:
        key = KEYS[name](module.tensor)
        changed = x.clone()
        changed[key] = -1.0
        return x[key], changed

    compare(call, normal(2, 3, 4, 5))


VIEWS: dict[str, Callable[[Any], Any]] = {
    "row of a row": lambda x: x[1][0],
    "flat": lambda x: x.view(-1)[5:40:3],
    "turned": lambda x: x.transpose(0, 2)[1],
    "turned and flat, a copy": lambda x: x.transpose(0, 1).reshape(6, -1),
    "every other, flat": lambda x: x[..., ::2].flatten(1, 2),
    "every third, flat, a copy": lambda x: x[..., ::3].flatten(),
    "permuted": lambda x: x.permute(3, 0, 2, 1)[1:, :, 0],
    "part": lambda x: x.narrow(2, 1, 2).squeeze(0).unsqueeze(1),
    "selected": lambda x: x.select(1, -1).select(-1, 2),
    "diagonal": lambda x: x.diagonal(0, 2, 3),
    "moved": lambda x: x.movedim(0, -1)[2],
}


@pytest.mark.parametrize("name", VIEWS)
def test_what_is_done_to_a_view_reaches_what_pytorch_lets_it_reach(name: str) -> None:
    def call(_module: Any, x: Any, y: Any) -> Any:
        whole = x * 2
        other = whole[0]
        view = VIEWS[name](whole)
        view += 3
        view.mul_(y)
        whole[1, 2] *= y
        view[..., 0] = 5
        return whole, view * other.sum(), other

    compare(call, normal(2, 3, 4, 5), normal(1))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_uint8_is_a_mask() -> None:
    compare(lambda m, x, mask: x[mask], normal(3, 4), np.uint8([1, 0, 2]))


# ------------------------------------------------------------------------------------------------------- functions

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "lgamma": (
        lambda m, x: m.lgamma(x),
        (np.float32([0.1, 0.5, 1, 1.5, 2, 3, 9.7, 40, 1e5, -0.3, -1.7, -8.2]),),
    ),
    "lgamma, float64": (lambda m, x: m.lgamma(x), (np.linspace(0.01, 30, 97),)),
    "digamma": (lambda m, x: m.digamma(x), (np.float32([0.1, 0.5, 1, 1.5, 2, 9.7, 40, 1e5, -0.3, -1.7]),)),
    "lgamma of edges": (
        lambda m, x: m.lgamma(x).detach(),
        (np.float32([0, -1, -2, np.inf, -np.inf, np.nan]),),
    ),
    "digamma of edges": (
        lambda m, x: m.digamma(x).detach(),
        (np.float32([0, -0.0, -1, -2, np.inf, np.nan]),),
    ),
    "logcumsumexp": (lambda m, x: m.logcumsumexp(x, 1), (normal(3, 200).astype(np.float64) * 20,)),
    "logcumsumexp, short": (lambda m, x: m.logcumsumexp(x, dim=0), (normal(3, 2) * 90,)),
    "concatenate": (lambda m, x, y: m.concatenate((x, y), dim=1), (normal(3, 2), normal(3, 4))),
    "norm": (lambda m, x: (m.norm(x, p="fro"), x.norm("fro", dim=1), m.norm(x, 1)), (normal(3, 4),)),
    "linalg.norm": (
        lambda m, x: tuple(m.linalg.norm(x, o) for o in (None, "fro", 1, -1, float("inf"), float("-inf"))),
        (normal(3, 4),),
    ),
    "linalg of a dim": (
        lambda m, x: (
            m.linalg.norm(x, 3, dim=1),
            m.linalg.vector_norm(x, 1, dim=(0, 2)),
            m.linalg.matrix_norm(x),
        ),
        (normal(2, 3, 4),),
    ),
    "matrix_power": (lambda m, x: m.linalg.matrix_power(x, 5), (normal(3, 3),)),
    "multi_dot": (lambda m, x, y: m.linalg.multi_dot([x, y, x]), (normal(3, 4), normal(4, 3))),
    "repeat_interleave": (
        lambda m, x, r: m.repeat_interleave(x, r, dim=1),
        (normal(2, 3), np.array([2, 0, 3])),
    ),
    "repeat_interleave of all": (lambda m, x, r: m.repeat_interleave(x, r), (normal(3), np.array([2]))),
    "index_fill": (lambda m, x, i: x.index_fill(1, i, 7.0), (normal(2, 4), np.array([0, -1]))),
    "index_put_": (
        lambda m, x, i: (x * 1).index_put_((i,), m.tensor([1.0, 2.0, 3.0, 4.0]), accumulate=True),
        (normal(3, 4), np.array([0, 2, 0])),
    ),
    "unsqueeze_": (lambda m, x: (x * 2).unsqueeze_(1).squeeze_(0), (normal(1, 4),)),
    "avg_pool2d": (
        lambda m, x: m.nn.functional.avg_pool2d(x, 3, 2, 1, divisor_override=5),
        (normal(2, 3, 9, 8),),
    ),
    "avg_pool3d": (
        lambda m, x: m.nn.functional.avg_pool3d(x, 2, divisor_override=3),
        (normal(1, 2, 4, 5, 6),),
    ),
    "adaptive_max_pool1d": (
        lambda m, x: m.nn.functional.adaptive_max_pool1d(x, 4, return_indices=True),
        (normal(2, 3, 10),),
    ),
    "adaptive_max_pool2d": (
        lambda m, x: m.nn.functional.adaptive_max_pool2d(x, (3, 4), return_indices=True),
        (np.round(normal(2, 3, 7, 9)),),
    ),
    "adaptive_max_pool3d": (
        lambda m, x: m.nn.AdaptiveMaxPool3d((2, 3, 1))(x),
        (normal(2, 5, 6, 7),),
    ),
    "unfold": (
        lambda m, x: m.nn.functional.unfold(x, (2, 3), dilation=(2, 1), padding=(1, 2), stride=(2, 1)),
        (normal(2, 3, 6, 7),),
    ),
    "unfold without a batch": (lambda m, x: m.nn.Unfold(3, padding=1)(x), (normal(3, 6, 7),)),
    "instance_norm": (lambda m, x: m.nn.functional.instance_norm(x), (normal(2, 3, 5, 4),)),
    "a power of bool": (lambda m, x: (x**2, x**0, x**2.0), (np.array([True, False]),)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_pytorchs(name: str) -> None:
    call, arrays = FUNCTIONS[name]
    compare(call, *arrays)


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_a_quantile_between_two_places_is_pytorchs(interpolation: str) -> None:
    for q in (0.0, 0.1, 0.25, 0.5, 0.6, 0.9, 1.0):
        compare(lambda m, x, q=q: m.quantile(x, q, dim=1, interpolation=interpolation), normal(3, 6))


PADS = [
    *(
        f"{kind}{n}d"
        for kind in ("ZeroPad", "ReflectionPad", "ReplicationPad", "CircularPad")
        for n in (1, 2, 3)
    ),
    *(f"ConstantPad{n}d" for n in (1, 2, 3)),
]


@pytest.mark.parametrize("name", PADS)
def test_a_padding_layer_is_pytorchs(name: str) -> None:
    axes, more = int(name[-2]), (1.5,) if name.startswith("Constant") else ()
    x = normal(2, 3, *range(4, 4 + axes))
    for padding in (1, tuple(range(1, 3)) * axes):
        compare(lambda m, x, p=padding: getattr(m.nn, name)(p, *more)(x), x)


def test_instance_norm_with_running_statistics_is_pytorchs() -> None:
    ours, theirs = (n.InstanceNorm2d(3, affine=True, track_running_stats=True) for n in (nn, torch.nn))
    for number in range(3):
        x = normal(4, 3, 5, 6) * (number + 1)
        a, b = ours(Tensor(x)), theirs(torch.tensor(x))
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)
    ours.eval()
    theirs.eval()
    np.testing.assert_allclose(
        ours(Tensor(x)).numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-5)


# --------------------------------------------------------------------------------------------------- the module


def test_gradients_of_gradients_are_pytorchs() -> None:
    def call(module: Any, x: Any, y: Any) -> Any:
        (first,) = module.autograd.grad((x**3 * y).sum(), x, create_graph=True)
        assert x.grad is None
        return (
            *module.autograd.grad((first**2).sum(), (x, y)),
            *module.autograd.grad(x * y, y, module.ones_like(x)),
        )

    compare(call, normal(3), normal(3))
    for module in (ours_torch, torch):
        x, y = (module.tensor([1.0], requires_grad=True) for _ in range(2))
        assert module.autograd.grad(x * 2, (x, y), allow_unused=True)[1] is None
        with pytest.raises(Exception, match="allow_unused"):
            module.autograd.grad(x * 2, (x, y))


def test_limits_of_dtypes_are_pytorchs() -> None:
    for name in ("float16", "bfloat16", "float32", "float64"):
        a, b = ours_torch.finfo(getattr(ours_torch, name)), torch.finfo(getattr(torch, name))
        fields = ("bits", "min", "max", "eps", "tiny", "smallest_normal")
        assert [getattr(a, field) for field in fields] == [getattr(b, field) for field in fields]
    for name in ("uint8", "int8", "int16", "int32", "int64"):
        c, d = ours_torch.iinfo(getattr(ours_torch, name)), torch.iinfo(getattr(torch, name))
        assert (c.bits, c.min, c.max) == (d.bits, d.min, d.max)


def _frozen(n: Any) -> Any:
    model = n.Sequential(n.BatchNorm1d(3), n.Linear(3, 4), n.Tanh(), n.Linear(4, 2))
    for parameter in model[1].parameters():
        parameter.requires_grad = False
    return model


def test_frozen_parameters_stay_parameters_and_are_not_moved() -> None:
    ours, theirs = _frozen(nn), _frozen(torch.nn)
    theirs.load_state_dict({key: torch.tensor(t.numpy()) for key, t in ours.state_dict().items()})
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    assert [k for k, _ in ours.named_buffers()] == [k for k, _ in theirs.named_buffers()]
    x = normal(6, 3)
    for model, made, optim in ((ours, Tensor, nn.optim), (theirs, torch.tensor, torch.optim)):
        optimizer = optim.AdamW(model.parameters(), lr=0.1)
        for number in range(4):
            if number == 2:
                model.requires_grad_(True)
            optimizer.zero_grad()
            (model(made(x)) ** 2).mean().backward()
            optimizer.step()
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(
            ours.state_dict()[key].numpy(), value.numpy(), rtol=2e-3, atol=2e-4, err_msg=key
        )


def test_what_a_checkpoint_lacks_and_has_too_much_is_returned() -> None:
    found = []
    for n, made in ((nn, Tensor), (torch.nn, torch.tensor)):
        model = n.Sequential(n.Linear(2, 2), n.Linear(2, 2))
        keys = model.load_state_dict({"0.weight": made(normal(2, 2)), "head": made(normal(1))}, strict=False)
        found.append(
            (list(keys.missing_keys), list(keys.unexpected_keys), model[0].weight.detach().numpy().tolist())
        )
        missing, unexpected = keys
        assert (list(missing), list(unexpected)) == found[-1][:2]
    assert found[0] == found[1]
