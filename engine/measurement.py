"""Compile, verify, time: a round's candidates against the best so far, and the finalists against one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from engine.bench import FULL, SMALL, TIMED, Bench, with_times
from engine.building import COMPILE, Built, Candidate, skipped
from engine.isolate import Deadline
from engine.kernel import Kernel
from engine.outcome import QUARANTINED, Measured, Outcome
from engine.render.language import Renderer
from engine.store import Store
from engine.target import Target
from engine.timing import Timing

# How many candidates, for each core, are compiled and verified before the right ones are timed.
BATCH_PER_CORE = 8
# Compiling a batch may take this share of what is left of the budget: something must be timed, too.
COMPILE_SHARE, COMPILE_AT_LEAST_S = 0.3, 1.0
# Times this close, as a share, are equal: it is how far the same code differs from itself in one race.
TIE = 0.995
# A race takes so many times what each is timed for: turns that somebody disturbed count half.
RACED_FOR = 2.0
# Making the repros of a batch's broken candidates smaller may take this long.
MINIMISE_AT_MOST_S = 1.0

Report = Callable[[dict[str, object]], None]


def silent(_: dict[str, object]) -> None:
    """Report nothing."""


def measure(
    kernel: Kernel,
    candidates: Sequence[Candidate],
    target: Target,
    *,
    store: Store,
    threads: int = 1,
    bound_s: float | None = None,
    budget_s: float = float("inf"),
    seed: int = 0,
    renderer: Renderer | None = None,
    report: Report = silent,
    deadline: Deadline | None = None,
) -> list[Measured]:
    """Compile the candidates, verify each on a shrunk shape, time the right ones alone; in their order.

    `bound_s` is the best time so far: slower than three times that is SLOW. No step is begun that would end after
    `budget_s` seconds: those left are SKIPPED, unless none was right yet (a slow machine must get somewhere too). `report` gets {"phase", "done", "total", "best_s"} for each
    candidate compiled, verified and timed.
    """
    with Bench(kernel, target, renderer, store, threads=threads, seed=seed, deadline=deadline) as bench:
        return measure_on(bench, candidates, bound_s, bench.pace.clock() + budget_s, report)


def measure_on(
    bench: Bench, candidates: Sequence[Candidate], bound_s: float | None, until: float, report: Report
) -> list[Measured]:
    """`measure` on a bench that exists; `until` is a time of its pace's clock."""
    wanted = list({item.hash: item for item in candidates}.values())
    size = BATCH_PER_CORE * bench.target.cores
    steps = _Steps(report, len(wanted), bound_s)
    results: dict[str, Measured] = {}
    left = wanted
    while left:
        batch, left = left[:size], left[size:]
        now = bench.pace.clock()
        one_s = max(COMPILE_AT_LEAST_S, 2 * bench.pace.longest_s(COMPILE))
        enough = min(until, now + max(one_s, COMPILE_SHARE * (until - now)))
        results |= _Batch(bench, steps, until, enough).run(batch)
        again = [item for item in batch if results[item.hash].outcome is Outcome.SKIPPED]
        if len(again) == len(batch):  # nothing more may begin
            break
        if bench.pace.clock() < until or steps.best_s is None:  # until one is right
            left = again + left
    return [results.get(item.hash) or skipped(item) for item in wanted]


@dataclass
class _Steps:
    """Reports how many candidates have come how far, and the best time met."""

    report: Report
    total: int
    best_s: float | None
    done: dict[str, int] = field(default_factory=dict)

    def step(self, phase: str, count: int = 1) -> None:
        self.done[phase] = self.done.get(phase, 0) + count
        self.report({"phase": phase, "done": self.done[phase], "total": self.total, "best_s": self.best_s})

    def saw(self, measured: Measured) -> None:
        if measured.outcome is Outcome.OK and measured.time_s is not None:
            self.best_s = min(self.best_s or measured.time_s, measured.time_s)


