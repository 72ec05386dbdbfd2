"""engine.device: names, and the one place where DEV is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from engine import device
from engine.errors import DeviceError
from engine.kernel import Kernel
from engine.programs import program, random_inputs
from engine.tensor import Tensor


def test_dev_selects_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "interp")
    assert Tensor([1.0]).device == device.get().name == "INTERP"


def test_a_name_given_goes_before_dev() -> None:
    assert device.canonical("INTERP", {"DEV": "CPU"}) == "INTERP"


def test_cpu_is_the_default_and_means_its_c_renderer() -> None:
    assert device.canonical(None, {}) == device.canonical(None, {"DEV": ""}) == "CPU"
    assert device.canonical("cpu:c") == "CPU"


@pytest.mark.parametrize("name", ["", "GPU", "CPU:LLVM", "INTERP:0"])
def test_an_unknown_device_is_refused_with_a_list_of_those_there_are(name: str) -> None:
    with pytest.raises(DeviceError, match="there are CPU, CPU:C, INTERP"):
        device.canonical(name)


def test_an_unknown_dev_is_named_as_the_source() -> None:
    with pytest.raises(DeviceError, match="DEV='TPU'"):
        device.canonical(None, {"DEV": "TPU"})


def test_a_device_is_made_once() -> None:
    assert device.get("INTERP") is device.get("interp")


def test_the_interpreter_runs_a_kernel() -> None:
    kernel = program("gemm", (3, 4, 5))
    a, b = random_inputs(kernel, 0)
    np.testing.assert_allclose(device.get("INTERP").run(kernel, [a, b]), a @ b, rtol=1e-5, atol=1e-6)


def test_the_cpu_compiles_a_kernel_once_and_agrees_with_the_interpreter(tmp_path: Path) -> None:
    cpu = device.Cpu(tmp_path)
    kernel = program("gemm", (33, 29, 41))
    inputs = random_inputs(kernel, 0)
    got = cpu.run(kernel, inputs)
    compiled = set(tmp_path.iterdir())
    np.testing.assert_array_equal(cpu.run(program("gemm", (33, 29, 41)), inputs), got)
    assert set(tmp_path.iterdir()) == compiled
    np.testing.assert_allclose(got, device.get("INTERP").run(kernel, inputs), rtol=1e-4, atol=1e-4)


def test_compiled_kernels_are_kept_in_the_users_cache(tmp_path: Path) -> None:
    found = device.cache_directory({"XDG_CACHE_HOME": str(tmp_path)})
    assert found == tmp_path / "tinyfleet" / "kernels"
    assert found.stat().st_mode & 0o777 == 0o700


def test_a_registered_device_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_FACTORIES", dict(device._FACTORIES))
    device.register("double", _Double)
    assert device.get("DOUBLE").run(program("copy", (2,)), [np.ones(2, np.float32)]).tolist() == [2, 2]
    assert "DOUBLE" in device.names()


class _Double(device.Interpreter):
    name = "DOUBLE"

    def run(self, kernel: Kernel, inputs: Sequence[device.Array]) -> device.Array:
        return 2 * super().run(kernel, inputs)
