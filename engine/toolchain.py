"""From a kernel's source to a file of machine code that another process loads: by LLVM, or by the system's C compiler.

Which of the two is part of the target. LLVM makes an object file (.o) without any program of the system's; a C
compiler makes a shared object (.so). Files are named by what they were made from, so that nothing is made twice, and
end in a digest of themselves (engine.seal), so that one that a power cut tore is made again instead of run.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from importlib import import_module
from pathlib import Path

from engine import compiler, target
from engine.options import Options, current
from engine.render.c import CRenderer
from engine.render.language import Renderer
from engine.render.llvm import LlvmRenderer
from engine.seal import intact, write_sealed
from engine.target import Target


class Compiler(StrEnum):
    """What compiles candidates."""

    LLVM = "llvm"  # llvmlite's LLVM: nothing else needs to be installed
    C = "c"  # clang or gcc


# What LLVM's assembly may call, found in the C library of the process that loads it.
LIBM = ("sin", "fmod", "fmodf")  # SIN of float64; all other functions are basic ops by now


def detect(compiler: Compiler | None = None, options: Options | None = None) -> Target:
    """This machine's CPU with a compiler for candidates; None is what DEV says: CPU:C is a C compiler, else LLVM.

    CompileError, saying what to install, when a C compiler is wanted and there is none.
    """
    options = options or current()
    if (compiler or _meant(options)) is Compiler.C:
        return target.detect(options=options)
    found: Target = import_module("engine.runtime.llvm").detect()
    return found


def _meant(options: Options) -> Compiler:
    return Compiler.C if options.device.strip().upper() == "CPU:C" else Compiler.LLVM


def compiler_of(target: Target) -> Compiler:
    """Which compiler a target names."""
    return Compiler.LLVM if target.compiler.startswith("llvm ") else Compiler.C


def renderer_of(target: Target) -> Renderer:
    """The renderer of the language that the target's compiler reads."""
    if compiler_of(target) is Compiler.LLVM:
        return LlvmRenderer(target.features)
    return CRenderer(target.features)


def features_of(target: Target) -> str:
    """The target's flags for its instruction set (-mavx2 …) as LLVM writes them."""
    return ",".join(f"+{flag[2:]}" for flag in target.flags if flag.startswith("-m") and "=" not in flag)


def compile(source: str, target: Target, directory: Path, *, timeout_s: float = 60) -> Path:
    """Compile `source` into `directory`, which is made if need be; the file, for engine.measuring to load.

    CompileError carries the compiler's log. LLVM compiles in this process: it cannot be stopped at `timeout_s`, and
    what is wrong with it may end the process (engine.compiling has one to spare).
    """
    if compiler_of(target) is Compiler.C:
        return compiler.compile(source, target, directory, timeout_s=timeout_s)
    path = directory / f"{object_name(source, target)}.o"
    if not intact(path):
        directory.mkdir(parents=True, exist_ok=True)
        code = import_module("engine.object_code")
        write_sealed(path, code.assembler(features_of(target)).object_of(source))
    return path


def object_name(source: str, target: Target) -> str:
    """The hash that names what LLVM makes of a source: of the source, the compiler and its flags."""
    return hashlib.sha3_256("\0".join((source, target.compiler, *target.flags)).encode()).hexdigest()
