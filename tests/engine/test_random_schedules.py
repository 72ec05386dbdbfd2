"""Random legal schedules change how a kernel runs and never what it gives; planted faults are found by them."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from itertools import cycle

import pytest

from engine.grouping import refusal
from engine.indexing import body
from engine.keeps import keepables
from engine.opts import OptKind
from engine.runtime.llvm import LlvmRuntime, detect
from engine.stages import values
from tests.engine.scheduling import FAULTS, KERNELS, Problem, describe, run, schedule_of

pytestmark = pytest.mark.slow

QUICK, SLOW, SOAKED = 2, 20, 1_000  # schedules of each kernel
FOUND_WITHIN = 2_000
LEAST_USED = 25  # how often each action is used in a thousand schedules of a kernel that it is legal on


@lru_cache(maxsize=1)
def runtime() -> LlvmRuntime:
    return LlvmRuntime(detect())


@lru_cache(maxsize=len(KERNELS))
def problem(name: str) -> Problem:
    return Problem.of(KERNELS[name], seed=len(name))


def check(name: str, count: int, seed: int) -> Counter[OptKind]:
    """Run so many random schedules of a kernel; how often each action was used."""
    rng = random.Random(f"{name} {seed}")
    used: Counter[OptKind] = Counter()
    faults = []
    for _ in range(count):
        schedule = schedule_of(KERNELS[name], rng)
        used.update(opt.kind for opt in schedule)
        if fault := run(problem(name), schedule, runtime()):
            faults.append(describe(name, schedule, fault))
    assert faults == []
    return used


@pytest.mark.parametrize("name", KERNELS)
def test_random_schedules_give_what_the_definition_says(name: str) -> None:
    check(name, QUICK, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_more_random_schedules_give_what_the_definition_says(name: str) -> None:
    check(name, SLOW, seed=1)


@pytest.mark.soak
@pytest.mark.parametrize("name", KERNELS)
def test_a_thousand_random_schedules_give_what_the_definition_says_and_use_every_action(name: str) -> None:
    used = check(name, SOAKED, seed=2)
    print(name, dict(used))
    reduces = any(axis.reduce for axis in body(KERNELS[name]).axes)
    legal = set(OptKind) - (set() if reduces else {OptKind.UNROLL})
    legal -= set() if values(KERNELS[name]) else {OptKind.STAGE}
    legal -= set() if keepables(KERNELS[name]) else {OptKind.KEEP}
    legal -= {OptKind.GROUP} if refusal(KERNELS[name]) else set()
    assert {kind: used[kind] for kind in legal if used[kind] < LEAST_USED} == {}


def test_there_are_twenty_kernels_and_a_thousand_schedules_use_each_action_five_hundred_times() -> None:
    assert len(KERNELS) >= 20
    assert LEAST_USED * len(KERNELS) >= 500


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    rng = random.Random(name)
    tried = 0
    for kernel in cycle(KERNELS):
        schedule = schedule_of(KERNELS[kernel], rng)
        tried += 1
        if run(problem(kernel), schedule, runtime(), FAULTS[name]):
            break
        assert tried < FOUND_WITHIN
    print(f"{name}: found by schedule {tried}, of {kernel}")
