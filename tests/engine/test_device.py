"""engine.device: names, and the one place where DEV is read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from engine import device
from engine import dtype as dt
from engine.device.compiled import Kernels
from engine.device.protocol import Array
from engine.errors import CompileError, DeviceError
from engine.ir import UOp
from engine.kernel import Kernel
from engine.ops import Op
from engine.options import Options
from engine.programs import program, random_inputs
from engine.render.c import CRenderer
from engine.repro import compile_repro
from engine.runtime.cpu import CpuRuntime
from engine.spec import Level, verify
from engine.target import detect
from engine.tensor import Tensor

ROOT = Path(__file__).parents[2]


def options_in(folder: Path) -> Options:
    return Options(cache=folder)


def test_dev_selects_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "interp")
    assert Tensor([1.0]).device == device.get().name == "INTERP"


def test_a_name_given_goes_before_dev() -> None:
    assert device.canonical("INTERP", Options(device="CPU")) == "INTERP"


def test_cpu_is_the_default() -> None:
    assert device.canonical(None, Options()) == "CPU"


def test_one_device_has_one_canonical_name() -> None:
    for name, kind in device.kinds().items():
        first = kind.parts[0] if kind.parts else ""
        assert device.canonical(f"{name.lower()}:{first}" if first else name) == name


@pytest.mark.parametrize("name", ["", "GPU", "CPU:", "CPU:X", "INTERP:0", "CPU:C:C", ":C"])
def test_an_unknown_device_is_refused_with_a_list_of_those_there_are(name: str) -> None:
    with pytest.raises(
        DeviceError, match=r"no such device; there are CPU, CPU:LLVM, CPU:C, INTERP, NULL, NULL:LLVM"
    ):
        device.canonical(name)


@pytest.mark.parametrize("name", ["CUDA:0", "CUDA:0-3", "CL", "WEBGPU", "FLEET:h200", "HIP"])
def test_a_device_of_the_design_without_a_backend_says_so(name: str) -> None:
    with pytest.raises(DeviceError, match=r"that backend is not part of this build; there are CPU"):
        device.canonical(name)


def test_an_unknown_dev_is_named_as_the_source() -> None:
    with pytest.raises(DeviceError, match="DEV='TPU'"):
        device.canonical(None, Options(device="TPU"))


def test_a_device_is_made_once_for_its_options(tmp_path: Path) -> None:
    assert device.get("INTERP") is device.get("interp")
    assert device.get("CPU", options_in(tmp_path)) is device.get("CPU", options_in(tmp_path))
    assert device.get("CPU", options_in(tmp_path)) is not device.get("CPU", options_in(tmp_path / "other"))


def test_the_interpreter_runs_a_kernel() -> None:
    kernel = program("gemm", (3, 4, 5))
    a, b = random_inputs(kernel, 0)
    np.testing.assert_allclose(device.get("INTERP").run(kernel, [a, b]), a @ b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["CPU", "CPU:LLVM", "CPU:C"])
def test_the_cpu_compiles_a_kernel_once_and_agrees_with_the_interpreter(name: str, tmp_path: Path) -> None:
    cpu = device.get(name, options_in(tmp_path))
    kernel = program("gemm", (33, 29, 41))
    inputs = random_inputs(kernel, 0)
    got = cpu.run(kernel, inputs)
    compiled = set(tmp_path.rglob("*"))
    np.testing.assert_array_equal(cpu.run(program("gemm", (33, 29, 41)), inputs), got)
    assert set(tmp_path.rglob("*")) == compiled
    np.testing.assert_allclose(got, device.get("INTERP").run(kernel, inputs), rtol=1e-4, atol=1e-4)


class Double(device.Interpreter):
    name = "DOUBLE"

    def __init__(self, part: str = "", options: Options | None = None) -> None:
        self.name = f"DOUBLE:{part}" if part else "DOUBLE"

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        return 2 * super().run(kernel, inputs)


@pytest.fixture
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kinds registered by the test are gone after it."""
    monkeypatch.setattr(device, "_kinds", dict(device._kinds))


@pytest.mark.usefixtures("_as_it_was")
def test_a_registered_device_is_found_by_name() -> None:
    device.register("double", Double)
    doubled = device.get("DOUBLE:7")
    assert doubled.run(program("copy", (2,)), [np.ones(2, np.float32)]).tolist() == [2, 2]
    assert doubled.name == "DOUBLE:7"
    assert "DOUBLE" in device.names()


# A package as pip leaves it on the path: a module, and metadata that names the entry point.
INSTALLED = """
import sys
from engine import device
from engine import dtype as dt
from engine.device.compiled import Kernels
assert "quadruple" not in sys.modules
assert "QUAD" in device.names()
assert "quadruple" not in sys.modules, "listing loads nothing"
device.get("INTERP")
assert "quadruple" not in sys.modules, "a known name loads nothing"
print(device.get("quad:2").name)
"""


