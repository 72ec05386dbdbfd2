"""Verifying and timing built candidates of one kernel, one after another, in children that may die.

A bench holds what candidates of one kernel share: the shrunk problem, the full-shape buffers, the child. A
child is replaced after anything bad, because its memory is suspect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Literal

from engine.arena import Arena
from engine.building import Builder, Built, Entry, candidate, pool_library
from engine.compile_processes import CompileProcesses
from engine.errors import DeviceError, EngineError
from engine.isolate import LOADING, Child, Code, Deadline, Died, Isolate
from engine.kernel import Kernel
from engine.model import estimate
from engine.opts import Schedule
from engine.outcome import QUARANTINED, Measured, Outcome
from engine.pace import Pace
from engine.problem import Bad, Problem
from engine.programs import cost, random_inputs
from engine.render.language import Renderer
from engine.repro import repro
from engine.repro_llvm import llvm_repro
from engine.schedule import replay
from engine.serialize import kernel_hash
from engine.shapes import shape_of
from engine.shrink import shrink
from engine.store import Store
from engine.target import Target
from engine.texts import Recipe
from engine.timing import Runner, Runs, Timing, interleave, time_alone
from engine.toolchain import Compiler, compiler_of
from engine.verify import Verdict

# A candidate that ran when the measuring process itself died, this often in one of these phases, is not run again.
DEATHS = 2
SMALL, FULL, TIMED = "verify", "verify at full shape", "time"
SHORTEN = "shorten"
TIMES_KEPT = 64
# A candidate is not stopped as slow before this: a busy machine may keep it waiting.
SLOW_AT_LEAST_S = 0.25
# The unscheduled kernel is run at full shape only if that takes no longer.
NAIVE_AT_MOST_S = 1.0
# NumPy is trusted to end; this is for shapes that keep it busy.
NUMPY_AT_MOST_S = 5.0


class Bench:
    """Verifies on the shrunk shape, times on the full one. Close it, or use it as a context manager.

    Every launch and outcome goes to the store.
    """

    def __init__(
        self,
        kernel: Kernel,
        target: Target,
        renderer: Renderer | None,
        store: Store,
        *,
        threads: int = 1,
        seed: int = 0,
        deadline: Deadline | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.kernel = kernel
        self.pace = pace or Pace()
        self.hash = kernel_hash(kernel)
        self.target = target
        self.store = store
        self.threads = threads
        self.seed = seed
        self.deadline = deadline or Deadline()
        self.ran: set[str] = set()  # hashes of the candidates that were run on this bench
        self.known: dict[str, Measured] = {}  # by object hash: what has been measured on this bench
        self.recipe = Recipe(kernel, shrink(kernel), target, store.objects, renderer)
        self.suspects = {name for (name, _), deaths in store.in_flight(self.hash).items() if deaths >= DEATHS}
        self._pool = pool_library(store.objects, store.tell) if threads > 1 else None
        self._stack = ExitStack()
        self.isolate = self._stack.enter_context(Isolate(threads))
        self.isolate.start()
        self.builder = Builder(self.recipe, store, CompileProcesses(self.isolate, self.recipe), self.pace)
        self._stack.callback(self.builder.workers.close)
        self._small: Problem | None = None
        self._full: Problem | None = None
        self._timed: Arena | None = None
        self._child: Child | None = None

    # --------------------------------------------------------------------------------------- problems

    @property
    def small(self) -> Problem:
        """The shrunk problem, with the unscheduled kernel's error counted in; made when first asked for."""
        if self._small is None:
            self._small = self._stack.enter_context(Problem(self.recipe.small, self.seed))
            self._measure_naive(self._small, self.recipe.small)
        return self._small

    @property
    def full(self) -> Problem:
        """The full-shape problem with other inputs; a big output is sampled. Made when first asked for.

        The unscheduled kernel's error is assumed from the small one's; it is measured before an output counts as wrong.
        """
        if self._full is None:
            self._full = self._stack.enter_context(Problem(self.kernel, self.seed + 1))
            small = self.small
            growth = cost(self.kernel).reduction / max(1, cost(small.kernel).reduction)
            self._full.assume_relative_error(small.relative_error * growth)
            self._full.in_doubt = partial(self._measure_naive, self._full, self.kernel, NAIVE_AT_MOST_S)
        return self._full

    def _measure_naive(self, problem: Problem, kernel: Kernel, at_most_s: float = float("inf")) -> None:
        """Let the unscheduled kernel's error count in a problem's tolerances, if it takes no longer by the model."""
        expected_s = estimate(kernel, replay(kernel, ()), self.target)
        naive = self.builder.build(candidate(())) if expected_s <= at_most_s else None
        if isinstance(naive, Built):
            entry = naive.small if problem is self._small else naive.full
            problem.measure_naive(self.isolate, self._code(entry), self.deadline.seconds(expected_s))

    def prepare(self, problem: Literal["small", "full", "timed"]) -> None:
        """Make one of them, if it is not there: so that it is no part of the step that would have made it."""
        getattr(self, problem)

    @property
    def timed(self) -> Arena:
        """Full-shape buffers to be copied into each child that times."""
        if self._timed is None:
            inputs = random_inputs(self.kernel, self.seed)
            output = (self.kernel.dtype.numpy, shape_of(self.kernel.output))
            self._timed = self._stack.enter_context(Arena(output, inputs))
        return self._timed

    # --------------------------------------------------------------------------------------- verifying

    def verify(self, built: Built) -> Measured:
        """Run on the shrunk shape; OK without times, or what is wrong with it."""
        if built.candidate.hash in self.suspects:
            return self.keep(
                built.measured(Outcome.CRASHED, f"ran when the measuring process died, {DEATHS} times")
            )
        known = self.store.killer(self.hash, self.target.id, self.threads, built.measured(Outcome.OK))
        if known is not None:
            return known
        return self._verify(built, self.small, SMALL, self._code(built.small), 0.0)

    def verify_fully(self, built: Built) -> Measured:
        """Run on the shrunk shape, then at the full one on inputs of another seed."""
        found = self.verify(built)
        if found.outcome is not Outcome.OK:
            return found
        return self._verify(built, self.full, FULL, self._code(built.full), self._expected_s(built))

    def _code(self, entry: Entry) -> Code:
        return entry.code(self.threads, self._pool)

    def _expected_s(self, built: Built) -> float:
        scheduled = replay(self.kernel, built.candidate.schedule)
        return estimate(self.kernel, scheduled, self.target, self.threads)

    def _verify(self, built: Built, problem: Problem, phase: str, code: Code, expected_s: float) -> Measured:
        self.ran.add(built.candidate.hash)
        with self._flight(built, phase) as land:
            try:
                verdict = problem.verify(self.child(), code, self.deadline.seconds(expected_s))
            except (Bad, Died, DeviceError) as error:
                return land(self.keep(self.failed(built, error)))
            found = built.measured(Outcome.OK)
            return land(replace(found, max_error=verdict.max_error, tolerance=verdict.tolerance))

    def failed(self, built: Built, error: Bad | Died | DeviceError) -> Measured:
        """The record of a failed run; the child, if it lives, is ended. Other errors than of loading are raised."""
        if isinstance(error, DeviceError):
            self.end_child()
            if not error.call.startswith(LOADING):
                raise error
            return built.measured(Outcome.COMPILE_FAILED, str(error))
        verdict: Verdict | None = None
        if isinstance(error, Bad):
            verdict = error.verdict
            self.end_child()
        self._child = None
        found = built.measured(error.outcome, error.detail)
        if verdict is None:
            return found
        return replace(found, max_error=verdict.max_error, tolerance=verdict.tolerance)

    # ------------------------------------------------------------------------------------------ timing

    def time(self, built: Built, verified: Measured, bound_s: float | None) -> Measured:
        """Time a verified candidate alone at the full shape: OK or SLOW with times, or how it died.

        One that is stopped far beyond a known bound is SLOW: it was right on the shrunk shape, and would not win.
        """
        with self._flight(built, TIMED) as land:
            try:
                timing = time_alone(self.runner(built, bound_s), bound_s)
            except (Died, DeviceError) as error:
                found = self.failed(built, error)
                if bound_s and found.outcome is Outcome.HUNG:
                    found = replace(verified, outcome=Outcome.SLOW, detail=found.detail)
                return land(self.keep(found))
            return land(self.keep(with_times(verified, timing)))

    def runner(self, built: Built, bound_s: float | None = None) -> Runner:
        """Something that times runs of a candidate in the current child, on private copies of the buffers."""
        child, key = self.child(), built.candidate.hash
        child.prepare(key, self._code(built.full), child.map(self.timed, private=True))
        if bound_s:
            deadline_s = max(SLOW_AT_LEAST_S, self.deadline.factor * bound_s)
        else:
            deadline_s = self.deadline.seconds(self._expected_s(built))
        return self.run_in(child, key, deadline_s)

    def run_in(self, child: Child, key: str, deadline_s: float) -> Runner:
        """Timed runs of a prepared program."""
        return lambda runs, budget_s, stop_above_s: child.run(
            key, runs=runs, budget_s=budget_s, stop_above_s=stop_above_s, deadline_s=deadline_s
        )

    def numpy_runner(self, program: str) -> Runner:
        """Something that times NumPy's version of a named program on the same private buffers."""
        child = self.child()
        child.prepare_numpy("numpy", program, self.timed, child.map(self.timed, private=True))
        return self.run_in(child, "numpy", self.deadline.seconds(NUMPY_AT_MOST_S))

    def check_numpy(self, program: str) -> Verdict:
        """Run NumPy's version once on the full-shape inputs and judge its output as a kernel's."""
        child, arena = self.child(), self.full.wide
        arena.poison()
        child.prepare_numpy("numpy-check", program, arena, child.map(arena))
        child.run("numpy-check", deadline_s=self.deadline.seconds(NUMPY_AT_MOST_S))
        return self.full.check_output(arena.view(0))

    def race(
        self, starts: Mapping[str, Callable[[], Runner]], time_s: float
    ) -> tuple[dict[str, list[float]], dict[str, Died]]:
        """Time several programs in turns, `time_s` seconds each; the times of those that lived, and the deaths.

        `starts` make the runners in the current child. When one dies, the others start over in a fresh child.
        """
        left, died = dict(starts), dict[str, Died]()
        while left:
            current = [""]
            try:
                runners = [_named(name, start, current) for name, start in left.items()]
                return dict(zip(left, interleave(runners, time_s), strict=True)), died
            except Died as error:
                self._child = None
                died[current[0]] = error
                del left[current[0]]
        return {}, died

    # ------------------------------------------------------------------------------------------- child

    def child(self) -> Child:
        """The current child, or a fresh one."""
        if self._child is None:
            self._child = self.isolate.child()
        return self._child

    def end_child(self) -> None:
        """End the current child; the next one is fresh."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def close(self) -> None:
        """End the child and give the buffers back."""
        self.end_child()
        self._stack.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------ repros

    def minimise(self, measured: Measured, until: float) -> Schedule:
        """Drop opts of a quarantined candidate while it fails in the same way, and write the repro of what is left.

        No new attempt is started that would end after `until`. Hangs are left as they are: each costs a deadline; so are
        those that were not run here, because they were known.
        """
        schedule = measured.schedule
        if measured.outcome is Outcome.HUNG or measured.hash not in self.ran:
            return schedule
        for place in reversed(range(len(schedule))):
            shorter = (*schedule[:place], *schedule[place + 1 :])
            if not self.pace.may_begin(SHORTEN, until):
                break
            with self.pace.step(SHORTEN):
                if self._outcome_of(shorter) is measured.outcome:
                    schedule = shorter
        self._write_repro(replace(measured, schedule=schedule))
        return schedule

    def _outcome_of(self, schedule: Schedule) -> Outcome:
        built = self.builder.build(candidate(schedule))
        if isinstance(built, Measured):
            return built.outcome
        try:
            self.small.verify(self.child(), self._code(built.small), self.deadline.seconds(0.0))
        except (Bad, Died, DeviceError) as error:
            return self.failed(built, error).outcome
        return Outcome.OK

    def _write_repro(self, measured: Measured) -> None:
        try:
            texts, naive = (self.recipe.texts(opts) for opts in (measured.schedule, ()))
        except EngineError:
            return  # it compiled when it failed: nothing to show without it
        in_c = compiler_of(self.target) is Compiler.C
        write = repro if in_c else llvm_repro
        text = write(self.recipe.small, texts.small, naive.small, self.target, measured)
        self.store.repro(self.hash, measured.hash, text, ".c" if in_c else ".py")

    # ------------------------------------------------------------------------------------------- store

    @contextmanager
    def _flight(self, built: Built, phase: str) -> Iterator[Callable[[Measured], Measured]]:
        """Journal that a candidate runs; call what this gives with what became of it.

        A block that is left without, as this process dies, is the candidate's death; one that somebody ended is not.
        """
        name = built.candidate.hash

        def land(found: Measured) -> Measured:
            self.store.landed(self.hash, name, phase, found.outcome)
            return found

        try:
            self.store.launch(self.hash, name, phase, {"object": built.object_hash, "target": self.target.id})
            yield land
        except (KeyboardInterrupt, SystemExit):
            self.store.aborted(self.hash, name, phase)
            raise

    def keep(self, measured: Measured) -> Measured:
        """Write the record; a repro for a quarantined one."""
        self.store.add(self.hash, self.target.id, self.threads, measured)
        if measured.outcome in QUARANTINED:
            self._write_repro(measured)
        return measured


def with_times(verified: Measured, timing: Timing) -> Measured:
    """The record with its times, of which 64 at most are kept."""
    return replace(
        verified, outcome=timing.outcome, time_s=timing.best_s, times_s=timing.times_s[:TIMES_KEPT]
    )


def _named(name: str, start: Callable[[], Runner], current: list[str]) -> Runner:
    """The runner, leaving its name in `current` while it starts and runs: a death is laid to it."""
    current[0] = name
    run = start()

    def named(runs: int, budget_s: float, stop_above_s: float) -> Runs:
        current[0] = name
        return run(runs, budget_s, stop_above_s)

    return named
