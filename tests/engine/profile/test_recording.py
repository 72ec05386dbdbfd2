"""Whatever runs kernels is recorded: tensors, replayed functions, devices, several threads."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from engine import jit
from engine.device import get
from engine.device.cpu import Cpu
from engine.options import Options
from engine.profile import Recording, record
from engine.programs import program, random_inputs
from engine.tensor import Tensor

COPY = program("copy", [5, 3])


def shapes(events: Recording) -> list[tuple[int, ...]]:
    return [event.subject.kernel.output.arg[1] for event in events]


@pytest.mark.parametrize("device", ["CPU", "CPU:C", "INTERP"])
def test_runs_are_recorded_in_their_order_with_their_times(device: str) -> None:
    other = program("copy", [2, 7])
    with record() as events:
        for kernel in (COPY, other, COPY):
            get(device).run(kernel, random_inputs(kernel, 0))
    assert shapes(events) == [(5, 3), (2, 7), (5, 3)]
    times = [(event.start_ns, event.end_ns) for event in events]
    flat = [time for pair in times for time in pair]
    assert flat == sorted(flat)
    assert events.begun_ns <= flat[0]
    assert events.ended_ns is not None
    assert flat[-1] <= events.ended_ns
    assert [len(runs.events) for runs in sorted(events.kernels(), key=lambda runs: -len(runs.events))] == [
        2,
        1,
    ]


def test_what_runs_before_and_after_is_not_in_a_recording() -> None:
    inputs = random_inputs(COPY, 0)
    get("CPU").run(COPY, inputs)
    with record() as events:
        assert list(events) == []
        get("CPU").run(COPY, inputs)
        assert len(list(events)) == 1  # a recording that goes on may be looked at
    get("CPU").run(COPY, inputs)
    assert shapes(events) == [(5, 3)]


def test_the_kernels_of_a_replayed_function_are_recorded_each_time() -> None:
    @jit
    def twice(x: Tensor) -> Tensor:
        return ((x + 1).sum(axis=1) * 2).contiguous() + 1

    x = Tensor.ones(6, 4).realize()
    for _ in range(3):
        twice(x)
    with record() as events:
        for _ in range(5):
            twice(x)
    (plan,) = twice.plans
    assert len(plan.launches) >= 2
    kernels = [launch.kernel for launch in plan.launches]
    assert [event.subject.kernel for event in events] == kernels * 5
    assert all(event.end_ns >= event.start_ns for event in events)
    starts = [event.start_ns for event in events]
    assert starts == sorted(starts)


def test_a_kernel_made_anew_is_the_same_line(tmp_path: Path) -> None:
    device = Cpu("LLVM", Options(cache=tmp_path, threads=1))
    inputs = random_inputs(COPY, 0)
    with record() as events:
        for _ in range(3):
            device.prepare(COPY, ())(inputs)
    (runs,) = events.kernels()
    assert len(runs.events) == 3


def test_a_subject_says_on_how_many_threads_it_runs(tmp_path: Path) -> None:
    device = Cpu("LLVM", Options(cache=tmp_path, threads=3))
    big, small = program("gemm", [256, 256, 64]), program("copy", [4])
    with record() as events:
        for kernel in (big, small):
            device.run(kernel, random_inputs(kernel, 0))
    assert [event.subject.threads for event in events] == [3, 1]


def test_recordings_may_overlap_and_threads_may_run_kernels() -> None:
    inputs = random_inputs(COPY, 0)

    def run() -> None:
        for _ in range(50):
            get("CPU").run(COPY, inputs)

    with record() as outer:
        threads = [Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        with record() as inner:
            run()
        for thread in threads:
            thread.join()
    assert len(outer) == 200
    assert 50 <= len(inner) <= 200
    assert outer.lost == inner.lost == 0
    assert 0 < outer.busy_s <= outer.wall_s
