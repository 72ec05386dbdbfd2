"""Counts of a kernel against closed forms, and against running its loops one by one."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from engine import dtype as dt
from engine import heuristic
from engine.build import cast, elementwise, iota, param, reduce, shrink
from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.profile.counts import issued, lines_of
from engine.profile.trips import statements
from engine.programs import program
from engine.runtime.meaning import UFUNCS
from engine.schedule import replay
from engine.target import FEATURES, processor_target
from tests.engine.sample_kernels import SAMPLES, random_schedule

AVX512 = FEATURES["avx512"]
TILED: Schedule = (
    Opt(OptKind.VEC, "out", 1, 16),
    Opt(OptKind.UPCAST, "out", 1, 2),
    Opt(OptKind.UPCAST, "out", 0, 4),
)


def counted(kernel: Kernel, schedule: Schedule = ()) -> tuple[float, dict[int, float]]:
    return issued(lines_of(replay(kernel, schedule), AVX512))


def test_a_copy_loads_and_stores_every_element_once_and_computes_nothing() -> None:
    assert counted(program("copy", [32, 64])) == (2 * 32 * 64 * 4, {})
    assert counted(program("copy", [32, 64]), TILED) == (2 * 32 * 64 * 4, {})


def test_masked_lanes_count_as_they_are_issued() -> None:
    moved, operations = counted(program("copy", [100, 33]), TILED[:1])
    assert moved == 100 * 3 * 2 * 64  # two whole vectors a row, and one of which one lane is wanted
    assert operations == {}


def test_a_product_as_written_loads_two_elements_for_each_multiply_add() -> None:
    moved, operations = counted(program("gemm", [8, 32, 24]))
    assert moved == 8 * 32 * 24 * 2 * 4 + 8 * 32 * 4
    assert operations == {4: 2 * 8 * 32 * 24}


def test_a_register_tile_loads_less_and_computes_the_same() -> None:
    m, n, k = 16, 96, 40
    moved, operations = counted(program("gemm", [m, n, k]), TILED)
    tiles = (m // 4) * (n // 32)
    assert moved == tiles * k * (4 * 4 + 2 * 64) + m * n * 4
    assert operations == {4: 2 * m * n * k}


def test_a_ragged_tile_computes_more_than_is_asked_for() -> None:
    _, operations = counted(program("gemm", [13, 40, 10]), TILED)
    issued_by_tiles = 4 * 2 * 4 * 32 * 10 * 2  # tiles of rows, of columns, their size, steps
    assert operations[4] >= issued_by_tiles > 2 * 13 * 40 * 10


def test_partial_results_are_loaded_and_stored_again() -> None:
    split = (Opt(OptKind.SPLIT, "r0", 0, 8, RangeType.LOOP),)
    moved, _ = counted(program("gemm", [4, 8, 32]), split)
    assert moved == 4 * 8 * 32 * 2 * 4 + 4 * (4 * 8) * 2 * 4


def test_a_stage_is_stored_and_loaded_besides() -> None:
    m, n, k = 16, 96, 40
    plain, operations = counted(program("gemm", [m, n, k]), TILED)
    moved, same = counted(program("gemm", [m, n, k]), (*TILED, Opt(OptKind.STAGE, "r0", 1, 0)))
    assert moved == plain + 2 * k * n * 4  # all of b copied, once
    assert same == operations


def test_operations_count_at_their_width() -> None:
    x = param(0, (64,), dt.float64)
    assert counted(Kernel(elementwise(Op.SUB, x, x.replace(arg=(1, (64,))))))[1] == {8: 64}
    narrow = param(0, (64,), dt.int8)
    assert counted(Kernel(elementwise(Op.XOR, narrow, narrow.replace(arg=(1, (64,))))))[1] == {1: 64}
    wider = cast(param(0, (64,), dt.float32), dt.float64)
    assert counted(Kernel(wider))[1] == {8: 64}


def test_values_made_of_numbers_alone_count() -> None:
    numbers = cast(iota(64), dt.float32)
    assert counted(Kernel(elementwise(Op.MUL, numbers, numbers)))[1] == {8: 64, 4: 64}


def test_addresses_do_not_count() -> None:
    x = shrink(param(0, (64, 64), dt.float32), ((3, 64, 7), (1, 64, 5)))
    assert counted(Kernel(x))[1] == {}


def test_a_sum_of_a_column_of_lanes_adds_once_an_element() -> None:
    _, operations = counted(Kernel(reduce(Op.ADD, param(0, (32, 64), dt.float32), (0,))))
    assert operations == {4: 32 * 64}


def test_a_loop_longer_than_the_grid_is_counted_by_a_sample() -> None:
    n = (1 << 26) + 3
    moved, _ = counted(program("copy", [n]), (Opt(OptKind.VEC, "out", 0, 16),))
    assert moved == pytest.approx(2 * 4 * n, rel=1e-5)


@pytest.mark.parametrize("name", SAMPLES)
def test_statements_run_as_often_as_loops_reach_them(name: str) -> None:
    kernel, rng = SAMPLES[name], random.Random(name)
    for schedule in ((), random_schedule(kernel, rng), heuristic.schedule(kernel, processor_target(), 2)):
        lines = lines_of(replay(kernel, schedule), AVX512)
        found = Counter[UOp]()
        for node, times in statements(lines):
            found[node] += int(times)
        assert found == executed(lines)


def executed(lines: tuple[UOp, ...]) -> Counter[UOp]:
    """How often each statement runs: the loops run one by one, statements doing nothing."""
    found, place = Counter[UOp](), 0
    now: dict[UOp, int] = {}
    open_: list[tuple[int, UOp, int]] = []  # (where it begins, the range, its trips)
    while place < len(lines):
        node = lines[place]
        if node.op is Op.RANGE:
            trips = value(node.src[0], now) if node.src else node.arg[1]
            open_.append((place, node, trips))
            now[node] = 0
            if trips == 0:
                place = end_of(lines, place)
                now.pop(open_.pop()[1])
        elif node.op is Op.END:
            for _ in node.src[1:]:
                begin, range_, trips = open_.pop()
                now[range_] += 1
                if now[range_] < trips:
                    open_.append((begin, range_, trips))
                    place = begin
                    break
                del now[range_]
        else:
            found[node] += 1
        place += 1
    return found


def end_of(lines: tuple[UOp, ...], begin: int) -> int:
    """Where the loop that opens at `begin`, alone in its END, is closed."""
    depth, place = 0, begin
    while True:
        node = lines[place]
        depth += (node.op is Op.RANGE) - (len(node.src) - 1 if node.op is Op.END else 0)
        if depth <= 0:
            assert depth == 0, "loops that may have no trips are closed alone"
            return place
        place += 1


def value(root: UOp, now: dict[UOp, int]) -> int:
    done: dict[UOp, int] = dict(now)
    for node in toposort(root):
        if node not in done:
            src = [done[source] for source in node.src]
            done[node] = node.arg if node.op is Op.CONST else src[0] if node.op is Op.CAST else 0
            if node.op in UFUNCS:
                done[node] = UFUNCS[node.op](*src)
    return int(done[root])