@dataclass
class _Batch:
    """Some candidates on their way: each verified when it is compiled, and when all are, the right ones timed."""

    bench: Bench
    steps: _Steps
    until: float
    compile_until: float  # then those that are compiled have their turn
    results: dict[str, Measured] = field(default_factory=dict)

    def run(self, batch: Sequence[Candidate]) -> dict[str, Measured]:
        new: dict[str, Built] = {}  # by the hash of their code
        twins: list[Built] = []
        for item in self._compiled(batch):
            if item.object_hash in self.bench.known or item.object_hash in new:
                twins.append(item)
            else:
                new[item.object_hash] = item
                self._verify(item)  # while others are compiled
        for item in new.values():
            if self.results[item.candidate.hash].outcome is Outcome.OK:
                self._time(item)
        self._minimise()
        found = {name: self.results[item.candidate.hash] for name, item in new.items()}
        for item in twins:
            self._share(item, (self.bench.known | found)[item.object_hash])
        self.bench.known |= {name: m for name, m in found.items() if m.outcome is not Outcome.SKIPPED}
        return self.results

    def _compiled(self, batch: Sequence[Candidate]) -> Iterator[Built]:
        """Those that compile, as they come; the others have their results."""
        first = self.bench.target.cores if self.steps.best_s is None else 0
        for found in self.bench.builder.build_all(batch, self.compile_until, first):
            if isinstance(found, Built):
                self.steps.step("compile")
                yield found
                continue
            self.results[found.hash] = self.bench.keep(found)
            if found.outcome is not Outcome.SKIPPED:
                self.steps.step("compile")

    def _verify(self, item: Built) -> None:
        found = skipped(item.candidate)
        if self._in_time(SMALL):
            self.bench.prepare("small")
            with self.bench.pace.step(SMALL):
                found = self.bench.verify(item)
        self.results[item.candidate.hash] = found
        self.steps.step("verify")

    def _time(self, item: Built) -> None:
        verified, found = self.results[item.candidate.hash], skipped(item.candidate)
        if self._in_time(TIMED):
            self.bench.prepare("timed")
            with self.bench.pace.step(TIMED):
                found = self.bench.time(item, verified, self.steps.best_s)
        self.results[item.candidate.hash] = found
        self.steps.saw(found)
        self.steps.step("time")

    def _minimise(self) -> None:
        enough = min(self.until, self.bench.pace.clock() + MINIMISE_AT_MOST_S)
        for failed in [m for m in self.results.values() if m.outcome in QUARANTINED]:
            self.bench.minimise(failed, enough)

    def _share(self, item: Built, twin: Measured) -> None:
        """A candidate whose code was measured already gets that result."""
        if twin.hash == item.candidate.hash:
            self.results[twin.hash] = twin
            return
        self.results[item.candidate.hash] = replace(
            twin,
            schedule=item.candidate.schedule,
            hash=item.candidate.hash,
            detail=f"same code as {twin.hash}",
        )

    def _in_time(self, kind: str) -> bool:
        return self.steps.best_s is None or self.bench.pace.may_begin(kind, self.until)


def confirm(
    kernel: Kernel,
    candidates: Sequence[Candidate],
    target: Target,
    *,
    store: Store,
    threads: int = 1,
    seed: int = 0,
    renderer: Renderer | None = None,
    report: Report = silent,
    time_s: float = 0.3,
    deadline: Deadline | None = None,
) -> list[Measured]:
    """Check finalists at full shape on inputs of another seed, then time them interleaved; best first.

    `time_s` is how long each is timed. Those that fail come last.
    """
    with Bench(kernel, target, renderer, store, threads=threads, seed=seed, deadline=deadline) as bench:
        return confirm_on(bench, candidates, report, time_s)


def confirm_on(
    bench: Bench,
    candidates: Sequence[Candidate],
    report: Report = silent,
    time_s: float = 0.3,
    incumbent: str | None = None,
    until: float = float("inf"),
    checked: Mapping[str, Measured] | None = None,
) -> list[Measured]:
    """`confirm` on a bench that exists. The candidate of hash `incumbent` is beaten only by more than a tie.

    What would not be checked and raced by `until` is left out, but for the first that is right; `checked` has what has
    been checked, by hash.
    """
    steps = _Steps(report, len(candidates), None)
    failed: list[Measured] = []
    right: list[tuple[Built, Measured]] = []
    for item in bench.builder.build_all(candidates):
        steps.step("compile")
        if isinstance(item, Measured):
            failed.append(item)
            continue
        verified = (checked or {}).get(item.candidate.hash)
        if verified is None:
            if right and not bench.pace.may_begin(FULL, until - RACED_FOR * time_s * len(right)):
                continue
            verified = verify_fully(bench, item)
        if verified.outcome is Outcome.OK:
            right.append((item, verified))
        else:
            failed.append(verified)
        steps.step("verify")
    left_s = max(0.0, until - bench.pace.clock()) / RACED_FOR / max(1, len(right))
    timed, died = _race(bench, right, min(time_s, left_s))
    steps.step("time", len(timed))
    return best_first(timed, incumbent) + failed + died


def verify_fully(bench: Bench, item: Built) -> Measured:
    """At full shape on inputs of another seed, as a step that is remembered."""
    bench.prepare("full")
    with bench.pace.step(FULL):
        return bench.verify_fully(item)


def best_first(timed: Sequence[Measured], incumbent: str | None = None) -> list[Measured]:
    """Fastest first; but the one of hash `incumbent` leads when it is within a tie of the fastest."""
    ranked = sorted(timed, key=lambda m: m.time_s or float("inf"))
    known = next((m for m in ranked if m.hash == incumbent), None)
    if known is None or not known.time_s or TIE * known.time_s > (ranked[0].time_s or 0.0):
        return ranked
    return [known, *(m for m in ranked if m is not known)]


def _race(
    bench: Bench, right: list[tuple[Built, Measured]], time_s: float
) -> tuple[list[Measured], list[Measured]]:
    """Time verified candidates in turns: those that lived, and those that died at it."""
    starts = {item.candidate.hash: partial(bench.runner, item) for item, _ in right}
    times, died = bench.race(starts, time_s)
    timed = [
        with_times(verified, Timing(Outcome.OK, tuple(times[verified.hash])))
        for _, verified in right
        if verified.hash in times
    ]
    dead = [bench.failed(item, died[v.hash]) for item, v in right if v.hash in died]
    return [bench.keep(m) for m in timed], [bench.keep(m) for m in dead]
