"""A reduce in parts: two phases, whose results depend on the schedule and never on who computes which part."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine import dtype as dt
from engine.arena import Arena
from engine.build import broadcast, const, elementwise, expand, flip, matmul, param, permute, reduce, reshape
from engine.build import scatter as scattered
from engine.errors import IllegalOpt
from engine.grouping import MAX_PARTIALS, combining
from engine.ir import UOp
from engine.isolate import Code, Combine, Isolate
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, RangeType, Schedule
from engine.outcome import Measured, Outcome
from engine.pipeline import Rendered, compile_source
from engine.profile.recording import record
from engine.programs import random_inputs
from engine.render.c import CRenderer
from engine.repro import repro
from engine.repro_llvm import llvm_repro
from engine.runtime.cpu import CpuRuntime
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.runtime.replay import Replay, Step
from engine.runtime.workers import Threading, Workers
from engine.schedule import replay
from engine.shapes import shape_of
from engine.target import detect as detect_c
from engine.toolchain import compile as compile_for


def floats(slot: int, *shape: int) -> UOp:
    return param(slot, shape, dt.float32)


def group(parts: int, axis: int = 0, target: str = "r0") -> Opt:
    return Opt(OptKind.GROUP, target, axis, parts)


def split(axis: int, amount: int, type_: RangeType = RangeType.LOOP) -> Opt:
    return Opt(OptKind.SPLIT, "r0", axis, amount, type_)


def scaled_and_biased(x: UOp) -> UOp:
    """An epilogue that reads an input of its own, which no phase but the second needs."""
    scaled = elementwise(Op.MUL, x, const(0.25, x.dtype, shape_of(x)))
    return elementwise(Op.ADD, scaled, param(2, shape_of(x), x.dtype))


COLUMNS = Kernel(reduce(Op.ADD, floats(0, 1013, 37), (0,)))
ALL = Kernel(reduce(Op.ADD, floats(0, 61, 173), (0, 1)))
GEMM = Kernel(matmul(floats(0, 13, 301), floats(1, 301, 21)))
VEC, UPCAST, UNROLL, THREAD = OptKind.VEC, OptKind.UPCAST, OptKind.UNROLL, OptKind.THREAD
TILE: Schedule = (Opt(VEC, "out", 1, 8), Opt(UPCAST, "out", 0, 3), Opt(UNROLL, "r0", 0, 2))

# ------------------------------------------------------------------------------------------------------ legality


def test_the_outermost_leaf_of_the_reduce_is_in_parts_which_are_the_tiles() -> None:
    scheduled = replay(ALL, (Opt(VEC, "r0", 1, 8), group(7)))
    assert [str(leaf) for leaf in scheduled.leaves] == [
        "r0.0:7x9:GROUP",
        "r0.0:9x1:REDUCE",
        "r0.1:22x8:REDUCE",
        "r0.1:8x1:VEC",
    ]
    assert (scheduled.tiles, scheduled.partials) == (7, 7 * 4)


def test_no_part_is_empty() -> None:
    assert replay(ALL, (group(60),)).tiles == 31
    assert replay(ALL, (group(1 << 20),)).tiles == 61


def test_the_second_phase_has_the_lanes_and_the_threads_of_the_output() -> None:
    scheduled = replay(GEMM, (*TILE, Opt(THREAD, "out", 0, 4), group(5)))
    assert scheduled.tiles == 5
    assert scheduled.combine is not None
    assert scheduled.combine.kernel == combining(GEMM, 5)
    assert (scheduled.combine.lanes, scheduled.combine.tiles) == (8, 3)


def test_the_parts_outermost_leaf_is_found_whatever_the_order_of_the_loops() -> None:
    """REDUCE parts split off later lie outside those before them, though their steps are shorter."""
    reduces = (split(0, 12, RangeType.REDUCE), split(0, 4, RangeType.REDUCE))
    scheduled = replay(GEMM, (*reduces, group(3)))
    assert scheduled.group is not None
    assert (scheduled.group.extent, scheduled.group.stride) == (3, 9 * 12)


def _epilogue_of_a_permuted() -> UOp:
    return permute(matmul(floats(0, 5, 9), floats(1, 9, 5)), (1, 0))


def _normalised() -> UOp:
    total = reshape(reduce(Op.ADD, floats(0, 5, 7), (1,)), (5, 1))
    return elementwise(Op.DIV, floats(0, 5, 7), expand(total, (5, 7)))


def _two_totals() -> UOp:
    x = floats(0, 5, 7)
    return elementwise(Op.SUB, reduce(Op.ADD, x, (1,)), reduce(Op.MAX, x, (1,)))


def _read_at_two_places() -> UOp:
    total = reduce(Op.ADD, floats(0, 5, 7), (1,))
    return elementwise(Op.SUB, total, flip(total, (0,)))


def _scattered() -> UOp:
    start = reduce(Op.ADD, floats(0, 5, 7), (1,))
    return scattered(start, param(1, (3,), dt.int32), floats(2, 3), 0, "add")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (_epilogue_of_a_permuted(), "in their order"),
        (flip(reduce(Op.ADD, floats(0, 5, 7), (1,)), (0,)), "in their order"),
        (_normalised(), "several elements"),
        (_two_totals(), "one reduce"),
        (_read_at_two_places(), "one reduce"),
        (_scattered(), "SCATTER"),
        (reduce(Op.ADD, param(0, (5, 7), dt.float16), (1,)), "rounded to float16"),
    ],
)
def test_a_reduce_that_has_no_parts_is_refused_by_name(output: UOp, reason: str) -> None:
    with pytest.raises(IllegalOpt, match=reason) as error:
        replay(Kernel(output), (group(2, axis=0),))
    assert error.value.field == "schedule[0]"


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ((group(2), group(3)), "has its GROUP leaf"),
        ((group(1),), "at least 2"),
        ((Opt(OptKind.GROUP, "out", 0, 2),), "shared by THREAD"),
        ((Opt(VEC, "out", 1, 8), Opt(OptKind.STREAM, "out", 0, 0), group(2)), "no STREAM"),
        ((group(2), Opt(VEC, "out", 1, 8), Opt(OptKind.STREAM, "out", 0, 0)), "does not write the output"),
        ((group(2), Opt(OptKind.PREFETCH, "out", 0, 0)), "does not write the output"),
    ],
)
def test_what_does_not_go_with_parts_is_refused_by_name(schedule: Schedule, reason: str) -> None:
    with pytest.raises(IllegalOpt, match=reason) as error:
        replay(GEMM, schedule)
    assert error.value.field == f"schedule[{len(schedule) - 1}]"


def test_what_stands_behind_the_reduce_is_not_staged() -> None:
    kernel = Kernel(scaled_and_biased(matmul(floats(0, 13, 301), floats(1, 301, 21))))
    stage = Opt(OptKind.STAGE, "out", 0, 0)
    assert replay(kernel, (stage,)).stages
    with pytest.raises(IllegalOpt, match="second phase"):
        replay(kernel, (stage, group(2)))


def test_parts_whose_results_would_take_much_memory_are_refused() -> None:
    wide = Kernel(reduce(Op.ADD, floats(0, 64, 1 << 20), (0,)))
    assert replay(wide, (group(16),)).partials == MAX_PARTIALS
    with pytest.raises(IllegalOpt, match="at most 64 MiB") as error:
        replay(wide, (Opt(VEC, "out", 0, 8), group(32)))
    assert error.value.field == "schedule[1]"


# ------------------------------------------------------------------------------------------------------- results


def integers(slot: int, *shape: int) -> UOp:
    return param(slot, shape, dt.int32)


KERNELS: dict[str, Kernel] = {
    "sum of all": ALL,
    "sum of columns": COLUMNS,
    "gemm": GEMM,
    "gemm with an epilogue": Kernel(scaled_and_biased(matmul(floats(0, 13, 301), floats(1, 301, 21)))),
    "kept dimensions": Kernel(reshape(reduce(Op.ADD, floats(0, 37, 211), (1,)), (1, 37, 1))),
    "greatest of rows": Kernel(reduce(Op.MAX, floats(0, 7, 1013), (1,))),
    "least of bytes": Kernel(reduce(Op.MIN, param(0, (301, 19), dt.uint8), (0,))),
    "product of integers": Kernel(reduce(Op.MUL, integers(0, 5, 301), (1,))),
    "inner product": Kernel(
        reduce(Op.ADD, elementwise(Op.MUL, floats(0, 10_007), broadcast(floats(1, 1), (10_007,))), (0,))
    ),
    "one part": Kernel(reduce(Op.ADD, floats(0, 5, 3), (1,))),
    "nothing": Kernel(reduce(Op.ADD, floats(0, 0, 7), (1,))),
}
SCHEDULES: dict[str, Schedule] = {
    "parts": (group(6),),
    "lanes of the reduce": (Opt(VEC, "r0", 0, 8), Opt(VEC, "r0", 1, 8), Opt(UNROLL, "r0", 0, 2), group(5)),
    "lanes of the output": (Opt(VEC, "out", 0, 8), Opt(VEC, "out", 1, 8), Opt(UPCAST, "out", 0, 2), group(4)),
    "blocks": (split(0, 8), split(1, 8), group(3)),
    "blocks inside": (split(0, 8, RangeType.REDUCE), split(0, 2, RangeType.REDUCE), group(3)),
    "staged": (Opt(OptKind.STAGE, "r0", 0, 0), Opt(OptKind.STAGE, "r0", 1, 1), group(4)),
    "padded": (Opt(UNROLL, "r0", 0, 4), Opt(OptKind.PAD, "r0", 0, 0), Opt(THREAD, "out", 0, 3), group(4)),
    "the second axis": (group(4, axis=1),),
}


def legal(kernel: Kernel, schedule: Schedule) -> Schedule:
    """The opts of a schedule that fit the kernel."""
    found: Schedule = ()
    for opt in schedule:
        try:
            replay(kernel, (*found, opt))
        except IllegalOpt:
            continue
        found = (*found, opt)
    return found


@pytest.fixture(scope="module")
def runtime() -> LlvmRuntime:
    return LlvmRuntime(detect())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", KERNELS)
def test_parts_give_what_the_definition_says(name: str, schedule: str, runtime: LlvmRuntime) -> None:
    kernel = KERNELS[name]
    inputs = random_inputs(kernel, seed=3, integers=True)
    opts = legal(kernel, SCHEDULES[schedule])
    found = runtime.prepare(kernel, opts, threads=2)(inputs)
    np.testing.assert_array_equal(found, evaluate(kernel, inputs))


def test_every_kernel_but_the_one_of_no_elements_is_in_parts() -> None:
    several = {
        name
        for name, kernel in KERNELS.items()
        if replay(kernel, legal(kernel, SCHEDULES["parts"])).tiles > 1
    }
    assert several == KERNELS.keys() - {"nothing"}


@pytest.mark.parametrize("name", ["sum of all", "sum of columns", "gemm with an epilogue"])
def test_results_do_not_depend_on_threads(name: str, runtime: LlvmRuntime) -> None:
    kernel = KERNELS[name]
    inputs = random_inputs(kernel, seed=5)
    opts = legal(kernel, (*SCHEDULES["lanes of the output"], Opt(THREAD, "out", 0, 3)))
    results = {runtime.prepare(kernel, opts, threads)(inputs).tobytes() for threads in (1, 2, 3)}
    assert len(results) == 1


def test_c_computes_the_same(tmp_path: Path) -> None:
    kernel = KERNELS["gemm with an epilogue"]
    inputs = random_inputs(kernel, seed=3, integers=True)
    found = CpuRuntime(detect_c(), tmp_path).prepare(kernel, (*TILE, group(4)), threads=2)
    np.testing.assert_array_equal(found(inputs), evaluate(kernel, inputs))


def test_parts_are_combined_in_their_order(runtime: LlvmRuntime) -> None:
    """Beside 2²⁴ a 1 vanishes, three times if one comes after the other."""
    values = np.array([2.0**24, 1, 1, 1, -(2.0**24)], np.float32)
    kernel = Kernel(reduce(Op.ADD, floats(0, 5), (0,)))
    assert runtime.prepare(kernel, (group(5),), threads=3)([values]) == 0
    assert runtime.prepare(kernel, (group(5),), threads=3)([values[[0, 4, 1, 2, 3]]]) == 3


# -------------------------------------------------------------------------------------------------- lists, events


def two_sums(runtime: LlvmRuntime) -> list[Step]:
    """Columns' sums, then the sum of those."""
    total = Kernel(reduce(Op.ADD, floats(0, 37), (0,)))
    first = runtime.prepare(COLUMNS, (Opt(VEC, "out", 0, 8), group(6)), threads=2)
    return [Step(first, (0,), 1), Step(runtime.prepare(total, (group(4),), threads=2), (1,), 2)]


