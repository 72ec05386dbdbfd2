"""The device CPU: kernels compiled for the cores that this process may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from engine.device.compiled import Kernels
from engine.device.protocol import Array
from engine.kernel import Kernel
from engine.options import Options
from engine.opts import Schedule
from engine.runtime import cpu
from engine.target import Target, detect

Prepare = Callable[[Kernel, Schedule, int], cpu.Prepared]


def _by_c(options: Options) -> tuple[Target, Prepare]:
    """Kernels as C, compiled by the system's compiler and kept in the options' cache across processes."""
    target = detect(options=options)
    return target, cpu.CpuRuntime(target, options.kernels).prepare


def _by_llvm(options: Options) -> tuple[Target, Prepare]:
    """Kernels compiled by LLVM in this process. llvmlite is loaded by the first device that needs it."""
    llvm = import_module("engine.runtime.llvm")
    target: Target = llvm.detect()
    prepare: Prepare = llvm.LlvmRuntime(target, options.kernels).prepare
    return target, prepare


# By the part of the name behind the colon; the first is what CPU alone means.
COMPILERS: dict[str, Callable[[Options], tuple[Target, Prepare]]] = {"LLVM": _by_llvm, "C": _by_c}


class Cpu:
    """Compiles each kernel once and runs it on all cores, or as many threads as the options say."""

    def __init__(self, part: str, options: Options) -> None:
        self.name = "CPU" if part == next(iter(COMPILERS)) else f"CPU:{part}"
        target, prepare = COMPILERS[part](options)
        self._kernels = Kernels(self.name, target, prepare, options)

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """See `Device`. CompileError names the pass that failed and a file that shows it."""
        return self._kernels[kernel](inputs)

    def prepare(self, kernel: Kernel, schedule: Schedule) -> cpu.Prepared:
        """The kernel compiled with this schedule instead of the heuristic's. CompileError as `run`."""
        return self._kernels.make(kernel, schedule)
