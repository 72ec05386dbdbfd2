"""Several programs of one kernel side by side, and NumPy's: verified, then measured in turns in one child."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Literal

from engine.bench import TIMES_KEPT, Bench
from engine.building import Built, candidate
from engine.errors import InvalidGraph
from engine.isolate import Deadline, Died
from engine.kernel import Kernel
from engine.opts import Schedule
from engine.outcome import Measured, Outcome
from engine.programs import program
from engine.render.language import Renderer
from engine.serialize import kernel_hash
from engine.shapes import shape_of
from engine.store import Store
from engine.target import Target
from engine.timing import Runner

NUMPY: Literal["numpy"] = "numpy"


@dataclass(frozen=True)
class Row:
    """One program's result. Times are seconds of single runs; errors are absolute, at the worst element."""

    name: str
    outcome: Outcome
    threads: int
    schedule: Schedule | None = None
    schedule_hash: str | None = None
    source_hash: str | None = None
    source: str = ""
    max_error: float | None = None
    tolerance: float | None = None
    times_s: tuple[float, ...] = ()
    best_s: float | None = None
    median_s: float | None = None
    detail: str = ""


def named_program(kernel: Kernel) -> str | None:
    """The named program (engine.programs) that this kernel is, or None."""
    wanted = kernel_hash(kernel)
    shapes = [shape_of(node) for node in kernel.params]
    guesses = [("copy", shapes[0]), ("reduce", shapes[0]), ("elementwise", shapes[0])] if shapes else []
    if len(shapes) == 2 and all(len(shape) == 2 for shape in shapes):
        guesses.append(("gemm", (shapes[0][0], shapes[1][1], shapes[0][1])))
    for name, shape in guesses:
        try:
            if kernel_hash(program(name, shape, kernel.dtype)) == wanted:
                return name
        except InvalidGraph:
            continue
    return None


def compare(
    kernel: Kernel,
    rows: Sequence[tuple[str, Schedule | Literal["numpy"]]],
    target: Target,
    *,
    store: Store,
    threads: int = 1,
    seed: int = 0,
    time_s: float = 1.0,
    renderer: Renderer | None = None,
    report: Callable[[dict[str, object]], None] = lambda _: None,
    deadline: Deadline | None = None,
) -> list[Row]:
    """Measure named rows of one kernel interleaved on `threads` threads, each for `time_s` seconds; in order.

    A row is a schedule (() is the definition as written) or "numpy" (named programs only, with BLAS limited to
    as many threads). Each schedule is verified on a shrunk shape and at full shape first; one that fails has
    its outcome and no times.
    """
    with Bench(kernel, target, renderer, store, threads=threads, seed=seed, deadline=deadline) as bench:
        return _Comparison(bench, rows, report).run(time_s)


class _Comparison:
    """The rows of one comparison on their way from names to times."""

    def __init__(
        self,
        bench: Bench,
        rows: Sequence[tuple[str, Schedule | Literal["numpy"]]],
        report: Callable[[dict[str, object]], None],
    ) -> None:
        self.bench = bench
        self.rows = list(rows)
        self.report = report
        self.found: dict[str, Row] = {}
        self.starts: dict[str, Callable[[], Runner]] = {}
        self.done: dict[str, int] = {}

    def run(self, time_s: float) -> list[Row]:
        schedules = list(dict.fromkeys(s for _, s in self.rows if not isinstance(s, str)))
        built: list[Built | Measured] = []
        for found in self.bench.builder.build_all([candidate(schedule) for schedule in schedules]):
            built.append(found)
            self._say("compile")
        by_schedule = dict(zip(schedules, built, strict=True))
        for name, schedule in self.rows:
            if isinstance(schedule, str):
                self._numpy(name)
            else:
                self._kernel(name, schedule, by_schedule[schedule])
            self._say("verify")
        times, died = self.bench.race(self.starts, time_s)
        self._say("time", len(times))
        return [self._timed(name, times, died) for name, _ in self.rows]

    def _kernel(self, name: str, schedule: Schedule, built: Built | Measured) -> None:
        measured = built
        if isinstance(built, Built):
            measured = self.bench.verify_fully(built)
            if measured.outcome is Outcome.OK:
                self.starts[name] = partial(self.bench.runner, built)
        assert isinstance(measured, Measured)
        self.found[name] = Row(
            name,
            measured.outcome,
            self.bench.threads,
            schedule,
            measured.hash,
            measured.source_hash,
            measured.source,
            measured.max_error,
            measured.tolerance,
            detail=measured.detail,
        )

    def _numpy(self, name: str) -> None:
        threads = self.bench.threads
        known = named_program(self.bench.kernel)
        if known is None:
            detail = "NumPy rows are for the named programs: gemm, reduce, copy, elementwise"
            self.found[name] = Row(name, Outcome.ILLEGAL, threads, detail=detail)
            return
        verdict = self.bench.check_numpy(known)
        outcome = Outcome.OK if verdict.right else Outcome.WRONG
        self.found[name] = Row(
            name,
            outcome,
            threads,
            max_error=verdict.max_error,
            tolerance=verdict.tolerance,
            detail=verdict.problem,
        )
        if verdict.right:
            self.starts[name] = partial(self.bench.numpy_runner, known)

    def _timed(self, name: str, times: dict[str, list[float]], died: dict[str, Died]) -> Row:
        row = self.found[name]
        if name in died:
            return replace(row, outcome=died[name].outcome, detail=died[name].detail)
        if not times.get(name):
            return row
        found = times[name]
        return replace(row, times_s=tuple(found[:TIMES_KEPT]), best_s=min(found), median_s=median(found))

    def _say(self, phase: str, count: int = 1) -> None:
        self.done[phase] = self.done.get(phase, 0) + count
        self.report({"phase": phase, "done": self.done[phase], "total": len(self.rows), "best_s": None})