@pytest.mark.parametrize("threading", Threading)
def test_a_list_of_kernels_runs_both_phases(threading: Threading, tmp_path: Path) -> None:
    workers = Workers(tmp_path if threading is Threading.POOL else None)
    assert workers.threading is threading
    steps = two_sums(LlvmRuntime(detect(), workers=workers))
    (inputs,) = random_inputs(COLUMNS, seed=7, integers=True)
    run = Replay(steps, {}, frozenset({2}), 3, workers)
    for _ in range(2):
        memories = [inputs, None, None]
        run(memories)
        assert memories[2] == inputs.sum()


def test_each_phase_is_an_event_of_its_own(runtime: LlvmRuntime) -> None:
    made = runtime.prepare(COLUMNS, (group(6),), threads=2)
    steps = two_sums(runtime)
    run = Replay(steps, {}, frozenset({2}), 3, runtime.workers)
    inputs = random_inputs(COLUMNS, seed=7)
    with record() as events:
        made(inputs)
        run([*inputs, None, None])
    kernels = [event.subject.kernel for event in events]
    assert kernels[:2] == [COLUMNS, combining(COLUMNS, 6)]
    assert kernels[2:4] == [COLUMNS, combining(COLUMNS, 6)]
    assert len(kernels) == 6


# ------------------------------------------------------------------------------------------- children and repros


