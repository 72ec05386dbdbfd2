"""A burn-in: right answers and their rate, and a failure for whatever cannot be asked."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.target import Target
from engine.toolchain import renderer_of
from fleet.agents.gpu_spec import BurninResult, BurninSpec
from fleet.agents.tasks import burnin, hip
from fleet.agents.tasks.context import Failed, TaskContext
from fleet.agents.walls import known_answer, nvml
from tests.fakes import Fault, FaultKind, FaultyRenderer
from tests.parts import need

FAKE = Path(__file__).with_name("fake_rocm.c")


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


# ------------------------------------------------------------------------------------------------- AMD


def rocm(folder: Path, *flags: str) -> Any:
    """ROCm's two libraries, made here with the kernel's source in them: a GPU that the processor plays."""
    compiler = need("cc", "gcc", "clang", install="gcc")
    made = folder / "librocm.so"
    (folder / "known.h").write_text(hip.SOURCE.decode().replace('extern "C" ', ""))
    flags = ("-I", str(folder), *flags)
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", *flags, "-o", made, FAKE, "-lm"], check=True)
    return ctypes.CDLL(str(made))


def amd_burn(library: Any, address: str = "0000:03:00.0") -> dict[str, Any]:
    card = hip.Asked(address, library, library)
    return burnin.asked(3, card, 0.05, lambda _: None, lambda: ((16, 5), 61.0))


def test_an_amd_gpu_that_knows_the_answers_passes_with_its_link_and_temperature(tmp_path: Path) -> None:
    found = BurninResult.model_validate(amd_burn(rocm(tmp_path)))
    assert (found.link_width, found.link_generation, found.temperature_celsius) == (16, 5, 61.0)
    assert found.rounds >= 1
    assert found.rate > 0


def test_an_amd_gpu_with_one_wrong_bit_fails(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=f"1 of {known_answer.THREADS} known answers are wrong .thread 77"):
        amd_burn(rocm(tmp_path, "-DWRONG"))


def test_an_amd_gpu_that_is_not_there_and_a_compiler_that_fails_are_no_pass(tmp_path: Path) -> None:
    library = rocm(tmp_path)
    with pytest.raises(known_answer.Refused, match="hipDeviceGetByPCIBusId answers 101"):
        amd_burn(library, "0000:04:00.0")
    (tmp_path / "broken").mkdir()
    with pytest.raises(known_answer.Refused, match="hiprtcCompileProgram answers 6: error: no gfx"):
        amd_burn(rocm(tmp_path / "broken", "-DBROKEN_COMPILER"))


def test_an_amd_gpu_is_found_by_its_render_node_and_says_its_link_and_heat(tmp_path: Path) -> None:
    card = tmp_path / "sys/devices/pci0000:00/0000:03:00.0"
    (card / "hwmon/hwmon4").mkdir(parents=True)
    said = {"current_link_width": "16", "current_link_speed": "32.0 GT/s PCIe"}
    said |= {"hwmon/hwmon4/temp1_input": "54000", "hwmon/hwmon4/temp2_input": "61000"}
    for name, text in said.items():
        (card / name).write_text(text + "\n")
    drivers = tmp_path / "sys/bus/pci/drivers"
    for name in ("amdgpu", "i915"):
        (drivers / name).mkdir(parents=True)
    (card / "driver").symlink_to(drivers / "amdgpu")
    render = tmp_path / "sys/class/drm/renderD131"
    render.mkdir(parents=True)
    (render / "device").symlink_to(card)
    found = hip.place(3, tmp_path)
    assert found is not None
    assert (found.address, found.link(), found.temperature()) == ("0000:03:00.0", (16, 5), 61.0)
    assert hip.place(4, tmp_path) is None
    (card / "driver").unlink()
    (card / "driver").symlink_to(drivers / "i915")
    assert hip.place(3, tmp_path) is None
