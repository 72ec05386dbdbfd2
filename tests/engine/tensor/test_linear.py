"""Products of matrices and tensors are NumPy's; half floats are summed in float32."""

from __future__ import annotations

from string import ascii_letters
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, equal, integers, normal, same

FORMULAS = [
    ("i,i->", (4,), (4,)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij,jk->ki", (2, 3), (3, 4)),
    ("ij,jk,kl,lm->im", (2, 3), (3, 4), (4, 2), (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iii->i", (3, 3, 3)),
    ("ij->", (2, 3)),
    ("ji", (2, 3)),
    ("i,j->ij", (2,), (3,)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("...i,i", (2, 3), (3,)),
    ("i...,...i->...", (3, 2, 4), (2, 4, 3)),
    ("b...q,b...k->...qk", (2, 3, 4), (2, 3, 5)),
    ("ab,ac,ad->bcd", (2, 3), (2, 4), (2, 5)),
    ("ij,j", (2, 3), (1,)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("ij,jk->ik", (0, 3), (3, 4)),
    ("ij,jk->ik", (2, 0), (0, 4)),
    ("Aa,aB->AB", (2, 3), (3, 2)),
    ("...->...", (2, 3)),
    (",i->i", (), (3,)),
]


@pytest.mark.parametrize("drawn", FORMULAS, ids=[f"{f[0]} {f[1]}" for f in FORMULAS])
def test_einsum_is_numpys(drawn: Any) -> None:
    formula, *shapes = drawn
    given = [integers(*shape, low=-3, high=3, seed=i) for i, shape in enumerate(shapes)]
    equal(Tensor.einsum(formula, *map(Tensor, given)), np.einsum(formula, *given))


@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.slow
def test_random_einsums_are_numpys(data: st.DataObject) -> None:
    letters = ascii_letters[: data.draw(st.integers(1, 5))]
    sizes = {letter: data.draw(st.integers(1, 3)) for letter in letters}
    texts = data.draw(st.lists(st.text(letters, min_size=0, max_size=4), min_size=1, max_size=4))
    used = sorted({letter for text in texts for letter in text})
    output = "".join(data.draw(st.permutations(used)))[: data.draw(st.integers(0, 5))]
    formula = ",".join(texts) + ("->" + output if data.draw(st.booleans()) else "")
    operands = [
        integers(*(sizes[letter] for letter in text), low=-2, high=2, seed=i) for i, text in enumerate(texts)
    ]
    equal(Tensor.einsum(formula, *map(Tensor, operands)), np.einsum(formula, *operands))


def test_einsum_contracts_the_cheap_pair_first() -> None:
    a, b, c = normal(2, 300), normal(300, 300), normal(300, 1)
    chain = Tensor.einsum("ij,jk,kl->il", Tensor(a), Tensor(b), Tensor(c))
    same(chain, a @ b @ c, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("formula", "shapes", "message"),
    [
        ("ij,jk", [(2, 3)], "2 operands, not 1"),
        ("ij", [(2, 3, 4)], "names 2 axes, not 3"),
        ("ijk", [(2, 3)], "names 3 axes, not 2"),
        ("ij,jk", [(2, 3), (4, 5)], "axis of 3 and of 4"),
        ("ii", [(2, 3)], "axis of 2 and of 3"),
        ("ij->ik", [(2, 3)], "each once"),
        ("ij->ii", [(2, 3)], "each once"),
        ("i1", [(2, 3)], "not letters"),
    ],
)
def test_a_formula_that_does_not_fit_is_refused(formula: str, shapes: Any, message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        Tensor.einsum(formula, *(Tensor.zeros(*shape) for shape in shapes))


def test_einsum_takes_tensors_alone() -> None:
    with pytest.raises(TypeError, match="Tensors"):
        Tensor.einsum("i")
    same(Tensor.einsum("ij,jk", [Tensor(normal(2, 3)), Tensor(normal(3, 2))]), normal(2, 3) @ normal(3, 2))


@pytest.mark.parametrize("dims", [0, 1, 2, ([0, 2], [2, 0]), ([-1], [0])])
def test_tensordot_is_numpys(dims: Any) -> None:
    a = integers(3, 4, 5)
    b = integers(5, 2, 3) if isinstance(dims, tuple) or dims == 1 else integers(4, 5, 2)
    equal(Tensor(a).tensordot(Tensor(b), dims), np.tensordot(a, b, dims))


def test_products_by_other_names() -> None:
    a, b, v = normal(2, 3, 4), normal(2, 4, 5), normal(4)
    same(Tensor(a).bmm(Tensor(b)), a @ b, rtol=1e-5)
    same(Tensor(a[0]).mm(Tensor(b[0])), a[0] @ b[0], rtol=1e-5)
    same(Tensor(a[0]).mv(Tensor(v)), a[0] @ v, rtol=1e-5)
    same(Tensor(v).dot(Tensor(v)), v @ v, rtol=1e-5)
    same(Tensor(v).outer(Tensor(v[:2])), np.outer(v, v[:2]))
    same(Tensor(a).linear(Tensor(b[0].T), Tensor(normal(5))), a @ b[0] + normal(5), rtol=1e-5)


@pytest.mark.parametrize("diagonal", [-5, -1, 0, 2, 5])
def test_triangles(diagonal: int) -> None:
    array = normal(2, 3, 4)
    equal(Tensor(array).tril(diagonal), np.tril(array, diagonal))
    equal(Tensor(array).triu(diagonal), np.triu(array, diagonal))
    equal(Tensor([[np.nan, np.nan]]).tril(-1), np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16])
def test_half_floats_are_multiplied_and_summed_in_float32(dtype: dt.DType) -> None:
    ones = Tensor.ones(1, 5000, dtype=dtype)
    assert (ones @ ones.T).dtype is dtype
    assert (ones @ ones.T).item() == Tensor(5000.0).cast(dtype).item()
    assert ones.matmul(ones.T, dtype=dt.float32).item() == 5000
    large: Array = np.full((1, 4), 200.0, np.float32)
    pair = (
        Tensor(large).cast(dtype),
        Tensor(np.array([[200.0], [-200.0], [1.0], [1.0]], np.float32)).cast(dtype),
    )
    assert (pair[0] @ pair[1]).item() == 400  # 40,000 twice is no float16


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda a: a.bmm(a), "cannot multiply"),
        (lambda a: a[0].bmm(a), "not as many matrices"),
        (lambda a: a.outer(a), "not 1-d"),
        (lambda a: a.tensordot(a, 1), "not of the sizes"),
        (lambda a: a.tensordot(a, 4), "have not 4 axes"),
        (lambda a: a[0, 0].tril(), "no two axes"),
        (lambda a: a @ a[0, 0, :2], r"cannot multiply \(2, 3, 4\) by \(2,\): 4 columns against 2 rows"),
        (lambda a: Tensor.einsum("ij->ji", a[0].bool()), "not defined for bool"),
    ],
)
def test_products_that_do_not_fit_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InvalidGraph, match=message):
        wrong(Tensor(normal(2, 3, 4)))
