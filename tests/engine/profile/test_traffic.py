"""DRAM traffic against closed forms."""

from __future__ import annotations

import random
from math import prod

import pytest

from engine import dtype as dt
from engine.build import broadcast, elementwise, gather, param, permute, reduce, reshape, shrink
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.profile.traffic import Traffic, traffic
from engine.profile.walk import lines_touched
from engine.programs import program
from engine.schedule import replay
from tests.engine.sample_kernels import SAMPLES, random_schedule

N = 256
MATRIX = N * N * 4
KIB = 1 << 10
THREADED: Schedule = (Opt(OptKind.THREAD, "out", 0, 8),)


def moved(kernel: Kernel, cache: float, schedule: Schedule = (), threads: int = 1) -> Traffic:
    return traffic(replay(kernel, schedule), cache, threads)


def test_a_copy_moves_every_byte_once_each_way_whatever_the_cache() -> None:
    for cache in (0, 1 << 30):
        assert moved(program("copy", [N, N]), cache) == Traffic(MATRIX, MATRIX)


def test_a_copy_of_columns_moves_lines_again_when_the_cache_does_not_hold_them() -> None:
    transposed = Kernel(permute(param(0, (N, N), dt.float32), (1, 0)))
    assert moved(transposed, 1 << 30) == Traffic(MATRIX, MATRIX)
    assert moved(transposed, 100 * KIB) == Traffic(MATRIX, MATRIX)  # a column's lines: 16 KiB
    assert moved(transposed, 1 * KIB) == Traffic(16 * MATRIX, MATRIX)  # each line for each of its 16 elements


def test_a_product_that_fits_moves_its_operands_once() -> None:
    assert moved(program("gemm", [N, N, N]), 1 << 30) == Traffic(2 * MATRIX, MATRIX)


def test_a_product_keeps_what_its_inner_loops_walk_over() -> None:
    # one row of a, all of b, one row of the output
    assert moved(program("gemm", [N, N, N]), MATRIX + 4 * KIB) == Traffic(2 * MATRIX, MATRIX)


def test_a_product_that_does_not_fit_brings_b_for_each_row_of_a() -> None:
    assert moved(program("gemm", [N, N, N]), 100 * KIB) == Traffic(MATRIX + N * MATRIX, MATRIX)


