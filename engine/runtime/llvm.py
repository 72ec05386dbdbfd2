"""Kernels through LLVM, in this process and without a C compiler: assembly is parsed, optimized and loaded.

What LLVM holds of a kernel is freed with its program. (An llvmlite detail is behind two choices here: pass managers
for whole modules leak 60 kB a use, those for functions can be used again and again.)
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import llvmlite.binding as llvm

from engine.errors import CompileError, DeviceError
from engine.kernel import Kernel
from engine.opts import Schedule
from engine.pipeline import Rendered, compile_source
from engine.render.language import RendererFactory
from engine.render.llvm import LlvmRenderer
from engine.runtime.cpu import ENTRY, Prepared, Program, prepared
from engine.runtime.workers import Threading, Workers
from engine.target import Processor, Target, describe, read_processor

# What the assembly may call, found in the C library that this process has loaded.
_LIBM = ("sin",)
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
        self._jit = _jit_for(_features(target))

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


def _features(target: Target) -> str:
    """The target's flags for its instruction set (-mavx2 …) as LLVM writes them."""
    return ",".join(f"+{flag[2:]}" for flag in target.flags if flag.startswith("-m") and "=" not in flag)


class _Jit:
    """LLVM for one set of CPU features: what is needed to compile one module after another."""

    def __init__(self, features: str) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _add_libm()
        self._features = features
        self._lock = Lock()  # LLVM's objects are not for several threads
        self._tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        self._machine = self._new_machine()
        self._passes = llvm.create_pass_builder(self._machine, self._tuning).getFunctionPassManager()
        self.engines: WeakSet[Any] = WeakSet()

    def load(self, rendered: Rendered, workers: Workers) -> Program:
        """The assembly compiled and loaded."""
        with self._lock:
            try:
                engine = self._compile(rendered.source)
            except RuntimeError as error:
                raise CompileError("compile", "LLVM refuses the assembly", str(error)) from error
            address = engine.get_function_address(rendered.entry)
        if not address:
            raise DeviceError("load", f"the module has no function {rendered.entry}")
        return Program(ENTRY(address), engine, workers, rendered.scratch)

    def _compile(self, source: str) -> Any:
        module = llvm.parse_assembly(source, llvm.create_context())
        module.verify()
        # a builder is spoilt by use: each run leaves callbacks in it
        builder = llvm.create_pass_builder(self._machine, self._tuning)
        for function in module.functions:
            if not function.is_declaration:
                self._passes.run(function, builder)
        engine = llvm.create_mcjit_compiler(module, self._new_machine())
        engine.finalize_object()
        self.engines.add(engine)
        return engine

    def _new_machine(self) -> Any:
        # a named CPU would bring features that its flags do not show
        cpu = "x86-64" if "+sse" in self._features or "+avx" in self._features else "generic"
        return llvm.Target.from_default_triple().create_target_machine(
            cpu=cpu, features=self._features, opt=2, codemodel="jitdefault", jit=True
        )


@lru_cache(maxsize=8)
def _jit_for(features: str) -> _Jit:
    return _Jit(features)


def _add_libm() -> None:
    library = ctypes.CDLL(None)
    for name in _LIBM:
        try:
            llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
        except AttributeError as error:
            raise DeviceError("load", f"the C library of this process has no {name}") from error
