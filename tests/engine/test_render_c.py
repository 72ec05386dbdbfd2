"""The C that kernels become: for both compilers, for every instruction set, with the interpreter's meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import compiler
from engine import dtype as dt
from engine.build import cast, const, elementwise, matmul, param, reduce
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.opts import Opt, OptKind, Schedule
from engine.pipeline import compile_source
from engine.render.c import CRenderer
from engine.runtime.cpu import CpuRuntime, empty, load
from engine.runtime.interp import evaluate
from engine.target import FEATURES, SEMANTIC_FLAGS, Target, detect, isa_flags, read_processor
from tests.engine.sample_kernels import SAMPLES, Case, cases_of, mismatches
from tests.engine.special_values import SCHEDULES, Edge, arithmetic, casts
from tests.parts import need

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, np.dtype[Any]]
GEMM = Kernel(matmul(param(0, (32, 24), dt.float32), param(1, (24, 64), dt.float32)))
TILE = (
    Opt(OptKind.VEC, "out", 1, 16),
    Opt(OptKind.UPCAST, "out", 1, 2),
    Opt(OptKind.UPCAST, "out", 0, 4),
)
ORDER = ("sse2", "avx2", "avx512")  # each has the ones before it


def source_of(kernel: Kernel, schedule: Schedule = (), isa: str = "avx512", name: str = "kernel") -> str:
    features = FEATURES[isa]
    return compile_source(kernel, schedule, CRenderer(features), features, name).source


def for_isa(isa: str) -> Target:
    """This machine's target, using no more than `isa` of it."""
    found = detect("gcc")
    if isa != "scalar" and (found.isa not in ORDER or ORDER.index(isa) > ORDER.index(found.isa)):
        pytest.skip(f"this machine has no {isa}")
    return replace(found, isa=isa, flags=SEMANTIC_FLAGS + isa_flags(read_processor(), isa))


def test_the_source_of_a_kernel_is_the_same_every_time() -> None:
    assert source_of(GEMM, TILE) == source_of(GEMM, TILE)


def test_an_unscheduled_sum_reads_like_a_loop() -> None:
    source = source_of(Kernel(reduce(Op.ADD, param(0, (64,), dt.float32), (0,))))
    assert source[source.index("void kernel") :] == (
        "void kernel(void *const *buffers, long first, long last) {\n"
        "  const f32 *restrict in0 = buffers[1];\n"
        "  f32 *restrict out = buffers[0];\n"
        "  f32 a0_0;\n"
        "  a0_0 = 0x0p+0f;\n"
        "  for (long r1 = 0; r1 < 64; r1++) {\n"
        "    const f32 v0 = in0[r1];\n"
        "    a0_0 = a0_0 + v0;\n"
        "  }\n"
        "  out[0] = a0_0;\n"
        "}\n"
    )


def test_a_register_tile_is_vector_variables_and_fused_multiply_adds() -> None:
    source = source_of(GEMM, TILE)
    assert "f32x16 a0_0, a0_1, a0_2, a0_3, a0_4, a0_5, a0_6, a0_7;" in source
    assert source.count("= fma_f32x16(") == 8
    assert "vfmaddps512" in source
    assert "immintrin.h" not in source, "reading it would cost more than compiling the kernel"


def test_a_target_without_fused_multiply_add_gets_none() -> None:
    assert "fma" not in source_of(GEMM, TILE, isa="sse2")


def test_threads_take_tiles_of_the_outermost_loop() -> None:
    source = source_of(GEMM, (*TILE, Opt(OptKind.THREAD, "out", 0, 4)))
    assert "= first; " in source
    assert "< last; " in source


@pytest.mark.parametrize("compiler_name", ["gcc", "clang"])
def test_sources_of_several_kernels_stand_in_one_file(compiler_name: str, tmp_path: Path) -> None:
    need(compiler_name, install=compiler_name)
    found = detect(compiler_name)
    sources = [source_of(k, (), found.isa, f"kernel_{i}") for i, k in enumerate(SAMPLES.values())]
    assert compiler.compile("".join(sources), found, tmp_path, level="-O0").exists()


