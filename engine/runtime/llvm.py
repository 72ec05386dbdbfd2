"""Kernels through LLVM, in this process and without a C compiler: assembly is parsed, optimized and loaded.

What LLVM holds of a kernel is freed with its program. A search's kernels are compiled in one process and loaded in
another instead (engine.object_code).
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import llvmlite.binding as llvm

from engine.errors import DeviceError
from engine.kernel import Kernel
from engine.object_code import Assembler
from engine.opts import Schedule
from engine.pipeline import Rendered, compile_source
from engine.render.language import RendererFactory
from engine.render.llvm import LlvmRenderer
from engine.runtime.cpu import ENTRY, Prepared, Program, prepared
from engine.runtime.workers import Threading, Workers
from engine.target import Processor, Target, describe, read_processor
from engine.toolchain import features_of

_LINUX_NAMES = {"bmi": "bmi1", "sse4.2": "sse4_2"}
_X86_64 = frozenset({"x86_64", "AMD64"})


def detect() -> Target:
    """This machine's CPU with LLVM as its compiler: of the system's feature bits, those that LLVM confirms."""
    return _detected()


@lru_cache(maxsize=1)
def _detected() -> Target:
    version = ".".join(map(str, llvm.llvm_version_info))
    return describe(_confirmed(read_processor()), f"llvm {version}", ("-O2",))


def _confirmed(processor: Processor) -> Processor:
    if processor.machine not in _X86_64:
        return processor
    host = {_LINUX_NAMES.get(name, name) for name, there in llvm.get_host_cpu_features().items() if there}
    return replace(processor, flags=processor.flags & host)


class LlvmRuntime:
    """Compiles kernels for `target` into this process.

    `directory` is where the C worker pool is kept, if there is a C compiler to make it; without one (or without a
    directory) Python does its work: `threading` says which it is. `workers` may be given instead of a directory.
    """

    def __init__(
        self,
        target: Target,
        directory: Path | None = None,
        renderer: RendererFactory = LlvmRenderer,
        workers: Workers | None = None,
    ) -> None:
        self.target = target
        self.workers = workers or Workers(directory)
        self.renderer = renderer(target.features)
        self._jit = _jit_for(features_of(target))

    @property
    def threading(self) -> Threading:
        """Who computes the tiles of a kernel for several threads; looks for a C compiler when first asked."""
        return self.workers.threading

    @property
    def loaded(self) -> int:
        """How many kernels LLVM holds for this process and instruction set now."""
        return len(self._jit.engines)

    def prepare(self, kernel: Kernel, schedule: Schedule = (), threads: int = 1) -> Prepared:
        """The kernel compiled with `schedule`, as a function from its inputs to its output.

        IllegalOpt if the schedule does not fit, CompileError (with the assembly's error) if LLVM refuses it.
        """
        rendered = compile_source(kernel, schedule, self.renderer, self.target.features)
        return prepared(rendered, self.load(rendered, threads), self.target.features, threads)

    def load(self, rendered: Rendered, threads: int = 1) -> Program:
        """A kernel that `renderer` has rendered, compiled and loaded. CompileError as `prepare`."""
        if threads > 1 and rendered.tiles > 1:
            self.workers.start()
        return self._jit.load(rendered, self.workers)


class _Jit:
    """LLVM for one set of CPU features: what is needed to load one module after another."""

    def __init__(self, features: str) -> None:
        self._lock = Lock()  # LLVM's objects are not for several threads
        self._assembler = Assembler(features)
        self.engines: WeakSet[Any] = WeakSet()

    def load(self, rendered: Rendered, workers: Workers) -> Program:
        """The assembly compiled and loaded."""
        with self._lock:
            module = self._assembler.optimized(rendered.source)
            engine = llvm.create_mcjit_compiler(module, self._assembler.machine())
            engine.finalize_object()
            self.engines.add(engine)
            second = rendered.combine
            entries = [rendered.entry, *([second.entry] if second else [])]
            addresses = [engine.get_function_address(entry) for entry in entries]
        for entry, address in zip(entries, addresses, strict=True):
            if not address:
                raise DeviceError("load", f"the module has no function {entry}")
        first, *others = (ENTRY(address) for address in addresses)
        after = Program(others[0], engine, workers) if others else None
        return Program(first, engine, workers, rendered.scratch, after)


@lru_cache(maxsize=8)
def _jit_for(features: str) -> _Jit:
    return _Jit(features)
