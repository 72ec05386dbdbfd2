"""The loops of loops.c, compiled with all optimizations by the C compiler that the engine finds, on several threads."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import CompileError
from engine.target import Target, detect

Array = np.ndarray[Any, np.dtype[Any]]
SOURCE = Path(__file__).with_name("loops.c")
PART = 4096  # parts start at multiples of so many elements
_ARGUMENTS = (*[ctypes.c_void_p] * 3, *[ctypes.c_long] * 3)
# A plain copy is to stay a loop.
_NO_MEMCPY = {"gcc": ("-fno-tree-loop-distribute-patterns",), "clang": ("-fno-builtin",)}


class Loops:
    """The compiled loops. CompileError if there is no C compiler."""

    def __init__(self, directory: Path) -> None:
        self.target = detect()
        self._library = ctypes.CDLL(str(_compiled(self.target, directory)))
        self.compiler = self.target.compiler

    def call(
        self,
        name: str,
        threads: int,
        out: Array,
        inputs: Sequence[Array],
        length: int,
        width: int = 1,
        part: int = PART,
    ) -> Callable[[], object]:
        """One run of a loop over [0, length), shared by so many threads: for a sum, thread n writes out[n]."""
        function = getattr(self._library, name)
        function.argtypes, function.restype = _ARGUMENTS, None
        a, b = (array.ctypes.data for array in (inputs * 2)[:2])
        cuts = [length * n // threads // part * part for n in range(threads)] + [length]
        partial = 4 if name.startswith("sum") else 0
        calls = [
            (out.ctypes.data + n * partial, a, b, first, last, width)
            for n, (first, last) in enumerate(pairwise(cuts))
        ]
        return self._shared(function, calls, (out, *inputs))

    def _shared(self, function: Any, calls: Sequence[Sequence[int]], owned: object) -> Callable[[], object]:
        def alone(kept: object = owned) -> None:
            function(*calls[0])

        def together(kept: object = owned) -> None:
            others = [self._pool.submit(function, *each) for each in calls[1:]]
            function(*calls[0])
            for other in others:
                other.result()

        return alone if len(calls) == 1 else together

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(64)


def found(directory: Path) -> Loops | None:
    """The loops, or None where there is no C compiler."""
    try:
        return Loops(directory)
    except CompileError:
        return None


def _compiled(target: Target, directory: Path) -> Path:
    path = directory / "loops.so"
    flags = [flag for flag in target.flags if flag.startswith("-m") and "=" not in flag]
    kind = target.compiler.split()[0]
    width = f"-DVECTOR_BYTES={max(16, target.features.vector_bytes)}"
    command = [
        target.executable,
        "-O3",
        "-funroll-loops",
        *flags,
        *_NO_MEMCPY[kind],
        width,
        "-Wall",
        "-shared",
        "-fPIC",
    ]
    subprocess.run([*command, str(SOURCE), "-o", str(path)], check=True)
    return path
