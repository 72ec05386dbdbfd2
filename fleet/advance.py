"""The next step of a search. Pure: from frozen values to one step, which fleet/rounds.py writes.

expand (one job) → measure (a job per node) → … → confirm (the best three at full shape) → done. Nothing here
understands a kernel: candidates are deduplicated by hash, sorted by time and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite

from fleet.agents.protocol import (
    CandidateOutcome,
    CandidateRef,
    CandidateResult,
    ConfirmSpec,
    ExpandResult,
    ExpandSpec,
    JobKind,
    KernelRef,
    MeasureResult,
    MeasureSpec,
)
from fleet.lifecycle import JOB, JobState, SearchState
from fleet.requirements import Needs, NodeView, fit, no_fit

SLACK_S = 600.0  # beyond the budget: compiling, confirming, retries; then the search has failed
FIRST_ROUND_S = 5.0  # the first round measures this long even when expanding used the budget up
FINALISTS = 3
KEPT = 12  # correct candidates a round remembers with their schedules, at least
PATIENCE = 3  # rounds without an improvement …
IMPROVEMENT = 0.005  # … of half a percent end the search


@dataclass(frozen=True)
class RoundView:
    """A round that is closed, or the one that is open: what is decided, and the blobs with its sources."""

    number: int
    hashes: frozenset[str] = frozenset()
    top: tuple[CandidateResult, ...] = ()
    best_s: float | None = None
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepJob:
    """One of a search's own jobs, for the phase it is in. `found` is None unless it succeeded.

    `node_id`, `candidates` (what it was asked to try) and `found` are loaded once every job of the phase is final.
    """

    id: int
    state: str
    reason: str = ""
    error: str = ""
    node_id: int | None = None
    candidates: tuple[CandidateRef, ...] = ()
    found: ExpandResult | MeasureResult | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        """True when nothing more will happen to it."""
        return self.state in JOB.final


@dataclass(frozen=True)
class SearchView:
    """A live search. `rounds` are loaded only when every job of the phase is final."""

    id: int
    generation: int
    state: str
    kernel: KernelRef
    arch: str | None
    target_id: str | None
    threads: int
    width: int
    budget_s: float
    per_round: int
    max_rounds: int
    seed: int
    phase: str = "expand"
    round: int = 0
    reason: str = ""
    started_at: float = 0.0
    best_s: float | None = None
    rounds: tuple[RoundView, ...] = ()
    jobs: tuple[StepJob, ...] = ()
    confirmed: tuple[CandidateResult, ...] = ()
    barred: frozenset[str] = frozenset()  # in quarantine for this kernel and target
    known: tuple[CandidateRef, ...] = ()  # tried first in the first round: the schedule to beat

    def left_s(self, now: float) -> float:
        """Seconds of the budget that are left."""
        return self.started_at + self.budget_s - now


# ----------------------------------------------------------------------------------------------- steps


@dataclass(frozen=True)
class GiveUp:
    """Nothing is left to try."""

    error: str


@dataclass(frozen=True)
class Stray:
    """Results of a job about candidates that it was not asked for: they count for nothing."""

    job: StepJob
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """Something to write about a search, if it still has this generation."""

    search_id: int
    generation: int


@dataclass(frozen=True)
class Hold(Step):
    """It waits, and why."""

    reason: str


@dataclass(frozen=True)
class Start(Step):
    """It begins on this target."""

    target_id: str
    expand: ExpandSpec


@dataclass(frozen=True)
class Propose(Step):
    """The round's candidates, dealt into measuring jobs."""

    found: ExpandResult
    duplicate: int
    candidates: tuple[CandidateRef, ...]
    batches: tuple[MeasureSpec, ...]
    artifacts: Mapping[str, str]


@dataclass(frozen=True)
class Close(Step):
    """The round is measured: what became of each candidate, and what comes next."""

    results: tuple[tuple[StepJob, CandidateResult], ...]
    round: RoundView
    counts: Mapping[str, int]
    then: ExpandSpec | ConfirmSpec | GiveUp
    strays: tuple[Stray, ...] = ()


@dataclass(frozen=True)
class Conclude(Step):
    """The round brought nothing new: go to the finalists, or give up. `found` is None when its expand failed."""

    found: ExpandResult | None
    artifacts: Mapping[str, str]
    then: ConfirmSpec | GiveUp


@dataclass(frozen=True)
class Confirmed(Step):
    """The finalists are checked: the winner, or what to try instead.

    `results` are of this job, `confirmed` of every one so far; `sources` are the rounds' artifacts, newest first.
    """

    job: StepJob
    results: tuple[CandidateResult, ...]
    confirmed: tuple[CandidateResult, ...]
    winner: CandidateResult | None
    then: ConfirmSpec | GiveUp | None
    sources: tuple[str, ...] = ()
    strays: tuple[Stray, ...] = ()


@dataclass(frozen=True)
class Fail(Step):
    """It failed for good."""

    error: str


@dataclass(frozen=True)
class StopJobs(Step):
    """The budget is used up: these jobs need not begin."""

    job_ids: tuple[int, ...]


