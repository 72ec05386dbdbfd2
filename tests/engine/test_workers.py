"""Worker threads: what each has for itself, where they run, and that Python's do what the C pool's do."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest

from engine import compiler
from engine.errors import CompileError, DeviceError
from engine.options import Pinning
from engine.runtime import scratch
from engine.runtime.cpu import Program, load
from engine.runtime.pool import Call, Calls, Limit, Shorter
from engine.runtime.ring import Ring
from engine.runtime.workers import Threading, Workers, build_pool
from engine.target import detect

Make = Callable[..., Workers]
# Two tiles that wait for each other, so that two threads must take one each.
MEETING = """
#define _GNU_SOURCE
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
static void meet(atomic_int *count, int wanted) {
  atomic_fetch_add(count, 1);
  for (long spin = 0; spin < 10000000000 && atomic_load(count) < wanted; spin++) {}
}
/* each tile: who computes it, where its scratch memory is, and how many bytes of it another one has changed */
void meeting(void *const *buffers, long first, long last) {
  int *threads = buffers[0];
  long *places = buffers[1], *changed = buffers[2], bytes = *(long *)buffers[3];
  atomic_int *met = buffers[4];
  char *own = buffers[5];
  for (long tile = first; tile < last; tile++) {
    threads[tile] = gettid();
    places[tile] = (long)own;
    memset(own, 1 + (int)tile, bytes);
    meet(met, 2);
    changed[tile] = 0;
    for (long i = 0; i < bytes; i++) changed[tile] += own[i] != 1 + tile;
    meet(met, 4);
  }
}
void flush_to_zero(int on) { __builtin_ia32_ldmxcsr(on ? 0x9fc0 : 0x1f80); }
void halve(void *const *buffers, long first, long last) {
  volatile float *values = buffers[0];
  int *threads = buffers[1];
  for (long tile = first; tile < last; tile++) {
    threads[tile] = gettid();
    meet(buffers[2], 2);
    values[tile] = values[tile] * 0.5f;
  }
}
void add_tile(void *const *buffers, long first, long last) {
  long *output = buffers[0], *input = buffers[1];
  for (long tile = first; tile < last; tile++) output[tile] = input[tile] + tile;
}
void number_tile(void *const *buffers, long first, long last) {
  long *output = buffers[0];
  for (long tile = first; tile < last; tile++) output[tile] = tile;
}
"""
two_cores = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="two threads that meet need two cores"
)


@pytest.fixture(params=list(Threading))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes workers of each kind, with a pinning."""
    return lambda *given: Workers(tmp_path if request.param is Threading.POOL else None, *given)


def code(directory: Path) -> Path:
    return compiler.compile(MEETING, detect(), directory)


def meet(program: Program, nbytes: int) -> tuple[list[int], list[int], list[int]]:
    """Two tiles on two threads: thread ids, addresses of scratch memory, bytes of it changed by others."""
    threads, met = np.zeros(2, np.int32), np.zeros(1, np.int32)
    places, changed, size = np.zeros(2, np.int64), np.full(2, -1, np.int64), np.array([nbytes])
    program.run([array.ctypes.data for array in (threads, places, changed, size, met)], tiles=2, threads=2)
    return threads.tolist(), places.tolist(), changed.tolist()


@two_cores
def test_each_thread_has_scratch_memory_of_its_own_that_grows(make: Make, tmp_path: Path) -> None:
    workers = make()
    for nbytes in (64, 3 << 20, 4096, 20 << 20):
        threads, places, changed = meet(load(code(tmp_path), "meeting", nbytes, workers), nbytes)
        assert len(set(threads)) == 2
        assert changed == [0, 0]
        assert places[0] != places[1]
        assert [place % scratch.HUGE_PAGE for place in places] == [0, 0]


def test_more_scratch_memory_than_there_may_be_is_refused(tmp_path: Path) -> None:
    made = code(tmp_path)
    load(made, "meeting", scratch=scratch.MOST)
    with pytest.raises(DeviceError, match=f"needs {scratch.MOST + 1} bytes of scratch memory"):
        load(made, "meeting", scratch=scratch.MOST + 1)


def test_the_callers_scratch_memory_is_kept_and_its_own() -> None:
    assert scratch.scratch(0) == 0
    mine = scratch.scratch(100)
    assert scratch.scratch(4096) == mine
    with ThreadPoolExecutor(1) as other:
        assert other.submit(scratch.scratch, 100).result() != mine