def test_tiles_bring_b_for_each_tile_of_rows() -> None:
    rows: Schedule = (Opt(OptKind.UPCAST, "out", 0, 8),)
    assert moved(program("gemm", [N, N, N]), 100 * KIB, rows) == Traffic(MATRIX + N // 8 * MATRIX, MATRIX)


def test_partial_results_come_back_as_often_as_they_are_added_to() -> None:
    outside = (Opt(OptKind.SPLIT, "r0", 0, 64, RangeType.LOOP),)
    # 64 KiB of b's rows stay; the output is walked over four times
    found = moved(program("gemm", [N, N, N]), 100 * KIB, outside)
    assert found == Traffic(2 * MATRIX + 3 * MATRIX, 4 * MATRIX)


def test_threads_share_the_cache() -> None:
    # each of four threads holds a row of a and one of the output; all of them one b
    cache = MATRIX + 5 * KIB
    single = moved(program("gemm", [N, N, N]), cache, THREADED)
    shared = moved(program("gemm", [N, N, N]), cache, THREADED, threads=4)
    assert single == Traffic(2 * MATRIX, MATRIX)
    assert shared.read > single.read


def test_an_input_that_is_read_twice_is_brought_once() -> None:
    x = param(0, (N, N), dt.float32)
    both = Kernel(elementwise(Op.ADD, x, permute(x, (1, 0))))
    assert moved(both, 1 << 30) == Traffic(MATRIX, MATRIX)


def test_reduces_of_one_row_bring_it_once_while_the_cache_holds_it() -> None:
    x = param(0, (64, 1024), dt.float32)
    largest = broadcast(reshape(reduce(Op.MAX, x, (1,)), (64, 1)), (64, 1024))
    grown = elementwise(Op.EXP, elementwise(Op.SUB, x, largest))
    total = broadcast(reshape(reduce(Op.ADD, grown, (1,)), (64, 1)), (64, 1024))
    softmax, whole = Kernel(elementwise(Op.DIV, grown, total)), 64 * 4096
    assert moved(softmax, 1 << 30) == Traffic(whole, whole)
    assert moved(softmax, 16 * KIB) == Traffic(whole, whole)
    # a row, but not its result besides: the last pass reads again what the first two share
    assert moved(softmax, 5 * KIB) == Traffic(2 * whole, whole)
    assert moved(softmax, 1 * KIB) == Traffic(3 * whole, whole)


def test_parts_of_an_input_that_lie_apart_are_both_brought() -> None:
    x = param(0, (2, 64, 64), dt.float32)
    lower, upper = (reshape(shrink(x, ((n, n + 1, 1), (0, 64, 1), (0, 64, 1))), (64, 64)) for n in (0, 1))
    halves = Kernel(elementwise(Op.ADD, lower, upper))
    for cache in (1 << 30, 1 * KIB):
        assert moved(halves, cache) == Traffic(2 * 64 * 64 * 4, 64 * 64 * 4)


def test_neighbours_that_are_read_together_are_brought_once() -> None:
    x = param(0, (66, 64), dt.float32)
    above, below = (shrink(x, ((n, n + 64, 1), (0, 64, 1))) for n in (0, 2))
    found = moved(Kernel(elementwise(Op.SUB, above, below)), 1 << 30)
    assert found.read == 64 * 64 * 4


def test_windows_that_overlap_touch_each_line_once() -> None:
    rows, taps, columns = 64, 3, (1, 64)
    assert lines_touched([(64, rows), (64, taps), columns], 4) == 66 * 256
    assert lines_touched([(128, rows), (64, taps), columns], 4) == 129 * 256
    assert lines_touched([(256, rows), (64, taps), columns], 4) == 64 * 3 * 256
    assert lines_touched([(1, rows), (1, taps)], 4) == 5 * 64  # 66 elements
    assert lines_touched([(None, 10), columns], 4) == 10 * 256


def test_what_is_staged_is_read_where_its_stage_is_filled() -> None:
    gemm = program("gemm", [N, N, N])
    outside, rows, columns = (Opt(OptKind.STAGE, "r0", *place) for place in ((1, 0), (0, 1), (1, 2)))
    big, small = MATRIX + 4 * KIB, 100 * KIB
    assert moved(gemm, 1 << 30, (outside,)) == Traffic(2 * MATRIX, MATRIX)
    # b is filled once; the stage stays in the cache with a row of a and one of the output
    assert moved(gemm, big, (outside,)) == Traffic(2 * MATRIX, MATRIX)
    # the stage goes to memory when it is filled, and comes back for each row
    assert moved(gemm, small, (outside,)) == Traffic(2 * MATRIX + N * MATRIX, 2 * MATRIX)
    # a row of a stays while b passes; so does a column of b, but each row wants all of them
    assert moved(gemm, small, (rows,)) == Traffic(MATRIX + N * MATRIX, MATRIX)
    assert moved(gemm, small, (columns,)) == Traffic(MATRIX + N * MATRIX, MATRIX)
    # without a cache each of b's columns is read by lines, written to its stage and read from there, a's rows besides
    each = N * MATRIX
    assert moved(gemm, 100, (columns,)) == Traffic(16 * each + each + each, each + MATRIX)


def test_what_data_points_to_is_at_most_all_there_is() -> None:
    index = param(1, (1024,), dt.int64)
    found = moved(Kernel(gather(param(0, (128,), dt.float32), index, 0)), 1 << 30)
    assert found == Traffic(128 * 4 + 1024 * 8, 1024 * 4)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_what_is_shorter_than_a_line_moves_as_one(size: int) -> None:
    assert moved(program("copy", [size]), 1 << 20).written == 64


@pytest.mark.parametrize("name", SAMPLES)
def test_a_smaller_cache_never_moves_less(name: str) -> None:
    kernel, rng = SAMPLES[name], random.Random(name)
    for schedule in ((), random_schedule(kernel, rng), random_schedule(kernel, rng)):
        found = [moved(kernel, cache, schedule) for cache in (1 << 30, 16 * KIB, 2 * KIB, 256, 0)]
        whole = sum(prod(node.arg[1]) * node.dtype.itemsize + 63 for node in kernel.params)
        assert found[0].read <= whole
        assert [each.bytes for each in found] == sorted(each.bytes for each in found)
