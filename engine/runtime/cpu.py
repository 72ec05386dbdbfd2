"""Running compiled kernels on the CPU: shared objects by ctypes, tiles over a pool of C threads."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import prod
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np

from engine import compiler
from engine.errors import DeviceError
from engine.kernel import Kernel
from engine.opts import Schedule
from engine.pipeline import Rendered, compile_source
from engine.render.c import CRenderer
from engine.render.language import RendererFactory
from engine.runtime.ring import RING, Subject
from engine.runtime.scratch import POOL_RUN, pointers_of
from engine.shapes import shape_of
from engine.target import Features, Target, detect

Array = np.ndarray[Any, np.dtype[Any]]
# Arrays the engine makes start at such addresses: a cache line, and the widest vector.
ALIGNMENT = 64


class Runs(Protocol):
    """A loaded kernel, whatever loaded it."""

    def run(self, buffers: Sequence[int], tiles: int = 1, threads: int = 1) -> None:
        """See `Program.run`."""


@dataclass(frozen=True)
class Program:
    """A loaded kernel. Whoever runs it answers for the buffers being as long as the kernel believes."""

    function: Any  # the ctypes function, which keeps its library loaded
    directory: Path  # where the pool is, or will be, compiled to
    scratch: int = 0  # bytes of scratch memory for each thread

    def run(self, buffers: Sequence[int], tiles: int = 1, threads: int = 1) -> None:
        """Compute all `tiles` on at most `threads` threads. `buffers` are addresses: the output's, the inputs'."""
        pointers = pointers_of(buffers, self.scratch)
        if threads == 1 or tiles == 1:
            self.function(pointers, 0, tiles)
        else:
            start_pool(self.directory)(self.function, pointers, len(pointers), self.scratch, tiles, threads)


def load(path: Path, entry: str, scratch_bytes: int = 0) -> Program:
    """The kernel `entry` of a shared object. DeviceError if it cannot be loaded or has no such entry."""
    function = _symbol(path, entry)
    function.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_long)
    function.restype = None
    return Program(function, path.parent, scratch_bytes)


def build_pool(target: Target, directory: Path) -> Path:
    """Compile the worker pool into `directory`, if it is not there: programs loaded from it then find it."""
    source = _pool_source()
    path = _pool_path(directory)
    if not path.exists():
        made = compiler.compile(source, target, directory)
        link = path.with_suffix(f".{os.getpid()}")
        link.unlink(missing_ok=True)
        os.link(made, link)
        os.replace(link, path)
    return path


def _pool_source() -> str:
    return resources.files("engine.runtime").joinpath("pool.c").read_text(encoding="utf-8")


def _pool_path(directory: Path) -> Path:
    return directory / f"pool-{hashlib.sha3_256(_pool_source().encode()).hexdigest()[:16]}.so"


@lru_cache(maxsize=1)
def start_pool(directory: Path) -> Any:
    """This process's pool: `pool_run(function, buffers, count, scratch, tiles, threads)`. Its threads start when needed."""
    path = _pool_path(directory)
    run = _symbol(path if path.exists() else build_pool(detect(), directory), "pool_run")
    run.argtypes = POOL_RUN
    run.restype = None
    return run


def _symbol(path: Path, name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(str(path)), name)
    except (OSError, AttributeError) as error:
        raise DeviceError(f"load {path.name}", str(error)) from error


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised C-contiguous array that starts at a multiple of ALIGNMENT."""
    size = prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class Prepared:
    """A kernel compiled and loaded: call it with its inputs for a new array of its output. Its runs are recorded."""

    kernel: Kernel
    source: str
    program: Runs
    tiles: int
    threads: int
    subject: Subject

    def __call__(self, inputs: Sequence[Array]) -> Array:
        """The output for `inputs` in slot order. DeviceError names an input that does not fit its PARAM."""
        output = empty(shape_of(self.kernel.output), self.kernel.dtype.numpy)
        self.into(output, inputs)
        return output

    def into(self, output: Array, inputs: Sequence[Array]) -> None:
        """Write the output into memory that is there. DeviceError also if that does not fit, or is not C-contiguous."""
        _check_inputs(self.kernel, inputs)
        if (output.shape, output.dtype) != (shape_of(self.kernel.output), self.kernel.dtype.numpy) or (
            not output.flags.c_contiguous
        ):
            raise DeviceError("output", f"is {output.dtype.name} {output.shape}, not what the kernel writes")
        contiguous = [np.ascontiguousarray(array) for array in inputs]
        addresses = [array.ctypes.data for array in (output, *contiguous)]
        start = perf_counter_ns()
        self.program.run(addresses, self.tiles, self.threads)
        RING.add(self.subject.number, start, perf_counter_ns())


def prepared(rendered: Rendered, program: Runs, features: Features, threads: int) -> Prepared:
    """The kernel of `rendered`, loaded as `program`, to be run on `threads` threads at most."""
    scheduled, tiles = rendered.scheduled, rendered.tiles
    subject = Subject(scheduled.kernel, scheduled, features, min(tiles, threads))
    return Prepared(scheduled.kernel, rendered.source, program, tiles, threads, subject)


def _check_inputs(kernel: Kernel, inputs: Sequence[Array]) -> None:
    if len(inputs) != len(kernel.params):
        raise DeviceError("inputs", f"{len(inputs)} arrays for a kernel of {len(kernel.params)}")
    for param, array in zip(kernel.params, inputs, strict=True):
        slot, shape = param.arg
        if array.shape != shape or array.dtype != param.dtype.numpy:
            wanted = f"{param.dtype.name} {shape}"
            raise DeviceError(f"inputs[{slot}]", f"is {array.dtype.name} {array.shape}, must be {wanted}")


@dataclass(frozen=True)
class CpuRuntime:
    """Compiles kernels for `target` into `directory` and loads them into this process.

    For kernels that are trusted not to crash: schedules of engine.heuristic, or found and verified by a search.
    """

    target: Target
    directory: Path
    renderer: RendererFactory = CRenderer

    def prepare(self, kernel: Kernel, schedule: Schedule = (), threads: int = 1) -> Prepared:
        """The kernel compiled with `schedule`, as a function from its inputs to its output.

        IllegalOpt if the schedule does not fit, CompileError if the compiler fails.
        """
        features = self.target.features
        rendered = compile_source(kernel, schedule, self.renderer(features), features)
        path = compiler.compile(rendered.source, self.target, self.directory)
        if threads > 1 and rendered.tiles > 1:
            build_pool(self.target, self.directory)
        program = load(path, rendered.entry, rendered.scratch)
        return prepared(rendered, program, features, threads)