def rendered_by(runtime: LlvmRuntime, kernel: Kernel, schedule: Schedule, name: str = "kernel") -> Rendered:
    return compile_source(kernel, schedule, runtime.renderer, runtime.target.features, name)


def test_a_child_runs_both_phases_on_poisoned_memory(runtime: LlvmRuntime, tmp_path: Path) -> None:
    inputs = random_inputs(COLUMNS, seed=7, integers=True)
    rendered = rendered_by(runtime, COLUMNS, (Opt(VEC, "out", 0, 8), group(6)))
    assert rendered.combine is not None
    combine = Combine(rendered.combine.entry, rendered.combine.tiles, rendered.partials)
    path = compile_for(rendered.source, runtime.target, tmp_path)
    code = Code(path, rendered.entry, rendered.tiles, threads=2, combine=combine)
    with Isolate() as isolate, Arena((np.dtype(np.float32), (37,)), inputs) as arena:
        child = isolate.child()
        child.prepare("k", code, child.map(arena))
        child.run("k", deadline_s=10.0)
        np.testing.assert_array_equal(arena.view(0), evaluate(COLUMNS, inputs))
        assert not arena.damage()
        child.close()


def run_c(text: str, tmp_path: Path) -> str:
    source, program = tmp_path / "repro.c", tmp_path / "repro"
    source.write_text(text)
    target = detect_c()
    flags = [target.executable, "-O1", "-w", *target.flags]
    subprocess.run([*flags, str(source), "-o", str(program), "-lm"], check=True, timeout=60)
    return subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=False).stdout


