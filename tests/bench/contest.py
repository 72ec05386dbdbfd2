"""One piece of work, done by the engine and by its peers on the same arrays: all checked, then raced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.kernel import Kernel
from engine.opts import Schedule
from engine.programs import cost, random_inputs
from engine.runtime.cpu import Prepared, empty
from engine.runtime.llvm import LlvmRuntime, detect
from engine.shapes import shape_of
from engine.target import Target
from tests.bench import peers
from tests.bench.racing import Racer, Times, in_process, race

Array = np.ndarray[Any, np.dtype[Any]]
# What a sum of n terms of about 1 may be off by, in units of n times float32's last place of 1.
TOLERANCE = 8.0


@dataclass(frozen=True)
class Work:
    """What is computed: by a kernel, by its definition in float64, and by peers (output first, inputs behind it).

    `operations` are what one vector instruction does for each lane, on average; 2 are a multiply-add.
    """

    name: str
    kernel: Kernel
    wanted: Callable[..., Array]
    numpy: Callable[..., object] | None = None
    torch: Callable[..., object] | None = None
    operations: float = 2.0

    @property
    def flops(self) -> float:
        """Operations, as engine.programs counts them."""
        return cost(self.kernel).flops


class Engine:
    """Kernels of the engine for so many threads, compiled by LLVM for this machine or another target of it."""

    def __init__(self, directory: Path, threads: int, target: Target | None = None) -> None:
        self.threads = threads
        self.target = target or detect()
        self._runtime = LlvmRuntime(self.target, directory)

    def prepare(self, kernel: Kernel, schedule: Schedule) -> Prepared:
        """The kernel compiled with this schedule."""
        return self._runtime.prepare(kernel, schedule, self.threads)

    def run(
        self, kernel: Kernel, schedule: Schedule, output: Array, inputs: Sequence[Array]
    ) -> Callable[[], object]:
        """One run of the kernel on these arrays, as a call."""
        made, kept = self.prepare(kernel, schedule), list(inputs)
        return lambda: made.into(output, kept)


def contest(
    work: Work,
    schedules: Mapping[str, Schedule],
    engine: Engine,
    seconds: float,
    seed: int,
    others: Sequence[Racer] = (),
) -> dict[str, Times]:
    """The work done with each schedule by the engine, by each peer there is and by `others`: times by name.

    All but `others` have been checked: on whole numbers, which must come out exactly, and on random normal ones.
    AssertionError names who was wrong.
    """
    runs = _runs(work, schedules, engine, random_inputs(work.kernel, seed))
    for integers in (True, False):
        inputs = random_inputs(work.kernel, seed, integers)
        wanted = work.wanted(*(array.astype(np.float64) for array in inputs))
        for name, (run, output, own) in runs.items():
            for array, values in zip(own, inputs, strict=True):
                array[...] = values
            output.fill(np.nan)
            run()
            check(f"{work.name} by {name}", output, wanted, 0 if integers else cost(work.kernel).reduction)
    racers = [in_process(name, run, engine.threads) for name, (run, _, _) in runs.items()]
    return race([*racers, *others], seconds)


_Runs = dict[str, tuple[Callable[[], object], Array, Sequence[Array]]]


def _runs(work: Work, schedules: Mapping[str, Schedule], engine: Engine, values: Sequence[Array]) -> _Runs:
    """Everybody's call, output and inputs; all share the inputs and one output."""
    peers.limit(engine.threads)
    inputs = [aligned(array) for array in values]
    output = empty(shape_of(work.kernel.output), work.kernel.dtype.numpy)
    found: _Runs = {
        name: (engine.run(work.kernel, schedule, output, inputs), output, inputs)
        for name, schedule in schedules.items()
    }
    if work.numpy is not None:
        numpy = work.numpy
        found[peers.blas().name] = (lambda: numpy(output, *inputs)), output, inputs
    if work.torch is not None and peers.torch() is not None:
        of, there = peers.torch().from_numpy, work.torch
        tensors = [of(array) for array in (output, *inputs)]
        found["PyTorch"] = (lambda: there(*tensors)), output, inputs
    return found


def aligned(array: Array) -> Array:
    """A copy that starts at a whole cache line."""
    found = empty(array.shape, array.dtype)
    found[...] = array
    return found


def check(who: str, got: Array, wanted: Array, terms: int) -> None:
    """AssertionError unless `got` is `wanted`: exactly for 0 terms, else as sums of so many terms of about 1 may be off."""
    error = float(np.abs(got - wanted).max(initial=0.0))
    size = max(terms, 4 * float(np.abs(wanted).max(initial=0.0))) if terms else 0.0
    tolerance = TOLERANCE * size * float(np.finfo(np.float32).eps)
    assert error <= tolerance, f"{who} is off by {error:g} (tolerance {tolerance:g}); nothing was timed"
