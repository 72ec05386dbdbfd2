"""What a script written for PyTorch or tinygrad calls, when only its import was changed; results are NumPy's."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Tensor, TinyJit, dtypes, jit, nn, no_grad
from engine.errors import InvalidGraph
from tests.engine.tensor.comparing import Array, equal, normal, same

A = normal(3, 4)
HOLED = np.where(np.arange(12).reshape(3, 4) % 5 == 1, np.nan, A).astype(np.float32)


def test_jit_is_the_decorator_by_either_name() -> None:
    for decorate in (jit, TinyJit):

        @decorate
        def twice(x: Tensor) -> Tensor:
            return x * 2

        assert [twice(Tensor([float(i)])).tolist() for i in range(4)] == [[0.0], [2.0], [4.0], [6.0]]
        assert len(twice.plans) == 1


# ---------------------------------------------------------------------------------------------------- as an object


def test_a_clone_is_a_tensor_of_its_own_that_gradients_go_through() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    (y * y).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 4.0]
    z = Tensor([1.0, 2.0])
    other = z.clone()
    other[0] = 9
    assert (z.tolist(), other.tolist()) == ([1.0, 2.0], [9.0, 2.0])


def test_data_is_the_values_and_what_is_done_to_it_is_done_to_the_tensor() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert not x.data.requires_grad
    x.data -= 0.5
    x.data.mul_(4)
    x.data[0] = 7
    assert x.tolist() == [7.0, 6.0]
    assert x.requires_grad
    x.data = Tensor([3, 4])
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [6.0, 8.0]


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.bfloat16, dtypes.int8, dtypes.bool_])
def test_copies_and_pickles_are_tensors_of_their_own(dtype: dtypes.DType) -> None:
    x = Tensor([[1, 0, 3]]).cast(dtype)
    x.requires_grad = dtype.is_float
    unpickled = pickle.loads(pickle.dumps(x))  # noqa: S301
    for other in (copy.copy(x), copy.deepcopy({"x": x})["x"], unpickled):
        assert (other.dtype, other.requires_grad) == (dtype, dtype.is_float)
        np.testing.assert_array_equal(other.numpy(), x.numpy())
        with no_grad():
            other[0, 0] = 0
        assert x.numpy()[0, 0] == 1


def test_a_tensor_of_one_number_is_formatted_as_one() -> None:
    assert f"{Tensor([1.2345]).sum():.2f} {Tensor(7):>3}" == "1.23   7"
    with pytest.raises(TypeError, match="format of one number"):
        f"{Tensor([1.0, 2.0]):.2f}"


def test_small_names_of_pytorchs() -> None:
    x = Tensor(A)
    assert (x.nelement(), x.ndimension(), x.itemsize, x.is_contiguous(), x.is_signed()) == (
        12,
        2,
        4,
        True,
        True,
    )
    assert x.cpu().tolist() == x.tolist()
    assert (x.new_zeros(2, 3).shape, x.new_ones((2,)).tolist(), x.new_tensor([1, 2]).dtype) == (
        (2, 3),
        [1.0, 1.0],
        dtypes.int64,
    )
    assert x.allclose(A + 1e-9)
    assert not x.allclose(A + 1)
    assert x.equal(Tensor(A))
    assert not x.equal(Tensor(A[:2]))
    assert Tensor([0.5]).is_nonzero()


# ------------------------------------------------------------------------------------------------------- in place


def test_methods_in_place_change_this_tensor_and_no_other() -> None:
    x = Tensor([1.0, 2.0, 3.0])
    before = x * 1
    assert x.add_(1).mul_(2).sub_(Tensor([0.0, 1.0, 2.0])) is x
    assert (x.tolist(), before.tolist()) == ([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
    assert x.clamp_(max=5).tolist() == [4.0, 5.0, 5.0]
    assert x.masked_fill_(Tensor([True, False, False]), 0.5).tolist() == [0.5, 5.0, 5.0]
    assert x.fill_(2).copy_(Tensor([3])).tolist() == [3.0] * 3
    assert x.zero_().tolist() == [0.0] * 3
    assert x.index_add_(0, Tensor([2, 2]), Tensor([1.0, 2.0])).tolist() == [0.0, 0.0, 3.0]
    assert abs(x.normal_(5.0, 0.01).numpy() - 5).max() < 1
    assert ((x.uniform_(2, 3).numpy() >= 2) & (x.numpy() <= 3)).all()


def test_in_place_is_refused_where_it_would_not_do_what_it_says() -> None:
    leaf = Tensor([1.0], requires_grad=True)
    with pytest.raises(InvalidGraph, match="no_grad"):
        leaf.mul_(leaf)
    with no_grad():
        assert leaf.mul_(3).tolist() == [3.0]
    with pytest.raises(InvalidGraph, match="div_: the result is float32, which int64 cannot take"):
        Tensor([1, 2]).div_(2)


# ------------------------------------------------------------------------------------------------- pairs by name


def test_the_extremes_of_a_dim_come_with_their_places() -> None:
    for name in ("max", "min"):
        values, indices = getattr(Tensor(A), name)(dim=1)
        equal(values, getattr(A, name)(1))
        equal(indices, getattr(A, f"arg{name}")(1))
        kept = getattr(Tensor(A), name)(dim=0, keepdim=True)
        equal(kept.values, getattr(A, name)(0, keepdims=True))
        equal(kept.indices, getattr(A, f"arg{name}")(0)[None])
        equal(getattr(Tensor(A), name)(1), getattr(A, name)(1))  # by axis the values alone
    equal(Tensor(A).max(Tensor(-A)), np.abs(A))
    equal(Tensor([[1, nan, 3]]).max(dim=1).indices, np.array([1]))
    assert Tensor(5.0).max(dim=0).indices.item() == 0


def test_of_equal_extremes_of_a_dim_the_first_gets_the_gradient() -> None:
    x = Tensor([[1.0, 2.0, 2.0]], requires_grad=True)
    x.max(dim=1).values.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0, 1.0, 0.0]]


def test_what_is_chosen_in_order_is_a_pair_by_name() -> None:
    order = np.argsort(A, 1, kind="stable")
    equal(Tensor(A).sort(dim=1).values, np.sort(A, 1))
    equal(Tensor(A).sort(1).indices, order)
    equal(Tensor(A).topk(2).indices, order[:, ::-1][:, :2])
    equal(Tensor(A).median(dim=1).values, np.sort(A, 1)[:, 1])
    equal(Tensor(A).median(dim=1).indices, order[:, 1])
    equal(Tensor(A).kthvalue(3, dim=1).values, np.sort(A, 1)[:, 2])
    equal(Tensor(A).kthvalue(3, dim=1).indices, order[:, 2])
    equal(Tensor([[3.0, nan, 1.0, nan]]).median(dim=1).indices, np.array([1]))
    equal(Tensor(A).cummax(1).values, np.maximum.accumulate(A, 1))
    with pytest.raises(InvalidGraph, match="no element number 5"):
        Tensor(A).kthvalue(5)


def test_variances_take_unbiased_also_by_place() -> None:
    for unbiased in (False, True):
        same(Tensor(A).var(unbiased=unbiased), A.var(ddof=int(unbiased)))
        same(Tensor(A).std(1, unbiased), A.std(1, ddof=int(unbiased)))
        same(Tensor(A).var(1, unbiased, True), A.var(1, ddof=int(unbiased), keepdims=True))
    spread, mean = Tensor(A).std_mean(dim=0, unbiased=False)
    same(spread, A.std(0))
    same(mean, A.mean(0))


# ---------------------------------------------------------------------------------------------------- functions


def test_whole_numbers_are_drawn_in_pytorchs_order_too() -> None:
    for drawn, low, high in ((Tensor.randint(0, 5, (300,)), 0, 5), (Tensor.randint(7, (300,)), 0, 7)):
        assert drawn.shape == (300,)
        assert set(drawn.tolist()) == set(range(low, high))
    assert Tensor.randint(2, 3, low=4, high=5).tolist() == [[4] * 3] * 2


X = np.float32([-30, -3, -1, -0.5, -1e-4, 0, 1e-4, 0.5, 0.999, 1, 1.5, 3, 1e3, 1e6, 1e30, inf, nan])
FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "deg2rad": np.deg2rad,
    "rad2deg": np.rad2deg,
    "logit": lambda x: np.log(x / (1 - x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_slope_are_right(name: str) -> None:
    with np.errstate(all="ignore"):
        wanted = FUNCTIONS[name](X.astype(np.float64))
        same(getattr(Tensor(X), name)(), wanted.astype(np.float32), rtol=2e-6, atol=0)
        inner = X[np.isfinite(wanted) & (np.abs(X) < 1e4) & ((np.abs(X) != 1) | (name == "asinh"))]
        x = Tensor(inner, requires_grad=True)
        getattr(x, name)().sum().backward()
        h, at = 1e-6, inner.astype(np.float64)
        slope = (FUNCTIONS[name](at + h) - FUNCTIONS[name](at - h)) / (2 * h)
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-4)


def test_erfc_is_right_where_it_is_small() -> None:
    from_tables = {0.5: 0.4795001221869535, 2.0: 0.004677734981047266, -3.0: 1.9999779095030014}
    from_tables |= {5.0: 1.5374597944280347e-12, 9.0: 4.137031746513810e-37, 0.0: 1.0}
    got = Tensor(list(from_tables)).erfc().numpy()
    np.testing.assert_allclose(got, list(from_tables.values()), rtol=1e-6)
    wide = Tensor(list(from_tables), dtype=dtypes.float64).erfc().numpy()
    np.testing.assert_allclose(wide, list(from_tables.values()), rtol=1e-13)
    assert Tensor([inf, -inf]).erfc().tolist() == [0.0, 2.0]


def test_diagonals_and_products_of_matrices() -> None:
    v, b = normal(4, seed=2), normal(4, 5, seed=3)
    for k in (-2, 0, 1):
        equal(Tensor(v).diag(k), np.diag(v, k))
        equal(Tensor(A).diag(k), np.diag(A, k))
    equal(Tensor(A).diagflat(), np.diag(A.ravel()))
    equal(Tensor(A).diag_embed(), np.stack([np.diag(row) for row in A]))
    same(Tensor(A)[:, :3].trace(), np.trace(A[:, :3]))
    same(Tensor(normal(5)).addmm(Tensor(A), Tensor(b), beta=0.5, alpha=2), 0.5 * normal(5) + 2 * A @ b, 1e-5)
    same(Tensor([nan]).addmm(Tensor(A), Tensor(b), beta=0), A @ b, 1e-5, 1e-5)
    same(Tensor(A).kron(Tensor(b)), np.kron(A, b))
    same(Tensor(A[:, :3]).cross(Tensor(A[:, 1:])), np.cross(A[:, :3], A[:, 1:]))
    same(Tensor(A).dist(Tensor(A[0])), np.linalg.norm(A - A[0]))


def test_differences_and_sums_beside_nan() -> None:
    same(Tensor(A).diff(), np.diff(A))
    same(Tensor(A).diff(2, dim=0), np.diff(A, 2, 0))
    same(Tensor(A).diff(dim=0, prepend=Tensor(A[:1])), np.diff(A, axis=0, prepend=A[:1]))
    assert Tensor(A).diff(9).shape == (3, 0)
    same(Tensor(HOLED).nansum(1), np.nansum(HOLED, 1))
    same(Tensor(HOLED).nanmean(0), np.nanmean(HOLED, 0))
    equal(Tensor(HOLED).fmax(0), np.fmax(HOLED, 0))
    equal(Tensor(HOLED).fmin(0), np.fmin(HOLED, 0))


def test_slices_are_added_and_put_by_an_index() -> None:
    source, index = normal(2, 4, seed=5), np.array([2, 2])
    wanted = A.copy()
    np.add.at(wanted, index, 3 * source)
    same(Tensor(A).index_add(0, Tensor(index), Tensor(source), alpha=3), wanted)
    wanted = A.copy()
    wanted[:, [1, 3]] = source[:, :2].sum()
    same(Tensor(A).index_fill(1, Tensor([1, 3]), float(source[:, :2].sum())), wanted)
    wanted[[0, 2]] = source
    same(Tensor(wanted).index_copy(0, Tensor([0, 2]), Tensor(source)), wanted)
    equal(
        Tensor(A).take_along_dim(Tensor([[1], [0], [3]]), dim=1),
        np.take_along_axis(A, np.array([[1], [0], [3]]), 1),
    )
    equal(Tensor(A).select(1, -1), A[:, -1])
    equal(Tensor([[0, 1], [2, 0]]).argwhere(), np.array([[0, 1], [1, 0]]))
    with pytest.raises(IndexError, match="index_add: index 3"):
        Tensor(A).index_add(0, Tensor([3]), Tensor(A[:1]))


LOSSES: dict[str, tuple[Callable[..., Tensor], Callable[[Array, Array], Any]]] = {
    "huber": (
        lambda x, y: x.huber_loss(y, delta=0.7),
        lambda x, y: np.where(abs(x - y) < 0.7, (x - y) ** 2 / 2, 0.7 * (abs(x - y) - 0.35)).mean(),
    ),
    "divergence": (
        lambda x, y: x.kl_div(y.exp(), "batchmean"),
        lambda x, y: (np.exp(y) * (y - x)).sum() / len(x),
    ),
    "classes last": (
        lambda x, y: x.sparse_categorical_crossentropy(Tensor([[0, 1, -1]]).reshape(3)),
        lambda x, y: -(x - np.log(np.exp(x).sum(1, keepdims=True)))[[0, 1], [0, 1]].mean(),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_right(name: str) -> None:
    ours, wanted = LOSSES[name]
    same(ours(Tensor(A), Tensor(normal(3, 4, seed=9))), wanted(A, normal(3, 4, seed=9)), rtol=1e-5)


def test_the_script_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[3] / "docs" / "moving.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(script, "docs/moving.md", "exec"), {})
    assert re.fullmatch(r"\d\.\d \(16,\)\n", capsys.readouterr().out)


# ------------------------------------------------------------------------------------------------ what scripts print


def test_printing_shows_the_values_and_repr_what_it_is() -> None:
    assert str(Tensor([[1.5, -2.0], [float("nan"), 0.25]])) == (
        "Tensor([[ 1.5 , -2.  ],\n        [  nan,  0.25]], dtype=float32)"
    )
    assert str(Tensor([1, 2])) == "Tensor([1, 2], dtype=int64)"
    assert str(Tensor([1.0, 2.5]).bfloat16()) == "Tensor([1. , 2.5], dtype=bfloat16)"
    assert f"{Tensor(2.5, requires_grad=True)}" == "2.5"
    assert f"{Tensor([2.5])}" == "Tensor([2.5], dtype=float32)"
    assert repr(Tensor([1, 2]) + 1).endswith("lazy)")
    assert "lazy" in str(Tensor([1.0], device="NULL") + 1)


def test_to_takes_devices_dtypes_and_tensors_as_pytorchs_does() -> None:
    x = Tensor([1.5, 2.5])
    assert x.to(x.device, dtypes.float16, non_blocking=True).dtype is dtypes.float16
    assert x.to(device=x.device, dtype=dtypes.int32).tolist() == [1, 2]
    assert x.to(Tensor([1], device="INTERP")).dtype is dtypes.int64
    assert x.to(dtypes.float32) is x
    assert x.float() is x
    assert x.to(x.device) is x
    assert x.to(x.device, copy=True) is not x
    assert x.to("NULL", dtypes.int8).device == "NULL"
    with pytest.raises(TypeError, match=r"to: 1\.5 is no device, no dtype and no tensor"):
        x.to(1.5)


def test_modules_move_what_is_not_kept_with_their_state_too() -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(Tensor([1.0]))
            self.register_buffer("angles", Tensor([0.5, 1.0]), persistent=False)

    layer = Rotary()
    assert list(layer.state_dict()) == ["weight"]
    assert [name for name, _ in layer.named_buffers()] == ["angles"]
    layer.to("NULL", dtypes.float16)
    assert (layer.angles.device, layer.angles.dtype) == ("NULL", dtypes.float16)
    assert layer.weight.device == "NULL"
    with pytest.raises(TypeError, match="not int8"):
        layer.to(dtypes.int8)
