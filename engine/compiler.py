"""C source to a shared object, by the system's compiler; named by content, so that nothing is compiled twice."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from engine.errors import CompileError
from engine.seal import intact, write_sealed
from engine.target import Target

# Levels to try again at when the compiler itself breaks down; results are the same at all of them.
SIMPLER = ("-O1", "-O0")
BANNED = frozenset({"-ffast-math", "-Ofast", "-funsafe-math-optimizations"})


def compile(
    source: str, target: Target, directory: Path, *, level: str = "-O2", timeout_s: float = 60
) -> Path:
    """Compile `source` into `directory`, which is made if need be; the path of the shared object.

    The name is the hash of source, compiler and flags: a file that exists, whole, is the answer. The file appears by
    an atomic rename, so any number of threads and processes may compile the same source at once. CompileError
    carries the compiler's log; so does a compiler that takes longer than `timeout_s` seconds.
    """
    flags = (level, *target.flags, "-shared", "-fPIC", "-w")
    banned = BANNED.intersection(flags)
    if banned:
        raise CompileError("compile", f"{', '.join(sorted(banned))} changes results and is not allowed")
    name = hashlib.sha3_256("\0".join((source, target.compiler, *flags)).encode()).hexdigest()
    path = directory / f"{name}.so"
    if not intact(path):
        directory.mkdir(parents=True, exist_ok=True)
        _compile_to(path, source, target, flags, timeout_s)
    return path


def _compile_to(path: Path, source: str, target: Target, flags: tuple[str, ...], timeout_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=path.parent) as scratch:
        made = Path(scratch) / "kernel.so"
        command = [target.executable, *flags, "-x", "c", "-", "-o", str(made), "-lm"]
        if "pthread.h" in source:
            command.append("-pthread")
        _run_to_the_end(command, source, timeout_s)
        write_sealed(path, made.read_bytes())


def _run_to_the_end(command: list[str], source: str, timeout_s: float) -> None:
    """Compile; at a simpler level if the compiler breaks down, as clang 14 does over some vectors of bools."""
    try:
        _run(command, source, timeout_s)
    except CompileError as error:
        if not _broke_down(error):
            raise
        for level in SIMPLER:
            try:
                return _run([*command, level], source, timeout_s)  # of several levels the last one counts
            except CompileError:
                continue
        raise


def _broke_down(error: CompileError) -> bool:
    """Is it the compiler's fault, and not the source's?"""
    signs = ("error in backend", "PLEASE submit a bug report", "internal compiler error")
    return any(sign in error.log for sign in signs)


def _run(command: list[str], source: str, timeout_s: float) -> None:
    try:
        # LC_ALL: logs are stored and compared, so they must not depend on the machine's language
        done = subprocess.run(
            command,
            input=source,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise CompileError("compile", f"the compiler took longer than {timeout_s:g} s") from None
    except OSError as error:
        raise CompileError(
            "compile", f"cannot start {command[0]!r}: {error}; install clang or gcc"
        ) from error
    if done.returncode != 0:
        raise CompileError("compile", f"{command[0]} failed with {done.returncode}", done.stderr[-8000:])