def test_an_installed_package_brings_a_device_that_is_loaded_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "quadruple.py").write_text(
        "class Quad:\n    def __init__(self, part, options):\n        self.name = f'QUAD:{part}'\n"
    )
    info = tmp_path / "quadruple-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: quadruple\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tinyfleet.devices]\nquad = quadruple:Quad\n")
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED], capture_output=True, text=True, env=path, check=False
    )
    assert (done.stdout, done.stderr) == ("QUAD:2\n", "")


@pytest.mark.usefixtures("_as_it_was")
def test_a_package_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("broken", "nowhere_to_be_found:Device", device.GROUP)
    monkeypatch.setattr(device, "_entries", lambda: metadata.EntryPoints([entry]))
    with pytest.raises(DeviceError, match="load broken from nowhere_to_be_found:Device: ModuleNotFoundError"):
        device.get("BROKEN")


# ------------------------------------------------------------------------------------ what cannot be compiled

# Passes for gcc until it is asked to compile.
BROKEN_COMPILER = """#!/bin/sh
case "$*" in
  *-dM*) echo '#define __GNUC__ 12' ;;
  *--version*) echo 'gcc (Broken) 12.2.0' ;;
  *) echo 'internal compiler error: on purpose' >&2; exit 1 ;;
esac
"""


def test_a_kernel_that_cannot_be_compiled_is_kept_as_a_file_that_shows_it(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text(BROKEN_COMPILER)
    broken.chmod(0o755)
    options = replace(options_in(tmp_path / "cache"), compiler=str(broken))
    kernel = program("gemm", (33, 29, 41))
    with pytest.raises(CompileError) as caught:
        device.get("CPU:C", options).run(kernel, random_inputs(kernel, 0))
    assert caught.value.stage == "compile"
    assert "internal compiler error: on purpose" in str(caught.value)
    (repro,) = (tmp_path / "cache" / "repros").glob("*.py")
    assert f"the kernel is kept: python {repro}" in str(caught.value)

    environ = {"PYTHONPATH": str(ROOT), "TINYFLEET_CACHE": str(tmp_path / "other")}
    again = run_repro(repro, {**environ, "CC": str(broken)})
    assert again.returncode == 1
    assert "internal compiler error: on purpose" in again.stderr
    mended = run_repro(repro, {**environ, "PATH": os.environ["PATH"]})
    assert mended.returncode == 0, mended.stderr
    assert "It compiles" in mended.stdout


def run_repro(repro: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repro)], capture_output=True, text=True, env=environ, check=False, timeout=60
    )


class Stumbling(CRenderer):
    def render(self, linear: Sequence[UOp], name: str) -> str:
        raise KeyError(Op.ADD)


class Inventing(CRenderer):
    """A pass that makes a graph outside the spec would be found like this."""

    def render(self, linear: Sequence[UOp], name: str) -> str:
        verify(UOp(Op.ADD, dt.float32, ()), Level.KERNEL, "render")
        raise AssertionError


@pytest.mark.parametrize(
    ("renderer", "reason"),
    [(Stumbling, r"render: KeyError: ADD"), (Inventing, r"render: after render: ADD: has 0 sources, not 2")],
)
def test_a_pass_that_fails_is_named_and_the_kernel_kept(
    renderer: type[CRenderer], reason: str, tmp_path: Path
) -> None:
    options, kernel = options_in(tmp_path), program("gemm", (5, 6, 7))
    runtime = CpuRuntime(detect(), tmp_path, renderer)
    kernels = Kernels("CPU:C", detect(), runtime.prepare, options)
    with pytest.raises(CompileError, match=reason) as caught:
        kernels[kernel]
    assert caught.value.stage == "render"
    (repro,) = options.repros.glob("*.py")
    assert str(repro) in str(caught.value)
    environ = {"PYTHONPATH": str(ROOT), "TINYFLEET_CACHE": str(tmp_path / "o"), "PATH": os.environ["PATH"]}
    assert "It compiles" in run_repro(repro, environ).stdout  # the bug was in the test's renderer


def test_debug_prints_each_new_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = program("gemm", (5, 6, 7))
    expected = ["kernel float32(5, 6): 420 flops", "schedule: ", "REDUCE", "void kernel("]
    for level in range(5):
        cpu = device.get("CPU:C", replace(options_in(tmp_path), debug=level))
        cpu.run(kernel, random_inputs(kernel, 0))
        cpu.run(kernel, random_inputs(kernel, 0))
        printed = capsys.readouterr().err
        assert [text in printed for text in expected] == [level >= n for n in (1, 2, 3, 4)]
        assert printed.count(expected[0]) == (level >= 1)


def test_a_kernel_too_large_for_json_is_kept_as_its_graph() -> None:
    kernel = program("copy", (1 << 30,))
    text = compile_repro(kernel, (), "NULL", "VerifyError: after lower: no")
    assert "It cannot be rebuilt from this file" in text
    assert "PARAM" in text
    compile(text, "repro.py", "exec")
