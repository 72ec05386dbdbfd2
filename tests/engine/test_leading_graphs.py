"""Random functions of a leading size: views, element-wise ops and reductions in any order, against the plain function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sizes import Var
from engine.tensor import Tensor
from tests.engine.leading import by_default, rows, same_at_every_size

N = Var("n", 1, 5)
Step = Callable[[Tensor], Tensor]
WIDTHS = (2, 6)  # of the axes behind the leading one


@dataclass
class Program:
    """Steps from a tensor (n, *WIDTHS) to another. `axes` is its shape: (count's unit or 0, the size for one row)."""

    random: Random
    axes: list[tuple[bool, int]] = field(default_factory=lambda: [(True, 1), *((False, n) for n in WIDTHS)])
    steps: list[Step] = field(default_factory=list)

    def grow(self) -> None:
        """Add a step that the shape allows."""
        kinds = [self.element, self.centre, self.permute, self.merge, self.split, self.reduce, self.spread]
        self.random.choice(kinds)()

    def element(self) -> None:
        """An element-wise op, with a number, itself or a row."""
        last = self.axes[-1]
        row = rows(last[1])
        choices: list[Step] = [
            lambda x: (x * 2 - 1).clamp(-8, 8),
            lambda x: (x > 0).where(x, -x / 2),
            lambda x: (x / x.shape[0]).tanh(),
            lambda x: x.masked_fill(x > 2.345, float("inf")).minimum(9.0),
        ]
        if not last[0]:
            choices.append(lambda x: x + Tensor(row))
        self.steps.append(self.random.choice(choices))

    def centre(self) -> None:
        """Less what an axis has together: dead rows meet the live ones in a reduce and come back."""
        axis = self.random.randrange(len(self.axes))
        how = self.random.choice(["mean", "sum", "max", "softmax"])
        if how == "softmax":
            self.steps.append(lambda x: x.softmax(axis))
        else:
            self.steps.append(lambda x: (x - getattr(x, how)(axis, keepdim=True)).clamp(-20, 20))

    def permute(self) -> None:
        """Another order of the axes."""
        order = self.random.sample(range(len(self.axes)), len(self.axes))
        self.axes = [self.axes[axis] for axis in order]
        self.steps.append(lambda x: x.permute(*order))

    def merge(self) -> None:
        """Two axes that may be joined as one."""
        places = [i for i in range(len(self.axes) - 1) if not self.axes[i + 1][0]]
        if places:
            at = self.random.choice(places)
            (led, unit), (_, n) = self.axes[at : at + 2]
            self.axes[at : at + 2] = [(led, unit * n)]
            self.steps.append(lambda x: x.flatten(at, at + 1))

    def split(self) -> None:
        """An axis as two."""
        places = [(i, n) for i, (_, n) in enumerate(self.axes) if n % 2 == 0 and n]
        if places:
            at, n = self.random.choice(places)
            self.axes[at : at + 1] = [(self.axes[at][0], n // 2), (False, 2)]
            self.steps.append(lambda x: x.reshape(*x.shape[:at], x.shape[at] // 2, 2, *x.shape[at + 1 :]))

    def reduce(self) -> None:
        """An axis less, if there are others."""
        if len(self.axes) > 1:
            axis = self.random.randrange(len(self.axes))
            how = self.random.choice(["sum", "mean", "max", "min"])
            del self.axes[axis]
            self.steps.append(lambda x: getattr(x.clamp(-9, 9), how)(axis))

    def spread(self) -> None:
        """An axis more, along which everything is repeated."""
        at = self.random.randrange(len(self.axes) + 1)
        self.axes.insert(at, (False, 2))
        self.steps.append(lambda x: x.unsqueeze(at).repeat(*(2 if i == at else 1 for i in range(x.ndim + 1))))

    def __call__(self, x: Tensor) -> Any:
        """What the steps give, and some of what they gave on the way."""
        kept = []
        for number, step in enumerate(self.steps):
            x = step(x)
            if number % 3 == 2:
                kept.append(x)
        return x, *kept[:2], x.sum()


def check(seed: int, steps: int, poison: float) -> None:
    program = Program(Random(seed))
    for _ in range(steps):
        program.grow()

    def function(x: Tensor) -> Any:
        return program(x)

    sizes = (3, 5, 1, 2, 4)
    same_at_every_size(function, lambda n: {"x": rows(n, *WIDTHS)}, N, sizes, poison, 1e-4, "INTERP")


SEEDS = st.integers(0, 1 << 32)
POISONS = st.sampled_from([float("nan"), float("inf"), float("-inf")])


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(2, 12), POISONS)
def test_a_random_function_gives_at_every_size_what_it_gives_plainly(
    seed: int, steps: int, poison: float
) -> None:
    with by_default("INTERP"):
        check(seed, steps, poison)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CPU:LLVM", "CPU:C"])
@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(2, 12), POISONS)
def test_a_random_function_does_so_compiled_too(name: str, seed: int, steps: int, poison: float) -> None:
    with by_default(name):
        check(seed, steps, poison)
