"""Kernels in this process: loading, running, threads."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine import compiler
from engine import dtype as dt
from engine.build import matmul, param
from engine.errors import CompileError, DeviceError, IllegalOpt
from engine.kernel import Kernel
from engine.memory import ALIGNMENT
from engine.opts import Opt, OptKind
from engine.runtime.cpu import CpuRuntime, empty, load
from engine.runtime.interp import evaluate
from engine.runtime.workers import Workers, build_pool
from engine.target import detect
from tests.engine.sample_kernels import SAMPLES, inputs_of

# Counts how often each tile is computed, and in which thread.
COUNTING = """
#define _GNU_SOURCE
#include <stdatomic.h>
#include <unistd.h>
void count(void *const *buffers, long first, long last) {
  atomic_int *counts = buffers[0];
  int *threads = buffers[1];
  for (long tile = first; tile < last; tile++) {
    atomic_fetch_add(&counts[tile], 1);
    threads[tile] = gettid();
  }
}
"""

# Two tiles that wait for each other, so that two threads must take one each; then a subnormal result.
HALVING = """
#define _GNU_SOURCE
#include <stdatomic.h>
#include <unistd.h>
void flush_to_zero(int on) { __builtin_ia32_ldmxcsr(on ? 0x9fc0 : 0x1f80); }
void halve(void *const *buffers, long first, long last) {
  volatile float *values = buffers[0];
  int *threads = buffers[1];
  atomic_int *started = buffers[2];
  for (long tile = first; tile < last; tile++) {
    atomic_fetch_add(started, 1);
    for (long spin = 0; spin < 10000000000 && atomic_load(started) < 2; spin++) {}
    values[tile] = values[tile] * 0.5f;
    threads[tile] = gettid();
  }
}
"""


@pytest.fixture
def runtime(tmp_path: Path) -> CpuRuntime:
    return CpuRuntime(detect(), tmp_path)


def count_tiles(directory: Path, tiles: int, threads: int) -> tuple[list[int], set[int]]:
    program = load(compiler.compile(COUNTING, detect(), directory), "count")
    counts, ids = np.zeros(tiles, np.int32), np.zeros(tiles, np.int32)
    program.run([counts.ctypes.data, ids.ctypes.data], tiles, threads)
    return counts.tolist(), set(ids.tolist())


def test_a_prepared_kernel_computes_new_arrays(runtime: CpuRuntime) -> None:
    kernel = SAMPLES["gemm"]
    inputs = inputs_of(kernel, 0)
    run = runtime.prepare(kernel)
    first, second = run(inputs), run(inputs)
    np.testing.assert_allclose(first, evaluate(kernel, inputs), rtol=1e-5, atol=1e-5)
    assert first is not second
    assert first.tobytes() == second.tobytes()
    assert first.ctypes.data % ALIGNMENT == 0


def test_inputs_may_be_views_in_any_memory_order(runtime: CpuRuntime) -> None:
    kernel = SAMPLES["gemm"]
    plain = inputs_of(kernel, 0)
    turned = [np.asfortranarray(array) for array in plain]
    run = runtime.prepare(kernel)
    assert run(turned).tobytes() == run(plain).tobytes()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.zeros((21, 23), np.float32)], "1 arrays for a kernel of 2"),
        (
            [np.zeros((23, 21), np.float32), np.zeros((23, 37), np.float32)],
            r"inputs\[0\].*must be float32 \(21, 23\)",
        ),
        ([np.zeros((21, 23), np.float32), np.zeros((23, 37))], r"inputs\[1\].*float64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    runtime: CpuRuntime, inputs: list[np.ndarray], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        runtime.prepare(SAMPLES["gemm"])(inputs)


def test_a_schedule_that_does_not_fit_is_refused(runtime: CpuRuntime) -> None:
    with pytest.raises(IllegalOpt):
        runtime.prepare(SAMPLES["gemm"], (Opt(OptKind.VEC, "out", 0, 4),))


def test_what_cannot_be_loaded_is_a_device_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a shared object")
    with pytest.raises(DeviceError, match="load"):
        load(broken, "kernel")
    made = compiler.compile("int other(void) { return 1; }", detect(), tmp_path)
    with pytest.raises(DeviceError, match="missing"):
        load(made, "missing")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc here")
def test_a_shared_object_is_unmapped_with_the_last_program_of_it(tmp_path: Path) -> None:
    path = compiler.compile(COUNTING, detect(), tmp_path)
    workers = Workers(tmp_path)
    first, second = load(path, "count", workers=workers), load(path, "count", workers=workers)
    assert maps(path) > 0
    del first
    gc.collect()
    counts, ids = np.zeros(3, np.int32), np.zeros(3, np.int32)
    second.run([counts.ctypes.data, ids.ctypes.data], 3, 1)
    assert counts.tolist() == [1, 1, 1]
    del second
    gc.collect()
    assert maps(path) == 0


def maps(path: Path) -> int:
    return Path("/proc/self/maps").read_text(encoding="utf-8").count(path.name)


def test_the_pool_computes_every_tile_once(tmp_path: Path) -> None:
    for tiles in (2, 3, 64, 1000):
        counts, _ = count_tiles(tmp_path, tiles, threads=4)
        assert counts == [1] * tiles


def test_no_more_threads_take_part_than_are_asked_for(tmp_path: Path) -> None:
    for threads in (1, 2, 3):
        _, ids = count_tiles(tmp_path, 500, threads)
        assert len(ids) <= threads


def test_one_thread_is_the_callers_own(tmp_path: Path) -> None:
    _, ids = count_tiles(tmp_path, 50, threads=1)
    assert len(ids) == 1


def test_the_pool_serves_many_commands_from_many_threads(tmp_path: Path) -> None:
    program = load(compiler.compile(COUNTING, detect(), tmp_path), "count")
    build_pool(detect(), tmp_path)
    counts = np.zeros((4, 16), np.int32)

    def submit(row: int) -> None:
        ids = np.zeros(16, np.int32)
        for _ in range(200):
            program.run([counts[row].ctypes.data, ids.ctypes.data], 16, 3)

    with ThreadPoolExecutor(4) as submitters:
        list(submitters.map(submit, range(4)))
    assert (counts == 200).all()


def test_the_pool_works_again_in_a_forked_child(tmp_path: Path) -> None:
    count_tiles(tmp_path, 64, threads=3)
    pid = os.fork()
    if pid == 0:
        ok = False
        try:
            ok = count_tiles(tmp_path, 64, threads=3)[0] == [1] * 64
        finally:
            os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_results_do_not_depend_on_the_number_of_threads(runtime: CpuRuntime) -> None:
    kernel = Kernel(matmul(param(0, (70, 33), dt.float32), param(1, (33, 50), dt.float32)))
    schedule = (
        Opt(OptKind.VEC, "out", 1, 16),
        Opt(OptKind.UPCAST, "out", 0, 3),
        Opt(OptKind.SPLIT, "r0", 0, 8),
        Opt(OptKind.THREAD, "out", 0, 7),
    )
    inputs = inputs_of(kernel, 0)
    results = {runtime.prepare(kernel, schedule, threads)(inputs).tobytes() for threads in (1, 2, 4)}
    assert len(results) == 1


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets x86's control register")
def test_workers_do_not_inherit_flush_to_zero_from_the_thread_that_starts_them(tmp_path: Path) -> None:
    made = compiler.compile(HALVING, detect(), tmp_path)
    halve, flush = load(made, "halve"), ctypes.CDLL(str(made)).flush_to_zero
    values = np.full(2, 1.5e-38, np.float32)
    threads, started = np.zeros(2, np.int32), np.zeros(1, np.int32)
    flush(1)
    try:
        halve.run([array.ctypes.data for array in (values, threads, started)], tiles=2, threads=2)
    finally:
        flush(0)
    assert threads[0] != threads[1]
    (worker,) = values[threads != threading.get_native_id()]
    assert 0 < worker < np.finfo(np.float32).tiny


def test_a_broken_renderer_is_a_compile_error(tmp_path: Path) -> None:
    class Broken:
        def render(self, linear: object, name: str) -> str:
            return f"void {name}("

    with pytest.raises(CompileError):
        CpuRuntime(detect(), tmp_path, lambda features: Broken()).prepare(SAMPLES["gemm"])


def test_empty_arrays_can_be_outputs_and_inputs(runtime: CpuRuntime) -> None:
    assert runtime.prepare(SAMPLES["empty"])(inputs_of(SAMPLES["empty"], 0)).shape == (0, 7)
    assert (
        runtime.prepare(SAMPLES["sum of nothing"])(inputs_of(SAMPLES["sum of nothing"], 0)).tolist()
        == [0.0] * 5
    )


def test_fresh_arrays_are_aligned() -> None:
    for shape in ((), (1,), (3, 5), (0, 4)):
        array = empty(shape, np.dtype(np.float32))
        assert array.shape == shape
        assert array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT == 0 or array.size == 0


def test_a_program_takes_plain_addresses(runtime: CpuRuntime) -> None:
    kernel = Kernel(SAMPLES["copy"].output)
    prepared = runtime.prepare(kernel)
    (source,) = inputs_of(kernel, 0)
    output = (ctypes.c_float * source.size)()
    prepared.program.run([ctypes.addressof(output), source.ctypes.data])
    assert list(output) == source.ravel().tolist()
