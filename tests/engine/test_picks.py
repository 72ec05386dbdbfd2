"""The model's pick: no kernel is special, a few hundred questions are enough, what it likes is legal and right."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from engine import dtype as dt
from engine import heuristic
from engine.build import const, elementwise, matmul, param, permute, reduce
from engine.kernel import Kernel
from engine.model import estimate
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.picks import ESTIMATES, MAX_BODY, Plan, body_size, pick, picks
from engine.programs import program, random_inputs
from engine.ranges import Axis
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.schedule import replay
from engine.shapes import shape_of
from engine.target import Target

SIDE = 256


def rows_summed() -> Kernel:
    """Σ relu(a · b + c) over rows: a product in disguise."""
    a, b = param(0, (SIDE, SIDE), dt.float32), param(1, (SIDE, SIDE), dt.float32)
    inner = elementwise(Op.ADD, elementwise(Op.MUL, a, b), param(2, (SIDE, SIDE), dt.float32))
    return Kernel(reduce(Op.ADD, elementwise(Op.MAX, inner, const(0, dt.float32, (SIDE, SIDE))), (1,)))


KERNELS = {
    "gemm": program("gemm", (SIDE, SIDE, SIDE)),
    "ragged gemm": program("gemm", (251, 263, 241)),
    "left transposed": Kernel(
        matmul(permute(param(0, (SIDE, SIDE), dt.float32), (1, 0)), param(1, (SIDE, SIDE), dt.float32))
    ),
    "batched": Kernel(matmul(param(0, (4, 64, 64), dt.float32), param(1, (4, 64, 64), dt.float32))),
    "rows summed": rows_summed(),
    "sum": program("reduce", (SIDE, SIDE)),
    "copy": program("copy", (SIDE, SIDE)),
    "transpose": Kernel(permute(param(0, (SIDE, SIDE), dt.float32), (1, 0))),
    "one element": program("gemm", (1, 1, 1)),
    "long sum": Kernel(reduce(Op.ADD, param(0, (1 << 20,), dt.float32), (0,))),
    "sum of long columns": Kernel(reduce(Op.ADD, param(0, (1 << 17, 8), dt.float32), (0,))),
    "nothing": program("copy", (0, 4)),
}


@pytest.fixture(scope="module")
def target() -> Target:
    return detect()


def seconds(kernel: Kernel, schedule: Schedule, target: Target) -> float:
    return estimate(kernel, replay(kernel, schedule), target, 1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", KERNELS)
def test_a_pick_computes_what_the_kernel_says(name: str, threads: int, target: Target) -> None:
    kernel = KERNELS[name]
    inputs = random_inputs(kernel, seed=1, integers=True)
    found = LlvmRuntime(target).prepare(kernel, picks(kernel, target, threads)[0], threads)(inputs)
    np.testing.assert_array_equal(found, evaluate(kernel, inputs))


@pytest.mark.parametrize("name", KERNELS)
def test_the_model_is_asked_at_most_so_often_and_likes_its_pick_best(name: str, target: Target) -> None:
    kernel = KERNELS[name]
    found = picks(kernel, target)
    assert 1 <= len(found) <= ESTIMATES + 1
    if 0 not in shape_of(kernel.output):
        scores = [seconds(kernel, schedule, target) for schedule in found]
        rest = scores[1:] if OptKind.GROUP in {opt.kind for opt in found[0]} else scores
        assert rest == sorted(rest)
        assert scores[0] <= min(scores) * 1.02
        # Its steps are few, and another way may lead a little further: by 1.3 % for a transposed product with AVX2.
        assert scores[0] <= seconds(kernel, heuristic.schedule(kernel, target), target) * 1.02
    assert all(body_size(replay(kernel, schedule)) <= MAX_BODY for schedule in found)


def test_a_large_product_is_staged_and_a_small_kernel_is_not_pondered(target: Target) -> None:
    large = pick(program("gemm", (1024, 1024, 1024)), target)
    assert OptKind.STAGE in {opt.kind for opt in large}
    small = program("gemm", (8, 8, 8))
    assert pick(small, target) == heuristic.schedule(small, target)


def test_a_pick_is_the_same_each_time(target: Target) -> None:
    again = Kernel(program("gemm", (SIDE, SIDE, SIDE)).output)
    assert picks.__wrapped__(again, target) == picks(KERNELS["gemm"], target)


def test_several_threads_share_an_outer_loop(target: Target) -> None:
    kernel = program("gemm", (1024, 1024, 1024))
    assert OptKind.THREAD in {opt.kind for opt in picks(kernel, target, 2)[0]}
    assert OptKind.THREAD not in {opt.kind for opt in picks(kernel, target, 1)[0]}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_long_reduce_to_few_elements_is_in_parts(threads: int, target: Target) -> None:
    for name in ("long sum", "sum of long columns"):
        kinds = {opt.kind for opt in picks(KERNELS[name], target, threads)[0]}
        assert OptKind.GROUP in kinds
        assert OptKind.THREAD not in kinds


@pytest.mark.parametrize("name", [*KERNELS])
def test_the_order_of_sums_does_not_depend_on_threads_even_of_kernels_on_the_verge(
    name: str, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that takes a millisecond on one thread takes less on several."""
    kernel = KERNELS[name]
    if 0 in shape_of(kernel.output):
        return
    quick = heuristic.schedule(kernel, target)
    monkeypatch.setattr("engine.picks.WORTH_PICKING_S", seconds(kernel, quick, target) * 0.99)

    def tile(threads: int) -> set[Opt]:
        sums = (OptKind.VEC, OptKind.UPCAST, OptKind.UNROLL, OptKind.GROUP)
        return {opt for opt in pick(kernel, target, threads) if opt.kind in sums}

    assert tile(1) == tile(2) == tile(8)


