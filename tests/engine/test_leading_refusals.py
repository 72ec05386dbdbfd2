"""engine.jit with leading sizes: what is not the same for every size, and what is no such size, is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from engine import jit, nn
from engine.errors import CaptureError, InvalidGraph
from engine.sizes import Var
from engine.tensor import Tensor
from tests.engine.leading import Function, rows

N = Var("n", 1, 7)


@pytest.fixture(autouse=True)
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "INTERP")


REFUSED: dict[str, tuple[Function, str]] = {
    "the last row": (lambda x: x[-1], r"\[n - 1:n:1\] of an axis of n is counted from its end"),
    "all rows but one": (lambda x: x[1:], r"n \(1 to 7\)"),
    "two rows": (lambda x: x[:2], r"\[0:2:1\] of an axis of n is not there in every call"),
    "turned round": (lambda x: x.flip(0), r"FLIP.*n \(1 to 7\): its axis cannot be reversed"),
    "padded": (lambda x: x.pad(((1, 1), None)), r"n \(1 to 7\)"),
    "joined behind another": (lambda x: x.T.flatten(), r"n \(1 to 7\).*only axes behind it"),
    "a branch": (lambda x: x + 1 if x.shape[0] > 3 else x, r"n > 3 holds for some sizes of n \(1 to 7\)"),
    "equality": (lambda x: x + 1 if x.shape[0] == 3 else x, r"n == 3 holds for some sizes"),
    "length": (lambda x: x * len(x), r"n \(1 to 7\) is not known before a call"),
    "float": (lambda x: x * float(x.shape[0]), r"n \(1 to 7\) is not known before a call"),
    "beside 7 rows": (lambda x: x + Tensor(np.ones((7, 6), np.float32)), "n elements stand beside 7"),
    "concatenated": (lambda x: x.cat(x), r"n"),
    "one more": (lambda x: Tensor.zeros(x.shape[0] + 1), r"an axis of n \+ 1"),
    "even halves": (
        lambda x: x[:, :4].reshape(-1, 8) if x.shape[0] % 2 == 0 else x,
        r"n is no multiple of 2 for each n \(1 to 7\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_same_for_every_size_is_refused_by_name(name: str) -> None:
    function, message = REFUSED[name]
    fast = jit(function, leading={"x": N})
    fast(Tensor(rows(7, 6)))  # the first call is a plain one
    for _ in range(2):
        with pytest.raises(InvalidGraph, match=message):
            fast(Tensor(rows(7, 6)))


def test_a_tensor_from_outside_keeps_its_shape() -> None:
    table = Tensor(rows(7, 6))
    fast = jit(lambda x: table.assign(x), leading={"x": N})
    fast(Tensor(rows(7, 6)))
    with pytest.raises(InvalidGraph, match="cannot be assigned"):
        fast(Tensor(rows(7, 6)))
    np.testing.assert_array_equal(table.numpy(), rows(7, 6))


def test_wrong_arguments_name_the_parameter_and_the_bounds() -> None:
    fast = jit(lambda x, y=None: x, leading={"x": N})
    both = jit(lambda x, y: x + y, leading={"x": N, "y": N})
    x = Tensor(rows(3, 6))
    for call, message in (
        (lambda: fast(Tensor(rows(8, 6))), r"x has shape \(8, 6\): its first axis must be n \(1 to 7\)"),
        (lambda: fast(Tensor(np.ones((0, 6), np.float32))), r"x has shape \(0, 6\).*n \(1 to 7\)"),
        (lambda: fast(Tensor(1.0)), r"x has shape \(\): its first axis must be n \(1 to 7\)"),
        (lambda: fast(rows(3, 6)), r"x must be a Tensor whose first axis is n \(1 to 7\), not ndarray"),
        (lambda: both(x, Tensor(rows(4, 6))), r"y has 4 elements and x has 3: both are n \(1 to 7\)"),
        (lambda: both(x), r"y must be a Tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_wrong_declarations_are_refused_when_they_are_made() -> None:
    with pytest.raises(ValueError, match="there is no parameter 'z'; there are x, y"):
        jit(lambda x, y, *more: x, leading={"z": N})
    with pytest.raises(ValueError, match="there is no parameter 'more'"):
        jit(lambda x, y, *more: x, leading={"more": N})
    with pytest.raises(ValueError, match=r"leading\['x'\] must be a Var"):
        jit(lambda x: x, leading={"x": 7})  # type: ignore[dict-item]
    for low, high in ((0, 4), (4, 4), (5, 4), (-1, 3)):
        with pytest.raises(ValueError, match="1 <= min < max"):
            Var("n", low, high)
    with pytest.raises(ValueError, match="must be an identifier"):
        Var("batch size", 1, 4)
    with pytest.raises(ValueError, match="max must be an int"):
        Var("n", 1, 4.0)  # type: ignore[arg-type]


def test_a_size_is_no_result_but_a_tensor_of_it_is() -> None:
    fast = jit(lambda x: (x, {"rows": x.shape[0]}), leading={"x": N})
    assert fast(Tensor(rows(3, 6)))[1] == {"rows": 3}
    with pytest.raises(CaptureError, match="the function returns n, which a replay does not know"):
        fast(Tensor(rows(3, 6)))


def test_reading_data_is_refused_as_ever() -> None:
    fast = jit(lambda x: x * x.sum().item(), leading={"x": N})
    fast(Tensor(rows(3, 6)))
    with pytest.raises(CaptureError, match="inside a function given to jit"):
        fast(Tensor(rows(3, 6)))


def test_a_norm_that_needs_two_rows_asks_for_a_size_of_two() -> None:
    norm = nn.BatchNorm1d(6)
    fast = jit(norm.forward, leading={"x": N})
    fast(Tensor(rows(3, 6)))
    with pytest.raises(InvalidGraph, match=r"n < 2 holds for some sizes of n \(1 to 7\)"):
        fast(Tensor(rows(3, 6)))
