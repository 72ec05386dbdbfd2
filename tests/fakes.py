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
from engine.render.language import Renderer
from engine.render.llvm import LlvmRenderer
from engine.target import Target
from engine.toolchain import renderer_of


class FaultKind(StrEnum):
    """What the code does wrong."""

    SEGFAULT = "segfault"
    LOOP = "loop"
    PAST_END = "past_end"
    BEFORE_START = "before_start"
    OFF_BY_ONE_PERCENT = "off_by_one_percent"
    CORRUPT_INPUT = "corrupt_input"
    EXIT = "exit"
    RAGGED_TAIL = "ragged_tail"  # right where the output is a multiple of 8 elements


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
    FaultKind.RAGGED_TAIL: "right(buffers, first, last); if (size % 8) out[size - 1] += 1;",
}
_TYPES = {"float32": "float", "int32": "int", "int64": "long", "bool": "unsigned char"}
# The same as LLVM's assembly: {T} is the type, {one} its 1, {add} its addition.
_ASSEMBLY = {
    FaultKind.SEGFAULT: "store volatile i32 1, ptr inttoptr (i64 8 to ptr)",
    FaultKind.LOOP: 'br label %ever\never:\n  call void asm sideeffect "", ""()\n  br label %ever\nnever:',
    FaultKind.PAST_END: "{right}\n  %p = getelementptr {T}, ptr %out, i64 {size}\n  store {T} {one}, ptr %p",
    FaultKind.BEFORE_START: "{right}\n  %p = getelementptr {T}, ptr %out, i64 -1\n  store {T} {one}, ptr %p",
    FaultKind.OFF_BY_ONE_PERCENT: (
        "{right}\n  %v = load {T}, ptr %out\n  %w = fmul {T} %v, 0x3FF0290000000000\n  store {T} %w, ptr %out"
    ),
    FaultKind.CORRUPT_INPUT: (
        "{right}\n  %at = getelementptr ptr, ptr %buffers, i64 1\n  %in = load ptr, ptr %at\n"
        "  %v = load i8, ptr %in\n  %w = xor i8 %v, 1\n  store i8 %w, ptr %in"
    ),
    FaultKind.EXIT: "call void @exit(i32 0)",
    FaultKind.RAGGED_TAIL: (
        "{right}\n  %ragged = icmp ne i64 {rest}, 0\n  br i1 %ragged, label %tail, label %end\n"
        "tail:\n  %p = getelementptr {T}, ptr %out, i64 {end}\n  %v = load {T}, ptr %p\n"
        "  %w = {add} {T} %v, {one}\n  store {T} %w, ptr %p\n  br label %end\nend:"
    ),
}
_LLVM_TYPES = {"float32": "float", "int32": "i32", "int64": "i64", "bool": "i8"}


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
    Fault(FaultKind.SEGFAULT, frozenset({12, 20})),
    Fault(FaultKind.LOOP, frozenset({8, 10})),
    Fault(FaultKind.PAST_END, frozenset({16}), unrolled=True),
    Fault(FaultKind.OFF_BY_ONE_PERCENT, frozenset({24})),
)


class FaultyRenderer:
    """Renders as `inner` does, but code struck by a fault does that fault's harm. The first that strikes counts."""

    def __init__(self, inner: Renderer, faults: Sequence[Fault] = FAULTS) -> None:
        self._inner = inner
        self._faults = tuple(faults)
        self.struck: dict[str, FaultKind | None] = {}  # what was rendered last under each name

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """The source; `name` is the entry point, faulty or not."""
        traits = traits_of(linear)
        fault = next((f for f in self._faults if f.strikes(traits)), None)
        output = _output(linear)
        self.struck[name] = None if fault is None or output is None else fault.kind
        if fault is None or output is None:
            return self._inner.render(linear, name)
        write = _assembly if isinstance(self._inner, LlvmRenderer) else _c
        return self._inner.render(linear, f"{name}_right") + write(fault.kind, name, output)


def _c(kind: FaultKind, name: str, output: UOp) -> str:
    lines = [
        f"{_TYPES[output.dtype.name]} *out = buffers[0];",
        f"const long size = {prod(output.arg[1])};",
        _CODE[kind].replace("right(", f"{name}_right("),
    ]
    signature = f"void {name}(void *const *buffers, long first, long last)"
    return f"{signature} {{\n  " + "\n  ".join(lines) + "\n}\n"


def _assembly(kind: FaultKind, name: str, output: UOp) -> str:
    size, floats = prod(output.arg[1]), output.dtype.is_float
    harm = _ASSEMBLY[kind].format(
        right=f"call void @{name}_right(ptr %buffers, i64 %first, i64 %last)",
        T=_LLVM_TYPES[output.dtype.name],
        one="1.0" if floats else "1",
        add="fadd" if floats else "add",
        size=size,
        end=size - 1,
        rest=size % 8,
    )
    return (
        ("declare void @exit(i32)\n" if kind is FaultKind.EXIT else "")
        + f"define void @{name}(ptr %buffers, i64 %first, i64 %last) {{\nentry:\n"
        + f"  %out = load ptr, ptr %buffers\n  {harm}\n  ret void\n}}\n"
    )


def faulty_renderer(target: Target, faults: Sequence[Fault] = FAULTS) -> FaultyRenderer:
    """A renderer for the target's compiler, for an agent that is to meet every kind of broken kernel."""
    return FaultyRenderer(renderer_of(target), faults)


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
