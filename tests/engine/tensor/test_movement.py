"""Views, joining, cutting and padding are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, equal, integers, normal

A = normal(3, 4, 5)


@pytest.mark.parametrize(
    ("ours", "numpys"),
    [
        (lambda x: x.view(-1, 5), lambda a: a.reshape(-1, 5)),
        (lambda x: x.swapaxes(0, -1), lambda a: a.swapaxes(0, -1)),
        (lambda x: x.mT, lambda a: a.swapaxes(-1, -2)),
        (lambda x: x[0].t(), lambda a: a[0].T),
        (lambda x: x.movedim((0, 1), (-1, 0)), lambda a: np.moveaxis(a, (0, 1), (-1, 0))),
        (lambda x: x.movedim(2, 0), lambda a: np.moveaxis(a, 2, 0)),
        (lambda x: x.flatten(1), lambda a: a.reshape(3, 20)),
        (lambda x: x.flatten(0, 1), lambda a: a.reshape(12, 5)),
        (lambda x: x[0, 0, 0].flatten(), lambda a: a[0, 0, :1]),
        (lambda x: x.unflatten(1, (2, -1)), lambda a: a.reshape(3, 2, 2, 5)),
        (lambda x: x[:1].expand_as(x), lambda a: np.broadcast_to(a[:1], a.shape)),
        (lambda x: x.repeat(2, 1, 1, 2), lambda a: np.tile(a, (2, 1, 1, 2))),
        (lambda x: x.repeat(1, 0, 1), lambda a: np.tile(a, (1, 0, 1))),
        (lambda x: x.tile((2, 3)), lambda a: np.tile(a, (2, 3))),
        (lambda x: x.repeat_interleave(3, 1), lambda a: np.repeat(a, 3, 1)),
        (lambda x: x.repeat_interleave(2), lambda a: np.repeat(a, 2)),
        (lambda x: x.flip(0, -1), lambda a: np.flip(a, (0, -1))),
        (lambda x: x.flip((1,)), lambda a: np.flip(a, 1)),
        (lambda x: x.flip(), lambda a: np.flip(a)),
        (lambda x: x.roll(2, 1), lambda a: np.roll(a, 2, 1)),
        (lambda x: x.roll((7, -1), (0, 2)), lambda a: np.roll(a, (7, -1), (0, 2))),
        (lambda x: x.roll(13), lambda a: np.roll(a, 13)),
        (lambda x: x.rot90(), lambda a: np.rot90(a)),
        (lambda x: x.rot90(-1, (1, 2)), lambda a: np.rot90(a, -1, (1, 2))),
        (lambda x: x.rot90(2, (2, 0)), lambda a: np.rot90(a, 2, (2, 0))),
        (lambda x: x.shrink(((1, 3), None, (0, 2))), lambda a: a[1:3, :, :2]),
        (lambda x: x.narrow(1, 1, 2), lambda a: a[:, 1:3]),
        (lambda x: x.unfold(2, 3, 1), lambda a: np.lib.stride_tricks.sliding_window_view(a, 3, 2)),
        (lambda x: x.unfold(1, 2, 2), lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, 1)[:, ::2]),
        (lambda x: x.unfold(2, 1, 3), lambda a: a[:, :, ::3, None]),
        (lambda x: x.pad((1, 2, 3, 0)), lambda a: np.pad(a, ((0, 0), (3, 0), (1, 2)))),
        (lambda x: x.pad(((1, 0), None, (0, 2)), value=7), lambda a: np.pad(a, ((1, 0), (0, 0), (0, 2)), constant_values=7)),
        (lambda x: x.pad((-1, 2, 1, -2)), lambda a: np.pad(a[:, :2, 1:], ((0, 0), (1, 0), (0, 2)))),
    ],
)  # fmt: skip
def test_a_view_is_numpys(ours: Callable[[Tensor], Tensor], numpys: Callable[[Array], Array]) -> None:
    equal(ours(Tensor(A)), numpys(A))


@pytest.mark.parametrize("offset", range(-4, 6))
@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (0, 2), (2, 1)])
def test_every_diagonal_is_numpys(offset: int, axes: tuple[int, int]) -> None:
    equal(Tensor(A).diagonal(offset, *axes), np.diagonal(A, offset, *axes))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_joining(axis: int, count: int) -> None:
    arrays = [A + i for i in range(count)]
    tensors = [Tensor(a) for a in arrays]
    equal(Tensor.cat(tensors, axis), np.concatenate(arrays, axis))
    equal(Tensor.cat(*tensors, dim=axis), np.concatenate(arrays, axis))
    equal(tensors[0].cat(*tensors[1:], axis=axis), np.concatenate(arrays, axis))
    equal(Tensor.stack(tensors, dim=axis), np.stack(arrays, axis))


def test_joining_keeps_every_bit_and_promotes() -> None:
    zeros = Tensor.cat([Tensor([-0.0]), Tensor([0.0, float("nan")])])
    assert np.signbit(zeros.numpy()).tolist()[:2] == [True, False]
    equal(Tensor.cat([Tensor([True]), Tensor([False, True])]), np.array([True, False, True]))
    mixed = Tensor.cat([Tensor([1, 2], dtype=dt.int32), Tensor([0.5])])
    assert (mixed.dtype, mixed.tolist()) == (dt.float32, [1, 2, 0.5])
    assert Tensor.cat([Tensor.zeros(0, 3), Tensor.zeros(2, 3)]).shape == (2, 3)


def test_splitting_and_joining_again_is_the_same() -> None:
    x = Tensor(A)
    for parts in (x.split(2, 2), x.split([1, 0, 4], 2), x.chunk(2, 2), x.chunk(9, 2)):
        equal(Tensor.cat(parts, 2), A)
    assert [part.shape[2] for part in x.split(2, dim=2)] == [2, 2, 1]
    assert [part.shape[2] for part in x.chunk(4, dim=2)] == [2, 2, 1]
    equal(Tensor.stack(x.unbind(1), 1), A)


MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(MODES)),
    st.lists(st.integers(2, 5), min_size=1, max_size=3),
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
)
def test_padding_in_every_mode_and_width_is_numpys(mode: str, shape: list[int], widths: list[int]) -> None:
    array = integers(*shape)
    pairs = [(widths[2 * i], widths[2 * i + 1]) for i in range(len(shape))]
    most = {"constant": 99, "replicate": 99, "reflect": -1, "circular": 0}[mode]
    if any(max(pair) > n + most for n, pair in zip(shape, pairs, strict=True)):
        with pytest.raises(InvalidGraph, match=f"are more than the . to {mode}"):
            Tensor(array).pad(pairs, mode)
        return
    equal(Tensor(array).pad(pairs, mode), np.pad(array, pairs, MODES[mode]))  # type: ignore[call-overload]


def test_meshgrid_and_broadcast_tensors() -> None:
    axes = [np.arange(n, dtype=np.float32) for n in (2, 3, 4)]
    for indexing in ("ij", "xy"):
        found = Tensor.meshgrid(*map(Tensor, axes), indexing=indexing)
        for got, wanted in zip(found, np.meshgrid(*axes, indexing=indexing), strict=True):  # type: ignore[call-overload]
            equal(got, wanted)
    for got, wanted in zip(
        Tensor(A).broadcast_tensors(Tensor(A[0, :1])), np.broadcast_arrays(A, A[0, :1]), strict=True
    ):
        equal(got, wanted)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: Tensor.cat([x, Tensor(A[0])]), "differ in more than axis"),
        (lambda x: Tensor.cat([x, x.pad((1, 0))]), r"\(3, 4, 5\) and \(3, 4, 6\) differ"),
        (lambda x: Tensor.stack([x, x[:1]]), "are not one"),
        (lambda x: x.split([1, 1], 0), r"\(1, 1\) are not axis 0"),
        (lambda x: x.split(0), "size 0"),
        (lambda x: x.chunk(0), "0 parts"),
        (lambda x: x.unflatten(1, (3, 2)), "cannot reshape"),
        (lambda x: x.flatten(2, 1), "behind"),
        (lambda x: x.t(), "no matrix"),
        (lambda x: x.movedim((0, 0), (1, 2)), "cannot bring"),
        (lambda x: x.repeat(2), "cannot repeat"),
        (lambda x: x.rot90(1, (1, 1)), "are one"),
        (lambda x: x.diagonal(0, 1, -2), "are one"),
        (lambda x: x.unfold(1, 5, 1), "do not fit"),
        (lambda x: x.unfold(1, 2, 0), "must be 1 or more"),
        (lambda x: x.pad((1, 2, 3)), "3 numbers"),
        (lambda x: x.pad(((1, 2),)), "pair for each"),
        (lambda x: x.pad((-3, -3)), "takes more"),
        (lambda x: x.pad((1, 1), "mirror"), "mode 'mirror'"),
        (lambda x: x[:, :, :1].pad((1, 0), "reflect"), "too few"),
        (lambda x: x.shrink(((0, 1),)), "1 limits"),
        (lambda x: x.shrink(((0, 9), None, None)), "does not lie within"),
        (lambda x: x.roll((1, 2), 0), "2 shifts"),
        (lambda x: Tensor.meshgrid(x, x), "1-d"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_call(wrong: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        wrong(Tensor(A))


def test_axes_and_arguments_of_the_wrong_kind_are_named() -> None:
    x = Tensor(A)
    with pytest.raises(IndexError, match="axis 3 does not exist: there are 3 axes"):
        x.flip(3)
    with pytest.raises(TypeError, match="axis must be an integer, not"):
        x.unsqueeze(1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tensors\[1\] must be a Tensor, not list"):
        Tensor.cat([x, [1.0]])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"padding\[0\] must be an integer"):
        x.pad((0.5, 1))
