"""Schedules as data: an opt is one transformation of a kernel, a schedule the list that makes it fast.

Every opt names its target (a reduce or the output), so that options belong to what they optimize. Opts are
replayed in order on the unscheduled kernel (see engine.schedule), so the same list means the same kernel in
every process. JSON form of an opt: [kind, target, axis, amount, type]; a schedule is a list of those.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from engine.errors import InvalidGraph


class RangeType(IntEnum):
    """The type of a leaf range; the number is its scope, outer to inner.

    UPCAST lies outside REDUCE in scope: an accumulator exists per upcast element and lives across the
    whole reduce. Execution order is another matter: LOOP leaves, then REDUCE, UNROLL, UPCAST, VEC.
    """

    THREAD = 20  # spread over the worker threads
    GROUP = (
        25  # parts of a reduce, spread over the worker threads; their results are combined in a second phase
    )
    LOOP = 70  # a plain loop, in the kernel's explicit loop order (reduce and non-reduce mixed)
    UPCAST = 90  # a non-reduce leaf unrolled into registers
    REDUCE = 100  # a reduce loop that accumulators span
    UNROLL = 110  # a reduce leaf unrolled
    VEC = 120  # lanes of a vector; stride-1 leaves only


class OptKind(StrEnum):
    """What an opt does. `axis` is the target's axis number; `amount` and `type` depend on the kind."""

    SPLIT = "SPLIT"  # axis's innermost loop leaf into outer x `amount`; `type` is the outer part's: LOOP or REDUCE
    REORDER = "REORDER"  # swap the loop leaf at position `axis` of the loop order with the one at `amount`
    UPCAST = "UPCAST"  # `amount` elements of a non-reduce axis into registers
    UNROLL = "UNROLL"  # `amount` steps of a reduce axis unrolled
    VEC = "VEC"  # `amount` lanes of an axis
    THREAD = "THREAD"  # the axis's outermost loop leaf in `amount` parts over worker threads
    GROUP = "GROUP"  # a reduce axis's outermost loop leaf in `amount` parts, combined in a second phase
    PAD = "PAD"  # the axis's register tiles all run checked: no version for those inside it (amount 0)
    STREAM = "STREAM"  # whole vectors of the output go to memory past the caches (axis and amount 0)
    PREFETCH = "PREFETCH"  # the lines of an output tile are fetched before its reduce (axis and amount 0)
    STAGE = (
        "STAGE"  # the target's value number `axis` (engine.stages) in scratch memory, inside `amount` loops
    )
    KEEP = "KEEP"  # what the target computes of a row is read by later passes (axis and amount 0)


TARGET_OUT = "out"  # the output's axes; a reduce is "r0", "r1", … in the order of the toposorted definition


@dataclass(frozen=True, slots=True)
class Opt:
    """One transformation: `kind` on `axis` of `target` (REORDER: a loop position, STAGE: a value) by `amount`."""

    kind: OptKind
    target: str
    axis: int
    amount: int
    type: RangeType | None = None  # SPLIT only

    def to_json(self) -> list[str | int | None]:
        """[kind, target, axis, amount, type name or null]."""
        return [self.kind.value, self.target, self.axis, self.amount, self.type.name if self.type else None]

    def __str__(self) -> str:
        kind = f"{self.kind.value}{f'[{self.type.name}]' if self.type else ''}"
        return f"{kind}({self.target}.{self.axis}, {self.amount})"


Schedule = tuple[Opt, ...]


def schedule_to_json(schedule: Schedule) -> list[list[str | int | None]]:
    """The JSON form of a schedule: a list of opts' lists."""
    return [opt.to_json() for opt in schedule]


def schedule_from_json(document: object, field: str = "schedule") -> Schedule:
    """Read a schedule; InvalidGraph names the entry and what is wrong with it."""
    if not isinstance(document, list) or len(document) > 64:
        raise InvalidGraph("must be a list of at most 64 opts", field)
    return tuple(_opt_from_json(entry, f"{field}[{i}]") for i, entry in enumerate(document))


def _opt_from_json(entry: object, field: str) -> Opt:
    if not isinstance(entry, list) or len(entry) != 5:
        raise InvalidGraph("must be [kind, target, axis, amount, type or null]", field)
    kind, target, axis, amount, type_ = entry
    if not isinstance(kind, str) or kind not in OptKind.__members__:
        raise InvalidGraph(f"unknown opt {kind!r}; there are {', '.join(OptKind)}", field)
    if not isinstance(target, str) or not (target == TARGET_OUT or re.fullmatch("r[0-9]+", target)):
        raise InvalidGraph(f"target {target!r} must be 'out' or a reduce such as 'r0'", field)
    for name, value in (("axis", axis), ("amount", amount)):
        if type(value) is not int or not 0 <= value <= 1 << 20:
            raise InvalidGraph(f"{name} {value!r} must be an integer from 0 to {1 << 20}", field)
    if type_ is not None and (not isinstance(type_, str) or type_ not in RangeType.__members__):
        raise InvalidGraph(
            f"unknown range type {type_!r}; there are {', '.join(RangeType.__members__)}", field
        )
    return Opt(OptKind(kind), target, axis, amount, RangeType[type_] if type_ is not None else None)


def schedule_hash(schedule: Schedule) -> str:
    """Hex SHA3-256 of the schedule's canonical JSON."""
    text = json.dumps(schedule_to_json(schedule), separators=(",", ":"))
    return hashlib.sha3_256(text.encode()).hexdigest()