@pytest.mark.slow
def test_clang_compiles_to_the_same_meaning(tmp_path: Path) -> None:
    need("clang", install="clang")
    assert mismatches(cases_of(schedules_each=1, seed=3)[len(SAMPLES) :], detect("clang"), tmp_path) == []


@pytest.mark.slow
# A register full and more than one; lanes of every number are the longer form.
@pytest.mark.parametrize(
    ("isa", "widths"),
    [
        ("scalar", (4,)),
        ("sse2", (4, 16)),
        ("avx2", (8, 16)),
        *(
            pytest.param(isa, (2, 4, 8, 16), marks=pytest.mark.soak, id=f"{isa}-all")
            for isa in ("scalar", "sse2", "avx2")
        ),
    ],
)
def test_narrower_instruction_sets_compute_the_same(
    isa: str, widths: tuple[int, ...], tmp_path: Path
) -> None:
    chosen = ("gemm", "gemm by a transpose", "sum of rows", "choice", "max", "sum of bools", "float to int")
    tile = (Opt(OptKind.UPCAST, "out", 0, 3),)
    cases = [
        Case(name, SAMPLES[name], (*tile, Opt(OptKind.VEC, target, axis, lanes)))
        for name in chosen
        for lanes in widths
        for target, axis in [
            ("r0", 0) if name in ("gemm by a transpose", "sum of rows", "max", "sum of bools") else ("out", 1)
        ]
    ]
    assert mismatches(cases, for_isa(isa), tmp_path) == []


# -- meaning at the edges -----------------------------------------------------------------------------------------


def agree(output: UOp, inputs: Sequence[Array], directory: Path) -> None:
    """Scalar code and vector code give the interpreter's output, NaN and sign of zero included."""
    kernel = Kernel(output)
    wanted = evaluate(kernel, inputs)
    runtime = CpuRuntime(detect(), directory)
    for schedule in ((), (Opt(OptKind.VEC, "out", 0, 4),)):
        got = runtime.prepare(kernel, schedule)(inputs)
        np.testing.assert_array_equal(got, wanted)
        if got.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(wanted[wanted == 0]))


ODD = np.array(
    [0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 3e9, -3e9, 1e20, -1e20, 2147483648.0], np.float32
)
PAIRS = np.array([(a, b) for a in ODD for b in ODD], np.float32).T.copy()
EDGES = np.array([0, 1, -1, 2, -2, 7, -7, 2**31 - 1, -(2**31)], np.int64)
INTS = np.array([(a, b) for a in EDGES for b in EDGES], np.int64).T.copy()


def two(dtype: dt.DType, n: int) -> tuple[UOp, UOp]:
    return param(0, (n,), dtype), param(1, (n,), dtype)


@pytest.mark.parametrize("op", [Op.MAX, Op.MIN])
def test_max_and_min_propagate_nan(op: Op, tmp_path: Path) -> None:
    kernel = Kernel(elementwise(op, *two(dt.float32, PAIRS.shape[1])))
    for schedule in ((), (Opt(OptKind.VEC, "out", 0, 16),)):
        got = CpuRuntime(detect(), tmp_path).prepare(kernel, schedule)(list(PAIRS))
        np.testing.assert_array_equal(got, evaluate(kernel, list(PAIRS)))


@pytest.mark.parametrize("op", [Op.LT, Op.EQ, Op.NE])
def test_comparisons_with_nan_are_those_of_ieee(op: Op, tmp_path: Path) -> None:
    agree(elementwise(op, *two(dt.float32, PAIRS.shape[1])), list(PAIRS), tmp_path)


@pytest.mark.parametrize("op", [Op.ADD, Op.SUB, Op.MUL, Op.DIV])
def test_float_arithmetic_rounds_once_and_keeps_signs_of_zero(op: Op, tmp_path: Path) -> None:
    agree(elementwise(op, *two(dt.float32, PAIRS.shape[1])), list(PAIRS), tmp_path)


@pytest.mark.parametrize("dtype", [dt.int32, dt.int64])
@pytest.mark.parametrize("op", [Op.IDIV, Op.MOD, Op.ADD, Op.MUL, Op.SUB])
def test_integers_floor_wrap_and_survive_division_by_zero(op: Op, dtype: dt.DType, tmp_path: Path) -> None:
    values = INTS.astype(np.int32) if dtype is dt.int32 else INTS * np.int64(2**32)
    agree(elementwise(op, *two(dtype, INTS.shape[1])), list(values), tmp_path)


