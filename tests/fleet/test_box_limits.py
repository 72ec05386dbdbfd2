"""How a node compares with its model: every limit is a line, and one that is not met says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from fleet.box_limits import Burnt, Found, FoundGpu, Limits, Line, compare, reason

GIB = 1 << 30
PASSED = Burnt(rate=8e12, link_width=16, link_generation=5, temperature=60.0)
GPU = FoundGpu("gpu0", "NVIDIA H200", "sm_90", 141 * GIB, 16, 1, 40.0, PASSED)
FOUND = Found(
    192, 2048 * GIB, (GPU, replace(GPU, name="gpu1")), {"D0": 4 << 40, "D1": 4 << 40}, Burnt(rate=5e10)
)
LIMITS = Limits(
    gpus=2,
    gpu_model="H200",
    gpu_arch="sm_90",
    gpu_memory_bytes=140 * GIB,
    pcie_width=16,
    pcie_generation=5,
    cores=128,
    memory_bytes=2000 * GIB,
    drives=2,
    drive_bytes=3 << 40,
    gpu_temperature_celsius=85,
    gpu_burnin_rate=7e12,
    cpu_burnin_rate=4e10,
)


def wrong(found: Found, limits: Limits = LIMITS) -> list[Line]:
    return [line for line in compare(limits, found) if not line.ok]


def test_a_box_that_is_what_its_model_says_has_nothing_wrong() -> None:
    assert wrong(FOUND) == []
    assert len(compare(LIMITS, FOUND)) == 1 + 2 * 7 + 4 + 1


@pytest.mark.parametrize(
    ("change", "what", "have"),
    [
        ({"gpus": (GPU,)}, "gpus", "1"),
        ({"cores": 64}, "cores", "64"),
        ({"memory_bytes": 1024 * GIB}, "memory", "1024 GiB"),
        ({"drives": {"D0": 4 << 40}}, "drives", "1"),
        ({"drives": {"D0": 4 << 40, "D1": 1 << 40}}, "smallest drive", "1024 GiB"),
        ({"cpu": Burnt("the product is wrong")}, "cpu burn-in", "the product is wrong"),
        ({"cpu": Burnt(rate=1e10)}, "cpu burn-in", "passed at 10 GFLOP/s"),
    ],
)
def test_what_the_machine_lacks_is_one_line_with_a_fix(
    change: dict[str, object], what: str, have: str
) -> None:
    (line,) = wrong(replace(FOUND, **change))  # type: ignore[arg-type]
    assert (line.what, line.have) == (what, have)
    assert line.fix


@pytest.mark.parametrize(
    ("change", "what", "have"),
    [
        ({"model": "NVIDIA H100"}, "gpu1 model", "NVIDIA H100"),
        ({"arch": "sm_80"}, "gpu1 architecture", "sm_80"),
        ({"memory_bytes": 80 * GIB}, "gpu1 memory", "80 GiB"),
        ({"burnt": replace(PASSED, link_width=8)}, "gpu1 PCIe width", "x8"),
        ({"burnt": replace(PASSED, link_generation=4)}, "gpu1 PCIe generation", "gen 4"),
        ({"burnt": replace(PASSED, temperature=93.0)}, "gpu1 temperature", "93 °C"),
        ({"burnt": replace(PASSED, rate=3e12)}, "gpu1 burn-in", "passed at 3000 Gop/s"),
        ({"burnt": replace(PASSED, problem="no answer")}, "gpu1 burn-in", "no answer"),
    ],
)
def test_what_one_gpu_lacks_is_one_line_that_names_it(
    change: dict[str, object], what: str, have: str
) -> None:
    other = replace(GPU, name="gpu1", **change)  # type: ignore[arg-type]
    (line,) = wrong(replace(FOUND, gpus=(GPU, other)))
    assert (line.what, line.have) == (what, have)
    assert line.fix


def test_what_the_link_is_under_load_counts_and_not_what_an_idle_gpu_slowed_it_down_to() -> None:
    idle = replace(GPU, burnt=replace(PASSED, link_generation=None), link_generation=1)
    assert [line.what for line in wrong(replace(FOUND, gpus=(GPU, idle)))] == ["gpu0 PCIe generation"]


def test_what_nobody_measured_is_not_taken_for_enough() -> None:
    dark = FoundGpu("gpu1", "NVIDIA H200", "sm_90", 141 * GIB)
    lines = wrong(replace(FOUND, gpus=(GPU, dark), drives=None))
    assert {line.have for line in lines} == {"not measured", "it was not tested"}
    assert {line.what for line in lines} >= {"gpu1 PCIe width", "gpu1 temperature", "drives", "gpu1 burn-in"}


def test_a_burn_in_is_asked_of_every_box_whatever_its_model_says() -> None:
    bare = Found(1, GIB, (FoundGpu("gpu0"),))
    assert [line.what for line in wrong(bare, Limits(gpus=1))] == ["gpu0 burn-in", "cpu burn-in"]


def test_the_reason_of_a_cordon_is_the_first_line_and_how_many_more_there_are() -> None:
    lines = compare(LIMITS, replace(FOUND, gpus=(GPU,), cores=64))
    assert reason("h200x2", lines) == "it is no h200x2: gpus should be 2, is 1; and 1 more"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"gpus": -1},
        {"gpus": 65},
        {"gpus": "2"},
        {"gpus": 2, "pcie_with": 16},
        {"gpus": 1, "gpu_burnin_rate": 0},
    ],
)
def test_limits_that_cannot_be_are_refused(said: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate(said)
