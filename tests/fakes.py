"""Things that go wrong on purpose. Not mocks: what they make is real and really breaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from engine.ir import UOp, toposort
from engine.lanes import lanes_of
from engine.linearize import behind_after
from engine.ops import Op
from engine.render.c import CRenderer
from engine.render.language import Renderer
from engine.target import Features


class FaultKind(StrEnum):
    """What the code does wrong."""

    SEGFAULT = "segfault"
    LOOP = "loop"
    PAST_END = "past_end"
    BEFORE_START = "before_start"
    OFF_BY_ONE_PERCENT = "off_by_one_percent"
    CORRUPT_INPUT = "corrupt_input"
    EXIT = "exit"


# `right` is the kernel as it should be, out the output of `size` elements of type T.
_CODE = {
    FaultKind.SEGFAULT: "*(volatile int *)8 = 1;",
    FaultKind.LOOP: 'for (;;) __asm__ volatile("");',
    FaultKind.PAST_END: "right(buffers, first, last); out[size] = 1;",
    FaultKind.BEFORE_START: "right(buffers, first, last); out[-1] = 1;",
    FaultKind.OFF_BY_ONE_PERCENT: (
        "right(buffers, first, last);"
        " if (first == 0) for (long i = 0; i < size && i < 16; i++) out[i] += out[i] * 0.01f;"
    ),
    FaultKind.CORRUPT_INPUT: "right(buffers, first, last); ((char *)buffers[1])[0] ^= 1;",
    FaultKind.EXIT: "extern void exit(int); exit(0);",
}
_TYPES = {"float32": "float", "int32": "int", "int64": "long", "bool": "unsigned char"}


@dataclass(frozen=True)
class Traits:
    """What can be told of a schedule from its code.

    `accumulators` counts registers of the reduce (the product of the schedule's UPCASTs), 0 without a reduce.
    """

    lanes: int
    accumulators: int
    unrolled: bool


@dataclass(frozen=True)
class Fault:
    """A fault and the schedules it strikes: those whose code has these traits; None is any."""

    kind: FaultKind
    accumulators: frozenset[int] | None = None
    lanes: frozenset[int] | None = None
    unrolled: bool | None = None

    def strikes(self, traits: Traits) -> bool:
        """Is code of these traits faulty?"""
        return (
            (self.accumulators is None or traits.accumulators in self.accumulators)
            and (self.lanes is None or traits.lanes in self.lanes)
            and (self.unrolled is None or traits.unrolled == self.unrolled)
        )


# Every kind of harm among the first candidates of a small gemm, and enough right ones left for a good end.
# Code as written (one accumulator) is right.
FAULTS = (
    Fault(FaultKind.SEGFAULT, frozenset({12})),
    Fault(FaultKind.LOOP, frozenset({8})),
    Fault(FaultKind.PAST_END, frozenset({16}), unrolled=True),
    Fault(FaultKind.OFF_BY_ONE_PERCENT, frozenset({24})),
)


class FaultyRenderer:
    """Renders as `inner` does, but code struck by a fault does that fault's harm. The first that strikes counts."""

    def __init__(self, inner: Renderer, faults: Sequence[Fault] = FAULTS) -> None:
        self._inner = inner
        self._faults = tuple(faults)

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """The source; `name` is the entry point, faulty or not."""
        traits = traits_of(linear)
        fault = next((f for f in self._faults if f.strikes(traits)), None)
        output = _output(linear)
        if fault is None or output is None:
            return self._inner.render(linear, name)
        right = f"{name}_right"
        signature = f"void {name}(void *const *buffers, long first, long last)"
        lines = [
            f"{_TYPES[output.dtype.name]} *out = buffers[0];",
            f"const long size = {prod(output.arg[1])};",
            _CODE[fault.kind].replace("right(", f"{right}("),
        ]
        return f"{self._inner.render(linear, right)}{signature} {{\n  " + "\n  ".join(lines) + "\n}\n"


def faulty_renderer(features: Features) -> FaultyRenderer:
    """A renderer factory, for an agent that is to meet every kind of broken kernel."""
    return FaultyRenderer(CRenderer(features))


def traits_of(linear: Sequence[UOp]) -> Traits:
    """The traits of a linearized kernel."""
    nodes = toposort(*linear)
    lanes = max(map(lanes_of, nodes), default=1)
    accumulators = [n.arg[1] for n in nodes if n.op is Op.ACC]
    # Each accumulator is set once at the start; what else stores to it are steps of the reduce.
    stores = [n for n in linear if n.op is Op.STORE and behind_after(n.src[0].src[0]).op is Op.ACC]
    steps = len(stores) - sum(accumulators) // lanes
    return Traits(lanes, max(accumulators, default=0) // lanes, steps > sum(accumulators) // lanes)


def _output(linear: Sequence[UOp]) -> UOp | None:
    """The output's PARAM; None if nothing is stored."""
    stores = [behind_after(n.src[0].src[0]) for n in linear if n.op is Op.STORE]
    return next((memory for memory in stores if memory.op is Op.PARAM), None)
