"""The LLVM assembly that kernels become, and the runtime that compiles it: the interpreter's meaning, and nothing kept."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine.build import cast, elementwise, matmul, param, reduce
from engine.errors import CompileError, IllegalOpt
from engine.kernel import Kernel
from engine.object_code import assembler
from engine.ops import Op
from engine.opts import Opt, OptKind, Schedule
from engine.picks import picks
from engine.pipeline import compile_source
from engine.programs import random_inputs
from engine.render.llvm import LlvmRenderer
from engine.runtime.interp import evaluate
from engine.runtime.llvm import LlvmRuntime, detect
from engine.runtime.workers import Threading
from engine.target import FEATURES, Processor, Target, isa_flags
from engine.toolchain import features_of
from tests.engine import special_values
from tests.engine.sample_kernels import SAMPLES, Case, cases_of, contained, inputs_of, poisoned

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, np.dtype[Any]]
TILE = (
    Opt(OptKind.VEC, "out", 1, 16),
    Opt(OptKind.UPCAST, "out", 1, 2),
    Opt(OptKind.UPCAST, "out", 0, 4),
    Opt(OptKind.THREAD, "out", 0, 4),
)
GEMM = Kernel(matmul(param(0, (32, 24), dt.float32), param(1, (24, 64), dt.float32)))


@pytest.fixture(scope="module")
def runtime() -> LlvmRuntime:
    return LlvmRuntime(detect())


def source_of(kernel: Kernel, schedule: Schedule = (), isa: str = "avx512") -> str:
    features = FEATURES[isa]
    return compile_source(kernel, schedule, LlvmRenderer(features), features).source


def run_on(runtime: LlvmRuntime) -> special_values.Run:
    def run(kernel: Kernel, schedule: Schedule, inputs: Sequence[Array]) -> Array:
        return runtime.prepare(kernel, schedule)(inputs)

    return run


# -- meaning -----------------------------------------------------------------------------------------------------


SOME_LANES = [("scalar", "x16"), pytest.param(("x4",), marks=pytest.mark.slow)]


@pytest.mark.parametrize("schedules", SOME_LANES, ids="-".join)
@pytest.mark.slow
def test_arithmetic_at_the_edges_of_every_dtype_is_the_interpreters(
    schedules: tuple[str, ...], runtime: LlvmRuntime
) -> None:
    assert special_values.problems(list(special_values.arithmetic()), run_on(runtime), schedules) == []


@pytest.mark.parametrize("schedules", SOME_LANES, ids="-".join)
@pytest.mark.slow
def test_casts_at_the_edges_of_every_dtype_are_the_interpreters(
    schedules: tuple[str, ...], runtime: LlvmRuntime
) -> None:
    assert special_values.problems(list(special_values.casts()), run_on(runtime), schedules) == []


def test_the_comparison_at_the_edges_sees_a_wrong_bit(runtime: LlvmRuntime) -> None:
    edges = [edge for edge in special_values.arithmetic() if edge.name in ("NEG float32", "ADD int8")]

    def wrong(kernel: Kernel, schedule: Schedule, inputs: Sequence[Array]) -> Array:
        found = runtime.prepare(kernel, schedule)(inputs)
        found.view(np.uint8).reshape(-1)[-1] ^= 0x80
        return found

    assert len(special_values.problems(edges, wrong, ["scalar"])) == 2


@pytest.mark.slow
def test_random_schedules_compute_what_is_meant_and_stay_in_their_output(runtime: LlvmRuntime) -> None:
    found = [_contained(case, runtime) for case in cases_of(schedules_each=1, seed=11)]
    assert [text for text in found if text] == []


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["sse2", "avx2"])
def test_narrower_instruction_sets_compute_the_same(isa: str) -> None:
    runtime = LlvmRuntime(narrowed(isa))
    for case in cases_of(schedules_each=1, seed=12)[len(SAMPLES) :]:
        assert _contained(case, runtime) == ""


def _contained(case: Case, runtime: LlvmRuntime) -> str:
    rendered = compile_source(case.kernel, case.schedule, runtime.renderer, runtime.target.features)
    return contained(case, rendered, runtime.load(rendered))


def test_without_the_bits_of_avx512_a_product_is_computed_in_registers_of_avx2() -> None:
    target = narrowed("avx2")
    schedule = picks(GEMM, target)[0]
    prepared = LlvmRuntime(target).prepare(GEMM, schedule)
    made = assembler(features_of(target))
    code = made.machine().emit_assembly(made.optimized(prepared.source))
    assert "%ymm" in code
    assert "vfmadd" in code
    assert "%zmm" not in code
    a, b = random_inputs(GEMM, 3, integers=True)
    assert (prepared([a, b]) == a @ b).all()


def narrowed(isa: str) -> Target:
    """This machine's target, using no more than `isa` of it."""
    found = detect()
    if found.isa not in ("avx2", "avx512") and isa == "avx2":
        pytest.skip("this machine has no avx2")
    names = frozenset({"avx", "avx2", "fma"})
    return replace(found, isa=isa, flags=isa_flags(Processor("x86_64", "", names, ()), isa))


@pytest.mark.parametrize("source", [dt.int32, dt.int64], ids=lambda d: d.name)
@pytest.mark.parametrize("target", [dt.int8, dt.int16, dt.int32], ids=lambda d: d.name)
def test_a_truncated_vector_of_one_valid_lane_is_stored_in_its_width(
    source: dt.DType, target: dt.DType, runtime: LlvmRuntime
) -> None:
    """LLVM 22 stores such a lane before truncation where it knows the mask: here when it unrolls the loop."""
    kernel = Kernel(cast(param(0, (5,), source), target))
    prepared = runtime.prepare(kernel, (Opt(OptKind.VEC, "out", 0, 4),))
    memory, output = poisoned((5,), target)
    values = np.arange(1, 6, dtype=source.numpy)
    prepared.program.run([output.ctypes.data, values.ctypes.data])
    assert output.tolist() == [1, 2, 3, 4, 5]
    assert (memory[64 + output.nbytes :] == memory[0]).all()


