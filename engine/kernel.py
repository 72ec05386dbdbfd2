"""A kernel: one unit of work, defined by a closed tensor graph over PARAMs; how it runs is a schedule's business."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.ops import Op


@dataclass(frozen=True)
class Kernel:
    """A definition: `output` is a tensor-level graph whose leaves are PARAM(slot, shape) and CONST.

    Slots are 0…n-1, one for each input; the output is written to a buffer of its own (passed first when the
    program runs). Only ops of `ops.KERNEL_DEFINITION` occur. Serialized and hashed by engine.serialize.
    """

    output: UOp

    @cached_property
    def params(self) -> tuple[UOp, ...]:
        """The inputs in slot order."""
        found = {node.arg[0]: node for node in toposort(self.output) if node.op is Op.PARAM}
        return tuple(found[slot] for slot in sorted(found))

    @cached_property
    def reduces(self) -> tuple[UOp, ...]:
        """The REDUCE nodes in the order of the toposorted definition: targets r0, r1, … of opts."""
        return tuple(node for node in toposort(self.output) if node.op is Op.REDUCE)

    @property
    def dtype(self) -> DType:
        """The output's element type."""
        return self.output.dtype