@two_cores
@pytest.mark.skipif(platform.machine() != "x86_64", reason="sets x86's control register")
def test_workers_do_not_flush_to_zero_because_the_caller_does(make: Make, tmp_path: Path) -> None:
    made = code(tmp_path)
    halve, flush = load(made, "halve", 0, make()), ctypes.CDLL(str(made)).flush_to_zero
    values = np.full(2, 1.5e-38, np.float32)
    threads, met = np.zeros(2, np.int32), np.zeros(1, np.int32)
    flush(1)
    try:
        halve.run([array.ctypes.data for array in (values, threads, met)], tiles=2, threads=2)
    finally:
        flush(0)
    (worker,) = values[threads != threading.get_native_id()]
    assert 0 < worker < np.finfo(np.float32).tiny


@two_cores
def test_pinned_workers_have_a_core_of_their_own_each_and_the_report_counts_them(
    make: Make, tmp_path: Path
) -> None:
    workers = make(Pinning.CORES)
    threads, _, _ = meet(load(code(tmp_path), "meeting", 64, workers), 64)
    (worker,) = set(threads) - {threading.get_native_id()}
    first, *others = sorted(os.sched_getaffinity(0))
    (core,) = os.sched_getaffinity(worker)
    assert core in others
    assert first not in os.sched_getaffinity(worker)
    report = workers.report()
    assert 1 <= report.pinned <= min(report.started, len(others))


@two_cores
def test_free_workers_may_run_wherever_the_process_may_but_on_the_submitters_core(
    make: Make, tmp_path: Path
) -> None:
    workers = make()
    threads, _, _ = meet(load(code(tmp_path), "meeting", 64, workers), 64)
    ours = os.sched_getaffinity(0)
    for worker in set(threads) - {threading.get_native_id()}:
        assert len(ours - os.sched_getaffinity(worker)) <= 1
        assert os.sched_getaffinity(worker) <= ours
    report = workers.report()
    assert (report.started >= 1, report.pinned) == (True, 0)


