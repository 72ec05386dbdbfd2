"""Views share elements with what they are views of, as in PyTorch and NumPy, which is compared with here."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import Tensor, jit, nn, no_grad
from engine.errors import InvalidGraph
from engine.realize import Array

A = np.arange(12, dtype=np.float32).reshape(3, 4)

WRITES: dict[str, tuple[Callable[[Any], Any], Callable[[Array], Array]]] = {
    "row": (lambda x: x[1], lambda a: a[1]),
    "row, then place": (lambda x: x[1][1:3], lambda a: a[1][1:3]),
    "every other": (lambda x: x[::2, 1::2], lambda a: a[::2, 1::2]),
    "from the end": (lambda x: x[-1, ::-2], lambda a: a[-1, ::-2]),
    "new axes": (lambda x: x[None, :, None, 2], lambda a: a[None, :, None, 2]),
    "flat": (lambda x: x.view(-1)[5:], lambda a: a.reshape(-1)[5:]),
    "turned": (lambda x: x.T[0], lambda a: a.T[0]),
    "permuted": (
        lambda x: x.view(3, 2, 2).permute(2, 0, 1)[1],
        lambda a: a.reshape(3, 2, 2).transpose(2, 0, 1)[1],
    ),
    "part": (lambda x: x.narrow(1, 1, 2), lambda a: a[:, 1:3]),
    "chunk": (lambda x: x.chunk(2, dim=1)[1], lambda a: a[:, 2:]),
    "split": (lambda x: x.split([1, 3], dim=1)[1], lambda a: a[:, 1:]),
    "unbound": (lambda x: x.unbind(1)[2], lambda a: a[:, 2]),
    "selected": (lambda x: x.select(0, -1), lambda a: a[-1]),
    "iterated": (lambda x: list(x)[2], lambda a: a[2]),
    "squeezed": (lambda x: x[1:2].squeeze(0), lambda a: a[1]),
    "unsqueezed": (lambda x: x.unsqueeze(1)[0], lambda a: a[:, None][0]),
    "data": (lambda x: x.data[:2], lambda a: a[:2]),
    "detached": (lambda x: x.detach()[0], lambda a: a[0]),
    "diagonal": (lambda x: x.diagonal(1), lambda a: a.reshape(-1)[1:12:5]),
    "nothing": (lambda x: x[3:], lambda a: a[3:]),
}


def _fill(view: Any) -> None:
    view[...] = -1


def _double(view: Any) -> None:
    view *= 2


def _own(view: Any) -> None:
    view += view


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("name", WRITES)
def test_what_is_done_to_a_view_is_done_to_the_whole(name: str, lazy: bool) -> None:
    view_of, wanted_of = WRITES[name]
    for change in (_fill, _double, _own):
        a, x = A + 1, Tensor(A) + 1 if lazy else Tensor(A + 1).realize()
        wanted, view = wanted_of(a), view_of(x)
        change(wanted)
        change(view)
        np.testing.assert_array_equal(view.numpy(), wanted)
        np.testing.assert_array_equal(x.numpy(), a)


def test_methods_that_end_in_an_underscore_reach_the_whole() -> None:
    x = Tensor(A)
    x[0].zero_()
    x[1].add_(1).clamp_(max=7)
    x.view(-1)[8:10].copy_(Tensor([5, 6]))
    x.T[3].fill_(-2)
    assert x.tolist() == [[0, 0, 0, -2], [5, 6, 7, -2], [5, 6, 10, -2]]
    assert x.fill_diagonal_(1).tolist() == [[1, 0, 0, -2], [5, 1, 7, -2], [5, 6, 1, -2]]


def test_views_see_what_is_done_to_the_whole_and_to_each_other() -> None:
    x = Tensor(A)
    flat, turned, row = x.view(-1), x.T, x[1]
    x += 1
    assert flat.tolist() == (A + 1).reshape(-1).tolist()
    turned[2] = 0
    assert row.tolist() == [5, 6, 0, 8]
    row.zero_()
    assert flat.tolist() == [1, 2, 0, 4, 0, 0, 0, 0, 9, 10, 0, 12]
    assert x.tolist() == turned.T.tolist()


def test_a_view_outlives_the_whole_and_keeps_its_views() -> None:
    x = Tensor(A) + 0
    x_flat = x.view(-1)
    tail = x_flat[10:]
    x += 1
    del x
    gc.collect()
    tail += 1
    assert tail.tolist() == [12, 13]
    assert x_flat.tolist() == [*range(1, 11), 12, 13]


def test_what_has_to_be_copied_is_no_view() -> None:
    x = Tensor(A)
    for copy in (
        x.T.reshape(-1),
        x.clone(),
        x + 0,
        x[[0, 1]],
        x[x > 0],
        x[:, ::3].flatten(),
        x.contiguous(),
        x.flip(0),
    ):
        copy += 100
        copy[0] = -1
    assert x.tolist() == A.tolist()
    same = x[:, :2].reshape(3, 2, 1)  # is a view, as no two axes become one
    same += 100
    assert x[:, :2].tolist() == (A[:, :2] + 100).tolist()


def test_the_shape_of_a_view_changes_in_place() -> None:
    x = Tensor(A)
    row = x[1]
    row.unsqueeze_(0)
    row += 10
    assert row.tolist() == [[14, 15, 16, 17]]
    assert x[1].tolist() == [14, 15, 16, 17]
    x.t_()
    x[0] = 0
    assert x.tolist() == np.vstack([np.zeros((1, 3)), (A + np.array([[0], [10], [0]])).T[1:]]).tolist()
    assert row.tolist() == [[14, 15, 16, 17]]  # x is another matrix from then on


def test_parts_of_parameters_are_set_as_scripts_do() -> None:
    layer = nn.LSTM(3, 4)
    bias, weight = layer.bias_ih_l0, layer.weight_ih_l0
    bias.data.zero_()
    bias.data[4:8].fill_(1)
    with no_grad():
        nn.init.constant_(weight[0], 2.0)
        weight[1][2] = 5
        weight.view(-1)[6:9].copy_(Tensor([1, 2, 3]))
    assert bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    assert weight[:3].tolist()[0] == [2, 2, 2]
    assert weight.tolist()[1][2] == 5
    assert weight.tolist()[2] == [1, 2, 3]
    assert weight.requires_grad
    assert weight.is_leaf
    part = weight[0]
    with pytest.raises(InvalidGraph, match="no_grad"):
        part += 1


def test_a_leaf_takes_the_values_of_another_under_no_grad() -> None:
    one, other = (Tensor([number], requires_grad=True) for number in (1.0, 2.0))
    with no_grad():
        one.assign(other)
        assert one.tolist() == [2]
        one[0:1] = other * 2
        one.view(1).add_(other)
    assert one.tolist() == [6]
    assert one.requires_grad
    assert one.is_leaf


def test_gradients_go_through_what_is_done_to_views() -> None:
    x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * 3
    y[0].mul_(y[1])  # [9·x0·x2, 9·x1·x3]
    y.T[1] += 1
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[27, 36], [9 * 1 + 3, 9 * 2 + 3]]


def test_a_detached_tensor_follows_a_parameter_that_is_stepped() -> None:
    w = Tensor([1.0, 2.0], requires_grad=True)
    seen, kept = w.detach(), w.detach().clone()
    optimizer = nn.optim.SGD([w], lr=0.5)
    (w * w).sum().backward()
    optimizer.step()
    assert seen.tolist() == w.tolist() == [0, 0]
    assert kept.tolist() == [1, 2]
    assert not seen.requires_grad


def test_a_view_from_outside_follows_what_a_replay_does() -> None:
    cache = Tensor.zeros(3, 2).contiguous().realize()
    last = cache[2]

    @jit
    def step(x: Tensor) -> Tensor:
        row = cache[1]
        row += x
        last.add_(1)
        return cache.sum()

    for call in range(1, 5):
        total = step(Tensor([1.0, 10.0]))
        assert cache.tolist() == [[0, 0], [call, 10 * call], [call, call]]
        assert total.item() == 13 * call
        assert last.tolist() == [call, call]


def test_iterating_changes_rows() -> None:
    x = Tensor(A)
    for number, row in enumerate(x):
        row *= number
    assert x.tolist() == (A * np.array([[0], [1], [2]])).tolist()


def _random_view(choose: random.Random, x: Any, xp: str) -> Any:
    """A view of an array or a tensor: the same for the same state of `choose`."""
    ndim = len(x.shape)
    kind = choose.choice(("number", "slice", "permute", "reshape", "axis", "rest"))
    if kind == "number" and ndim and x.shape[0]:
        return x[choose.randrange(-x.shape[0], x.shape[0])]
    if kind == "slice" and ndim:
        start, step = choose.randrange(x.shape[0] + 1), choose.choice((1, 1, 2))
        return x[start::step]
    if kind == "permute":
        order = choose.sample(range(ndim), ndim)
        return x.permute(order) if xp == "tensor" else x.transpose(order)
    if kind == "reshape":
        count = int(np.prod(x.shape))
        rows = choose.choice([d for d in range(1, count + 1) if count % d == 0] or [1])
        return x.reshape(rows, count // rows)
    return x[None] if kind == "axis" else x[..., -1:] if ndim else x[...]


def _random_program(seed: int) -> None:
    start = np.random.default_rng(seed).integers(0, 9, (2, 3, 4)).astype(np.float32)
    arrays: list[Any] = [start.copy()]
    tensors: list[Any] = [Tensor(start)]
    choose = random.Random(seed)
    for step in range(12):
        at, state = choose.randrange(len(arrays)), choose.getrandbits(32)
        if choose.random() < 0.5:
            arrays.append(_random_view(random.Random(state), arrays[at], "array"))
            tensors.append(_random_view(random.Random(state), tensors[at], "tensor"))
        elif choose.random() < 0.8:
            change: Any = choose.choice((_fill, _double, _own))
            change(arrays[at])
            change(tensors[at])
        else:
            tensors[at].realize()
        assert len(arrays) == len(tensors), step
    for array, tensor in zip(arrays, tensors, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array, err_msg=f"seed {seed}")


def test_random_programs_of_views_are_numpys() -> None:
    for seed in range(40):
        _random_program(seed)
