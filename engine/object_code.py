"""LLVM assembly to machine code as a file's bytes, and such a file into this process: no linker takes part.

An object file is made in one process and run in another: what compiles is not what may crash. (An llvmlite detail
is behind two choices here: pass managers for whole modules leak 60 kB a use, those for functions can be used again
and again.)
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite.binding as llvm

from engine.errors import CompileError, DeviceError
from engine.seal import intact
from engine.toolchain import LIBM


class Assembler:
    """LLVM for one set of CPU features. For one thread at a time: LLVM's objects are not for several."""

    def __init__(self, features: str) -> None:
        initialize()
        self._features = features
        self._tuning = llvm.create_pipeline_tuning_options()
        self._machine = self.machine()
        self._passes = llvm.create_new_function_pass_manager()
        # Loops, lanes and what is computed where are settled: the rest of -O2 takes twice the time and gains nothing.
        self._passes.add_sroa_pass()
        self._passes.add_instruction_combine_pass()

    def object_of(self, source: str) -> bytes:
        """The object file (ELF) of some assembly. CompileError with LLVM's words if it refuses it."""
        found: bytes = self._machine.emit_object(self.optimized(source))
        return found

    def optimized(self, source: str) -> Any:
        """The module of some assembly, in a context of its own, its functions optimized. CompileError as above."""
        try:
            module = llvm.parse_assembly(source, llvm.create_context())
            module.verify()
        except RuntimeError as error:
            raise CompileError("compile", "LLVM refuses the assembly", str(error)) from error
        # a builder is spoilt by use: each run leaves callbacks in it
        builder = llvm.create_pass_builder(self._machine, self._tuning)
        for function in module.functions:
            if not function.is_declaration:
                self._passes.run(function, builder)
        return module

    def machine(self) -> Any:
        """A machine for one module's code; whoever loads it owns it."""
        # a named CPU would bring features that its flags do not show
        cpu = "x86-64" if "+sse" in self._features or "+avx" in self._features else "generic"
        return llvm.Target.from_default_triple().create_target_machine(
            cpu=cpu, features=self._features, opt=2, codemodel="jitdefault", jit=True
        )


@lru_cache(maxsize=8)
def assembler(features: str) -> Assembler:
    """The assembler of this process for some features."""
    return Assembler(features)


def load_object(path: Path, entry: str) -> tuple[int, Any]:
    """The address of an object file's function in this process, and what keeps it loaded: hold on to it.

    DeviceError if the file is not there, whole, or has no such function.
    """
    if not intact(path):  # LLVM would read past the end of a torn one
        raise DeviceError(f"load {path.name}", "the file is missing or damaged")
    initialize()
    try:
        machine = llvm.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly("", llvm.create_context()), machine)
        engine.add_object_file(llvm.ObjectFileRef.from_path(str(path)))
        engine.finalize_object()
    except (OSError, RuntimeError) as error:
        raise DeviceError(f"load {path.name}", str(error)) from error
    address = int(engine.get_function_address(entry))
    if not address:
        raise DeviceError(f"load {path.name}", f"the object has no function {entry}")
    return address, engine


_ready: list[bool] = []
_initializing = Lock()


def initialize() -> None:
    """Make LLVM know this machine and the C library's functions; once a process."""
    with _initializing:
        if _ready:
            return
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        library = ctypes.CDLL(None)
        for name in LIBM:
            try:
                llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
            except AttributeError as error:
                raise DeviceError("load", f"the C library of this process has no {name}") from error
        _ready.append(True)
