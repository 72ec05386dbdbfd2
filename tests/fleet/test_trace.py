"""A slice of the trace of `make bench BENCH=trace`, played through the real planner on a simulated clock."""

from __future__ import annotations

from statistics import fmean

import pytest

from tests.bench.trace import DAY_S, SHAPES, Trace, backfill, fifo, made_up, replay, table
from tests.simulated import planner

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slice_of_a_day() -> Trace:
    """Enough work for eight nodes that many wait."""
    return made_up(260, nodes=8, days=1.0, seed=3)


def test_a_trace_is_the_same_each_time_and_has_each_class() -> None:
    again = made_up(100, 4, 1.0, seed=5)
    assert again == made_up(100, 4, 1.0, seed=5)
    assert set(again.shapes.values()) == {shape.name for shape in SHAPES}
    assert all(again.takes_s[job.id] > 0 and job.timeout_s <= DAY_S for job in again.jobs)


def test_the_planner_uses_more_than_fifo_and_is_fairer_than_both(slice_of_a_day: Trace) -> None:
    policies = {"fifo": fifo, "backfill": backfill, "ours": planner}
    found = {name: replay(slice_of_a_day, policy, 300.0) for name, policy in policies.items()}
    short = {name: fmean(each.waits[SHAPES[0].name]) for name, each in found.items()}
    assert found["ours"].utilization > found["fifo"].utilization
    assert found["ours"].utilization > 0.97 * found["backfill"].utilization
    assert short["ours"] < short["fifo"]
    assert found["ours"].fairness > found["fifo"].fairness
    shown = table(slice_of_a_day, found)
    assert all(name in shown for name in (*policies, "gang", "fairness"))