def in_a_child(check: Callable[[], bool]) -> bool:
    """Does it hold in a forked process?"""
    pid = os.fork()
    if pid == 0:
        held = False
        try:
            held = check()
        finally:
            os._exit(0 if held else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def sums(workers: Workers, made: Path, tiles: int, threads: int) -> list[int]:
    program = load(made, "add_tile", 0, workers)
    output, given = np.zeros(tiles, np.int64), np.full(tiles, 5, np.int64)
    program.run([output.ctypes.data, given.ctypes.data], tiles, threads)
    return output.tolist()


def test_a_process_that_may_use_one_core_pins_no_worker_elsewhere(make: Make, tmp_path: Path) -> None:
    workers, made = make(Pinning.CORES), code(tmp_path)
    workers.start()

    def check() -> bool:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        found = sums(workers, made, 50, 2)
        report = workers.report()
        return found == [5 + tile for tile in range(50)] and (report.started, report.pinned) == (1, 0)

    assert in_a_child(check)


def test_workers_start_again_in_a_forked_child(make: Make, tmp_path: Path) -> None:
    workers, made = make(), code(tmp_path)
    wanted = [5 + tile for tile in range(64)]
    assert sums(workers, made, 64, 3) == wanted
    assert in_a_child(lambda: sums(workers, made, 64, 3) == wanted and workers.report().started in (1, 2))


@pytest.mark.parametrize(("tiles", "threads", "started"), [(2, 8, 1), (5, 3, 2), (200, 1024, 63), (1, 4, 0)])
def test_no_more_workers_start_than_tiles_or_threads_can_use(
    tmp_path: Path, tiles: int, threads: int, started: int
) -> None:
    workers, made = Workers(tmp_path), code(tmp_path)
    workers.start()

    def check() -> bool:
        right = sums(workers, made, tiles, threads) == [5 + tile for tile in range(tiles)]
        return right and workers.report().started == started

    assert in_a_child(check)


def test_more_threads_submit_than_there_are_places_in_the_ring(make: Make, tmp_path: Path) -> None:
    workers, made = make(), code(tmp_path)
    wanted = [5 + tile for tile in range(20)]
    with ThreadPoolExecutor(12) as submitters:
        found = submitters.map(lambda _: [sums(workers, made, 20, 3) for _ in range(40)], range(12))
        assert all(each == wanted for several in found for each in several)


def test_a_list_runs_in_its_order_whatever_the_number_of_threads(make: Make, tmp_path: Path) -> None:
    workers = make()
    program = load(code(tmp_path), "add_tile", 0, workers)
    calls = Calls([Call(program.function, (n + 1, n), 0, tiles=1 + 7 * (n % 3)) for n in range(30)])
    for threads in (1, 2, 4):
        arrays = [np.zeros(15, np.int64) for _ in range(31)]
        addresses = (ctypes.c_void_p * 31)(*(array.ctypes.data for array in arrays))
        workers.replay(calls, addresses, threads, Ring(64))
        for n, (before, after) in enumerate(pairwise(arrays)):
            tiles = 1 + 7 * (n % 3)
            assert after[:tiles].tolist() == [value + tile for tile, value in enumerate(before[:tiles])]


def test_a_limit_is_read_from_memory_in_each_run(make: Make, tmp_path: Path) -> None:
    workers, before = make(), np.zeros(20, np.int64)
    program = load(code(tmp_path), "add_tile", 0, workers)
    calls = Calls([Call(program.function, (1, 0), 0, 10, limit=Limit(count=2, unit=3, step=4))])
    for count in (1, 2, 4, 5, 13, 14, 100):  # of 3 elements each, 4 of which are a tile
        after, size = np.full(20, -1), np.array(count, np.int64)
        addresses = (ctypes.c_void_p * 3)(*(array.ctypes.data for array in (before, after, size)))
        for threads in (1, 3):
            workers.replay(calls, addresses, threads, Ring(64))
            tiles = min(10, -(-count * 3 // 4))
            assert after.tolist() == [*range(tiles), *[-1] * (20 - tiles)]


def test_another_function_is_called_for_few_elements(make: Make, tmp_path: Path) -> None:
    workers, before = make(), np.full(20, 100, np.int64)
    many, few = (load(code(tmp_path), name, 0, workers).function for name in ("add_tile", "number_tile"))
    shorter = Shorter(few, 3)
    calls = Calls([Call(many, (1, 0), 0, 10, limit=Limit(count=2, unit=1, step=2), shorter=shorter)])
    for count in (1, 3, 4, 20):
        after, size = np.full(20, -1), np.array(count, np.int64)
        addresses = (ctypes.c_void_p * 3)(*(array.ctypes.data for array in (before, after, size)))
        workers.replay(calls, addresses, 2, Ring(64))
        written = range(count) if count <= 3 else range(100, 100 + count // 2)
        assert after.tolist() == [*written, *[-1] * (20 - len(written))]


def test_an_empty_list_does_nothing(make: Make) -> None:
    ring = Ring(4)
    make().replay(Calls([]), (ctypes.c_void_p * 1)(), 2, ring)
    assert not ring.records.any()


def test_every_kernel_of_a_list_is_an_event_and_the_oldest_are_written_over(
    make: Make, tmp_path: Path
) -> None:
    function, ring = load(code(tmp_path), "add_tile").function, Ring(8)
    arrays = [np.zeros(1, np.int64) for _ in range(2)]
    addresses = (ctypes.c_void_p * 2)(*(array.ctypes.data for array in arrays))
    begun = perf_counter_ns()
    for start in (0, 100):
        calls = Calls([Call(function, (1, 0), 0, 1, subject=start + n) for n in range(11)])
        make().replay(calls, addresses, 2, ring)
    ended = perf_counter_ns()
    records = ring.read(1, 23)
    assert records[:, 0].tolist() == list(range(15, 23))
    assert records[:, 1].tolist() == list(range(103, 111))
    times = records[:, 2:].ravel().tolist()
    assert [begun, *times, ended] == sorted([begun, *times, ended])


def test_who_has_no_compiler_is_told_that_python_does_it(tmp_path: Path) -> None:
    def missing() -> None:
        raise CompileError("target", "there is none")

    said: list[str] = []
    workers = Workers(tmp_path, Pinning.NONE, said.append, missing)  # type: ignore[arg-type]
    assert workers.threading is Threading.PYTHON
    assert said == [
        "kernels share Python's threads and lists of kernels are run by Python: target: there is none"
    ]


def test_the_pool_compiles_without_a_warning() -> None:
    source = resources.files("engine.runtime").joinpath("pool.c").read_text(encoding="utf-8")
    command = [
        detect().executable,
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        "-x",
        "c",
        "-",
    ]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pool_that_is_compiled_already_is_loaded(tmp_path: Path) -> None:
    path = build_pool(detect(), tmp_path)
    before = path.stat().st_ino
    assert build_pool(detect(), tmp_path) == path
    assert path.stat().st_ino == before
    assert Workers(tmp_path).threading is Threading.POOL
