"""What a KEEP becomes: a store beside the sum that a value enters, and loads in the places of its twins."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from engine import dtype as dt
from engine import offsets
from engine.accumulate import Registers
from engine.indexing import Body
from engine.ir import UOp
from engine.keeps import Kept
from engine.nest import Nest, after
from engine.offsets import number
from engine.ops import Op

Places = dict[UOp, UOp]  # an axis's range → where it stands


@dataclass(frozen=True)
class Keeping:
    """A kept value of a kernel that is being lowered, as scratch memory number `id`."""

    kept: Kept
    id: int
    body: Body
    nest: Nest
    node: UOp
    twins: dict[str, UOp]

    @property
    def memory(self) -> UOp:
        """Where it lies."""
        return UOp(Op.STAGE, self.node.dtype, (), (self.id, self.kept.elements, self.kept.at))

    def store(self, value: UOp, inside: tuple[UOp, ...], places: Places, registers: Registers) -> UOp:
        """Keep the value of the element at `places`."""
        place = self._place(self.kept.value.target, after(self.memory, *inside), places, registers)
        return UOp(Op.STORE, dt.void, (place, value))

    def read(self, name: str, end: UOp, places: Places, registers: Registers) -> Places:
        """For the twin in a later pass: what was kept, once all of the row is (`end`)."""
        if name not in self.twins:
            return {}
        memory = after(self.memory, end)
        return {self.twins[name]: UOp(Op.LOAD, memory.dtype, (self._place(name, memory, places, registers),))}

    def _place(self, name: str, memory: UOp, places: Places, registers: Registers) -> UOp:
        row, vec = 0, self.kept.vec
        for leaf in self.kept.registers:
            row = row * leaf.extent + registers[leaf]
        stride = prod(self.kept.extents) * (vec.extent if vec else 1)
        parts = [number(row * stride)]
        for axis, extent in zip(self.kept.value.rows[name], self.kept.extents, strict=True):
            stride //= extent
            parts.append(offsets.multiply(places[self.body.ranges[axis]], stride))
        parts.append(self.nest.ranges[vec] if vec else number(0))
        return UOp(Op.INDEX, memory.dtype, (memory, offsets.total(parts)))
