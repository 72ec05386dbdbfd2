"""Fleets and queues made up at random, for what holds of all of them.

Each is made from a seed and a size: so a thousand of them differ as much as they can, most GPUs are wanted by several
jobs, and one that breaks a rule is cut down by its size, for the first of many jobs are those of few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from fleet.agents.protocol import JobKind
from fleet.order import Waiting
from fleet.requirements import TRUSTS, Needs, NodeView
from tests.fleet.floors import box

NOW = 1_000_000.0
TIMEOUTS = (60.0, 600.0, 3600.0)
_SEEDS = st.integers(0, 2**40)


def fleets(most: int = 5) -> st.SearchStrategy[list[NodeView]]:
    """Some nodes with and without GPUs, of a few kinds."""
    return st.builds(_fleet, _SEEDS, st.integers(1, most))


def wants(kinds: Sequence[JobKind] = (JobKind.NOOP, JobKind.KERNEL)) -> st.SearchStrategy[Needs]:
    """What a job asks for."""
    return st.builds(lambda seed: _needs(Random(seed), kinds), _SEEDS)


def queues(
    tenants: Sequence[str] = ("a", "b", "c"), most: int = 14, least: int = 1
) -> st.SearchStrategy[list[Waiting]]:
    """Jobs that wait, of several tenants."""
    return st.builds(lambda seed, size: _queue(seed, size, tenants), _SEEDS, st.integers(least, most))


def _fleet(seed: int, size: int) -> list[NodeView]:
    dice = Random(seed)
    return [_node(dice, number) for number in range(1, size + 1)]


def _node(dice: Random, number: int) -> NodeView:
    arch = dice.choice(["sm_90", "sm_90", "gfx1100"])
    node = box(
        number,
        gpus=dice.choice([0, 1, 2, 4, 4]),
        slots=dice.choice([2, 8]),
        arch=arch,
        vendor="nvidia" if arch == "sm_90" else "amd",
        driver=dice.choice(["nvidia", "nvidia", "nvidia", "vfio"]),
        memory_bytes=dice.choice([16, 80]) << 30,
    )
    labels = {f"zone={dice.choice('ab')}", *(["old=1"] if dice.random() < 0.3 else [])}
    trust = dice.choice(["sealed", "sealed", *TRUSTS])
    return replace(node, labels=frozenset(labels), rack=f"r{number % 2}", trust=trust)


def _needs(dice: Random, kinds: Sequence[JobKind]) -> Needs:
    """Most ask for GPUs and little else: who is picky fits nowhere, and shows nothing of who shares with whom."""
    gpus = dice.choice([0, 1, 1, 1, 2, 2, 4])
    whole = dice.random() < 0.1
    picky: dict[str, Any] = {}
    if gpus or whole:
        picky = {
            "gpu_arch": _rarely(dice, None, "sm_90", "gfx"),
            "gpu_memory_bytes": _rarely(dice, 0, 40 << 30),
            "gpu_vendor": _rarely(dice, None, "nvidia", "amd"),
            "gpu_driver": _rarely(dice, None, "vfio", "nvidia"),
        }
    return Needs(
        JobKind.NOOP if gpus else dice.choice(list(kinds)),
        slots=dice.choice([1, 1, 1, 2, 4]),
        gpus=gpus,
        whole_node=whole,
        labels=_rarely(dice, (), ("zone=a",)),
        anti_labels=_rarely(dice, (), ("old",), ("zone=b",)),
        trust=_rarely(dice, None, "sealed", "shared"),
        rack=_rarely(dice, None, "r1"),
        alone=_rarely(dice, "", "node", "gpu" if gpus else "node"),
        ranks=dice.choice([1, 1, 1, 1, 2, 3]),
        **picky,
    )


def _rarely(dice: Random, usual: Any, *others: Any) -> Any:
    return dice.choice(others) if dice.random() < 0.12 else usual


def _queue(seed: int, size: int, tenants: Sequence[str]) -> list[Waiting]:
    dice = Random(seed)
    return [
        Waiting(
            id=number,
            generation=1,
            needs=_needs(dice, (JobKind.NOOP, JobKind.KERNEL)),
            priority=dice.choice([0, 0, 0, 5, -20]),
            asked_at=NOW - dice.randint(10, 10_000),
            queued_at=NOW - 10.0,
            tenant=dice.choice(list(tenants)),
            timeout_s=dice.choice(TIMEOUTS),
        )
        for number in range(1, size + 1)
    ]
