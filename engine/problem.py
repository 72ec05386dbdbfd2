"""A kernel at one shape as something to be checked: inputs, what must come out, buffers, the naive error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from engine.arena import Arena, Array
from engine.errors import DeviceError, EngineError
from engine.isolate import Child, Code, Died, Isolate
from engine.kernel import Kernel
from engine.outcome import Outcome
from engine.shapes import shape_of
from engine.verify import Verdict, check, largest_size, reference, with_naive, with_relative_error


class Bad(EngineError):
    """A candidate that ran and did harm or lied: its outcome, and the verdict if outputs were compared."""

    def __init__(self, outcome: Outcome, detail: str, verdict: Verdict | None = None) -> None:
        super().__init__(f"{outcome.value}: {detail}")
        self.outcome = outcome
        self.detail = detail
        self.verdict = verdict


@dataclass(frozen=True)
class _Trial:
    """One verifying run: which inputs, in which buffers, over which poison."""

    name: str
    reference: int
    arena: Arena
    poison: int


class Problem:
    """A kernel's inputs for a seed, the outputs they must give, and shared buffers to run candidates on.

    Trials: normal inputs in page-aligned buffers with wide canaries; the same in buffers that end at a guard
    page, aligned to an element only, over another poison; small whole numbers. The first two must agree to the
    bit. Close it, or use it as a context manager.
    """

    def __init__(self, kernel: Kernel, seed: int = 0) -> None:
        self.kernel = kernel
        self.references = [reference(kernel, seed), reference(kernel, seed, integers=True)]
        self._stack = ExitStack()
        output = (kernel.dtype.numpy, shape_of(kernel.output))
        normal, whole = (list(found.inputs) for found in self.references)
        self.wide = self._stack.enter_context(Arena(output, normal))
        tight = self._stack.enter_context(Arena(output, normal, flush=True))
        integers = self._stack.enter_context(Arena(output, whole))
        self._trials = (
            _Trial("aligned", 0, self.wide, 0),
            _Trial("tight", 0, tight, 1),
            _Trial("integers", 1, integers, 0),
        )
        self.relative_error = 0.0
        # Asked once, before an output counts as wrong: to let the unscheduled kernel's own error count.
        self.in_doubt: Callable[[], None] | None = None

    def measure_naive(self, isolate: Isolate, code: Code, deadline_s: float) -> None:
        """Run the unscheduled kernel and let its error count in the tolerances. One that does harm counts nothing."""
        child = isolate.child()
        trials = (self._trials[0], self._trials[2])
        try:
            outputs = [_run(child, code, trial.arena, trial.poison, deadline_s) for trial in trials]
            child.close()
        except (Died, DeviceError):
            self._repair()
            return
        if any(trial.arena.damage() for trial in trials):
            self._repair()  # or the next candidate would be blamed for it
            return
        for number, output in enumerate(outputs):
            self.references[number] = with_naive(self.references[number], output)
        naive, size = self.references[0].naive, largest_size(self.references[0])
        if naive is not None and size > 0:
            self.relative_error = max((float(part.max(initial=0.0)) for part in naive), default=0.0) / size

    def assume_relative_error(self, relative: float) -> None:
        """Let a naive error measured at another shape count, relative to the largest value."""
        self.references = [with_relative_error(found, relative) for found in self.references]

    def verify(self, child: Child, code: Code, deadline_s: float) -> Verdict:
        """Run a candidate in every trial; the worst verdict on normal inputs. Bad and Died say what is wrong."""
        outputs: list[Array] = []
        verdicts: list[Verdict] = []
        for trial in self._trials:
            output = self._run_checked(child, code, trial, deadline_s)
            verdict = self._judged(trial, output)
            if not verdict.right:
                raise Bad(Outcome.WRONG, f"{trial.name} inputs: {verdict.problem}", verdict)
            outputs.append(output)
            verdicts.append(verdict)
        if outputs[0].tobytes() != outputs[1].tobytes():
            raise Bad(Outcome.WRONG, "two runs on the same inputs differ", verdicts[0])
        return verdicts[0]

    def _judged(self, trial: _Trial, output: Array) -> Verdict:
        verdict = check(self.references[trial.reference], output, trial.poison)
        if verdict.right or self.in_doubt is None:
            return verdict
        ask, self.in_doubt = self.in_doubt, None
        ask()
        return check(self.references[trial.reference], output, trial.poison)

    def _run_checked(self, child: Child, code: Code, trial: _Trial, deadline_s: float) -> Array:
        """One run; Bad if it wrote where it may not, even if it died of it afterwards."""
        death = ""
        try:
            output = _run(child, code, trial.arena, trial.poison, deadline_s)
        except Died as died:
            death = f"; {died.detail}"
            if not (damage := trial.arena.damage()):
                raise
        else:
            if not (damage := trial.arena.damage()):
                return output
        self._repair()
        raise Bad(Outcome.OUT_OF_BOUNDS, damage + death)

    def _repair(self) -> None:
        for trial in self._trials:
            trial.arena.repair()

    def check_output(self, output: Array) -> Verdict:
        """Judge an output computed from the normal inputs."""
        return check(self.references[0], output)

    def close(self) -> None:
        """Give the buffers back."""
        self._stack.close()

    def __enter__(self) -> Problem:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(child: Child, code: Code, arena: Arena, poison: int, deadline_s: float) -> Array:
    """One run over a poisoned output; a copy of the output."""
    arena.poison(poison)
    child.prepare("trial", code, child.map(arena))
    child.run("trial", deadline_s=deadline_s)
    return arena.view(0).copy()