@pytest.mark.parametrize(
    "name", ["ragged gemm", "rows summed", "sum", "left transposed", "long sum", "sum of long columns"]
)
def test_results_do_not_depend_on_the_number_of_threads(name: str, target: Target) -> None:
    kernel = KERNELS[name]
    inputs = random_inputs(kernel, seed=2)
    runtime = LlvmRuntime(target)
    alone, *others = (
        runtime.prepare(kernel, picks(kernel, target, threads)[0], threads)(inputs) for threads in (1, 2, 3)
    )
    for other in others:
        np.testing.assert_array_equal(other, alone)


def test_the_order_of_sums_depends_on_that_of_two_loops_of_reduces() -> None:
    first, second = (Axis("r0", number, 64) for number in range(2))
    blocks = Plan((), ((first, 8), (second, 8)))
    assert blocks.sums != replace(blocks, swapped=True).sums
    one = Plan((), ((Axis("out", 0, 64), 4), (second, 8)))
    assert one.sums == replace(one, swapped=True).sums


# A machine of a usual size, the same wherever this is run.
USUAL = Target("CPU", "any+l1d=48K+l2=2048K+l3=32768K", 2, "cc", (), "avx512")


def test_of_rows_beyond_the_caches_few_are_read_at_a_time() -> None:
    kernel = program("gemm", (8192, 1, 32768))
    found = picks(kernel, USUAL)[0]
    assert any(opt.kind is OptKind.VEC and opt.target == "r0" for opt in found)
    assert prod(leaf.extent for leaf in replay(kernel, found).of_type(RangeType.UPCAST)) <= 2


def test_what_each_thread_stages_for_itself_is_shared_in_few_parts() -> None:
    """And what costs nothing to begin in many, so that a thread that is slow leaves some to the others."""
    product, sums = program("gemm", (1024, 1024, 1024)), program("reduce", (4096, 4096))
    staged = picks(product, USUAL, 2)[0]
    assert any(opt.kind is OptKind.STAGE for opt in staged)
    assert shared(staged) == [2]
    assert shared(picks(sums, USUAL, 2)[0]) == [2 * heuristic.PARTS_PER_THREAD]


def shared(found: Schedule) -> list[int]:
    return [opt.amount for opt in found if opt.kind is OptKind.THREAD]
