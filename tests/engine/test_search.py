"""The search end to end on real compiled code, right and wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import heuristic
from engine.bench import Bench
from engine.building import Candidate, candidate
from engine.compare import NUMPY, compare, named_program
from engine.dtype import float32
from engine.errors import IllegalOpt
from engine.flags import Flags
from engine.ir import UOp
from engine.isolate import Deadline
from engine.kernel import Kernel
from engine.measurement import best_first
from engine.model import estimate
from engine.neighbours import canonical, structure
from engine.ops import Op
from engine.opts import Opt, OptKind, Schedule, schedule_hash
from engine.outcome import QUARANTINED, Measured, Outcome
from engine.pace import Pace
from engine.picks import picks
from engine.programs import program
from engine.schedule import replay
from engine.search import Progress, _Beam, confirm, expand, measure, search
from engine.serialize import kernel_hash
from engine.shrink import structure as structure_of
from engine.store import Store
from engine.target import Target
from engine.toolchain import Compiler, compiler_of, detect, renderer_of
from tests.fakes import Fault, FaultKind, FaultyRenderer, faulty_renderer

GEMM = program("gemm", [96, 80, 64])
SOON = Deadline(grace_s=0.3)


@pytest.fixture(scope="module", params=[Compiler.LLVM, pytest.param(Compiler.C, marks=pytest.mark.slow)])
def target(request: pytest.FixtureRequest) -> Target:
    return detect(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def upcast(rows: int, *more: Opt) -> Schedule:
    return (Opt(OptKind.VEC, "out", 1, 8), Opt(OptKind.UPCAST, "out", 0, rows), *more)


def outcomes(found: Sequence[Measured]) -> list[str]:
    return [m.outcome.value for m in found]


def candidates(*schedules: Schedule) -> list[Candidate]:
    return [candidate(schedule) for schedule in schedules]


# ---------------------------------------------------------------------------------------------- measure


def test_right_candidates_get_times_and_impossible_ones_a_reason(target: Target, store: Store) -> None:
    illegal = (Opt(OptKind.VEC, "out", 0, 8),)
    found = measure(GEMM, candidates(upcast(4), illegal, upcast(6)), target, store=store)
    assert outcomes(found) == ["ok", "illegal", "ok"]
    assert "stride 1" in found[1].detail
    for right in (found[0], found[2]):
        assert right.time_s == min(right.times_s) > 0
        assert right.max_error is not None
        assert right.tolerance is not None
        assert right.max_error <= right.tolerance
        assert right.source_hash is not None
        assert store.source(right.source_hash) == right.source
    assert store.get(kernel_hash(GEMM), target.id, 1, found[0].hash) == found[0]


def test_code_that_does_not_compile_says_what_the_compiler_said(target: Target, store: Store) -> None:
    texts = {
        Compiler.C: "void {}(void *const *buffers, long first, long last) {{ undeclared = 1; }}",
        Compiler.LLVM: "define void @{}(ptr %buffers, i64 %first, i64 %last) {{ ret i32 %undeclared }}",
    }

    class Typo:
        def render(self, linear: Sequence[UOp], name: str) -> str:
            return texts[compiler_of(target)].format(name)

    (found,) = measure(GEMM, candidates(upcast(2)), target, store=store, renderer=Typo())
    assert found.outcome is Outcome.COMPILE_FAILED
    assert "undeclared" in found.detail


HARM = {
    2: (FaultKind.SEGFAULT, Outcome.CRASHED, "SIGSEGV"),
    3: (FaultKind.LOOP, Outcome.HUNG, "killed"),
    4: (FaultKind.PAST_END, Outcome.OUT_OF_BOUNDS, "past the end of the output"),
    5: (FaultKind.BEFORE_START, Outcome.OUT_OF_BOUNDS, "before the start of the output"),
    6: (FaultKind.OFF_BY_ONE_PERCENT, Outcome.WRONG, "elements differ"),
    7: (FaultKind.CORRUPT_INPUT, Outcome.OUT_OF_BOUNDS, "input 0 was changed"),
    8: (FaultKind.EXIT, Outcome.CRASHED, "exit status 0"),
    9: (FaultKind.RAGGED_TAIL, Outcome.WRONG, "1 of"),
}


@pytest.mark.slow
def test_every_kind_of_harm_is_named_quarantined_and_never_timed(target: Target, store: Store) -> None:
    faults = [Fault(kind, frozenset({rows})) for rows, (kind, _, _) in HARM.items()]
    renderer = FaultyRenderer(renderer_of(target), faults)
    schedules = [upcast(rows) for rows in (*HARM, 10)]
    found = measure(GEMM, candidates(*schedules), target, store=store, renderer=renderer, deadline=SOON)
    for result, (_, outcome, words) in zip(found, HARM.values(), strict=False):
        assert result.outcome is outcome, result.detail
        assert words in result.detail
        assert result.outcome in QUARANTINED
        assert not result.times_s
    assert found[-1].outcome is Outcome.OK
    repros = sorted((store.directory / "quarantine").iterdir())
    assert len(repros) == len(HARM)
    for result in found[2:5]:  # those that end by themselves
        file = next(path for path in repros if path.stem.endswith(result.hash[:16]))
        assert "BAD" in run_repro(file, target)


def run_repro(source: Path, target: Target) -> str:
    if source.suffix == ".py":
        command = [sys.executable, str(source)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    program_ = source.with_suffix("")
    flags = [target.executable, "-O1", "-w", *target.flags]
    subprocess.run([*flags, str(source), "-o", str(program_), "-lm"], check=True, timeout=60)
    return subprocess.run([str(program_)], capture_output=True, text=True, timeout=60, check=False).stdout


def test_a_budget_that_is_over_skips_what_is_left_and_keeps_nothing_of_it(
    target: Target, store: Store
) -> None:
    known = candidates(upcast(2), upcast(4))
    found = measure(GEMM, known, target, store=store, budget_s=0.0, bound_s=1.0)
    assert outcomes(found) == ["skipped", "skipped"]
    assert not (store.directory / "candidates").exists()


def test_however_late_it_is_something_right_is_measured_when_nothing_is_known(
    target: Target, store: Store
) -> None:
    wanted = candidates(*[upcast(n) for n in range(2, 2 + 8 * target.cores)])
    found = outcomes(measure(GEMM, wanted, target, store=store, budget_s=0.0))
    assert found.count("ok") == 1
    assert set(found) == {"ok", "skipped"}


def test_equal_code_is_measured_once(target: Target, store: Store) -> None:
    twin = (*upcast(2), Opt(OptKind.REORDER, "out", 0, 1), Opt(OptKind.REORDER, "out", 0, 1))
    found = measure(GEMM, candidates(upcast(2), twin), target, store=store)
    assert found[1].times_s == found[0].times_s
    assert found[1].detail == f"same code as {found[0].hash}"


def test_a_right_candidate_far_beyond_the_bound_is_slow(target: Target, store: Store) -> None:
    (found,) = measure(GEMM, candidates(()), target, store=store, bound_s=1e-9)
    assert found.outcome is Outcome.SLOW
    assert found.times_s


def test_nothing_is_compiled_or_verified_once_timing_begins(target: Target, store: Store) -> None:
    phases: list[str] = []
    measure(
        GEMM,
        candidates(upcast(2), upcast(4)),
        target,
        store=store,
        report=lambda facts: phases.append(str(facts["phase"])),
    )
    assert sorted(phases[:4]) == ["compile"] * 2 + ["verify"] * 2
    assert phases[4:] == ["time"] * 2


def test_what_ran_when_the_process_died_twice_is_not_run_again(target: Target, store: Store) -> None:
    suspect = candidate(upcast(2))
    for _ in range(2):
        store.launch(kernel_hash(GEMM), suspect.hash, "verify", {})
    (found,) = measure(GEMM, [suspect], target, store=store)
    assert found.outcome is Outcome.CRASHED
    assert "process died" in found.detail


def test_threads_share_the_tiles(target: Target, store: Store) -> None:
    schedule = upcast(4, Opt(OptKind.THREAD, "out", 0, 3))
    (found,) = measure(GEMM, candidates(schedule), target, store=store, threads=2)
    assert found.outcome is Outcome.OK, found.detail


IN_PARTS = upcast(4, Opt(OptKind.GROUP, "r0", 0, 7), Opt(OptKind.THREAD, "out", 0, 3))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_reduce_in_parts_is_measured_in_both_phases(threads: int, target: Target, store: Store) -> None:
    (found,) = measure(GEMM, candidates(IN_PARTS), target, store=store, threads=threads)
    assert found.outcome is Outcome.OK, found.detail
    assert "kernel_combine(" in found.source


class ShortOfAPart:
    """A renderer whose second phases leave their loops an iteration early."""

    def __init__(self, target: Target) -> None:
        self._right = renderer_of(target)

    def render(self, linear: Sequence[UOp], name: str) -> str:
        text = self._right.render(linear, name)
        if not name.endswith("_combine"):
            return text
        return re.sub(
            r"(r\d+ < |slt i64 %next\d+, )(\d+)", lambda found: f"{found[1]}{int(found[2]) - 1}", text
        )


def test_a_second_phase_that_is_wrong_is_found(target: Target, store: Store) -> None:
    (found,) = measure(GEMM, candidates(IN_PARTS), target, store=store, renderer=ShortOfAPart(target))
    assert found.outcome is Outcome.WRONG, found.detail
    (file,) = (store.directory / "quarantine").iterdir()
    assert "BAD" in run_repro(file, target)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("reduce", [33, 70], "float32"),
        ("reduce", [1, 2000], "int32"),
        ("copy", [7, 5, 30], "float32"),
        ("elementwise", [1000], "int32"),
        ("gemm", [1, 9, 300], "float32"),
    ],
)
def test_every_named_program_is_measured(
    name: str, shape: list[int], dtype: str, target: Target, store: Store
) -> None:
    (found,) = measure(program(name, shape, dtype), candidates(()), target, store=store)
    assert found.outcome is Outcome.OK, found.detail


def test_an_empty_output_is_measured_like_any_other(target: Target, store: Store) -> None:
    (found,) = measure(program("gemm", [0, 4, 4]), candidates(()), target, store=store)
    assert found.outcome is Outcome.OK, found.detail


# ----------------------------------------------------------------------------------------------- expand


def test_the_first_candidates_are_the_models_picks(target: Target) -> None:
    found = expand(GEMM, [], [], 12, target)
    assert found.candidates[0].schedule == canonical(picks(GEMM, target)[0])
    scores = [c.score for c in found.candidates]
    assert scores == sorted(scores)
    assert len(found.candidates) == 12


def test_the_next_candidates_are_legal_new_and_all_different(target: Target) -> None:
    first = expand(GEMM, [], [], 4, target)
    survivors = [c.schedule for c in first.candidates]
    seen = {c.hash for c in first.candidates}
    found = expand(GEMM, survivors, seen, 40, target)
    assert not seen & {c.hash for c in found.candidates}
    leaves = [structure(replay(GEMM, schedule)) for schedule in survivors]
    leaves += [structure(replay(GEMM, c.schedule)) for c in found.candidates]
    assert len(set(leaves)) == len(leaves)
    assert found.generated > found.illegal > 0
    assert [c.score for c in found.candidates] == sorted(c.score for c in found.candidates)


def test_expanding_is_the_same_every_time(target: Target) -> None:
    assert expand(GEMM, [upcast(4)], [], 20, target) == expand(GEMM, [upcast(4)], [], 20, target)


def test_survivors_that_do_not_fit_the_kernel_are_refused(target: Target) -> None:
    with pytest.raises(IllegalOpt):
        expand(GEMM, [(Opt(OptKind.VEC, "out", 0, 8),)], [], 4, target)


def test_the_model_prefers_register_tiles_to_the_kernel_as_written(target: Target) -> None:
    big = program("gemm", [512, 512, 512])
    naive, tiled = (estimate(big, replay(big, s), target) for s in ((), upcast(4)))
    assert tiled < naive / 4


# ------------------------------------------------------------------------------------- confirm, compare


def test_finalists_come_back_best_first_and_failures_last(target: Target, store: Store) -> None:
    faults = [Fault(FaultKind.OFF_BY_ONE_PERCENT, frozenset({2}))]
    renderer = FaultyRenderer(renderer_of(target), faults)
    found = confirm(
        GEMM, candidates(upcast(2), (), upcast(4)), target, store=store, renderer=renderer, time_s=0.05
    )
    assert outcomes(found) == ["ok", "ok", "wrong"]
    assert found[0].time_s is not None
    assert found[1].time_s is not None
    assert found[0].time_s <= found[1].time_s


def timed(name: str, time_s: float) -> Measured:
    return Measured((), name, Outcome.OK, time_s)


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ({"first": 1.004, "new": 1.0, "slow": 2.0}, ["first", "new", "slow"]),
        ({"slow": 2.0, "first": 1.006, "new": 1.0}, ["new", "first", "slow"]),
        ({"new": 1.0, "first": 0.9}, ["first", "new"]),
        ({"new": 1.001, "other": 1.0}, ["other", "new"]),
    ],
)
def test_a_challenger_wins_by_more_than_a_tie(times: dict[str, float], order: list[str]) -> None:
    ranked = best_first([timed(name, time_s) for name, time_s in times.items()], "first")
    assert [m.hash for m in ranked] == order


@pytest.mark.slow
def test_the_heuristics_schedule_races_with_the_best_three_however_slow_it_was_alone(
    target: Target, store: Store
) -> None:
    first = canonical(heuristic.schedule(GEMM, target, 1))
    schedules = [first, upcast(2), upcast(3), upcast(5), upcast(7)]
    with Bench(GEMM, target, None, store) as bench:
        beam = _Beam(bench, Flags(1000.0), lambda _: None, bench.pace.clock(), incumbent=schedule_hash(first))
        for place, schedule in enumerate(schedules):
            one = Measured(schedule, schedule_hash(schedule), Outcome.OK, 1.0 / (place + 1))
            beam.measured[one.hash] = one
        found = beam.confirm()
    assert {m.schedule for m in found} == {first, *schedules[-3:]}
    assert {m.outcome for m in found} == {Outcome.OK}


def test_rows_are_verified_and_measured_side_by_side_with_numpy(target: Target, store: Store) -> None:
    illegal = (Opt(OptKind.VEC, "out", 0, 8),)
    wanted = [("none", ()), ("mine", upcast(4)), ("no", illegal), ("numpy", NUMPY)]
    rows = compare(GEMM, wanted, target, store=store, time_s=0.05)
    assert [row.name for row in rows] == ["none", "mine", "no", "numpy"]
    assert [row.outcome.value for row in rows] == ["ok", "ok", "illegal", "ok"]
    for row in (rows[0], rows[1], rows[3]):
        assert row.best_s is not None
        assert row.median_s is not None
        assert row.max_error is not None
        assert 0 < row.best_s <= row.median_s
        assert 0 < row.max_error <= (row.tolerance or 0)
    assert "void kernel(" in rows[1].source
    assert rows[2].best_s is None


def test_a_row_that_crashes_does_not_stop_the_others(target: Target, store: Store) -> None:
    faults = [Fault(FaultKind.SEGFAULT, frozenset({2}))]
    renderer = FaultyRenderer(renderer_of(target), faults)
    rows = compare(
        GEMM,
        [("bad", upcast(2)), ("good", upcast(4))],
        target,
        store=store,
        time_s=0.02,
        renderer=renderer,
    )
    assert [row.outcome.value for row in rows] == ["crashed", "ok"]


def test_numpy_rows_are_for_named_programs(target: Target, store: Store) -> None:
    root = UOp(Op.NEG, float32, (UOp(Op.PARAM, float32, (), (0, (8,))),))
    (row,) = compare(Kernel(root), [("numpy", NUMPY)], target, store=store, time_s=0.01)
    assert row.outcome is Outcome.ILLEGAL
    assert "named programs" in row.detail
    for name, shape in (("gemm", [3, 4, 5]), ("reduce", [3, 4]), ("copy", [9]), ("elementwise", [2, 3])):
        assert named_program(program(name, shape)) == name


# ----------------------------------------------------------------------------------------------- search


@pytest.mark.slow
@pytest.mark.parametrize("budget_s", [5.0, pytest.param(9.0, marks=pytest.mark.soak)])
def test_a_search_among_broken_kernels_ends_with_a_right_winner(
    budget_s: float, target: Target, store: Store
) -> None:
    steps: list[Progress] = []
    result = search(
        GEMM,
        target,
        store=store,
        flags=Flags(budget_s, per_round=6, patience=1),
        renderer=faulty_renderer(target),
        progress=steps.append,
        deadline=SOON,
    )
    assert result.best is not None
    assert result.best.outcome is Outcome.OK
    assert result.best in result.confirmed
    assert result.rounds
    assert {"expand", "compile", "verify", "time", "confirm"} <= {step.phase for step in steps}
    assert [step.elapsed_s for step in steps] == sorted(step.elapsed_s for step in steps)
    assert store.best(result.kernel_hash, target.id, 1) is not None
    hashes = [m.hash for m in result.measured]
    assert len(set(hashes)) == len(hashes)
    (again,) = measure(GEMM, candidates(result.best.schedule), target, store=store)
    assert again.outcome is Outcome.OK


def test_a_search_with_hardly_any_time_still_has_a_winner(target: Target, store: Store) -> None:
    result = search(GEMM, target, store=store, flags=Flags(budget_s=0.01, per_round=2))
    assert result.best is not None
    assert result.stopped == "budget"
    assert len(result.rounds) == 1


def test_what_is_stored_as_the_best_races_again_and_is_not_replaced_by_something_slower(
    target: Target, store: Store
) -> None:
    (known,) = measure(GEMM, candidates(upcast(6)), target, store=store)
    store.choose(kernel_hash(GEMM), target.id, 1, known)
    result = search(GEMM, target, store=store, flags=Flags(0.01, per_round=2))
    assert known.hash in {m.hash for m in result.confirmed}
    assert store.best(result.kernel_hash, target.id, 1) == result.best


def test_what_won_for_another_size_is_tried(target: Target, store: Store) -> None:
    small, large = program("gemm", [256, 256, 256]), program("gemm", [320, 240, 512])
    winner = Measured(upcast(5), schedule_hash(upcast(5)), Outcome.OK, 1.0)
    alike = kernel_hash(structure_of(small))
    store.choose(kernel_hash(small), target.id, 1, winner, alike)
    still = Pace(lambda: 0.0)  # however busy the machine is: it ends when nothing is gained
    result = search(large, target, store=store, flags=Flags(per_round=2, patience=1), pace=still)
    assert winner.hash in {m.hash for m in result.measured}
    assert {m.schedule for m in store.alike(alike, target.id, 1)} >= {winner.schedule}
    assert store.alike(alike, target.id, 2) == []


def test_the_time_left_never_goes_below_nothing() -> None:
    step = Progress(1, "time", 1, 2, None, 12.0, 30.0)
    assert step.left_s == 18.0
    assert replace(step, elapsed_s=31.0).left_s == 0.0


def test_a_known_killer_is_not_run_again(target: Target, store: Store) -> None:
    def broken() -> list[Measured]:
        renderer = FaultyRenderer(renderer_of(target), [Fault(FaultKind.SEGFAULT)])
        return measure(GEMM, candidates(upcast(2)), target, store=store, renderer=renderer)

    first = broken()
    journal = store.directory / "journal" / f"{kernel_hash(GEMM)}.jsonl"
    launched = journal.read_text()
    again = broken()
    assert [m.outcome for m in (*first, *again)] == [Outcome.CRASHED] * 2
    assert again[0].detail == first[0].detail
    new = journal.read_text().removeprefix(launched)
    assert first[0].hash not in new
    (repaired,) = measure(GEMM, candidates(upcast(2)), target, store=store)
    assert repaired.outcome is Outcome.OK


@pytest.mark.slow
def test_a_search_whose_every_candidate_is_broken_has_none(target: Target, store: Store) -> None:
    renderer = FaultyRenderer(renderer_of(target), [Fault(FaultKind.EXIT)])
    result = search(GEMM, target, store=store, flags=Flags(budget_s=0.01, per_round=2), renderer=renderer)
    assert result.best is None
    assert result.confirmed == ()
    assert {m.outcome for m in result.measured} == {Outcome.CRASHED}


def test_results_do_not_depend_on_where_arrays_lie(target: Target, store: Store) -> None:
    found = measure(GEMM, candidates(upcast(4)), target, store=store, seed=7)
    again = measure(GEMM, candidates(upcast(4)), target, store=store, seed=7)
    assert np.isclose(found[0].max_error or 0, again[0].max_error or 1, rtol=0)
