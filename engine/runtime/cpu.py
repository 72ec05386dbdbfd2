"""Running compiled kernels on the CPU: shared objects by ctypes, tiles over a pool of C threads."""

from __future__ import annotations

import _ctypes
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from time import perf_counter_ns
from typing import Any
from weakref import finalize

import numpy as np

from engine import compiler
from engine.errors import DeviceError
from engine.kernel import Kernel
from engine.memory import ALIGNMENT
from engine.options import Pinning
from engine.opts import Schedule
from engine.pipeline import Rendered, compile_source
from engine.render.c import CRenderer
from engine.render.language import RendererFactory
from engine.runtime.blocks import BLOCKS
from engine.runtime.ring import RING, Subject
from engine.runtime.scratch import check, pointers_of
from engine.runtime.workers import Workers
from engine.shapes import shape_of
from engine.target import Features, Target

Array = np.ndarray[Any, np.dtype[Any]]
# A kernel: void (void *const *buffers, long first, long last).
ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_long, ctypes.c_long)


@dataclass(frozen=True, eq=False)
class Program:
    """A loaded kernel. Whoever runs it answers for the buffers being as long as the kernel believes.

    With `combine` it is the first of two phases (see `Rendered`). DeviceError if it needs more scratch memory than a thread may have.
    """

    function: Any  # of type ENTRY
    owner: Any  # keeps its code loaded
    workers: Workers
    scratch: int = 0  # bytes of scratch memory for each thread
    combine: Program | None = None

    def __post_init__(self) -> None:
        check(self.scratch)

    def run(self, buffers: Sequence[int], tiles: int = 1, threads: int = 1) -> None:
        """Compute all `tiles` on at most `threads` threads. `buffers` are addresses: the output's, the inputs'."""
        if threads == 1 or tiles == 1:
            self.function(pointers_of(buffers, self.scratch), 0, tiles)
        else:
            self.workers.run(self.function, buffers, self.scratch, tiles, threads)


def load(
    path: Path, entry: str, scratch: int = 0, workers: Workers | None = None, combine: str | None = None
) -> Program:
    """The kernel `entry` of a shared object. DeviceError if it cannot be loaded or has no such entry.

    `combine` is the entry of its second phase, if it has one. Without `workers` it has some of its own, whose pool is compiled beside it.
    """
    function, second = _entry(path, entry), _entry(path, combine) if combine else None
    workers = workers or Workers(path.parent)
    after = Program(second, second, workers) if second else None
    return Program(function, function, workers, scratch, after)


def _entry(path: Path, name: str) -> Any:
    """A function of a shared object, which is closed with it: a process may map some ten thousand at a time."""
    try:
        library = ctypes.CDLL(str(path))
        function = ENTRY((name, library))
    except (OSError, AttributeError) as error:
        raise DeviceError(f"load {path.name}", str(error)) from error
    finalize(function, _ctypes.dlclose, library._handle).atexit = False
    return function


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised C-contiguous array that starts at a multiple of ALIGNMENT."""
    return placed(shape, dtype, prod(shape) * dtype.itemsize)[0]


def placed(shape: tuple[int, ...], dtype: np.dtype[Any], nbytes: int) -> tuple[Array, int]:
    """As `empty`, of a size in bytes that is known; and where it starts."""
    raw = BLOCKS.take(nbytes + ALIGNMENT)
    place = ctypes.addressof(ctypes.c_char.from_buffer(raw))
    offset = -place % ALIGNMENT
    return np.ndarray(shape, dtype, raw, offset), place + offset


@dataclass(frozen=True)
class Phase:
    """What is called of a kernel at a time: a program, its tiles, on how many threads at most. Its runs are recorded."""

    program: Program
    tiles: int
    threads: int
    subject: Subject

    def run(self, addresses: Sequence[int]) -> None:
        """Run it on the output's and the inputs' memory."""
        start = perf_counter_ns()
        self.program.run(addresses, self.tiles, self.threads)
        RING.ended(self.subject.number, start)


@dataclass(frozen=True)
class Combine:
    """The second phase of a kernel, and `nbytes` of memory that the first leaves its results in."""

    phase: Phase
    nbytes: int


@dataclass(frozen=True)
class Prepared:
    """A kernel compiled and loaded: call it with its inputs for a new array of its output. Its runs are recorded."""

    kernel: Kernel
    source: str
    program: Program
    tiles: int
    threads: int
    subject: Subject
    combine: Combine | None = None

    @cached_property
    def first(self) -> Phase:
        """The kernel's only phase, or the first of two."""
        return Phase(self.program, self.tiles, self.threads, self.subject)

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
        if self.combine is None:
            self.first.run(addresses)
        else:
            self._in_two_phases(addresses, self.combine)

    def _in_two_phases(self, addresses: list[int], combine: Combine) -> None:
        memory, place = placed((combine.nbytes,), np.dtype(np.uint8), combine.nbytes)
        self.first.run([place, *addresses[1:]])
        combine.phase.run([*addresses, place])
        del memory  # until now it was used


def prepared(rendered: Rendered, program: Program, features: Features, threads: int) -> Prepared:
    """The kernel of `rendered`, loaded as `program`, to be run on `threads` threads at most."""
    first = _phase(rendered, program, features, threads)
    combine = None
    if rendered.combine is not None and program.combine is not None:
        combine = Combine(_phase(rendered.combine, program.combine, features, threads), rendered.partials)
    kernel, tiles = rendered.scheduled.kernel, rendered.tiles
    return Prepared(kernel, rendered.source, program, tiles, threads, first.subject, combine)


def _phase(rendered: Rendered, program: Program, features: Features, threads: int) -> Phase:
    scheduled, tiles = rendered.scheduled, rendered.tiles
    subject = Subject(scheduled.kernel, scheduled, features, min(tiles, threads))
    return Phase(program, tiles, threads, subject)


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
    pinning: Pinning = Pinning.NONE

    @cached_property
    def workers(self) -> Workers:
        """Who shares the tiles of its kernels."""
        return Workers(self.directory, self.pinning, target=lambda: self.target)

    def prepare(self, kernel: Kernel, schedule: Schedule = (), threads: int = 1) -> Prepared:
        """The kernel compiled with `schedule`, as a function from its inputs to its output.

        IllegalOpt if the schedule does not fit, CompileError if the compiler fails.
        """
        features = self.target.features
        rendered = compile_source(kernel, schedule, self.renderer(features), features)
        path = compiler.compile(rendered.source, self.target, self.directory)
        if threads > 1 and rendered.tiles > 1:
            self.workers.start()
        combine = rendered.combine.entry if rendered.combine else None
        program = load(path, rendered.entry, rendered.scratch, self.workers, combine)
        return prepared(rendered, program, features, threads)
