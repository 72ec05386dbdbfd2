"""Searches of mixed kernels among candidates that crash, hang, write where they may not and lie.

The harm is machine code that was compiled with the rest of its candidate and runs in the measuring child. None is
lost: every candidate has the outcome that its code deserves, and the process that searches goes on.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.flags import Flags
from engine.isolate import Deadline
from engine.kernel import Kernel
from engine.outcome import CORRECT, QUARANTINED, Measured, Outcome
from engine.pace import Pace
from engine.programs import program
from engine.search import SearchResult, search
from engine.shrink import shrink
from engine.store import Store
from engine.target import Target
from engine.texts import SMALL, Recipe
from engine.toolchain import Compiler, detect
from tests.fakes import Fault, FaultKind, faulty_renderer

INJECTED = (FaultKind.SEGFAULT, FaultKind.LOOP, FaultKind.PAST_END, FaultKind.RAGGED_TAIL)
DESERVED = {
    FaultKind.SEGFAULT: {Outcome.CRASHED},
    FaultKind.LOOP: {Outcome.HUNG},
    FaultKind.PAST_END: {Outcome.OUT_OF_BOUNDS},
    FaultKind.RAGGED_TAIL: {Outcome.WRONG},
    None: {*CORRECT, Outcome.SKIPPED, Outcome.ILLEGAL},
}
KERNELS = (
    ("gemm", (40, 48, 32)),
    ("gemm", (24, 1, 200)),
    ("gemm", (64, 64, 64)),
    ("reduce", (48, 96)),
    ("copy", (64, 40)),
    ("elementwise", (2000,)),
)
SOON = Deadline(grace_s=0.4)


def faults_for(source: random.Random) -> list[Fault]:
    """Harm for about half of the candidates: each kind strikes some numbers of registers and of lanes."""
    kinds = source.sample(INJECTED, len(INJECTED))
    registers = [frozenset(source.sample(range(1, 33), 6)) for _ in kinds]
    lanes = frozenset(source.sample((1, 2, 4, 8, 16), 2))
    struck = [Fault(kind, of) for kind, of in zip(kinds, registers, strict=True)]
    return [*struck, Fault(source.choice(kinds), frozenset({0}), lanes)]


def deserved(kernel: Kernel, target: Target, measured: Measured, faults: list[Fault]) -> set[Outcome]:
    """The outcomes that a candidate's code may have."""
    renderer = faulty_renderer(target, faults)
    Recipe(kernel, shrink(kernel), target, Path(), renderer).texts(measured.schedule)
    return DESERVED[renderer.struck[SMALL]]


def searched(number: int, store: Store, compiler: Compiler) -> tuple[SearchResult, int]:
    """One search of a kernel with faults, all drawn from the number, and how many candidates did harm."""
    source = random.Random(number)
    name, shape = KERNELS[number % len(KERNELS)]
    kernel, target, faults = program(name, shape), detect(compiler), faults_for(source)
    result = search(
        kernel,
        target,
        store=store,
        flags=Flags(budget_s=0.5, per_round=6, patience=1, width=2, seed=number),
        renderer=faulty_renderer(target, faults),
        deadline=SOON,
        pace=Pace(lambda: 0.0),  # a round whatever it takes; patience ends the search
    )
    for measured in result.measured:
        if measured.outcome is not Outcome.ILLEGAL:
            assert measured.outcome in deserved(kernel, target, measured, faults), measured.detail
    assert (result.best is not None) == any(m.outcome is Outcome.OK for m in result.measured)
    if result.best is not None:
        assert Outcome.OK in deserved(kernel, target, result.best, faults)
    for measured in result.confirmed:
        assert measured.outcome is Outcome.OK
    return result, sum(m.outcome in QUARANTINED for m in result.measured)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", list(Compiler))
def test_every_candidate_has_the_outcome_it_deserves(compiler: Compiler, tmp_path: Path) -> None:
    found = [searched(number, Store(tmp_path / str(number)), compiler) for number in range(len(KERNELS))]
    assert sum(harmful for _, harmful in found) >= len(KERNELS)
    assert any(result.best is not None for result, _ in found)


@pytest.mark.soak
def test_two_hundred_searches_among_harmful_candidates(tmp_path: Path) -> None:
    found = [searched(number, Store(tmp_path / str(number)), Compiler.LLVM) for number in range(200)]
    outcomes = [m.outcome for result, _ in found for m in result.measured]
    print({outcome.value: outcomes.count(outcome) for outcome in Outcome})
    assert {Outcome.OK, *QUARANTINED} <= set(outcomes)
    assert sum(result.best is not None for result, _ in found) >= 100