def test_a_bool_that_is_neither_0_nor_1_in_memory_is_true(runtime: LlvmRuntime) -> None:
    kernel = Kernel(cast(param(0, (16,), dt.bool_), dt.int32))
    foreign = np.arange(16, dtype=np.uint8).view(np.bool_)
    for schedule in ((), (Opt(OptKind.VEC, "out", 0, 8),)):
        assert runtime.prepare(kernel, schedule)([foreign]).tolist() == [0] + [1] * 15


# -- the assembly ------------------------------------------------------------------------------------------------


def test_the_assembly_of_a_kernel_is_the_same_every_time() -> None:
    assert source_of(GEMM, TILE) == source_of(GEMM, TILE)


def test_nothing_is_left_to_llvms_licence() -> None:
    """No fast-math flag, no integer overflow that is undefined, no half: each would change results."""
    for kernel in SAMPLES.values():
        text = source_of(kernel)
        assert not re.search(r"\b(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc|half|bfloat)\b", text)
        wrapping = [line for line in text.splitlines() if "nsw" in line]
        assert all(re.fullmatch(r"  %next\d+ = add nuw nsw i64 %r\d+, 1", line) for line in wrapping)


def test_a_register_tile_is_vectors_and_fused_multiply_adds() -> None:
    text = source_of(GEMM, TILE)
    assert text.count("alloca <16 x float>") == 8
    assert text.count("call <16 x float> @llvm.fma.v16f32") == 8
    assert "fma" not in source_of(GEMM, TILE, isa="sse2")


def test_memories_do_not_alias_and_inputs_are_only_read() -> None:
    signature = source_of(GEMM).splitlines()[0]
    assert "ptr noalias readonly %in0, ptr noalias readonly %in1, ptr noalias %out" in signature


# -- the runtime -------------------------------------------------------------------------------------------------


def resident_kb() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.slow
def test_llvm_keeps_nothing_of_a_kernel_that_is_gone(runtime: LlvmRuntime) -> None:
    kernel = Kernel(elementwise(Op.NEG, param(0, (100,), dt.float32)))
    gc.collect()
    before = runtime.loaded
    kept = runtime.prepare(kernel)
    assert runtime.loaded == before + 1
    for _ in range(50):
        runtime.prepare(kernel)
    start = resident_kb()
    for _ in range(300):
        runtime.prepare(kernel)
    assert runtime.loaded == before + 1
    assert (resident_kb() - start) / 300 < 20, "kB for each; llvmlite's module passes alone would take 60"
    assert kept([np.ones(100, np.float32)]).tolist() == [-1.0] * 100


def test_many_threads_compile_and_run_at_once(runtime: LlvmRuntime) -> None:
    def work(size: int) -> bool:
        kernel = Kernel(elementwise(Op.NEG, param(0, (size,), dt.float32)))
        return bool((runtime.prepare(kernel)([np.ones(size, np.float32)]) == -1).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(1, 60)))


def test_tiles_are_shared_by_the_c_pool_or_by_pythons_threads(tmp_path: Path) -> None:
    inputs = inputs_of(GEMM, 0)
    pooled, python = LlvmRuntime(detect(), tmp_path), LlvmRuntime(detect())
    assert python.threading is Threading.PYTHON
    assert pooled.threading in Threading
    results = {
        each.prepare(GEMM, TILE, threads)(inputs).tobytes()
        for each in (pooled, python)
        for threads in (1, 2, 3)
    }
    assert len(results) == 1
    np.testing.assert_allclose(
        np.frombuffer(results.pop(), np.float32).reshape(32, 64), evaluate(GEMM, inputs), 1e-5, 1e-5
    )


def test_without_a_c_compiler_there_are_pythons_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    assert LlvmRuntime(detect(), tmp_path).threading is Threading.PYTHON


def test_pythons_threads_work_again_in_a_forked_child() -> None:
    prepared = LlvmRuntime(detect()).prepare(GEMM, TILE, 3)
    inputs = inputs_of(GEMM, 0)
    wanted = prepared(inputs).tobytes()
    pid = os.fork()
    if pid == 0:
        ok = False
        try:
            ok = prepared(inputs).tobytes() == wanted
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_broken_assembly_is_a_compile_error() -> None:
    class Broken:
        def render(self, linear: object, name: str) -> str:
            return f"define void @{name}("

    with pytest.raises(CompileError, match="LLVM refuses"):
        LlvmRuntime(detect(), renderer=lambda features: Broken()).prepare(GEMM)


def test_a_schedule_that_does_not_fit_is_refused(runtime: LlvmRuntime) -> None:
    with pytest.raises(IllegalOpt):
        runtime.prepare(SAMPLES["gemm"], (Opt(OptKind.VEC, "out", 0, 4),))


def test_empty_arrays_can_be_outputs_and_inputs(runtime: LlvmRuntime) -> None:
    assert runtime.prepare(SAMPLES["empty"])(inputs_of(SAMPLES["empty"], 0)).shape == (0, 7)
    nothing = Kernel(reduce(Op.ADD, param(0, (5, 0), dt.float32), (1,)))
    assert runtime.prepare(nothing)([np.zeros((5, 0), np.float32)]).tolist() == [0.0] * 5


def test_the_target_is_llvms_and_takes_only_confirmed_features() -> None:
    found = detect()
    assert found.compiler.startswith("llvm ")
    assert found.executable == ""
    assert not any("native" in flag for flag in found.flags)