# -------------------------------------------------------------------------------------------- decisions


def advance(
    search: SearchView, nodes: Sequence[NodeView], running: Mapping[str, int], now: float
) -> Step | None:
    """The search's next step, or None while it waits. `running`: searches per target that are under way."""
    if search.state == SearchState.QUEUED:
        return _begin(search, nodes, running)
    if search.left_s(now) < -SLACK_S:
        return _fail(
            search, f"not finished {SLACK_S:.0f} s after its budget: {search.reason or search.phase}"
        )
    if not all(job.final for job in search.jobs):
        return _wait(search, now)
    if search.phase == "expand":
        return _after_expand(search, nodes, now)
    return _after_measure(search, now) if search.phase == "measure" else _after_confirm(search)


def _begin(search: SearchView, nodes: Sequence[NodeView], running: Mapping[str, int]) -> Step | None:
    fits = [fit(Needs(JobKind.MEASURE, search.arch, None, None, search.threads), node) for node in nodes]
    able = Counter(device.target_id for device, _ in fits if device and device.target_id)
    if not able:
        misfits = [f"{node.name} {why}" for node, (_, why) in zip(nodes, fits, strict=True)]
        return _hold(search, no_fit(misfits))
    target = _choose(search.target_id, able)
    if running.get(target, 0) >= able[target]:
        return _hold(search, f"waits for {running[target]} other searches on the nodes of its target")
    return Start(search.id, search.generation, target, _expand_spec(search, ()))


def _choose(wanted: str | None, able: Mapping[str, int]) -> str:
    return wanted if wanted and wanted in able else max(sorted(able), key=lambda each: able[each])


def _wait(search: SearchView, now: float) -> Step | None:
    queued = [job for job in search.jobs if job.state == JobState.QUEUED]
    over = search.left_s(now) <= 0 and search.best_s is not None
    if search.phase != "confirm" and queued and over:
        return StopJobs(search.id, search.generation, tuple(job.id for job in queued))
    waits = [job.reason for job in search.jobs if not job.final and job.state == JobState.QUEUED]
    under_way = any(job.state in (JobState.LEASED, JobState.RUNNING) for job in search.jobs)
    return _hold(search, "" if under_way else next(iter(waits), ""))


def _after_expand(search: SearchView, nodes: Sequence[NodeView], now: float) -> Step:
    job = search.jobs[-1] if search.jobs else None
    if job is None or not isinstance(job.found, ExpandResult):
        return _without_expand(search, job)
    proposed = (*search.known, *job.found.candidates)
    fresh = _fresh(proposed, _seen(search), search.per_round)
    if not fresh or (search.left_s(now) <= 0 and _standing(search.rounds)):
        then = _finalists(search, "no schedule of this kernel is left to try")
        return Conclude(search.id, search.generation, job.found, job.artifacts, then)
    duplicate = job.found.duplicate + len(proposed) - len(fresh)
    batches = _batches(search, fresh, nodes, now)
    return Propose(search.id, search.generation, job.found, duplicate, fresh, batches, job.artifacts)


def _without_expand(search: SearchView, job: StepJob | None) -> Step:
    """What earlier rounds found is not lost with an expand that failed or was stopped."""
    error = f"expand failed: {job.error or job.state if job else 'its job is missing'}"
    if not _standing(search.rounds):
        return _fail(search, error)
    return Conclude(search.id, search.generation, None, {}, _finalists(search, error))


def _fresh(found: Sequence[CandidateRef], seen: frozenset[str], limit: int) -> tuple[CandidateRef, ...]:
    by_hash = {each.hash: each for each in found if each.hash not in seen}
    return tuple(by_hash.values())[:limit]


def _batches(
    search: SearchView, fresh: Sequence[CandidateRef], nodes: Sequence[NodeView], now: float
) -> tuple[MeasureSpec, ...]:
    needs = Needs(JobKind.MEASURE, None, search.target_id, None, search.threads)
    workers = sum(fit(needs, node)[0] is not None for node in nodes)
    parts = max(1, min(workers, len(fresh)))
    left_s = search.left_s(now)
    if search.best_s is None:
        left_s = max(left_s, min(search.budget_s, FIRST_ROUND_S))
    return tuple(
        MeasureSpec(
            kernel=search.kernel,
            candidates=list(fresh[part::parts]),
            bound_s=search.best_s,
            budget_s=max(left_s, 0.001),
            threads=search.threads,
            seed=search.seed,
        )
        for part in range(parts)
    )


def _after_measure(search: SearchView, now: float) -> Step:
    results = [(job, result) for job in search.jobs for result in _results(job, "left out by its batch")]
    decided = frozenset(
        result.hash
        for job, result in results
        if result.outcome is not CandidateOutcome.SKIPPED or job.state == JobState.FAILED
    )
    right = sorted((r for _, r in results if _right(r)), key=_time)
    top = tuple(right[: max(KEPT, search.width)])
    closed = replace(search.rounds[-1], hashes=decided, top=top, best_s=_time(top[0]) if top else None)
    after = replace(search, rounds=(*search.rounds[:-1], closed))
    counts = Counter(str(result.outcome) for _, result in results)
    then = _next(after, now)
    strays = _strays(search.jobs)
    return Close(search.id, search.generation, tuple(results), closed, counts, then, strays)


