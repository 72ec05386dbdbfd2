"""The model need not be right, but it must rank: cases where any machine would agree."""

from __future__ import annotations

import pytest

from engine.build import param, reduce
from engine.dtype import float32
from engine.kernel import Kernel
from engine.model import estimate, machine
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.programs import program
from engine.schedule import replay
from engine.target import Target, detect

GEMM = program("gemm", [512, 512, 512])


@pytest.fixture(scope="module")
def target() -> Target:
    return detect()


def seconds(kernel: Kernel, schedule: Schedule, target: Target) -> float:
    return estimate(kernel, replay(kernel, schedule), target)


def opt(kind: OptKind, target: str, axis: int, amount: int) -> Opt:
    return Opt(kind, target, axis, amount, RangeType.LOOP if kind is OptKind.SPLIT else None)


def test_lanes_then_register_tiles_are_better(target: Target) -> None:
    lanes = (opt(OptKind.VEC, "out", 1, 8),)
    tile = (*lanes, opt(OptKind.UPCAST, "out", 0, 4))
    assert seconds(GEMM, tile, target) < seconds(GEMM, lanes, target) / 2 < seconds(GEMM, (), target) / 4


def test_a_tile_beyond_the_registers_is_worse(target: Target) -> None:
    lanes = target.features.vector_bytes // 4
    vec = opt(OptKind.VEC, "out", 1, lanes)
    fits = (vec, opt(OptKind.UPCAST, "out", 0, 4), opt(OptKind.UPCAST, "out", 1, 2))
    spills = (vec, opt(OptKind.UPCAST, "out", 0, 16), opt(OptKind.UPCAST, "out", 1, 8))
    assert seconds(GEMM, fits, target) < seconds(GEMM, spills, target)


def test_lanes_along_a_strided_axis_are_worse(target: Target) -> None:
    along = (opt(OptKind.VEC, "out", 1, 8), opt(OptKind.UPCAST, "out", 0, 4))
    across = (opt(OptKind.VEC, "r0", 0, 8), opt(OptKind.UPCAST, "out", 0, 4))
    assert seconds(GEMM, along, target) < seconds(GEMM, across, target)


def test_blocks_of_a_reduce_that_outgrows_the_cache_pay_on_a_big_shape(target: Target) -> None:
    big = program("gemm", [2048, 2048, 2048])
    tile = (
        opt(OptKind.VEC, "out", 1, target.features.vector_bytes // 4),
        opt(OptKind.UPCAST, "out", 0, 4),
        opt(OptKind.UPCAST, "out", 1, 2),
    )
    blocked = (*tile, opt(OptKind.SPLIT, "r0", 0, 128))
    assert seconds(big, blocked, target) < seconds(big, tile, target)


def test_threads_help_by_as_many_as_there_are_cores(target: Target) -> None:
    shared = (opt(OptKind.THREAD, "out", 0, 64),)
    alone, together = seconds(GEMM, (), target), seconds(GEMM, shared, target)
    assert together < alone or target.cores == 1
    assert together > alone / (2 * target.cores)


def test_bigger_takes_longer(target: Target) -> None:
    for name, small, big in (
        ("gemm", [64, 64, 64], [256, 256, 256]),
        ("reduce", [64, 64], [4096, 4096]),
        ("copy", [1000], [10_000_000]),
        ("elementwise", [10, 10], [1000, 1000]),
    ):
        assert 0 < seconds(program(name, small), (), target) < seconds(program(name, big), (), target)


def test_empty_and_scalar_kernels_have_an_estimate(target: Target) -> None:
    for name, shape in (("gemm", [0, 4, 4]), ("gemm", [1, 1, 1]), ("reduce", [0, 8]), ("copy", [1])):
        assert seconds(program(name, shape), (), target) >= 0


def test_cache_sizes_come_from_the_architectures_name(target: Target) -> None:
    from_name = machine(target).caches
    assert from_name[0].bytes < from_name[1].bytes < from_name[2].bytes


def test_parts_of_a_sum_are_worth_it_for_two_threads_and_cost_little_for_one(target: Target) -> None:
    total = Kernel(reduce(Op.ADD, param(0, (1 << 24,), float32), (0,)))
    tile = (opt(OptKind.VEC, "r0", 0, 8), opt(OptKind.UNROLL, "r0", 0, 8), opt(OptKind.SPLIT, "r0", 0, 128))
    plain, parts = (replay(total, schedule) for schedule in (tile, (*tile, opt(OptKind.GROUP, "r0", 0, 64))))
    assert estimate(total, plain, target, 2) == estimate(total, plain, target, 1)
    assert estimate(total, parts, target, 2) < 0.6 * estimate(total, plain, target, 1)
    assert 0.95 < estimate(total, parts, target, 1) / estimate(total, plain, target, 1) < 1.05


def test_parts_of_a_short_reduce_of_many_are_not_worth_it(target: Target) -> None:
    columns = Kernel(reduce(Op.ADD, param(0, (64, 1 << 16), float32), (0,)))
    tile = (opt(OptKind.VEC, "out", 0, 8), opt(OptKind.THREAD, "out", 0, 8))
    parts = (*tile, opt(OptKind.GROUP, "r0", 0, 32))
    assert estimate(columns, replay(columns, tile), target, 2) < estimate(
        columns, replay(columns, parts), target, 2
    )
