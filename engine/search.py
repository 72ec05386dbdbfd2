"""BEAM search of one kernel's schedule: expand, measure, confirm, and the loop that joins them.

The three steps are functions of values, so that a fleet may run each on another node; `search` runs them here.
Filters in order: legality, equal leaves, the model's score, the compiler, verification, time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.bench import Bench
from engine.building import Candidate, candidate
from engine.compare import Row, compare
from engine.expansion import Expansion, expand
from engine.flags import Flags
from engine.isolate import Deadline
from engine.kernel import Kernel
from engine.measurement import Report, confirm, confirm_on, measure, measure_on
from engine.outcome import Measured, Outcome
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
# What of the budget is kept for confirming the winners.
CONFIRM_SHARE, CONFIRM_AT_MOST_S = 0.1, 3.0
# Each finalist is timed for this long in the race, less when the budget is short.
RACE_AT_MOST_S = 0.3
# So many winners of kernels that differ in their sizes are tried.
ALIKE = 3
# The first round has this long, whatever the budget: a search should end with something.
FIRST_ROUND_AT_LEAST_S = 5.0


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
        """Until it ends, at the latest; a round that is under way may end a little later."""
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
) -> SearchResult:
    """Search here: rounds of expand and measure until the budget ends or `patience` rounds gain nothing.

    The first round has five seconds even if the budget has not; it starts from the model's picks, the stored best and
    what won for kernels of other sizes. Each round keeps the best `width` schedules of all so
    far and measures at most `per_round` neighbours. The best `finalists` are confirmed at full shape, on others should
    those fail; with them race the first seed (the model's pick), if it was right, which wins every tie, and the best that is
    stored, so that what is stored never gets slower.
    """
    threads = flags.threads
    with Bench(kernel, target, renderer, store, threads=threads, seed=flags.seed, deadline=deadline) as bench:
        alike_hash = kernel_hash(structure(kernel))
        alike = store.alike(alike_hash, target.id, threads)[:ALIKE]
        beam = _Beam(bench, flags, progress, store.best(bench.hash, target.id, threads), tuple(alike))
        stopped = beam.run()
        confirmed = beam.confirm()
        best = next((m for m in confirmed if m.outcome is Outcome.OK), None)
        if best is not None:
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
    known: Measured | None = None  # the best that is stored
    alike: tuple[Measured, ...] = ()  # the winners of kernels of other sizes
    incumbent: str | None = None  # hash of the first seed: the model's pick
    measured: dict[str, Measured] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def run(self) -> str:
        """Rounds until one of the reasons to stop, which is returned."""
        budget_s = self.flags.budget_s
        until = self.began + budget_s - min(CONFIRM_SHARE * budget_s, CONFIRM_AT_MOST_S)
        stale = 0
        while time.monotonic() < until:
            before = self._best_s()
            self._say("expand", 0, 1)
            expansion = self._expand()
            if not expansion.candidates:
                return "nothing new"
            self.incumbent = self.incumbent or expansion.candidates[0].hash
            first = time.monotonic() + FIRST_ROUND_AT_LEAST_S
            self._round(expansion, until if self.rounds else max(until, first))
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
            finalists = [candidate(m.schedule) for m in ahead]
            report = self._reporting("confirm")
            each_s = min(RACE_AT_MOST_S, CONFIRM_SHARE * self.flags.budget_s / self.flags.finalists)
            found = confirm_on(self.bench, finalists, report, each_s, self.incumbent)
            if any(m.outcome is Outcome.OK for m in found):
                return found + failed
            failed += found
        return failed

    def _expand(self) -> Expansion:
        bench = self.bench
        survivors = [m.schedule for m in self._ranked()[: self.flags.width]]
        if not survivors and self.rounds:
            survivors = [()]  # every seed failed: start from the unscheduled kernel
        found = expand(
            bench.kernel, survivors, self.measured, self.flags.per_round, bench.target, bench.threads
        )
        return found if self.rounds or not found.candidates else self._with_known(found)

    def _with_known(self, found: Expansion) -> Expansion:
        """The stored best, and those of other sizes, behind the first seed."""
        first, *others = found.candidates
        stored = [self.known] if self.known else []
        known = [candidate(measured.schedule) for measured in (*stored, *self.alike)]
        distinct = {item.hash: item for item in (first, *known, *others)}
        return replace(found, candidates=tuple(distinct.values()))

    def _always(self) -> set[str | None]:
        """Who races however slow it was alone."""
        return {self.incumbent, self.known.hash if self.known else None}

    def _round(self, expansion: Expansion, until: float) -> None:
        number = len(self.rounds)
        found = measure_on(
            self.bench, expansion.candidates, self._best_s(), until, self._reporting("", number)
        )
        self.measured |= {m.hash: m for m in found if m.outcome is not Outcome.SKIPPED}
        counts = (expansion.generated, expansion.illegal, expansion.duplicate, len(found))
        self.rounds.append(Round(number, *counts, self._best_s(), self.elapsed()))

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
