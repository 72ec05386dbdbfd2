"""Tolerances catch one wrong element in any place, and let every order of summation pass."""

from __future__ import annotations

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import cast, const, elementwise, param, reduce
from engine.dtype import DType, bool_, float32
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.programs import program
from engine.runtime.interp import evaluate
from engine.verify import check, exact_for_integers, reference, roundoff, with_naive

GEMM = program("gemm", [61, 53, 139])


def right_output(kernel_inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    a, b = kernel_inputs
    return (a @ b).astype(np.float32)


def naive_output(kernel_inputs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Sequential float32 sums: what an unscheduled kernel computes."""
    a, b = kernel_inputs
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total += a[:, k : k + 1] * b[k : k + 1]
    return total


def test_sums_in_another_order_are_right() -> None:
    for seed in range(5):
        found = reference(GEMM, seed)
        for with_measured_error in (False, True):
            if with_measured_error:
                found = with_naive(found, naive_output(found.inputs))
            for output in (right_output(found.inputs), naive_output(found.inputs)):
                verdict = check(found, output)
                assert verdict.right, verdict.problem
                assert 0 < verdict.max_error <= verdict.tolerance


def test_everything_off_by_one_percent_is_wrong() -> None:
    found = reference(GEMM, 1)
    found = with_naive(found, naive_output(found.inputs))
    verdict = check(found, right_output(found.inputs) * np.float32(1.01))
    assert not verdict.right
    assert verdict.max_error > verdict.tolerance
    assert "elements differ" in verdict.problem


@pytest.mark.parametrize("at", [(0, 0), (60, 52), (30, 7)])
def test_a_single_element_off_by_one_percent_is_wrong(at: tuple[int, int]) -> None:
    found = reference(GEMM, 2)
    found = with_naive(found, naive_output(found.inputs))
    output = right_output(found.inputs)
    output[at] *= np.float32(1.01)
    verdict = check(found, output)
    assert not verdict.right
    assert verdict.problem.startswith(f"[{at[0]}, {at[1]}]")


def test_small_whole_numbers_must_be_equal_to_the_bit() -> None:
    found = reference(GEMM, 3, integers=True)
    assert found.exact
    output = right_output(found.inputs)
    assert check(found, output).right
    output[5, 5] = np.nextafter(output[5, 5], np.float32(np.inf))
    assert not check(found, output).right


def test_a_nan_or_an_unwritten_element_is_wrong() -> None:
    found = reference(GEMM, 4)
    output = right_output(found.inputs)
    output[3, 4] = np.nan
    assert not check(found, output).right
    words = right_output(found.inputs).view(np.uint32)
    words[0, 0] = 0x7FC5A5A5
    assert "never written" in check(reference(GEMM, 4, work=1), words.view(np.float32), 0).problem or not (
        check(found, words.view(np.float32), 0).right
    )


def test_a_wrong_naive_kernel_excuses_nothing() -> None:
    found = reference(GEMM, 5)
    bad = right_output(found.inputs) * np.float32(1.01)
    assert not check(with_naive(found, bad), bad).right


def test_an_infinity_that_is_right_is_no_error_of_the_naive_kernel() -> None:
    x = param(0, (3, 5), float32)
    least = const(-float("inf"), float32, (3, 5))
    masked = elementwise(Op.WHERE, elementwise(Op.LT, x, const(0.0, float32, (3, 5))), least, x)
    found = reference(Kernel(masked), 2)
    (values,) = found.inputs
    output = np.where(values < 0, np.float32(-np.inf), values)
    assert np.isinf(output).any()
    found = with_naive(found, output)  # a warning would be an error here
    assert found.naive is not None
    assert not found.naive[0].any()
    assert check(found, output).right


def test_a_single_sum_of_many_numbers_is_neither_flagged_nor_waved_through() -> None:
    total = program("reduce", [1, 1031])
    for seed in range(20):
        found = reference(total, seed)
        sequential = np.add.accumulate(found.inputs[0], axis=1, dtype=np.float32)[:, -1]
        reverse = np.add.accumulate(found.inputs[0][:, ::-1], axis=1, dtype=np.float32)[:, -1]
        found = with_naive(found, sequential)
        assert check(found, reverse).right
        if abs(sequential[0]) > 10:
            assert not check(found, reverse * np.float32(1.01)).right


def test_integers_must_be_equal() -> None:
    kernel = program("gemm", [5, 7, 11], "int32")
    found = reference(kernel, 0)
    output = found.inputs[0] @ found.inputs[1]
    assert check(found, output).right
    output[4, 6] += 1
    verdict = check(found, output)
    assert not verdict.right
    assert verdict.problem.startswith("[4, 6]")


def test_a_byte_that_is_no_truth_value_is_wrong() -> None:
    a, b = (UOp(Op.PARAM, float32, (), (slot, (8,))) for slot in (0, 1))
    found = reference(Kernel(UOp(Op.LT, bool_, (a, b))), 0)
    output = found.inputs[0] < found.inputs[1]
    assert check(found, output).right
    bytes_ = output.view(np.uint8).copy()
    bytes_[np.flatnonzero(output)[0]] = 2
    assert not check(found, bytes_.view(np.bool_)).right


def test_a_big_output_is_sampled_at_both_ends_and_between() -> None:
    kernel = program("gemm", [600, 500, 400])
    found = reference(kernel, 0, work=2_000_000)
    starts = [start for start, _ in found.rows]
    assert starts[0] == 0
    assert found.rows[-1][1] == 600
    assert sum(stop - start for start, stop in found.rows) < 60
    output = right_output(found.inputs)
    assert check(found, output).right
    output[599, 3] *= np.float32(1.01)
    assert check(found, output).problem.startswith("[599, 3]")


def test_infinities_and_nans_that_belong_there_are_right() -> None:
    a = UOp(Op.PARAM, float32, (), (0, (64,)))
    found = reference(Kernel(UOp(Op.LOG, float32, (a,))), 0)
    with np.errstate(all="ignore"):
        output = np.log(found.inputs[0])
    assert np.isnan(output).any()
    assert check(found, output).right
    assert not check(found, np.nan_to_num(output)).right


def test_exactness_for_whole_inputs_is_decided_from_the_ops() -> None:
    assert exact_for_integers(GEMM)
    assert exact_for_integers(program("elementwise", [100]))
    assert not exact_for_integers(program("gemm", [4, 4, 1 << 20]))
    root = UOp(Op.SQRT, float32, (UOp(Op.PARAM, float32, (), (0, (4,))),))
    assert not exact_for_integers(Kernel(root))


def test_scalars_and_empty_outputs_can_be_checked() -> None:
    a = UOp(Op.PARAM, float32, (), (0, (9,)))
    total = reference(Kernel(UOp(Op.REDUCE, float32, (a,), (Op.ADD, (0,)))), 0)
    assert check(total, np.array(total.inputs[0].sum(), np.float32)).right
    empty = reference(program("copy", [0, 4]), 0)
    assert check(empty, np.zeros((0, 4), np.float32)).right


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [(dt.float64, 2.0**-53), (dt.float32, 2.0**-24), (dt.bfloat16, 2.0**-24), (dt.float16, 2.0**-24)],
)
def test_sums_are_held_to_the_type_they_are_computed_in(dtype: DType, wanted: float) -> None:
    kernel = Kernel(reduce(Op.ADD, param(0, (8, 8), dtype), (1,)))
    assert roundoff(kernel) == wanted


def test_a_rounding_on_the_way_counts() -> None:
    rounded = cast(cast(param(0, (4,), dt.float32), dt.bfloat16), dt.float32)
    assert roundoff(Kernel(elementwise(Op.ADD, rounded, rounded))) == 2.0**-8


@pytest.mark.parametrize("dtype", [dt.float16, dt.bfloat16, dt.float64])
def test_an_output_off_by_one_per_cent_is_found_in_every_type(dtype: DType) -> None:
    x = param(0, (16, 16), dtype)
    kernel = Kernel(elementwise(Op.ADD, elementwise(Op.MUL, x, x), x))
    found = reference(kernel, 1)
    right = evaluate(kernel, found.inputs)
    assert check(found, right).right
    wrong = right.copy()
    worst = np.unravel_index(np.argmax(np.abs(right.astype(np.float64))), right.shape)
    wrong[worst] = (right[worst].astype(np.float64) * 1.01).astype(right.dtype)
    assert not check(found, wrong).right