def run_python(text: str, tmp_path: Path) -> str:
    source = tmp_path / "repro.py"
    source.write_text(text)
    command = [sys.executable, str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


MEASURED = Measured((group(4),), "0" * 64, Outcome.WRONG, detail="it differs")
SMALL = Kernel(scaled_and_biased(matmul(floats(0, 5, 13), floats(1, 13, 7))))


def test_a_repro_in_c_runs_both_phases(tmp_path: Path) -> None:
    target = detect_c()
    renderer = CRenderer(target.features)
    naive = compile_source(SMALL, (), renderer, target.features)
    right = compile_source(SMALL, (Opt(THREAD, "out", 0, 2), group(4)), renderer, target.features)
    assert "no difference" in run_c(repro(SMALL, right, naive, target, MEASURED), tmp_path)
    fewer = replace(right, tiles=3)
    assert "BAD" in run_c(repro(SMALL, fewer, naive, target, MEASURED), tmp_path)


def test_a_repro_in_python_runs_both_phases(runtime: LlvmRuntime, tmp_path: Path) -> None:
    naive = rendered_by(runtime, SMALL, ())
    right = rendered_by(runtime, SMALL, (Opt(THREAD, "out", 0, 2), group(4)))
    assert "no difference" in run_python(llvm_repro(SMALL, right, naive, runtime.target, MEASURED), tmp_path)
    fewer = replace(right, tiles=3)
    assert "BAD" in run_python(llvm_repro(SMALL, fewer, naive, runtime.target, MEASURED), tmp_path)
