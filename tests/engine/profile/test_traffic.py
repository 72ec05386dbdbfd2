"""DRAM traffic against closed forms."""

from __future__ import annotations

import pytest

from engine import dtype as dt
from engine.build import elementwise, gather, param, permute
from engine.indexing import Access
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.profile.traffic import Traffic, lines_touched, traffic
from engine.programs import program
from engine.ranges import Axis
from engine.schedule import replay

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


def test_windows_that_overlap_touch_each_line_once() -> None:
    row, tap, column = (Axis("out", 0, 64), Axis("r0", 0, 3), Axis("out", 1, 64))
    whole = {row: 64, tap: 3, column: 64}
    assert lines_touched(Access(0, 4, {row: 64, tap: 64, column: 1}), whole) == 66 * 256
    assert lines_touched(Access(0, 4, {row: 128, tap: 64, column: 1}), whole) == 129 * 256
    assert lines_touched(Access(0, 4, {row: 256, tap: 64, column: 1}), whole) == 64 * 3 * 256
    assert lines_touched(Access(0, 4, {row: 1, tap: 1, column: 0}), whole) == 5 * 64  # 66 elements


def test_what_data_points_to_is_at_most_all_there_is() -> None:
    index = param(1, (1024,), dt.int64)
    found = moved(Kernel(gather(param(0, (128,), dt.float32), index, 0)), 1 << 30)
    assert found == Traffic(128 * 4 + 1024 * 8, 1024 * 4)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_what_is_shorter_than_a_line_moves_as_one(size: int) -> None:
    assert moved(program("copy", [size]), 1 << 20).written == 64
