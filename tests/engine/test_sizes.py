"""engine.sizes: numbers that are not known yet are what arithmetic makes of them once they are."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.build import cast, const, fold, leading, reshape, shrink
from engine.errors import InvalidGraph
from engine.ir import UOp, substitute
from engine.kernel import Kernel
from engine.ops import Op
from engine.order import fresh_buffer
from engine.runtime.interp import evaluate
from engine.shapes import shape_of
from engine.sizes import (
    Count,
    Size,
    Var,
    at_least,
    extent,
    fixed,
    is_open,
    number_node,
    open_size,
    plain,
)
from engine.spec import Level, problem

N, M = Var("n", 2, 9), Var("m", 1, 4)
COUNTS = {var: Count(var, fresh_buffer((), dt.int64)) for var in (N, M)}
n, m = (open_size(count) for count in COUNTS.values())
OPS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "/": operator.truediv,
}


def at(number: Any, **values: int) -> float:
    """What the number is where the sizes have these values."""
    nodes = {count.node: const(values[var.name], dt.int64) for var, count in COUNTS.items()}
    node: UOp = substitute(number_node(number, dt.float64), nodes)
    return float(evaluate(Kernel(node), []))


Leaves = st.sampled_from([("n", n), ("m", m), ("(2*n)", 2 * n), ("3", 3), ("1", 1), ("5", 5), ("0.5", 0.5)])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(OPS)), Leaves, st.booleans()), min_size=1, max_size=5), Leaves)
def test_arithmetic_is_that_of_the_numbers(steps: list[Any], start: Any) -> None:
    text, number = start
    for sign, (other_text, other), turned in steps:
        pair = (other, number) if turned else (number, other)
        texts = (other_text, text) if turned else (text, other_text)
        try:
            number = OPS[sign](*pair)
        except (InvalidGraph, TypeError, ZeroDivisionError):
            continue  # refused, or of floats
        text = f"({texts[0]} {sign} {texts[1]})"
    for values in ({"n": 2, "m": 1}, {"n": 5, "m": 3}, {"n": 9, "m": 4}):
        try:
            wanted = eval(text, {}, values)
        except ZeroDivisionError:
            continue
        np.testing.assert_allclose(at(number, **values), wanted, rtol=1e-12)
        if isinstance(number, Size):
            assert number.least <= wanted <= number.most


def test_floats_on_the_left_do_not_forget_the_size() -> None:
    for number in (1.0 * n, np.float64(1.0) * n, np.int64(1) * n, n * 1.0, n * np.float32(1.0)):
        assert at(number, n=7, m=1) == 7


def test_multiples_of_a_size_divide() -> None:
    assert str(6 * n // 3) == "2*n"
    assert 6 * n // n == 6
    assert 6 * n % (2 * n) == 0
    assert divmod(6 * n, 3) == (2 * n, 0)
    assert (n + 3 - n, n - n, 0 * n) == (3, 0, 0)
    assert (n + m).rows is None
    assert (2 * n).rows == (COUNTS[N], 2)
    with pytest.raises(InvalidGraph, match=r"3\*n is no multiple of 2 for each n \(2 to 9\)"):
        _ = 3 * n % 2


def test_questions_are_answered_where_all_sizes_agree() -> None:
    assert n > 1
    assert n >= 2
    assert n < 10
    assert n - 1 > 0
    assert 2 * n > n
    assert n != 1
    assert n != 10
    assert n == open_size(COUNTS[N])
    assert n != m
    assert bool(n)
    assert n == 9  # an axis laid out for the most


QUESTIONS: tuple[Callable[[], Any], ...] = (
    *(lambda: n > 5, lambda: n <= 2, lambda: n == 5, lambda: bool(n - 2), lambda: n > m, lambda: max(n, 4)),
    *(lambda: float(n), lambda: int(n), lambda: range(n), lambda: 7 // n, lambda: 2**n, lambda: n % 2),
    *(lambda: float(n / 2), lambda: bool(n / 2), lambda: n / 2 > 1, lambda: fixed(n), lambda: extent(n + 1)),
    *(lambda: plain((3, n - 1)), lambda: (n / 2) ** 3),
)


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_what_depends_on_the_size_is_refused_by_name(number: int) -> None:
    with pytest.raises(InvalidGraph):
        QUESTIONS[number]()


def test_powers_and_limits_are_made_of_nodes() -> None:
    assert at(n**2, n=7, m=1) == 49
    assert at(n**0.5, n=9, m=1) == 3
    assert at((n / 2) ** -0.5, n=8, m=1) == 0.5
    assert at(n**-1, n=8, m=1) == 0.125
    assert at(at_least(0.0, n - 5), n=3, m=1) == 0
    assert at(at_least(0.0, n - 5), n=8, m=1) == 3
    assert at_least(0.0, -2) == 0


def test_shapes_are_told_from_plain_ones_and_keep_their_sizes() -> None:
    x = const(1, dt.float32, (n, 6))
    assert shape_of(x) == (n, 6)
    assert plain(shape_of(x)) == (9, 6)
    assert plain((9, 6)) == (9, 6)
    assert is_open(shape_of(reshape(x, (6 * n,)))[0])
    assert shape_of(shrink(x, [(0, 2, 1), (0, 6, 1)])) == (2, 6)
    assert type(shape_of(shrink(x, [(0, 2, 1), (0, 6, 1)]))) is tuple
    assert shape_of(cast(x, dt.float64)) == (n, 6)


def test_a_loop_does_not_take_what_is_of_an_open_size() -> None:
    start = const(0, dt.float32, (n, 6))
    (after,) = fold(3, [start], [], lambda step, states, parts: states)
    with pytest.raises(InvalidGraph, match=r"FOLD: of a leading size n \(2 to 9\)"):
        shape_of(after)


def test_a_marked_axis_is_as_long_as_its_size_may_be() -> None:
    x = const(1, dt.float32, (9, 6))
    wrong = UOp(Op.LEADING, dt.float32, (x, COUNTS[N].node), (1, 1, N))
    with pytest.raises(InvalidGraph, match=r"an axis of 6 is not the 9 of n \(2 to 9\)"):
        shape_of(wrong)
    for node in (
        UOp(Op.LEADING, dt.float32, (x,), (0, 1, N)),
        UOp(Op.LEADING, dt.float32, (x, const(1, dt.int64)), (0, 1, N)),
        UOp(Op.LEADING, dt.int32, (x, COUNTS[N].node), (0, 1, N)),
    ):
        assert problem(node, Level.TENSOR)
    assert problem(leading(x, (n, 6)), Level.TENSOR) == ""
    assert problem(leading(x, (n, 6)), Level.DEFINITION)
