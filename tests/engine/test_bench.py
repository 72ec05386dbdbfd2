"""Whose fault it is when the process that measures ends: a candidate that kills it is not run for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.bench import DEATHS, Bench
from engine.building import Built, candidate
from engine.opts import Opt, OptKind
from engine.outcome import Measured, Outcome
from engine.programs import program
from engine.store import Store
from engine.target import Target
from engine.timing import Runner
from engine.toolchain import detect

pytestmark = pytest.mark.slow

GEMM = program("gemm", [24, 16, 8])
ONE = candidate((Opt(OptKind.UPCAST, "out", 0, 2),))


class Gone(BaseException):
    """The process is no more: nothing that runs afterwards may count."""


class Ending(Bench):
    """A bench whose process ends when a candidate is to be timed."""

    how: type[BaseException] = Gone

    def runner(self, built: Built, bound_s: float | None = None) -> Runner:
        raise self.how


@pytest.fixture(scope="module")
def target() -> Target:
    return detect()


def run(store: Store, target: Target, how: type[BaseException]) -> Measured:
    """Verify the candidate, which is right, and time it, at which the process ends; the first finding if it does not
    come so far."""
    with Ending(GEMM, target, None, store) as bench:
        bench.how = how
        built = bench.builder.build(ONE)
        assert isinstance(built, Built)
        found = bench.verify(built)
        if found.outcome is Outcome.OK:
            with pytest.raises(how):
                bench.time(built, found, None)
        return found


def suspects(store: Store, target: Target) -> set[str]:
    with Bench(GEMM, target, None, store) as bench:
        return bench.suspects


def test_a_candidate_that_is_right_but_kills_while_it_is_timed_is_not_run_again(
    target: Target, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    found = [run(store, target, Gone).outcome for _ in range(DEATHS)]
    assert found == [Outcome.OK] * DEATHS
    assert suspects(store, target) == {ONE.hash}
    for _ in range(2):  # saying so does not acquit it
        refused = run(store, target, Gone)
        assert (refused.outcome, "process died" in refused.detail) == (Outcome.CRASHED, True)


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_a_process_that_somebody_ended_is_not_the_candidates_death(
    target: Target, tmp_path: Path, how: type[BaseException]
) -> None:
    store = Store(tmp_path)
    for _ in range(DEATHS + 1):
        assert run(store, target, how).outcome is Outcome.OK
    assert suspects(store, target) == set()
