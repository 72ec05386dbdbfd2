"""How far float32 can come depends on the numbers: the kernel as written is asked before a result counts as wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.build import const, elementwise, param, reduce
from engine.building import candidate
from engine.dtype import float32
from engine.kernel import Kernel
from engine.measurement import confirm
from engine.ops import Op
from engine.opts import Opt, OptKind
from engine.store import Store
from engine.toolchain import detect, renderer_of
from tests.fakes import Fault, FaultKind, FaultyRenderer


def wavering() -> Kernel:
    """Sums of sin(exp(2x)): how much a rounding error grows depends on the numbers, on a few of them most."""
    shape = (300, 200)
    doubled = elementwise(Op.MUL, param(0, shape, float32), const(2.0, float32, shape))
    return Kernel(reduce(Op.ADD, elementwise(Op.SIN, elementwise(Op.EXP, doubled)), (1,)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "expected"), [(None, ["ok", "ok"]), (FaultKind.OFF_BY_ONE_PERCENT, ["ok", "wrong"])]
)
def test_an_error_of_the_kernel_as_written_is_not_a_schedules_at_full_shape(
    fault: FaultKind | None, expected: list[str], tmp_path: Path
) -> None:
    target = detect()
    faults = [] if fault is None else [Fault(fault, frozenset({2}))]
    renderer = FaultyRenderer(renderer_of(target), faults)
    wanted = [candidate(schedule) for schedule in ((), (Opt(OptKind.UPCAST, "out", 0, 2),))]
    found = confirm(wavering(), wanted, target, store=Store(tmp_path), renderer=renderer, time_s=0.01)
    assert [measured.outcome.value for measured in found] == expected
