"""BEAM search of one kernel's schedule: expand, measure, confirm, and the loop that joins them.

The three steps are functions of values, so that a fleet may run each on another node; `search` runs them here.
Filters in order: legality, equal leaves, the model's score, the compiler, verification, time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.bench import FULL, Bench
from engine.building import Built, Candidate, candidate
from engine.compare import Row, compare
from engine.expansion import Expansion, expand
from engine.flags import Flags
from engine.isolate import Deadline
from engine.kernel import Kernel
from engine.measurement import (
    RACED_FOR,
    Report,
    confirm,
    confirm_on,
    measure,
    measure_on,
    verify_fully,
)
from engine.outcome import Measured, Outcome
from engine.pace import Pace
from engine.render.language import Renderer
from engine.serialize import kernel_hash
from engine.shrink import structure
from engine.store import Store
from engine.target import Target

__all__ = [
    "Candidate",
    "Expansion",
    "Progress",
    "Round",
    "Row",
    "SearchResult",
    "candidate",
    "compare",
    "confirm",
    "expand",
    "measure",
    "search",
]

# A step must gain this much to count.
GAIN = 0.995
# Each finalist is timed for this long in the race, less when the budget is short: all of them for this share of it.
RACE_AT_MOST_S, RACE_SHARE = 0.3, 0.1
# What is kept of the budget for confirming the winners, at most; as long as nobody was confirmed, at least.
CONFIRM_AT_MOST, CONFIRM_UNKNOWN = 0.35, 0.1
# So many winners of kernels that differ in their sizes are tried.
ALIKE = 3
EXPAND = "expand"  # a kind of step


DEFAULT = Flags()


@dataclass(frozen=True)
class Progress:
    """Where a search is: called for each candidate compiled, verified and timed. Times in seconds."""

    round: int
    phase: str  # expand, compile, verify, time, confirm
    done: int
    total: int
    best_s: float | None
    elapsed_s: float
    budget_s: float

    @property
    def left_s(self) -> float:
        """Until it ends, at the latest; on a machine that others load, steps that were begun may take a little longer."""
        return max(0.0, self.budget_s - self.elapsed_s)


@dataclass(frozen=True)
class Round:
    """One step of the beam."""

    number: int
    generated: int
    illegal: int
    duplicate: int
    measured: int
    best_s: float | None
    elapsed_s: float


@dataclass(frozen=True)
class SearchResult:
    """What a search found. `best` is confirmed at full shape; None if no candidate was right."""

    kernel_hash: str
    target_id: str
    threads: int
    best: Measured | None
    confirmed: tuple[Measured, ...]
    rounds: tuple[Round, ...]
    measured: tuple[Measured, ...]
    elapsed_s: float
    stopped: str  # why: "budget", "no gain" or "nothing new"


def search(
    kernel: Kernel,
    target: Target,
    *,
    store: Store,
    flags: Flags = DEFAULT,
    renderer: Renderer | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    deadline: Deadline | None = None,
    pace: Pace | None = None,
) -> SearchResult:
    """Search here: rounds of expand and measure until the budget ends or `patience` rounds gain nothing.

    The budget has everything in it, from the first process to the last race: no step is begun that, taking as long as
    its like took lately, would end too late, and what the winners need to be confirmed is left for them. Only what a
    search needs to end with something is done however late it is: the stored best or the first candidate that is right.
    The first round starts from the stored best, the model's picks and what won for kernels of other sizes. Each round keeps the best `width` schedules of all so
    far and measures at most `per_round` neighbours. The best `finalists` are confirmed at full shape, on others should
    those fail; with them race the first seed (the model's pick), if it was right, which wins every tie, and the best that is
    stored, so that what is stored never gets slower.
    """
    threads, pace = flags.threads, pace or Pace()
    began = pace.clock()
    with Bench(
        kernel, target, renderer, store, threads=threads, seed=flags.seed, deadline=deadline, pace=pace
    ) as bench:
        alike_hash = kernel_hash(structure(kernel))
        alike = store.alike(alike_hash, target.id, threads)[:ALIKE]
        beam = _Beam(bench, flags, progress, began, store.best(bench.hash, target.id, threads), tuple(alike))
        stopped = beam.run()
        confirmed = beam.confirm()
        best = next((m for m in confirmed if m.outcome is Outcome.OK), None)
        if best is not None and beam.has_raced_known(confirmed):
            store.choose(bench.hash, target.id, threads, best, alike_hash)
        return SearchResult(
            bench.hash,
            target.id,
            threads,
            best,
            tuple(confirmed),
            tuple(beam.rounds),
            tuple(beam.measured.values()),
            beam.elapsed(),
            stopped,
        )


@dataclass
class _Beam:
    """The state of one search."""

    bench: Bench
    flags: Flags
    progress: Callable[[Progress], None]
    began: float
    known: Measured | None = None  # the best that is stored
    alike: tuple[Measured, ...] = ()  # the winners of kernels of other sizes
    incumbent: str | None = None  # hash of the first seed: the model's pick
    measured: dict[str, Measured] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    checked: dict[str, Measured] = field(default_factory=dict)  # at full shape, before the end

    def elapsed(self) -> float:
        return self.bench.pace.clock() - self.began

    @property
    def ends(self) -> float:
        """When all is to be over, by the pace's clock."""
        return self.began + self.flags.budget_s

    def until(self) -> float:
        """When the winners are to be confirmed: what that takes is known once one was."""
        budget_s, several = self.flags.budget_s, self.flags.finalists + len(self._always() - {None})
        left_s = several * (self.bench.pace.longest_s(FULL) + RACED_FOR * self._race_s())
        least_s = 0.0 if self.checked else CONFIRM_UNKNOWN * budget_s
        return self.ends - min(max(left_s, least_s), CONFIRM_AT_MOST * budget_s)

    def _race_s(self) -> float:
        return min(RACE_AT_MOST_S, RACE_SHARE * self.flags.budget_s / self.flags.finalists)

    def run(self) -> str:
        """Rounds until one of the reasons to stop, which is returned."""
        pace, stale = self.bench.pace, 0
        while not self.rounds or pace.may_begin(EXPAND, self.until()):
            before = self._best_s()
            self._say("expand", 0, 1)
            with pace.step(EXPAND):
                expansion = self._expand()
            if not expansion.candidates:
                return "nothing new"
            if not self._round(expansion, self.until()):
                return (
                    "budget"  # each would have ended too late: that says nothing about what there is to gain
                )
            self._check_one()
            after = self._best_s()
            gained = after is not None and (before is None or after < GAIN * before)
            stale = 0 if gained else stale + 1
            if stale >= self.flags.patience:
                return "no gain"
        return "budget"

    def confirm(self) -> list[Measured]:
        """The finalists, the first seed and the stored best at full shape; while all fail, the next ones.

        A time from a round was taken alone and may flatter: only the race says who beats the first seed.
        """
        failed: list[Measured] = []
        left = self._ranked()
        while left:
            first = self.flags.finalists
            ahead = left[:first] + [m for m in left[first:] if m.hash in self._always()]
            left = [m for m in left if m not in ahead]
            known = self.known.hash if self.known else None
            ahead.sort(key=lambda m: m.hash != known)  # if there is time for one, it is what is stored
            finalists = [candidate(m.schedule) for m in ahead]
            report = self._reporting("confirm")
            found = confirm_on(
                self.bench, finalists, report, self._race_s(), self.incumbent, self.ends, self.checked
            )
            if any(m.outcome is Outcome.OK for m in found):
                return found + failed
            failed += found
        return failed

    def has_raced_known(self, confirmed: list[Measured]) -> bool:
        """Was what is stored, if anything is, among the finalists? What never met it does not replace it."""
        return self.known is None or any(m.hash == self.known.hash for m in confirmed)

    def _check_one(self) -> None:
        """Confirm the best so far, if none has been: so that it is known what that takes."""
        best = next(iter(self._ranked()), None)
        pace = self.bench.pace
        if best is None or self.checked or not pace.may_begin(FULL, self.until()):
            return
        built = self.bench.builder.build(candidate(best.schedule))
        if isinstance(built, Built):
            self.checked[best.hash] = verify_fully(self.bench, built)

    def _expand(self) -> Expansion:
        bench = self.bench
        survivors = [m.schedule for m in self._ranked()[: self.flags.width]]
        if not survivors and self.rounds:
            survivors = [()]  # every seed failed: start from the unscheduled kernel
        found = expand(
            bench.kernel, survivors, self.measured, self.flags.per_round, bench.target, bench.threads
        )
        if self.rounds or not found.candidates:
            return found
        self.incumbent = found.candidates[0].hash
        return self._with_known(found)

    def _with_known(self, found: Expansion) -> Expansion:
        """The stored best, the first seed, those of other sizes, and the other seeds."""
        first, *others = found.candidates
        stored = [candidate(self.known.schedule)] if self.known else []
        alike = [candidate(measured.schedule) for measured in self.alike]
        distinct = {item.hash: item for item in (*stored, first, *alike, *others)}
        return replace(found, candidates=tuple(distinct.values()))

    def _always(self) -> set[str | None]:
        """Who races however slow it was alone."""
        return {self.incumbent, self.known.hash if self.known else None}

    def _round(self, expansion: Expansion, until: float) -> int:
        """Measure what is new; how many that were."""
        number = len(self.rounds)
        found = measure_on(
            self.bench, expansion.candidates, self._best_s(), until, self._reporting("", number)
        )
        measured = {m.hash: m for m in found if m.outcome is not Outcome.SKIPPED}
        self.measured |= measured
        counts = (expansion.generated, expansion.illegal, expansion.duplicate, len(measured))
        self.rounds.append(Round(number, *counts, self._best_s(), self.elapsed()))
        return len(measured)

    def _ranked(self) -> list[Measured]:
        right = [m for m in self.measured.values() if m.outcome is Outcome.OK]
        return sorted(right, key=lambda m: m.time_s or float("inf"))

    def _best_s(self) -> float | None:
        return next((m.time_s for m in self._ranked()), None)

    def _reporting(self, phase: str, number: int | None = None) -> Report:
        def report(facts: dict[str, object]) -> None:
            done, total = facts["done"], facts["total"]
            assert isinstance(done, int)
            assert isinstance(total, int)
            best = facts["best_s"]
            self._say(phase or str(facts["phase"]), done, total, best if isinstance(best, float) else None)

        return report

    def _say(self, phase: str, done: int, total: int, best_s: float | None = None) -> None:
        best = best_s or self._best_s()
        self.progress(
            Progress(len(self.rounds), phase, done, total, best, self.elapsed(), self.flags.budget_s)
        )
