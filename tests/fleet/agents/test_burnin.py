"""A burn-in: right answers and their rate, and a failure for whatever cannot be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.target import Target
from engine.toolchain import renderer_of
from fleet.agents.gpu_spec import BurninResult, BurninSpec
from fleet.agents.tasks import burnin
from fleet.agents.tasks.context import Failed, TaskContext
from fleet.agents.walls import nvml
from tests.fakes import Fault, FaultKind, FaultyRenderer


def wrong(target: Target) -> FaultyRenderer:
    """Code whose results are one percent off."""
    return FaultyRenderer(renderer_of(target), [Fault(FaultKind.OFF_BY_ONE_PERCENT)])


def burn(folder: Path, context: TaskContext | None = None, **wanted: object) -> dict[str, object]:
    (folder / "artifacts").mkdir(exist_ok=True)
    spec = BurninSpec.model_validate({"seconds": 0.2} | wanted).model_dump(mode="json")
    return burnin.run(spec, folder, lambda _: None, context or TaskContext(cache=folder))


@pytest.mark.slow
def test_a_cpu_multiplies_matrices_that_are_checked_and_its_rate_is_measured(tmp_path: Path) -> None:
    found = BurninResult.model_validate(burn(tmp_path))
    assert found.rate > 1e6


def test_a_gpu_that_cannot_be_asked_has_not_passed(tmp_path: Path) -> None:
    if nvml.pci_address(63) is not None:
        pytest.skip("this machine has 64 GPUs")
    with pytest.raises(Failed, match="gpu63 cannot be asked"):
        burn(tmp_path, gpu="gpu63")


@pytest.mark.slow
def test_a_cpu_whose_product_is_wrong_fails(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="wrong"):
        burn(tmp_path, TaskContext(tmp_path, wrong))
