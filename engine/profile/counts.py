"""What a kernel moves and computes in one run, counted from its final form: the lowered, linearized IR.

- *SRAM bytes*: what its loads and stores carry between registers and the cache nearest to them: lanes times bytes of
  each LOAD and STORE times how often it runs, masked lanes included. Accumulators are registers, and not counted.
- *ALU operations*: element-wise operations on values, lane by lane: a multiply-add counts 2, everything else (casts,
  comparisons and bit operations too) 1, BITCAST 0. Index arithmetic is not counted. By the bytes of the widest operand.
- *DRAM bytes*: see engine.profile.traffic.

So what a schedule wastes (masked lanes, guarded borders, loads done again) shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.ir import UOp
from engine.lanes import lanes_of
from engine.linearize import behind_after
from engine.ops import ELEMENTWISE, Op
from engine.pipeline import compile_scheduled
from engine.profile.traffic import Traffic, traffic
from engine.profile.trips import statements
from engine.runtime.ring import Subject
from engine.schedule import Scheduled
from engine.target import Features


@dataclass(frozen=True)
class Counts:
    """Of one run: bytes to and from DRAM, bytes between registers and cache, operations by their width in bytes."""

    dram: Traffic
    sram_bytes: float
    operations: dict[int, float]

    @property
    def all_operations(self) -> float:
        """Operations of all widths."""
        return sum(self.operations.values())


def counts(subject: Subject, cache_bytes: float) -> Counts | None:
    """The counts of a subject where `cache_bytes` fit in the last level; None of one that was interpreted."""
    if subject.scheduled is None or subject.features is None:
        return None
    moved, operations = issued(lines_of(subject.scheduled, subject.features))
    return Counts(traffic(subject.scheduled, cache_bytes, subject.threads), moved, operations)


class _Lines:
    """A renderer that writes nothing and keeps what it is given."""

    def __init__(self) -> None:
        self.lines: tuple[UOp, ...] = ()

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """See `render.language.Renderer`."""
        self.lines = self.lines or tuple(linear)  # a second phase is a subject of its own
        return name


def lines_of(scheduled: Scheduled, features: Features) -> tuple[UOp, ...]:
    """The statements that a renderer is given, in order."""
    kept = _Lines()
    compile_scheduled(scheduled, kept, features)
    return kept.lines


def issued(lines: Sequence[UOp]) -> tuple[float, dict[int, float]]:
    """(bytes of all loads and stores, operations by width) of a linearized kernel."""
    values = _values(lines)
    moved, operations = 0.0, dict[int, float]()
    for node, times in statements(lines):
        if node.op in (Op.LOAD, Op.STORE):
            moved += times * _carried(node)
        elif node in values and node.op in ELEMENTWISE and node.op is not Op.BITCAST:
            width = max(source.dtype.itemsize for source in (node, *node.src))
            done = times * lanes_of(node) * (2 if node.op is Op.MULACC else 1)
            operations[width] = operations.get(width, 0.0) + done
    return moved, operations


def _carried(node: UOp) -> int:
    """Bytes that a LOAD or STORE carries; none to or from an accumulator."""
    place = node.src[0]
    if behind_after(place.src[0]).op is Op.ACC:
        return 0
    return lanes_of(place) * place.dtype.itemsize


def _values(lines: Sequence[UOp]) -> set[UOp]:
    """What stored values are computed from, without the addresses and conditions of accesses."""
    stack = [node.src[1] for node in lines if node.op is Op.STORE]
    found: set[UOp] = set()
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        if node.op is Op.LOAD:
            stack.extend(node.src[1:])
        elif node.op is Op.AFTER:
            stack.append(node.src[0])
        elif node.op is not Op.RANGE:
            stack.extend(node.src)
    return found
