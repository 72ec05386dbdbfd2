"""Random legal schedules change how a kernel runs and never what it gives; planted faults are found by them."""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache
from itertools import cycle

import pytest

from engine.opts import OptKind
from engine.runtime.llvm import LlvmRuntime, detect
from tests.engine.scheduling import FAULTS, KERNELS, Problem, describe, run, schedule_of

pytestmark = pytest.mark.slow

QUICK, SLOW, SOAKED = 2, 20, 1_000  # schedules of each kernel
FOUND_WITHIN = 2_000


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
def test_a_thousand_random_schedules_give_what_the_definition_says(name: str) -> None:
    print(name, dict(check(name, SOAKED, seed=2)))


@pytest.mark.soak
def test_a_thousand_random_schedules_of_every_kernel_use_each_action_five_hundred_times() -> None:
    used: Counter[OptKind] = Counter()
    for name in KERNELS:  # those of the test before: not every kernel has a place for every action
        rng = random.Random(f"{name} 2")
        for _ in range(SOAKED):
            used.update(opt.kind for opt in schedule_of(KERNELS[name], rng))
    print(dict(used))
    assert {kind: used[kind] for kind in OptKind if used[kind] < 500} == {}


def test_there_are_twenty_kernels() -> None:
    assert len(KERNELS) >= 20


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
