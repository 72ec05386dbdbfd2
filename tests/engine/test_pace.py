"""A search's time: what is begun when, by a clock of the test's own."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from engine.bench import FULL
from engine.building import COMPILE
from engine.flags import Flags
from engine.outcome import Outcome
from engine.pace import REMEMBERED, Pace
from engine.programs import program
from engine.runtime.llvm import detect
from engine.search import Progress, search
from engine.store import Store


class Clock:
    """Stands still between two looks, and is then so many seconds further."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = 100.0, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


def test_what_would_end_too_late_is_not_begun() -> None:
    clock = Clock(0.0)
    pace = Pace(clock)
    assert pace.may_begin("verify", 101.0)  # nobody knows how long it takes
    with pace.step("verify"):
        clock.now += 3.0
    assert pace.longest_s("verify") == 3.0
    assert pace.longest_s("time", unknown_s=0.5) == 0.5
    assert pace.may_begin("verify", 106.0)
    assert not pace.may_begin("verify", 105.9)
    assert pace.may_begin("time", 105.9)
    assert not pace.may_begin("time", 103.0)


def test_a_step_that_took_long_once_is_forgotten() -> None:
    clock = Clock(0.0)
    pace = Pace(clock)
    for seconds in (60.0, *[0.1] * REMEMBERED):
        with pace.step("verify"):
            clock.now += seconds
    assert pace.longest_s("verify") == pytest.approx(0.1)


def test_a_step_that_fails_is_remembered_too() -> None:
    pace = Pace(Clock(2.0))
    with pytest.raises(ZeroDivisionError), pace.step("verify"):
        _ = 1 / 0
    assert pace.longest_s("verify") == 2.0


def searched(store: Path, step_s: float, flags: Flags) -> tuple[list[Progress], Pace, float]:
    steps: list[Progress] = []
    pace = Pace(Clock(step_s))
    found = search(
        program("gemm", [64, 64, 64]),
        detect(),
        store=Store(store),
        flags=flags,
        progress=steps.append,
        pace=pace,
    )
    assert found.best is not None
    assert found.best.outcome is Outcome.OK
    assert found.stopped == "budget"
    return steps, pace, found.elapsed_s


@pytest.mark.slow
def test_a_search_leaves_its_winners_time_and_ends_within_its_budget(tmp_path: Path) -> None:
    steps, pace, elapsed_s = searched(tmp_path, 0.05, Flags(40.0, per_round=4, patience=1000))
    assert elapsed_s <= 40.0
    assert max(step.round for step in steps) >= 2
    assert [step for step in steps if step.phase == "confirm"]
    assert len(pace.taken[FULL]) >= 2  # the winner was confirmed beside others


@pytest.mark.slow
def test_a_search_on_a_slow_machine_does_what_it_must_to_have_a_winner(tmp_path: Path) -> None:
    steps, pace, _ = searched(tmp_path, 2.0, Flags(5.0, per_round=16, patience=1000))
    assert {step.round for step in steps} <= {0, 1}
    assert len(pace.taken[FULL]) == 1
    compiled = [step for step in steps if step.phase == "compile"]
    assert len(compiled) <= detect().cores


@pytest.mark.slow
def test_a_round_for_which_there_is_no_time_does_not_say_that_nothing_was_gained(tmp_path: Path) -> None:
    pace = Pace(Clock(0.001), {COMPILE: deque([1e6], maxlen=REMEMBERED)})  # a machine that stood still once
    found = search(
        program("gemm", [64, 64, 64]),
        detect(),
        store=Store(tmp_path),
        flags=Flags(40.0, patience=1),
        pace=pace,
    )
    assert found.stopped == "budget"
    assert sum(entry.measured for entry in found.rounds) == len(found.measured) <= detect().cores
