"""Candidates to compiled code: the full-shape kernel and the shrunk one in one shared object, many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from engine.compiler import compile
from engine.errors import CompileError, InvalidGraph, VerifyError
from engine.isolate import Code
from engine.kernel import Kernel
from engine.opts import Schedule, schedule_hash
from engine.outcome import Measured, Outcome
from engine.pipeline import Rendered, compile_source
from engine.render.language import Renderer
from engine.store import source_hash
from engine.target import Target

FULL, SMALL = "kernel", "kernel_small"
COMPILE_TIMEOUT_S = 30.0


class Candidate(NamedTuple):
    """A schedule to try, its hash, and the model's estimate in seconds (0: unknown)."""

    schedule: Schedule
    hash: str
    score: float = 0.0


def candidate(schedule: Schedule, score: float = 0.0) -> Candidate:
    """A candidate for a schedule."""
    return Candidate(schedule, schedule_hash(schedule), score)


@dataclass(frozen=True)
class Built:
    """A candidate with its sources and, once compiled, its shared object."""

    candidate: Candidate
    full: Rendered
    small: Rendered
    path: Path

    @property
    def source_hash(self) -> str:
        """The full-shape source's hash."""
        return source_hash(self.full.source)

    def code(self, rendered: Rendered, threads: int, pool: Path | None) -> Code:
        """What to run for one of the two shapes, on how many threads."""
        return Code(self.path, rendered.entry, rendered.tiles, threads, pool, rendered.scratch)

    def measured(self, outcome: Outcome, detail: str = "") -> Measured:
        """A record of this candidate with an outcome and no times."""
        return Measured(
            self.candidate.schedule,
            self.candidate.hash,
            outcome,
            source_hash=self.source_hash,
            source=self.full.source,
            detail=detail[:2000],
        )


@dataclass(frozen=True)
class Builder:
    """Everything that compiling a candidate of one kernel needs."""

    kernel: Kernel
    small: Kernel
    target: Target
    renderer: Renderer
    directory: Path
    _known: dict[str, Built] = field(default_factory=dict)

    def build(self, candidate: Candidate) -> Built | Measured:
        """Render and compile one candidate, once; a Measured says why it cannot be."""
        found = self._known.get(candidate.hash) or self._build(candidate)
        if isinstance(found, Built):
            self._known[candidate.hash] = found
        return found

    def _build(self, candidate: Candidate) -> Built | Measured:
        try:
            full = self._render(self.kernel, candidate.schedule, FULL)
            small = self._render(self.small, candidate.schedule, SMALL)
        except InvalidGraph as error:
            return Measured(candidate.schedule, candidate.hash, Outcome.ILLEGAL, detail=str(error)[:2000])
        except VerifyError as error:
            return Measured(
                candidate.schedule, candidate.hash, Outcome.COMPILE_FAILED, detail=str(error)[:2000]
            )
        built = Built(candidate, full, small, Path())
        try:
            path = compile(
                f"{full.source}\n{small.source}", self.target, self.directory, timeout_s=COMPILE_TIMEOUT_S
            )
        except CompileError as error:
            return built.measured(Outcome.COMPILE_FAILED, str(error))
        return Built(candidate, full, small, path)

    def build_all(
        self, candidates: Sequence[Candidate], until: float, report: Callable[[], None], first: int = 0
    ) -> list[Built | Measured]:
        """Build in parallel, as many at once as there are cores; none is started after `until` (monotonic).

        The `first` so many are built however late it is. `report` is called after each.
        """
        done: dict[str, Built | Measured] = {}
        with ThreadPoolExecutor(self.target.cores, thread_name_prefix="compile") as pool:
            futures = [
                pool.submit(self._build_before, candidate, until if number >= first else float("inf"))
                for number, candidate in enumerate(candidates)
            ]
            for future in as_completed(futures):
                found = future.result()
                done[_hash_of(found)] = found
                report()
        return [done[candidate.hash] for candidate in _distinct(candidates)]

    def _build_before(self, candidate: Candidate, until: float) -> Built | Measured:
        if time.monotonic() >= until:
            return skipped(candidate)
        return self.build(candidate)

    def _render(self, kernel: Kernel, schedule: Schedule, name: str) -> Rendered:
        return compile_source(kernel, schedule, self.renderer, self.target.features, name)


def pool_library(target: Target, directory: Path) -> Path:
    """The worker pool, compiled for the measuring child to load."""
    source = resources.files("engine.runtime").joinpath("pool.c").read_text(encoding="utf-8")
    return compile(source, target, directory)


def skipped(candidate: Candidate) -> Measured:
    """The record of a candidate that the budget left out."""
    return Measured(candidate.schedule, candidate.hash, Outcome.SKIPPED, detail="the budget ended first")


def _hash_of(found: Built | Measured) -> str:
    return found.candidate.hash if isinstance(found, Built) else found.hash


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    return list({candidate.hash: candidate for candidate in candidates}.values())
