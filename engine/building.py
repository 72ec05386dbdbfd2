"""Candidates to compiled code: the full-shape kernel and the shrunk one, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from engine.compile_processes import COMPILE_TIMEOUT_S, CompileProcesses
from engine.compiling import entries, recipe_to_json
from engine.errors import CompileError, InvalidGraph, VerifyError
from engine.isolate import Code, Combine
from engine.opts import Schedule, schedule_hash
from engine.outcome import Measured, Outcome
from engine.pace import Pace
from engine.runtime.workers import build_pool
from engine.store import Store, source_hash
from engine.target import detect
from engine.texts import Recipe, Texts
from engine.toolchain import Compiler, compiler_of

COMPILE = "compile"  # a kind of step


class Candidate(NamedTuple):
    """A schedule to try, its hash, and the model's estimate in seconds (0: unknown)."""

    schedule: Schedule
    hash: str
    score: float = 0.0


def candidate(schedule: Schedule, score: float = 0.0) -> Candidate:
    """A candidate for a schedule."""
    return Candidate(schedule, schedule_hash(schedule), score)


@dataclass(frozen=True)
class Entry:
    """A compiled kernel: file, function, into how many tiles it falls, bytes of scratch memory a thread, second phase."""

    path: Path
    name: str
    tiles: int
    scratch: int
    combine: Combine | None = None

    @staticmethod
    def of(path: str, name: str, tiles: int, scratch: int, combine: list[Any] | None) -> Entry:
        """From the form that engine.compiling.entries gives it."""
        return Entry(Path(path), name, tiles, scratch, None if combine is None else Combine(*combine))

    def code(self, threads: int, pool: Path | None) -> Code:
        """How to run it on so many threads."""
        return Code(self.path, self.name, self.tiles, threads, pool, self.scratch, self.combine)


@dataclass(frozen=True)
class Built:
    """A compiled candidate, at full shape and shrunk, and the C of the first for people to read."""

    candidate: Candidate
    full: Entry
    small: Entry
    shown: str

    @property
    def object_hash(self) -> str:
        """The name of the full-shape kernel's code: candidates of one name are the same code."""
        return self.full.path.stem

    def measured(self, outcome: Outcome, detail: str = "") -> Measured:
        """A record of this candidate with an outcome and no times."""
        return _record(self.candidate, outcome, detail, self.shown, self.object_hash)


@dataclass(frozen=True)
class Builder:
    """Makes candidates of one kernel, in `workers`; what has a renderer of its own is rendered in this process."""

    recipe: Recipe
    store: Store
    workers: CompileProcesses
    pace: Pace = field(default_factory=Pace)
    _known: dict[str, Built] = field(default_factory=dict)

    def build(self, candidate: Candidate) -> Built | Measured:
        """Render and compile one candidate, once; a Measured says why it cannot be."""
        found = self._known.get(candidate.hash) or self._build(candidate)
        if isinstance(found, Built):
            self._known[candidate.hash] = found
        return found

    def _build(self, candidate: Candidate) -> Built | Measured:
        if self._renders_here:
            return self._build_here(candidate)
        try:
            answer = self.workers.build(candidate.schedule, self.store.directory)
        except CompileError as error:
            return _record(candidate, Outcome.COMPILE_FAILED, str(error))
        shown = self.store.source(answer["shown"]) if "shown" in answer else ""
        if "outcome" in answer:
            return _record(candidate, Outcome(answer["outcome"]), answer["detail"], shown)
        full, small = (Entry.of(*facts) for facts in answer["entries"])
        return Built(candidate, full, small, shown)

    @cached_property
    def _renders_here(self) -> bool:
        """Has the recipe something that cannot be sent: a renderer, or a kernel too large to be written down?"""
        try:
            return self.recipe.renderer is not None or not recipe_to_json(self.recipe)
        except InvalidGraph:
            return True

    def _build_here(self, candidate: Candidate) -> Built | Measured:
        try:
            texts = self.recipe.texts(candidate.schedule)
        except InvalidGraph as error:
            return _record(candidate, Outcome.ILLEGAL, str(error))
        except (VerifyError, CompileError) as error:
            return _record(candidate, Outcome.COMPILE_FAILED, str(error))
        try:
            paths = self._compile_here(texts)
        except CompileError as error:
            return _record(candidate, Outcome.COMPILE_FAILED, str(error), texts.shown)
        full, small = (Entry.of(*facts) for facts in entries(texts, paths))
        return Built(candidate, full, small, texts.shown)

    def _compile_here(self, texts: Texts) -> tuple[Path, Path]:
        """A C compiler is a process by itself; LLVM gets one."""
        if compiler_of(self.recipe.target) is Compiler.C:
            return self.recipe.compile(texts, COMPILE_TIMEOUT_S)
        return self.workers.compile(texts.full.source), self.workers.compile(texts.small.source)

    def build_all(
        self, candidates: Sequence[Candidate], until: float = float("inf"), first: int = 0
    ) -> Iterator[Built | Measured]:
        """Build in parallel, as many at once as there are cores; none is started that would end after `until`.

        The `first` so many are built however late it is. They come in their order, each once and as soon as it is
        there: whoever takes them may work on one while the next are built.
        """
        pool = ThreadPoolExecutor(self.recipe.target.cores, thread_name_prefix="compile")
        try:
            futures = [
                pool.submit(self._build_before, candidate, until if number >= first else float("inf"))
                for number, candidate in enumerate(_distinct(candidates))
            ]
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _build_before(self, candidate: Candidate, until: float) -> Built | Measured:
        if not self.pace.may_begin(COMPILE, until):
            return skipped(candidate)
        with self.pace.step(COMPILE):
            return self.build(candidate)


def _record(
    candidate: Candidate, outcome: Outcome, detail: str, shown: str = "", object_hash: str | None = None
) -> Measured:
    return Measured(
        candidate.schedule,
        candidate.hash,
        outcome,
        source_hash=source_hash(shown) if shown else None,
        source=shown,
        object_hash=object_hash,
        detail=detail[:2000],
    )


def pool_library(directory: Path, tell: Callable[[str], None]) -> Path | None:
    """The worker pool, compiled for the measuring child to load; None, which is told, where there is no C compiler."""
    try:
        return build_pool(detect(), directory)
    except CompileError as error:
        tell(f"kernels on several threads are timed on Python's: {error}")
        return None


def skipped(candidate: Candidate) -> Measured:
    """The record of a candidate that the budget left out."""
    return Measured(candidate.schedule, candidate.hash, Outcome.SKIPPED, detail="the budget ended first")


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    return list({candidate.hash: candidate for candidate in candidates}.values())
