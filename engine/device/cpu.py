"""The device CPU: kernels compiled for the cores that this process may use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Protocol

from engine.device.compiled import Kernels
from engine.device.protocol import Array, Launch, Replayed
from engine.kernel import Kernel
from engine.options import Options
from engine.opts import Schedule
from engine.runtime import cpu
from engine.runtime.replay import Replay, Step
from engine.runtime.workers import Report, Workers
from engine.target import Target, detect
from engine.tuned import Tuned


class Runtime(Protocol):
    """What compiles and loads kernels."""

    @property
    def target(self) -> Target:
        """What they are compiled for."""

    @property
    def workers(self) -> Workers:
        """Who shares their tiles."""

    def prepare(self, kernel: Kernel, schedule: Schedule, threads: int) -> cpu.Prepared:
        """The kernel compiled with this schedule."""


def _by_c(options: Options) -> Runtime:
    """Kernels as C, compiled by the system's compiler and kept in the options' cache across processes."""
    return cpu.CpuRuntime(detect(options=options), options.kernels, pinning=options.pinning)


def _by_llvm(options: Options) -> Runtime:
    """Kernels compiled by LLVM in this process. llvmlite is loaded by the first device that needs it."""
    llvm = import_module("engine.runtime.llvm")
    # Said without DEBUG too, and once: it is looked for a compiler once, when first needed.
    workers = Workers(options.kernels, options.pinning, _said, partial(detect, options=options))
    found: Runtime = llvm.LlvmRuntime(llvm.detect(), workers=workers)
    return found


def _said(line: str) -> None:
    print(f"CPU: {line}", file=sys.stderr)


# By the part of the name behind the colon; the first is what CPU alone means.
COMPILERS: dict[str, Callable[[Options], Runtime]] = {"LLVM": _by_llvm, "C": _by_c}


class Cpu:
    """Compiles each kernel once and runs it on all cores, or as many threads as the options say."""

    def __init__(self, part: str, options: Options) -> None:
        self.name = "CPU" if part == next(iter(COMPILERS)) else f"CPU:{part}"
        self._debug = options.debug
        self._runtime = COMPILERS[part](options)
        target, prepare = self._runtime.target, self._runtime.prepare
        self._kernels = Kernels(self.name, target, prepare, options, Tuned(options, _said))

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """See `Device`. CompileError names the pass that failed and a file that shows it."""
        return self._kernels[kernel](inputs)

    def prepare(self, kernel: Kernel, schedule: Schedule) -> cpu.Prepared:
        """The kernel compiled with this schedule instead of the heuristic's. CompileError as `run`."""
        return self._kernels.make(kernel, schedule)

    def replayed(
        self, launches: Sequence[Launch], constants: Mapping[int, Array], results: frozenset[int], slots: int
    ) -> Replayed:
        """See `Replays`: the launches as a list that C goes through (Python, where `workers` says so)."""
        steps = [self._step(launch) for launch in launches]
        found = Replay(steps, constants, results, slots, self._runtime.workers)
        if self._debug:
            _said(f"a list of {len(steps)} kernels, {found.slab_bytes} bytes for what is computed on the way")
        return found

    def _step(self, launch: Launch) -> Step:
        if launch.needed is None:
            return Step(self._kernels[launch.kernel], launch.inputs, launch.output)
        axis = launch.needed.axis
        prepared, few = self._kernels.along(launch.kernel, axis), self._kernels.few(launch.kernel, axis)
        return Step(prepared, launch.inputs, launch.output, launch.needed, few)

    def workers(self) -> Report:
        """Who shares the tiles of kernels and goes through lists of them; threads there are now, and pinned ones."""
        return self._runtime.workers.report()
