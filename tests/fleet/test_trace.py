"""A slice of the trace of `make bench BENCH=trace`, played through the real planner on a simulated clock."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.bench.trace import DAY_S, SHAPES, backfill, fifo, made_up, replay, table
from tests.simulated import planner

pytestmark = pytest.mark.slow


def test_a_trace_is_the_same_each_time_and_has_each_class() -> None:
    again = made_up(100, 4, 1.0, seed=5)
    assert again == made_up(100, 4, 1.0, seed=5)
    assert set(again.shapes.values()) == {shape.name for shape in SHAPES}
    assert all(again.takes_s[job.id] > 0 and job.timeout_s <= DAY_S for job in again.jobs)


def test_the_planner_wastes_no_more_than_backfill_and_keeps_a_flood_from_the_others() -> None:
    trace = made_up(900, nodes=12, days=3.2)
    policies = {"fifo": fifo, "backfill": backfill, "ours": planner}
    found = {name: replay(trace, policy, 600.0) for name, policy in policies.items()}
    ours, easy, plain = found["ours"], found["backfill"], found["fifo"]
    assert ours.utilization > plain.utilization
    assert ours.utilization > 0.98 * easy.utilization
    assert ours.flooded < 0.9 * easy.flooded < plain.flooded
    assert ours.worst < min(easy.worst, plain.worst)
    console = Console(width=200)
    with console.capture() as printed:
        console.print(table(trace, found))
    shown = printed.get()
    assert all(name in shown for name in (*policies, "gang", "worst"))
