"""What is agreed where a value or a derivative could be otherwise: signs of zero, kinks, poles, and huge quotients.

The numbers are PyTorch's; those of remainders are also NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, inf, nan

import numpy as np
import pytest

from engine import dtype as dt
from engine.dtype import DType
from engine.tensor import Tensor


def gradients(function: Callable[..., Tensor], *values: list[float]) -> list[list[float]]:
    leaves = [Tensor(v, requires_grad=True) for v in values]
    function(*leaves).sum().backward()
    found = []
    for x in leaves:
        assert x.grad is not None
        found.append(x.grad.tolist())
    return found


def signs(tensor: Tensor) -> list[float]:
    """1 or -1 for each element: zeros have a sign too."""
    return [copysign(1.0, value) for value in tensor.tolist()]


# ------------------------------------------------------------------------------------------------ signs of zero


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32, dt.float64])
def test_a_zero_keeps_its_sign_where_it_is_rounded_and_loses_it_in_its_size(dtype: DType) -> None:
    x = Tensor([0.0, -0.0, 0.25, -0.25, 0.5, -0.5], dtype=dtype)
    alternate = [1.0, -1.0] * 3
    for rounded in (x.round(), x.trunc(), x * 0, x.fmod(1)):
        assert signs(rounded.float()) == alternate
    assert x.round().float().tolist() == [0.0] * 6
    assert x.ceil().float().tolist() == [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert signs(x.ceil().float()) == alternate
    assert signs(x.abs().float()) == [1.0] * 6


def test_rounding_takes_the_even_one_of_two_as_near_at_any_size() -> None:
    x = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 8388609.0, 4194303.5, -4194304.5, 16777217.0, 0.49999997, inf, -inf]
    wide = np.float32(x)
    assert Tensor(wide).round().tolist() == np.round(wide).tolist()
    assert np.isnan(Tensor([nan]).round().item())


# ------------------------------------------------------------------------------------------------- remainders


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_remainders_are_exact_whatever_the_quotient(kind: type) -> None:
    top = float(np.finfo(kind).max)
    a = np.array([1e4, 6e4, top, -top, top, 7, -7, 5.5, -3, 3, 1, inf, nan], kind)
    b = np.array([3, 7, -104, 0.1, 3, -2.5, 2.5, 0, inf, -inf, nan, 1, 1], kind)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(Tensor(a).fmod(Tensor(b)).numpy(), np.fmod(a, b))
        np.testing.assert_array_equal((Tensor(a) % Tensor(b)).numpy(), np.remainder(a, b))


def test_the_remainder_of_huge_numbers_is_not_lost() -> None:
    assert (Tensor([1e20]) % 3).item() == 2.0
    assert (Tensor([1e18, 1e30], dtype=dt.float64) % 7.0).tolist() == [1e18 % 7.0, 1e30 % 7.0]
    assert (Tensor([3.4e38]) % -104).item() == float(np.float32(3.4e38)) % -104
    quotient = (Tensor([1e20, -1e20, 7.0, -7.0], dtype=dt.float64) // 3.0).tolist()
    assert quotient == [1e20 // 3.0, -1e20 // 3.0, 2.0, -3.0]


def test_a_quotient_of_zero_has_the_sign_of_the_division() -> None:
    assert signs(Tensor([0.0, -0.0, 1.0, -0.0]) // Tensor([5.0, 5.0, 5.0, -5.0])) == [1.0, -1.0, 1.0, 1.0]


# -------------------------------------------------------------------------------------------- gradients at kinks


def test_a_power_of_zero_has_the_gradients_of_the_formula() -> None:
    base = [0.0, 0.0, 0.0, 0.0, 0.0, -0.0, -0.0, 2.0]
    exponent = [0.5, -1.0, 1.0, 2.0, 0.0, -1.0, -2.0, 0.0]
    by_base, by_exponent = gradients(lambda x, y: x**y, base, exponent)
    assert by_base == [inf, -inf, 1.0, 0.0, 0.0, -inf, inf, 0.0]
    np.testing.assert_allclose(by_exponent, [0.0, -inf, 0.0, 0.0, 0.0, inf, -inf, np.log(2)], rtol=1e-6)


@pytest.mark.parametrize(
    ("power", "wanted"), [(-1, -inf), (-2, -inf), (-0.5, -inf), (0.5, inf), (0, 0.0), (1, 1.0)]
)
def test_a_power_that_is_a_number_has_them_too(power: float, wanted: float) -> None:
    assert gradients(lambda x: x**power, [0.0]) == [[wanted]]
    assert gradients(lambda x: x**power, [4.0])[0][0] == pytest.approx(power * 4.0 ** (power - 1))


def test_the_second_derivative_of_a_power_is_one_too() -> None:
    x = Tensor([1.0, 3.0])
    (first,) = (x ** Tensor([3.0, 3.0])).sum().gradient(x)
    (second,) = first.sum().gradient(x)
    np.testing.assert_allclose(second.numpy(), [6.0, 18.0], rtol=1e-5)


def test_arcs_are_steep_at_their_ends() -> None:
    assert gradients(lambda x: x.asin(), [1.0, -1.0, 0.0]) == [[inf, inf, 1.0]]
    assert gradients(lambda x: x.acos(), [1.0, -1.0, 0.0]) == [[-inf, -inf, -1.0]]


def test_the_angle_of_a_point_on_an_axis_has_a_gradient() -> None:
    up, right = gradients(lambda y, x: y.atan2(x), [1.0, -2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0])
    assert up == [0.0, 0.0, 0.5, 0.0]
    assert right == [-1.0, 0.5, 0.0, 0.0]


FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "floor": lambda x: x.floor(),
    "ceil": lambda x: x.ceil(),
    "round": lambda x: x.round(),
    "trunc": lambda x: x.trunc(),
    "sign": lambda x: x.sign(),
    "floor division": lambda x: x // 2,
    "power of 0": lambda x: x**0.0,
}


@pytest.mark.parametrize("name", FLAT)
def test_what_is_constant_almost_everywhere_has_the_gradient_zero(name: str) -> None:
    assert gradients(FLAT[name], [0.5, -1.5, 2.0, 0.0]) == [[0.0] * 4]
    # nothing goes on behind it, not even a zero times the infinite slope of 1 / x
    assert gradients(lambda x: FLAT[name](1 / x) + x, [0.0]) == [[1.0]]


def test_a_remainder_has_its_gradients() -> None:
    by, to = gradients(lambda x, y: x % y, [7.0, -7.0, 7.5], [2.0, 2.0, -2.0])
    assert (by, to) == ([1.0] * 3, [-3.0, 4.0, 4.0])
    by, to = gradients(lambda x, y: x.fmod(y), [7.0, -7.0, 7.5], [2.0, 2.0, -2.0])
    assert (by, to) == ([1.0] * 3, [-3.0, 3.0, 3.0])


def test_of_equals_in_a_pool_the_first_gets_the_gradient() -> None:
    x = [[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]]
    assert gradients(lambda t: t.max_pool2d(2), x) == [[[[1.0, 0.0, 1.0, 0.0], [0.0] * 4]]]


def test_a_pool_says_where_its_maxima_lie() -> None:
    x = Tensor(np.float32([[[1, 5, 2, 0], [7, 3, 2, 9], [4, 4, 8, 8]]]))
    values, places = x.max_pool2d(2, 1, return_indices=True)
    assert values.tolist() == [[[7, 5, 9], [7, 8, 9]]]
    assert places.tolist() == [[[4, 1, 7], [4, 10, 7]]]
    padded, places = x.max_pool2d(3, 2, 1, return_indices=True)
    assert (padded.tolist(), places.tolist()) == ([[[7, 9], [7, 9]]], [[[4, 7], [4, 7]]])


def test_the_corners_of_hard_functions_have_pytorchs_slopes() -> None:
    corners = [-3.0, -1.0, 0.0, 1.0, 3.0, 6.0]
    assert gradients(lambda x: x.relu6(), corners) == [[0.0, 0.0, 0.0, 1.0, 1.0, 0.0]]
    assert gradients(lambda x: x.hardtanh(), corners) == [[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]
    (slopes,) = gradients(lambda x: x.hardsigmoid(), corners)
    np.testing.assert_allclose(slopes, [0, 1 / 6, 1 / 6, 1 / 6, 0, 0], rtol=1e-6)
    (slopes,) = gradients(lambda x: x.hardswish(), corners)
    np.testing.assert_allclose(slopes, [0, 1 / 6, 0.5, 5 / 6, 1, 1], rtol=1e-6)
    assert gradients(lambda x: x.clamp(-1, 1), corners) == [[0.0, 1.0, 1.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32])
def test_an_extreme_is_found_again_among_what_is_computed_anew(dtype: DType) -> None:
    """What was stored is rounded, what is computed beside it may be wider: they are to be compared as stored."""
    a, b = (Tensor(np.random.default_rng(i).standard_normal((40, 33))).cast(dtype) for i in range(2))
    a.requires_grad_()
    for number, extreme in enumerate(
        (
            lambda x: x.amax(1),
            lambda x: x.max(dim=1).values,
            lambda x: x.reshape(1, 1, 40, 33).max_pool2d((1, 33)),
            lambda x: x.cummax(1).values[:, -1],
        )
    ):
        a.grad = None
        found = extreme(a * b)
        found.realize()  # stored, so that the gradient compares it with what it computes anew
        found.float().sum().backward()
        assert a.grad is not None
        slopes = a.grad.float().numpy()
        assert not np.isnan(slopes).any(), number
        assert (slopes != 0).any(1).all(), number
    product = a * b
    wanted = product.numpy().astype(np.float64)
    assert product.argmax(0).tolist() == wanted.argmax(0).tolist()
    assert product.argmin(1).tolist() == wanted.argmin(1).tolist()


@pytest.mark.slow
def test_the_place_of_an_extreme_of_a_long_axis_of_half_floats() -> None:
    a, b = (Tensor(np.random.default_rng(i).standard_normal((3000, 40))).half() for i in range(2))
    places = (a * b).argmax(0).numpy()
    np.testing.assert_array_equal(places, (a * b).numpy().argmax(0))


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float32])
def test_a_stored_maximum_equals_an_element_of_what_is_computed_anew(dtype: DType) -> None:
    a, b = (Tensor(np.random.default_rng(i).standard_normal((50, 30))).cast(dtype) for i in range(2))
    product = a * b
    most = product.amax(0, keepdim=True).realize()
    assert (product == most).any(0).all().item()
    assert not (product > most).any().item()
    assert (product >= most).equal(product == most)
    assert (product != most).sum().item() == product.numel() - (product == most).sum().item()
