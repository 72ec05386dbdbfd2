"""What a renderer is, passed by value, so that a test (or a fault) can bring its own; and what all of them ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine.bounds import bounds
from engine.ir import UOp
from engine.linearize import behind_after
from engine.ops import Op
from engine.target import Features


class Renderer(Protocol):
    """Writes linearized kernels in one language."""

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """The source of one kernel (see engine.linearize for the list), whose entry point is `name`.

        Sources of several kernels may be put into one file.
        """
        ...


RendererFactory = Callable[[Features], Renderer]


def output_of(linear: Sequence[UOp]) -> UOp | None:
    """The PARAM that a linearized kernel stores to; None if it stores nothing."""
    stored = (behind_after(node.src[0].src[0]) for node in linear if node.op is Op.STORE)
    return next((memory for memory in stored if memory.op is Op.PARAM), None)


def stages_of(nodes: Sequence[UOp]) -> list[UOp]:
    """The kernel's STAGEs, in the order of their memory."""
    return sorted((node for node in nodes if node.op is Op.STAGE), key=lambda node: int(node.arg[0]))


def scratch_place(nodes: Sequence[UOp]) -> int:
    """Which of the buffers is scratch memory: the one behind the output and the inputs."""
    return 1 + max(int(node.arg[0]) for node in nodes if node.op is Op.PARAM)


def joined(first: str, second: str) -> str:
    """The source of two kernels in one. LLVM wants to be told once of what both of them call."""
    known = {line for line in first.splitlines() if _declares(line)}
    lines = second.splitlines(keepends=True)
    return first + "".join(line for line in lines if line.rstrip("\n") not in known)


def _declares(line: str) -> bool:
    return line.startswith(("declare ", "!0 = "))


def divides_plainly(node: UOp) -> bool:
    """Is an IDIV or MOD that of a machine: of what is not negative, by a constant above 0?"""
    dividend, divisor = node.src
    return divisor.op is Op.CONST and divisor.arg > 0 and bounds(dividend)[0] >= 0


def shifts_inside(node: UOp) -> bool:
    """Is a SHL or SHR by a number from 0 to below the width, whatever it is?"""
    least, most = bounds(node.src[1])
    return least >= 0 and most < node.dtype.bits