@pytest.mark.parametrize("dtype", [dt.int32, dt.int64, dt.bool_])
def test_floats_become_integers_by_truncation_and_saturation(dtype: dt.DType, tmp_path: Path) -> None:
    agree(cast(param(0, ODD.shape, dt.float32), dtype), [ODD], tmp_path)


@pytest.mark.parametrize("value", [0.1, -0.0, float("inf"), float("-inf"), float("nan"), 1e-45, 3.4e38])
def test_float_constants_survive_bit_for_bit(value: float, tmp_path: Path) -> None:
    kernel = Kernel(elementwise(Op.MUL, param(0, (5,), dt.float32), const(value, dt.float32, (5,))))
    got = CpuRuntime(detect(), tmp_path).prepare(kernel)([np.ones(5, np.float32)])
    assert got.tobytes() == np.full(5, value, np.float32).tobytes()


@pytest.mark.parametrize("dtype", [dt.int32, dt.int64])
def test_the_least_integer_can_be_a_constant(dtype: dt.DType, tmp_path: Path) -> None:
    least = int(np.iinfo(dtype.numpy).min)
    agree(
        elementwise(Op.ADD, param(0, (5,), dtype), const(least, dtype, (5,))),
        [np.arange(5, dtype=dtype.numpy)],
        tmp_path,
    )


def test_a_bool_that_is_neither_0_nor_1_in_memory_is_true(tmp_path: Path) -> None:
    kernel = Kernel(cast(param(0, (16,), dt.bool_), dt.int32))
    foreign = np.arange(16, dtype=np.uint8).view(np.bool_)
    for schedule in ((), (Opt(OptKind.VEC, "out", 0, 8),)):
        got = CpuRuntime(detect(), tmp_path).prepare(kernel, schedule)([foreign])
        assert got.tolist() == [0] + [1] * 15


# -- the edges of every dtype --------------------------------------------------------------------------------------


def wrong_at_the_edges(
    edges: Sequence[Edge], compiler_name: str, schedules: Sequence[str], directory: Path
) -> list[str]:
    """What the compiled edges get wrong; a hundred of them stand in one file."""
    target = detect(compiler_name)
    renderer = CRenderer(target.features)
    jobs = [(edge, name) for edge in edges for name in schedules]
    sources = [
        compile_source(edge.kernel, SCHEDULES[name], renderer, target.features, f"kernel_{i}").source
        for i, (edge, name) in enumerate(jobs)
    ]
    found = []
    for start in range(0, len(jobs), 100):
        path = compiler.compile("".join(sources[start : start + 100]), target, directory, level="-O1")
        for i, (edge, name) in enumerate(jobs[start : start + 100], start):
            output = empty(edge.inputs[0].shape, edge.kernel.dtype.numpy)
            addresses = [array.ctypes.data for array in (output, *edge.inputs)]
            load(path, f"kernel_{i}").run(addresses)
            found.append(f"{name}: {text}" if (text := edge.problem(output)) else "")
    return [text for text in found if text]


EDGES = [
    ("gcc", ("scalar", "x16")),
    pytest.param("clang", ("scalar", "x4", "x16"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("compiler_name", "schedules"), EDGES)
@pytest.mark.slow
def test_arithmetic_at_the_edges_of_every_dtype_is_the_interpreters(
    compiler_name: str, schedules: tuple[str, ...], tmp_path: Path
) -> None:
    need(compiler_name, install=compiler_name)
    assert wrong_at_the_edges(list(arithmetic()), compiler_name, schedules, tmp_path) == []


@pytest.mark.parametrize(("compiler_name", "schedules"), EDGES)
@pytest.mark.slow
def test_casts_at_the_edges_of_every_dtype_are_the_interpreters(
    compiler_name: str, schedules: tuple[str, ...], tmp_path: Path
) -> None:
    need(compiler_name, install=compiler_name)
    assert wrong_at_the_edges(list(casts()), compiler_name, schedules, tmp_path) == []
