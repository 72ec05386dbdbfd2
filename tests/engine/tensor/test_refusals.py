"""What used to be taken silently, or to end in an error of something inside: each is refused by name, with the fix."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import numpy as np
import pytest

from engine import dtype as dt
from engine import nn
from engine.errors import InvalidGraph
from engine.nn.optimizers import Optimizer
from engine.programs import program
from engine.tensor import Tensor

X = np.arange(12, dtype=np.float32).reshape(3, 4)

PLACES: dict[str, tuple[Callable[[], object], str]] = {
    "gather": (lambda: Tensor(X).gather(0, Tensor([[0, -1]])), "gather: index -1 .* axis 0 of size 3"),
    "scatter": (lambda: Tensor(X).scatter(1, Tensor([[4]]), 1.0), "scatter: index 4 .* axis 1 of size 4"),
    "scatter_add": (lambda: Tensor(X).scatter_add(0, Tensor([[3]]), Tensor([[1.0]])), "scatter: index 3"),
    "select": (lambda: Tensor(X).index_select(1, Tensor([-5])), "index_select: index -5 .* axis 1 of size 4"),
    "take": (lambda: Tensor(X).take(Tensor([12])), "take: index 12 .* of size 12"),
    "brackets": (lambda: Tensor(X)[Tensor([0, 3])], "index 3 .* axis 0 of size 3"),
    "brackets, the second": (lambda: Tensor(X)[:, Tensor([[-5]])], "index -5 .* axis 1 of size 4"),
    "one_hot": (lambda: Tensor([0, 3]).one_hot(3), "one_hot: index 3"),
    "cross_entropy": (
        lambda: Tensor(X).cross_entropy(Tensor([0, 4, 1])),
        "cross_entropy: target 4 is not one of the classes 0 to 3",
    ),
    "nll_loss": (
        lambda: Tensor(X).nll_loss(Tensor([0, -1, -100])),
        "nll_loss: target -1 .* ignore_index -100",
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_known_not_to_be_there_is_an_error(name: str) -> None:
    wrong, message = PLACES[name]
    with pytest.raises(IndexError, match=message):
        wrong()


def test_a_target_that_is_no_class_and_not_known_yet_makes_the_loss_nan() -> None:
    target = Tensor([0, 4, -100]) + 0
    assert np.isnan(Tensor(X).cross_entropy(target).item())
    each = Tensor(X).cross_entropy(target, reduction="none").numpy()
    assert np.isnan(each).tolist() == [False, True, False]
    assert each[2] == 0


def test_the_class_to_be_ignored_may_be_any_number() -> None:
    assert Tensor(X).cross_entropy(Tensor([3, 77, 77]), ignore_index=77).item() == pytest.approx(
        Tensor(X[:1]).cross_entropy(Tensor([3])).item()
    )


WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a probability": (lambda: Tensor([0.5, 2.0]).bernoulli(), InvalidGraph, "bernoulli: probability 2.0"),
    "no probability": (lambda: Tensor([nan]).bernoulli(), InvalidGraph, "bernoulli: probability nan"),
    "300 in a byte": (lambda: Tensor([1, 300], dtype=dt.uint8), ValueError, "300 does not fit uint8"),
    "-1 in a byte": (lambda: Tensor([[-1]], dtype=dt.uint8), ValueError, "-1 does not fit uint8"),
    "floats among integers": (
        lambda: Tensor([1, 2]).scatter(0, Tensor([0]), Tensor([1.5])),
        InvalidGraph,
        "src: a source of float32 does not fit int64: cast one",
    ),
    "a long reflection": (
        lambda: Tensor(X).pad((4, 0), "reflect"),
        InvalidGraph,
        "more than the 3 to reflect",
    ),
    "a long circle": (lambda: Tensor(X).pad((5, 0), "circular"), InvalidGraph, "more than the 4 to circular"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_an_error(name: str) -> None:
    wrong, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        wrong()


OPTIONS: list[tuple[Callable[[list[Tensor]], Optimizer], str]] = [
    (lambda p: nn.SGD(p, lr=-0.1), "lr: -0.1 must be a number, 0 or more"),
    (lambda p: nn.SGD(p, lr=nan), "lr: nan"),
    (lambda p: nn.SGD(p, momentum=-1), "momentum: -1"),
    (lambda p: nn.SGD(p, weight_decay=-1), "weight_decay: -1"),
    (lambda p: nn.Adam(p, betas=(0.9, 1.0)), r"betas: \(0.9, 1.0\) must be two numbers from 0"),
    (lambda p: nn.Adam(p, betas=(-0.1, 0.9)), "betas"),
    (lambda p: nn.Adam(p, betas=0.9), "betas: 0.9 must be two numbers"),  # type: ignore[arg-type]
    (lambda p: nn.AdamW(p, eps=-1e-8), "eps: -1e-08"),
    (lambda p: nn.AdamW([{"params": p, "lr": -1}]), "lr: -1"),
]


@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_an_option_that_no_step_can_be_made_with_is_an_error(number: int) -> None:
    make, message = OPTIONS[number]
    with pytest.raises(InvalidGraph, match=message):
        make([Tensor([1.0], requires_grad=True)])


def test_an_option_is_looked_at_also_when_it_is_set_later() -> None:
    found = nn.SGD([Tensor([1.0], requires_grad=True)])
    with pytest.raises(InvalidGraph, match="lr: -2"):
        found.param_groups[0]["lr"] = -2
    assert found.param_groups[0].lr == 1e-3


def test_none_equals_no_tensor_and_words_stand_beside_none() -> None:
    x = Tensor(X)
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    for wrong in (lambda: x + "a", lambda: "a" * x, lambda: x.maximum({}), lambda: x < None):
        with pytest.raises(TypeError, match="beside a Tensor stands a Tensor, a number or an array, not"):
            wrong()


def test_a_long_range_costs_nothing_until_it_is_read() -> None:
    assert Tensor.arange(1 << 40)[1 << 39].item() == 1 << 39
    assert Tensor.arange(1 << 40, 0, -3)[-2:].tolist() == list(range(1 << 40, 0, -3)[-2:])
    assert Tensor.arange(0, 1e12, 0.5, dtype=dt.float64)[123_456_789_012].item() == 61728394506.0


def test_more_elements_than_can_be_numbered_are_an_error() -> None:
    with pytest.raises(
        InvalidGraph, match=r"shape: \(1099511627776, 1099511627776\) has 2\*\*63 elements or more"
    ):
        Tensor.zeros(1 << 40, 1 << 40)
    with pytest.raises(InvalidGraph, match=r"EXPAND: .* has 2"):
        Tensor(X).reshape(3, 4, 1).expand(3, 4, 1 << 60)
    with pytest.raises(InvalidGraph, match=r"shape: .* has 2"):
        program("gemm", [99999999999, 99999999, 9])
