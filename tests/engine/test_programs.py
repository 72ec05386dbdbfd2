"""engine.programs: what the named programs compute, what they cost, and inputs that are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import const, elementwise, param
from engine.errors import InvalidGraph
from engine.kernel import Kernel
from engine.ops import Op
from engine.programs import PROGRAMS, Cost, cost, program, random_inputs
from engine.runtime.interp import evaluate
from engine.spec import Level, verify
from fleet.agents.protocol import Program


def test_the_protocol_offers_exactly_these_programs() -> None:
    assert set(PROGRAMS) == {entry.value for entry in Program}


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("gemm", (3, 4, 5)),
        ("gemm", (1, 1, 1)),
        ("reduce", (3, 5)),
        ("copy", (2, 3, 4, 1)),
        ("elementwise", (7,)),
    ],
)
def test_a_program_computes_what_it_says(name: str, shape: tuple[int, ...], dtype: str) -> None:
    kernel = program(name, shape, dtype)
    verify(kernel.output, Level.DEFINITION, "programs")
    inputs = random_inputs(kernel, 7, integers=True)
    a, b = inputs[0], inputs[-1]
    wanted = {
        "gemm": lambda: a @ b,
        "reduce": lambda: a.sum(1, dtype=a.dtype),
        "copy": lambda: a,
        "elementwise": lambda: np.maximum(a * b + a, 0),
    }[name]()
    got = evaluate(kernel, inputs)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "field"),
    [
        ("conv", [3], "float32", "program"),
        ("gemm", [3, 4], "float32", "shape"),
        ("gemm", [3, 4, -1], "float32", "shape"),
        ("copy", [], "float32", "shape"),
        ("copy", [1.5], "float32", "shape"),
        ("copy", [3], "float8_e5m2", "dtype"),
        ("copy", [3], "bool", "dtype"),
    ],
)
def test_a_program_that_cannot_be_is_refused_naming_the_field(
    name: str, shape: list[int], dtype: str, field: str
) -> None:
    with pytest.raises(InvalidGraph) as caught:
        program(name, shape, dtype)
    assert caught.value.field == field


def test_the_cost_of_a_gemm_is_two_mnk_operations_and_each_matrix_once() -> None:
    assert cost(program("gemm", (10, 20, 30))) == Cost(
        2.0 * 10 * 20 * 30, 4.0 * (10 * 30 + 30 * 20 + 10 * 20), 30
    )


def test_the_cost_of_the_other_programs() -> None:
    assert cost(program("reduce", (10, 20))) == Cost(200.0, 840.0, 20)
    assert cost(program("copy", (10, 20))) == Cost(0.0, 1600.0, 1)
    assert cost(program("elementwise", (10, 20))) == Cost(600.0, 2400.0, 1)


def test_choices_and_casts_cost_nothing() -> None:
    x = param(0, (8,), dt.float32)
    node = elementwise(Op.WHERE, elementwise(Op.LT, x, const(0, dt.float32, (8,))), x, x)
    assert cost(Kernel(node)).flops == 0


def test_inputs_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    kernel = program("gemm", (8, 9, 10))
    one, two, other = random_inputs(kernel, 1), random_inputs(kernel, 1), random_inputs(kernel, 2)
    for a, b, c in zip(one, two, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_inputs_of_a_known_kernel_never_change() -> None:
    inputs = random_inputs(program("gemm", (8, 9, 10)), 5)
    assert (
        hashlib.sha3_256(b"".join(a.tobytes() for a in inputs)).hexdigest()
        == "78afa35f21493890b176352148f9522ad4550951313b2888229f591e59c82edd"
    )


def test_inputs_are_contiguous_and_of_the_scale_they_promise() -> None:
    (x,) = random_inputs(program("copy", (300, 300)), 0)
    assert x.flags.c_contiguous
    assert x.dtype == np.float32
    assert abs(float(x.std()) - 1) < 0.02
    (whole,) = random_inputs(program("copy", (300, 300)), 0, integers=True)
    assert set(np.unique(whole)) == set(range(-4, 5))


def test_inputs_of_every_type() -> None:
    kernel = Kernel(
        elementwise(Op.WHERE, param(0, (9,), dt.bool_), param(1, (9,), dt.int32), param(2, (9,), dt.int32))
    )
    types = [array.dtype.name for array in random_inputs(kernel, 0)]
    assert types == ["bool", "int32", "int32"]
