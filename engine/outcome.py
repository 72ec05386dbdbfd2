"""What became of a candidate: the words for it, and the record of everything that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from engine.opts import Schedule, schedule_from_json, schedule_to_json


class Outcome(StrEnum):
    """What became of a candidate. The strings are the wire's."""

    OK = "ok"
    SLOW = "slow"  # right, but stopped early: slower than three times the bound
    ILLEGAL = "illegal"  # the schedule cannot be replayed on this kernel
    COMPILE_FAILED = "compile_failed"
    WRONG = "wrong"  # the output differs from the interpreter's
    OUT_OF_BOUNDS = "out_of_bounds"  # wrote outside its output
    CRASHED = "crashed"
    HUNG = "hung"
    SKIPPED = "skipped"  # the budget ended first; may be tried again


# Set aside for good: code that harms or lies. Each gets a repro.
QUARANTINED = frozenset({Outcome.WRONG, Outcome.OUT_OF_BOUNDS, Outcome.CRASHED, Outcome.HUNG})
# Found right; the only outcomes with times.
CORRECT = frozenset({Outcome.OK, Outcome.SLOW})


@dataclass(frozen=True)
class Measured:
    """One candidate and what became of it. Times are seconds for one run; `time_s` is the least of them.

    `hash` is the schedule's, `source_hash` the SHA3-256 of `source`, the C of the full-shape kernel, for people to
    read; `object_hash` names the code that ran, which LLVM may have made of its own text of the same kernel.
    """

    schedule: Schedule
    hash: str
    outcome: Outcome
    time_s: float | None = None
    times_s: tuple[float, ...] = ()
    source_hash: str | None = None
    source: str = ""
    max_error: float | None = None
    tolerance: float | None = None
    detail: str = ""
    object_hash: str | None = None

    def to_json(self) -> dict[str, object]:
        """The record without the source, which is stored under its hash."""
        return {
            "hash": self.hash,
            "schedule": schedule_to_json(self.schedule),
            "outcome": self.outcome.value,
            "time_s": self.time_s,
            "times_s": list(self.times_s),
            "source_hash": self.source_hash,
            "object_hash": self.object_hash,
            "max_error": _finite(self.max_error),
            "tolerance": _finite(self.tolerance),
            "detail": self.detail,
        }


def _finite(value: float | None) -> float | None:
    """The value, or None where JSON has no word for it (the error of a NaN)."""
    return value if value is not None and isfinite(value) else None


def measured_from_json(document: dict[str, object], source: str = "") -> Measured:
    """Read a record back; the caller supplies the source kept under `source_hash`."""
    fields = dict(document)
    fields["schedule"] = schedule_from_json(fields["schedule"])
    fields["outcome"] = Outcome(str(fields["outcome"]))
    times = fields["times_s"]
    fields["times_s"] = tuple(times) if isinstance(times, list) else ()
    return Measured(**fields, source=source)  # type: ignore[arg-type]  # a damaged record raises TypeError here
