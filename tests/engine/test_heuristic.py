"""Schedules without measuring: legal and right for every form, and good where it is known what good is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine import heuristic, keccak
from engine.build import elementwise, matmul, param, permute, reduce
from engine.dtype import float32, uint8
from engine.ir import toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.order import order
from engine.schedule import replay
from engine.simplify import simplify_all
from engine.target import FEATURES, Target, detect
from engine.unfold import unfold
from tests.engine.sample_kernels import SAMPLES, Case, mismatches

BIG = Target("CPU", "x86_64-cpu+l1d=48K+l2=1024K", 8, "gcc 12.2.0", (), "avx512")


def gemm(n: int, transposed: bool = False) -> Kernel:
    a, b = param(0, (n, n), float32), param(1, (n, n), float32)
    return Kernel(matmul(a, permute(b, (1, 0)) if transposed else b))


def amounts(schedule: Schedule, kind: OptKind) -> dict[str, int]:
    return {f"{opt.target}.{opt.axis}": opt.amount for opt in schedule if opt.kind is kind}


@pytest.mark.slow
def test_every_form_of_kernel_gets_a_schedule_that_is_right(tmp_path: Path) -> None:
    found = detect("gcc")
    cases = [Case(name, kernel, heuristic.schedule(kernel, found)) for name, kernel in SAMPLES.items()]
    assert mismatches(cases, found, tmp_path) == []


def test_a_matmul_gets_a_register_tile_that_fits_the_registers() -> None:
    for isa, features in FEATURES.items():
        schedule = heuristic.schedule(gemm(512), replace(BIG, isa=isa))
        scheduled = replay(gemm(512), schedule)
        elements = 1
        for leaf in scheduled.of_type(RangeType.UPCAST):
            elements *= leaf.extent
        assert 4 <= elements < features.vector_registers, isa
        assert scheduled.lanes == features.vector_bytes // 4


def test_lanes_lie_where_memory_is_contiguous() -> None:
    assert amounts(heuristic.schedule(gemm(512), BIG), OptKind.VEC) == {"out.1": 16}
    assert amounts(heuristic.schedule(gemm(512, transposed=True), BIG), OptKind.VEC) == {"r0.0": 16}
    rows = Kernel(reduce(Op.ADD, param(0, (64, 4096), float32), (1,)))
    assert amounts(heuristic.schedule(rows, BIG), OptKind.VEC) == {"r0.0": 16}
    columns = Kernel(reduce(Op.ADD, param(0, (4096, 64), float32), (0,)))
    assert amounts(heuristic.schedule(columns, BIG), OptKind.VEC) == {"out.0": 16}


def test_lanes_do_not_outnumber_the_elements() -> None:
    narrow = Kernel(elementwise(Op.ADD, param(0, (100, 5), float32), param(1, (100, 5), float32)))
    assert amounts(heuristic.schedule(narrow, BIG), OptKind.VEC) == {"out.1": 4}


def test_a_sum_with_one_accumulator_is_unrolled() -> None:
    total = Kernel(reduce(Op.ADD, param(0, (1 << 16,), float32), (0,)))
    assert amounts(heuristic.schedule(total, BIG), OptKind.UNROLL) == {"r0.0": 8}


def test_a_long_reduce_is_cut_into_blocks_that_fit_the_cache() -> None:
    assert amounts(heuristic.schedule(gemm(512), BIG), OptKind.SPLIT) == {}
    assert amounts(heuristic.schedule(gemm(4096), BIG), OptKind.SPLIT) == {"r0.0": 512}
    assert amounts(heuristic.schedule(gemm(4096), replace(BIG, arch="cpu+l2=256K")), OptKind.SPLIT) == {
        "r0.0": 128
    }


def test_a_transposed_copy_is_done_in_blocks() -> None:
    turned = Kernel(permute(param(0, (512, 512), float32), (1, 0)))
    schedule = heuristic.schedule(turned, BIG)
    assert amounts(schedule, OptKind.VEC) == {"out.1": 16}
    assert amounts(schedule, OptKind.UPCAST) == {"out.0": 16}


def test_threads_share_an_axis_when_the_work_is_worth_it() -> None:
    assert amounts(heuristic.schedule(gemm(512), BIG), OptKind.THREAD) == {}
    many = heuristic.schedule(gemm(512), BIG, threads=4)
    assert replay(gemm(512), many).tiles >= 4
    assert amounts(heuristic.schedule(gemm(16), BIG, threads=4), OptKind.THREAD) == {}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_schedule_is_the_same_every_time(name: str) -> None:
    first: tuple[Opt, ...] = heuristic.schedule(SAMPLES[name], BIG, threads=2)
    assert heuristic.schedule(SAMPLES[name], BIG, threads=2) == first


def total(*shape: int, axis: int = 0) -> Kernel:
    return Kernel(reduce(Op.ADD, param(0, shape, float32), (axis,)))


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_a_long_reduce_to_few_elements_is_in_parts_however_many_threads_there_are(threads: int) -> None:
    for kernel in (total(1 << 24), total(1 << 20, 8), total(4, 1 << 20, axis=1)):
        schedule = heuristic.schedule(kernel, BIG, threads)
        assert list(amounts(schedule, OptKind.GROUP).values()) in ([64], [16])
        assert amounts(schedule, OptKind.THREAD) == {}


def test_a_reduce_is_not_in_parts_where_its_output_has_tiles_enough_or_it_is_short() -> None:
    rows, matvec = (
        total(4096, 4096, axis=1),
        Kernel(matmul(param(0, (4096, 4096), float32), param(1, (4096, 1), float32))),
    )
    for kernel in (gemm(512), rows, matvec, total(4096), total(1 << 19)):
        assert amounts(heuristic.schedule(kernel, BIG, threads=8), OptKind.GROUP) == {}


def test_parts_that_leave_much_to_combine_are_not_made() -> None:
    """One register tile each: of 4096 columns, and of 64."""
    wide = (Opt(OptKind.VEC, "out", 0, 16), Opt(OptKind.UPCAST, "out", 0, 256))
    assert heuristic.grouped(total(512, 4096), wide) == wide
    assert len(heuristic.grouped(total(1 << 15, 64), wide)) == 3


def test_a_fold_is_computed_once_for_all_outputs_that_read_it() -> None:
    messages = param(0, (256, 1000), uint8)
    root = keccak.digest(messages, keccak.SPONGES["sha3_256"], 32)
    (kernel,) = (
        step.kernel
        for step in order(unfold(simplify_all([root])))
        if any(node.op is Op.FOLD for node in toposort(step.kernel.output))
    )
    loops = replay(kernel, heuristic.schedule(kernel, BIG)).loops
    assert [str(leaf.axis) for leaf in loops if leaf.extent > 1] == ["out.1", "out.0"]
