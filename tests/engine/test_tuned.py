"""BEAM: a program's kernels with the schedules that searches found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.build import const, elementwise, param
from engine.building import candidate
from engine.device.cpu import Cpu
from engine.dtype import int64
from engine.kernel import Kernel
from engine.measurement import measure
from engine.ops import Op
from engine.options import Options
from engine.opts import Opt, OptKind, Schedule, schedule_hash
from engine.outcome import Measured, Outcome
from engine.picks import pick
from engine.programs import program, random_inputs
from engine.runtime.interp import evaluate
from engine.runtime.llvm import detect
from engine.serialize import kernel_hash
from engine.store import Store
from engine.tuned import Tuned

GEMM = program("gemm", [24, 20, 16])
FOUND = (Opt(OptKind.VEC, "out", 1, 4), Opt(OptKind.UPCAST, "out", 0, 3))
Keep = Callable[[Schedule, int], None]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Store a schedule as the best one for so many threads."""

    def kept(schedule: Schedule, threads: int) -> None:
        best = Measured(schedule, schedule_hash(schedule), Outcome.OK, 1e-6, (1e-6,))
        Store(tmp_path / "engine").choose(kernel_hash(GEMM), detect().id, threads, best)

    return kept


def test_what_is_stored_is_used_for_its_number_of_threads(tmp_path: Path, keep: Keep) -> None:
    told: list[str] = []
    tuned, target = Tuned(Options(cache=tmp_path, beam=0), told.append), detect()
    assert tuned(GEMM, target, 1) == pick(GEMM, target, 1)
    keep(FOUND, 1)
    assert tuned(GEMM, target, 1) == FOUND
    assert tuned(GEMM, target, 2) == pick(GEMM, target, 2)
    assert Tuned(Options(cache=tmp_path), told.append)(GEMM, target, 1) == pick(GEMM, target, 1)
    assert told == []


def test_a_stored_schedule_that_is_not_allowed_is_said_and_not_used(tmp_path: Path, keep: Keep) -> None:
    told: list[str] = []
    keep((Opt(OptKind.UPCAST, "out", 5, 3),), 1)
    found = Tuned(Options(cache=tmp_path, beam=0), told.append)(GEMM, detect(), 1)
    assert found == pick(GEMM, detect(), 1)
    assert ["BEAM: the model's pick is used" in line for line in told] == [True]


def test_a_store_that_cannot_be_is_said(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "engine").write_text("no folder")
    found = Tuned(Options(cache=tmp_path, beam=0.1), told.append)(GEMM, detect(), 1)
    assert found == pick(GEMM, detect(), 1)
    assert ["BEAM: the model's pick is used" in line for line in told] == [True]


@pytest.mark.slow
def test_numbers_without_axes_are_measured_like_others(tmp_path: Path) -> None:
    kernel = Kernel(elementwise(Op.ADD, param(0, (), int64), const(3, int64, ())))
    (found,) = measure(kernel, [candidate(())], detect(), store=Store(tmp_path))
    assert (found.outcome, found.detail) == (Outcome.OK, "")


@pytest.mark.slow
def test_a_new_kernel_is_searched_once_and_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = random_inputs(GEMM, 3)
    for _ in range(2):  # the second device finds what the first has stored
        cpu = Cpu("LLVM", Options(cache=tmp_path, threads=1, beam=0.2))
        np.testing.assert_allclose(cpu.run(GEMM, inputs), evaluate(GEMM, inputs), rtol=1e-4, atol=1e-5)
    assert capsys.readouterr().err.count("CPU: BEAM: float32(24, 20)") == 1
    assert Store(tmp_path / "engine").best(kernel_hash(GEMM), detect().id, 1) is not None
