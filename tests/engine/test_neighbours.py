"""The steps of the search, and where it starts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine import heuristic
from engine.errors import IllegalOpt
from engine.kernel import Kernel
from engine.neighbours import canonical, neighbours, seeds, structure
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.picks import picks
from engine.programs import program
from engine.schedule import replay
from engine.target import Target, detect

GEMM = program("gemm", [512, 512, 512])
VEC = Opt(OptKind.VEC, "out", 1, 8)
ROWS = Opt(OptKind.UPCAST, "out", 0, 4)
COLUMNS = Opt(OptKind.UPCAST, "out", 1, 2)
BLOCK = Opt(OptKind.SPLIT, "r0", 0, 64, RangeType.LOOP)
THREAD = Opt(OptKind.THREAD, "out", 0, 2)


@pytest.fixture(scope="module")
def target() -> Target:
    return detect()


def legal(kernel: Kernel, schedules: Iterator[Schedule]) -> list[Schedule]:
    found = []
    for schedule in schedules:
        try:
            replay(kernel, schedule)
        except IllegalOpt:
            continue
        found.append(schedule)
    return found


def test_a_step_appends_changes_drops_or_swaps(target: Target) -> None:
    outer = Opt(OptKind.SPLIT, "out", 0, 16, RangeType.LOOP)
    steps = set(neighbours(GEMM, canonical((VEC, ROWS, BLOCK, outer)), target))
    assert canonical((VEC, ROWS, BLOCK, outer, COLUMNS)) in steps
    assert canonical((VEC, Opt(OptKind.UPCAST, "out", 0, 6), BLOCK, outer)) in steps
    assert canonical((VEC, BLOCK, outer)) in steps
    assert canonical((VEC, ROWS, outer, BLOCK)) in steps


def test_steps_are_different_and_never_the_schedule_itself(target: Target) -> None:
    start = canonical((VEC, ROWS))
    steps = list(neighbours(GEMM, start, target))
    assert len(set(steps)) == len(steps)
    assert start not in steps


def test_many_steps_are_legal(target: Target) -> None:
    steps = list(neighbours(GEMM, canonical((VEC, ROWS)), target))
    assert len(legal(GEMM, iter(steps))) > len(steps) / 2


def test_threads_are_offered_only_to_those_who_have_them(target: Target) -> None:
    def threaded(threads: int) -> bool:
        return any(opt.kind is OptKind.THREAD for s in neighbours(GEMM, (VEC,), target, threads) for opt in s)

    assert threaded(2)
    assert not threaded(1)


def test_lanes_are_at_most_a_vector_register(target: Target) -> None:
    widest = target.features.vector_bytes // 4
    lanes = {opt.amount for s in neighbours(GEMM, (), target) for opt in s if opt.kind is OptKind.VEC}
    assert max(lanes) == widest


def test_the_canonical_order_is_the_same_kernel() -> None:
    for schedule in ((ROWS, VEC, BLOCK), (BLOCK, COLUMNS, ROWS, VEC), (THREAD, BLOCK, VEC)):
        assert structure(replay(GEMM, canonical(schedule))) == structure(replay(GEMM, schedule))
    assert canonical((ROWS, COLUMNS, VEC)) == canonical((COLUMNS, VEC, ROWS))
    assert canonical(canonical((THREAD, BLOCK, ROWS, VEC))) == canonical((THREAD, BLOCK, ROWS, VEC))


def test_splits_that_split_nothing_off_do_not_make_another_kernel() -> None:
    beyond = Opt(OptKind.SPLIT, "out", 0, 1024, RangeType.LOOP)
    assert structure(replay(GEMM, (VEC, beyond))) == structure(replay(GEMM, (VEC,)))


def test_the_search_starts_with_the_models_pick_and_ends_its_seeds_with_the_kernel_as_written(
    target: Target,
) -> None:
    found = seeds(GEMM, target)
    assert found[0] == canonical(picks(GEMM, target)[0])
    assert canonical(heuristic.schedule(GEMM, target, 1)) in found
    assert found[-1] == ()
    assert len(found) > 10
    assert len(legal(GEMM, iter(found))) == len(found)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("reduce", [300, 500]), ("copy", [64, 64]), ("elementwise", [100]), ("gemm", [1, 1, 1])],
)
def test_every_program_has_seeds_and_steps(name: str, shape: list[int], target: Target) -> None:
    kernel = program(name, shape)
    found = seeds(kernel, target, threads=2)
    assert () in found
    assert len(legal(kernel, iter(found))) == len(found)
    legal(kernel, neighbours(kernel, found[0], target, threads=2))


def test_an_empty_kernel_has_the_unscheduled_seed_only(target: Target) -> None:
    assert seeds(program("gemm", [0, 4, 4]), target) == [()]


def test_stages_are_among_the_steps_and_behind_the_loops_they_count(target: Target) -> None:
    steps = list(neighbours(GEMM, canonical((VEC, ROWS, BLOCK)), target))
    staged = [step for step in steps if any(opt.kind is OptKind.STAGE for opt in step)]
    assert {(opt.axis, opt.amount) for step in staged for opt in step[-1:]} >= {(0, 0), (1, 0), (1, 1)}
    assert all(step[-1].kind is OptKind.STAGE for step in staged)


def test_a_stage_elsewhere_is_another_structure() -> None:
    def staged(depth: int) -> object:
        return structure(replay(GEMM, (VEC, BLOCK, Opt(OptKind.STAGE, "r0", 1, depth))))

    assert len({staged(0), staged(1), structure(replay(GEMM, (VEC, BLOCK)))}) == 3


def test_parts_of_a_reduce_are_offered_to_several_threads_where_they_are_legal(target: Target) -> None:
    def in_parts(kernel: Kernel, threads: int) -> set[int]:
        steps = legal(kernel, neighbours(kernel, (), target, threads))
        return {opt.amount for step in steps for opt in step if opt.kind is OptKind.GROUP}

    assert in_parts(GEMM, 2) >= {2, 8, 64}
    assert in_parts(GEMM, 1) == in_parts(program("copy", [8, 512]), 2) == set()


def test_other_parts_or_other_threads_behind_them_are_another_structure() -> None:
    def grouped(*opts: Opt) -> object:
        return structure(replay(GEMM, (VEC, *opts)))

    parts = [Opt(OptKind.GROUP, "r0", 0, n) for n in (2, 4)]
    assert len({grouped(), grouped(parts[0]), grouped(parts[1]), grouped(parts[0], THREAD)}) == 4
    assert canonical((parts[0], VEC, THREAD)) == (VEC, parts[0], THREAD)
