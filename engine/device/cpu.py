"""The device CPU: kernels compiled for the cores that this process may use."""

from __future__ import annotations

from collections.abc import Sequence

from engine.device.compiled import Kernels
from engine.device.protocol import Array
from engine.kernel import Kernel
from engine.options import Options
from engine.opts import Schedule
from engine.runtime import cpu
from engine.target import detect


class Cpu:
    """Kernels as C, compiled by the system's compiler.

    Compiled code is kept in the options' cache across processes and found again by its content.
    """

    def __init__(self, part: str, options: Options) -> None:
        self.name = "CPU"
        target = detect(options=options)
        runtime = cpu.CpuRuntime(target, options.kernels)
        self._kernels = Kernels(self.name, target, runtime.prepare, options)

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """See `Device`. CompileError names the pass that failed and a file that shows it."""
        return self._kernels[kernel](inputs)

    def prepare(self, kernel: Kernel, schedule: Schedule) -> cpu.Prepared:
        """The kernel compiled with this schedule instead of the heuristic's. CompileError as `run`."""
        return self._kernels.make(kernel, schedule)
