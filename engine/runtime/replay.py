"""A plan's kernels as one list that is run again and again, without Python between them, and the memory they need.

Addresses stand in a table by slot. What is computed on the way lies in one slab, planned once; results are fresh
arrays in every call, so that nothing a caller holds is ever written over. A slab and its table serve one call at a
time: one of each is kept, and calls that meet get their own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Any

import numpy as np

from engine import dtype as dt
from engine.kernel import Kernel
from engine.memory import Life, layout
from engine.needed import Few, Needed
from engine.opts import RangeType
from engine.runtime.cpu import Array, Phase, Prepared, empty, placed
from engine.runtime.pool import Call, Calls, Limit, Shorter
from engine.runtime.ring import RING
from engine.runtime.workers import Workers
from engine.shapes import Shape, shape_of


@dataclass(frozen=True, slots=True)
class Step:
    """Run `kernel` on the memory in `inputs` (slots) into slot `output`, of which only what is `needed` matters.

    `few` does the same, and is quicker where that is not much.
    """

    kernel: Prepared
    inputs: tuple[int, ...]
    output: int
    needed: Needed | None = None
    few: Few[Prepared] | None = None


@dataclass(frozen=True, slots=True)
class _Launch:
    """A phase of a kernel, which reads the memory in `reads` (slots) and writes `nbytes` in `output`.

    `needed` is of that, and `few` does the same.
    """

    phase: Phase
    reads: tuple[int, ...]
    output: int
    nbytes: int
    needed: Needed | None = None
    few: Few[Prepared] | None = None


@dataclass(frozen=True, slots=True)
class _Frame:
    """What one call works in: the addresses by slot, and the slab that some of them are in."""

    addresses: Any  # void *[]
    slab: Array


class Replay:
    """`steps` in their order, as a function of the plan's memories.

    `constants` are memories that are the same in every call, `results` the slots that are wanted; of `slots` in all.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        constants: Mapping[int, Array],
        results: frozenset[int],
        slots: int,
        workers: Workers,
    ) -> None:
        launches = _launches(steps, slots)
        computed = {step.output for step in steps}
        read = {slot for step in steps for slot in step.inputs}
        read |= {step.needed.count for step in steps if step.needed is not None}
        self._given = tuple(sorted(read - computed - constants.keys()))
        self._constants = {slot: np.ascontiguousarray(array) for slot, array in constants.items()}
        self._results = tuple(
            (step.output, *_kind(step.kernel.kernel), _nbytes(step.kernel.kernel))
            for step in steps
            if step.output in results
        )
        self._slots = slots + len(launches) - len(steps)
        lives = _lives(launches, results)
        found = layout(list(lives.values()))
        self._offsets = dict(zip(lives, found.offsets, strict=True))
        self.slab_bytes = found.nbytes
        self._calls = Calls([_call(launch) for launch in launches])
        self._steps = tuple(steps)  # whose code is called
        self._subjects = [launch.phase.subject for launch in launches]  # events are about what somebody keeps
        self._threads = max((step.kernel.threads for step in steps), default=1)
        self._workers = workers
        self._free: list[_Frame] = []

    def __call__(self, memories: list[Any]) -> None:
        """Compute the results from the memories given (by slot), and put them among them."""
        try:
            frame = self._free.pop()
        except IndexError:
            frame = self._frame()
        addresses = frame.addresses
        for slot in self._given:
            array = memories[slot]
            if not array.flags.c_contiguous:
                array = memories[slot] = np.ascontiguousarray(array)
            addresses[slot] = array.ctypes.data
        for slot, shape, dtype, nbytes in self._results:
            memories[slot], addresses[slot] = placed(shape, dtype, nbytes)
        self._workers.replay(self._calls, addresses, self._threads, RING)
        if not self._free:
            self._free.append(frame)

    def _frame(self) -> _Frame:
        slab = empty((self.slab_bytes,), np.dtype(np.uint8))
        addresses = (ctypes.c_void_p * self._slots)()
        for slot, offset in self._offsets.items():
            addresses[slot] = slab.ctypes.data + offset
        for slot, array in self._constants.items():
            addresses[slot] = array.ctypes.data
        return _Frame(addresses, slab)


def _launches(steps: Sequence[Step], slots: int) -> list[_Launch]:
    """The phases of all steps in order; what lies between two of one kernel gets a slot behind the `slots`."""
    found: list[_Launch] = []
    between = count(slots)
    for step in steps:
        made, nbytes = step.kernel, _nbytes(step.kernel.kernel)
        if made.combine is None:
            found.append(_Launch(made.first, step.inputs, step.output, nbytes, step.needed, step.few))
        else:
            partials = next(between)
            found.append(_Launch(made.first, step.inputs, partials, made.combine.nbytes))
            combine = made.combine.phase
            found.append(_Launch(combine, (*step.inputs, partials), step.output, nbytes, step.needed))
    return found


def _lives(launches: Sequence[_Launch], results: frozenset[int]) -> dict[int, Life]:
    """What is computed on the way, by slot: from the launch that writes it to the last that reads it."""
    last = {slot: number for number, launch in enumerate(launches) for slot in launch.reads}
    return {
        launch.output: Life(launch.nbytes, number, last.get(launch.output, number))
        for number, launch in enumerate(launches)
        if launch.output not in results
    }


def _kind(kernel: Kernel) -> tuple[Shape, np.dtype[Any]]:
    return shape_of(kernel.output), kernel.dtype.numpy


def _nbytes(kernel: Kernel) -> int:
    return prod(shape_of(kernel.output)) * kernel.dtype.itemsize


def _call(launch: _Launch) -> Call:
    phase, program = launch.phase, launch.phase.program
    slots = (launch.output, *launch.reads)
    limit, few = _limit(phase, launch.needed), launch.few
    shorter = None
    scratch = program.scratch
    if limit is not None and few is not None:
        shorter = Shorter(few.prepared.program.function, few.most)
        scratch = max(scratch, few.prepared.program.scratch)
    return Call(program.function, slots, scratch, phase.tiles, phase.subject.number, limit, shorter)


def _limit(phase: Phase, needed: Needed | None) -> Limit | None:
    """How many tiles a call needs, if they are pieces of the axis that only some is needed of.

    Of bool all is computed: whoever reads one may take it for 0 or 1.
    """
    scheduled = phase.subject.scheduled
    if needed is None or scheduled is None or scheduled.kernel.dtype is dt.bool_:
        return None
    leaves = scheduled.of_type(RangeType.THREAD, RangeType.GROUP)
    if len(leaves) != 1 or leaves[0].axis.reduce or leaves[0].axis.index != needed.axis:
        return None
    return Limit(needed.count, needed.unit, leaves[0].stride)