def _results(job: StepJob, otherwise: str) -> list[CandidateResult]:
    """What became of each candidate that the job was asked to try; one that it does not speak of was skipped.

    The schedule is the one that was proposed, whatever the result says.
    """
    found = job.found.results if isinstance(job.found, MeasureResult) else []
    said = {result.hash: result for result in found}
    detail = f"its batch ended as {job.state}: {job.error}" if job.found is None else otherwise
    return [
        said[each.hash].model_copy(update={"schedule": each.schedule})
        if each.hash in said
        else _skipped(each, detail)
        for each in job.candidates
    ]


def _skipped(candidate: CandidateRef, detail: str) -> CandidateResult:
    return CandidateResult(
        hash=candidate.hash,
        schedule=candidate.schedule,
        outcome=CandidateOutcome.SKIPPED,
        detail=detail[:2000],
    )


def _strays(jobs: Sequence[StepJob]) -> tuple[Stray, ...]:
    found = []
    for job in jobs:
        asked = {each.hash for each in job.candidates}
        results = job.found.results if isinstance(job.found, MeasureResult) else []
        hashes = tuple(result.hash for result in results if result.hash not in asked)
        found += [Stray(job, hashes)] if hashes else []
    return tuple(found)


def _next(search: SearchView, now: float) -> ExpandSpec | ConfirmSpec | GiveUp:
    """After a closed round: another one, or the finalists."""
    failed = [job for job in search.jobs if job.found is None and job.state == JobState.FAILED]
    broken = bool(failed) and len(failed) == len(search.jobs)
    over = search.left_s(now) <= 0 or search.round >= search.max_rounds
    if not (over or broken or _stale(search.rounds)):
        return _expand_spec(search, search.rounds)
    why = f"no candidate was measured: {failed[0].error}" if broken else "no candidate was right in time"
    return _finalists(search, why)


def _stale(rounds: Sequence[RoundView]) -> bool:
    """True when the last rounds together did not improve on those before by half a percent."""
    bests = [each.best_s for each in rounds if each.best_s is not None]
    earlier = [each.best_s for each in rounds[:-PATIENCE] if each.best_s is not None]
    return bool(earlier) and min(bests) > min(earlier) * (1 - IMPROVEMENT)


def _finalists(search: SearchView, otherwise: str) -> ConfirmSpec | GiveUp:
    checked = {result.hash for result in search.confirmed}
    left = [each for each in _standing(search.rounds) if each.hash not in checked][:FINALISTS]
    if not left:
        return GiveUp(otherwise)
    return ConfirmSpec(
        kernel=search.kernel,
        candidates=[CandidateRef(hash=each.hash, schedule=each.schedule) for each in left],
        threads=search.threads,
        seed=search.seed + 1,
    )


def _after_confirm(search: SearchView) -> Step:
    job = search.jobs[-1] if search.jobs else None
    if job is None or not isinstance(job.found, MeasureResult):
        return _fail(search, f"confirm failed: {job.error if job else 'its job is missing'}")
    results = tuple(_results(job, "left out by the confirm job"))
    winner = min(filter(_right, results), key=_time, default=None)
    after = replace(search, confirmed=(*search.confirmed, *results))
    return Confirmed(
        search_id=search.id,
        generation=search.generation,
        job=job,
        results=results,
        confirmed=after.confirmed,
        winner=winner,
        then=None if winner else _finalists(after, "no finalist was right at full shape"),
        sources=tuple(address for each in reversed(search.rounds) for address in each.artifacts),
        strays=_strays([job]),
    )


# ----------------------------------------------------------------------------------------------- values


def _expand_spec(search: SearchView, rounds: Sequence[RoundView]) -> ExpandSpec:
    survivors = _standing(rounds)[: search.width]
    return ExpandSpec(
        kernel=search.kernel,
        survivors=[each.schedule for each in survivors],
        seen=sorted(_seen(replace(search, rounds=tuple(rounds)))),
        limit=search.per_round,
        threads=search.threads,
        seed=search.seed,
    )


def _seen(search: SearchView) -> frozenset[str]:
    return search.barred.union(*(each.hashes for each in search.rounds))


def _standing(rounds: Sequence[RoundView]) -> list[CandidateResult]:
    """The correct candidates of all rounds, fastest first."""
    return sorted((result for each in rounds for result in each.top), key=_time)


def _right(result: CandidateResult) -> bool:
    timed = result.time_s is not None and isfinite(result.time_s) and result.time_s > 0
    return timed and result.outcome is CandidateOutcome.OK


def _time(result: CandidateResult) -> float:
    return result.time_s if result.time_s is not None else inf


def _fail(search: SearchView, error: str) -> Fail:
    return Fail(search.id, search.generation, error)


def _hold(search: SearchView, reason: str) -> Hold | None:
    return Hold(search.id, search.generation, reason) if reason != search.reason else None
