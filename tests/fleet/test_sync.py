"""One exchange with an agent."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from fleet import events, nodes, sync
from fleet.agents.protocol import AttemptReport, Observed, Outcome
from fleet.errors import NotPermitted, StaleWrite
from fleet.models import Node
from fleet.settings import Timings
from tests.fleet.acting import inventory


def report(sequence: int, boot: str = "boot-1") -> Observed:
    """A report of nothing."""
    return Observed(boot_id=boot, sequence=sequence)


def test_the_first_report_makes_a_node_ready(session: Session, node: Node) -> None:
    kinds = [event.kind for event in events.page(session) if event.subject == f"node:{node.id}"]
    assert kinds == ["node.enrolled", "node.booted", "node.ready"]


@pytest.mark.parametrize("sequence", [1, 0])
def test_a_report_that_is_not_newer_is_refused(
    session: Session, node: Node, now: float, sequence: int
) -> None:
    old = report(1).model_copy(update={"sequence": sequence})
    with pytest.raises(StaleWrite, match="is not newer than 1"):
        sync.record(session, node.id, old, now)


def test_a_newer_boot_starts_its_sequence_again_and_ends_the_older(
    session: Session, node: Node, now: float
) -> None:
    assert sync.record(session, node.id, report(1, "boot-2"), now)
    with pytest.raises(StaleWrite, match="a newer start of its agent"):
        sync.record(session, node.id, report(50, "boot-1"), now)
    assert not sync.record(session, node.id, report(2, "boot-2"), now)


def test_a_report_renews_the_nodes_last_seen(session: Session, node: Node, now: float) -> None:
    sync.record(session, node.id, report(2), now + 7)
    assert nodes.get(session, node.id).last_seen == now + 7


def test_an_idle_report_changes_nothing_else(session: Session, node: Node, now: float) -> None:
    before = [event.id for event in events.page(session)]
    generation = sync.generation(session, node.id)
    assert not sync.record(session, node.id, report(2), now)
    assert [event.id for event in events.page(session)] == before
    assert sync.generation(session, node.id) == generation


def test_an_inventory_is_recorded_when_it_comes(session: Session, node: Node, now: float) -> None:
    changed = report(2).model_copy(update={"inventory": inventory(cores=64)})
    assert sync.record(session, node.id, changed, now)
    assert nodes.get(session, node.id).cores == 64


def test_an_exited_attempt_that_nobody_knows_is_settled(session: Session, node: Node, now: float) -> None:
    ghost = AttemptReport(attempt_id=999, fence=1, state="exited", outcome=Outcome.FAILED)
    before = sync.generation(session, node.id)
    sync.record(session, node.id, report(2).model_copy(update={"attempts": [ghost]}), now)
    desired = sync.desired(session, node.id, now)
    assert desired.settled == [999]
    assert desired.generation > before  # a parked poll answers at once


def test_the_answer_dictates_the_intervals(session: Session, node: Node, now: float) -> None:
    desired = sync.desired(session, node.id, now, Timings(lease_s=6.0, poll_s=2.0))
    assert (desired.lease_s, desired.poll_s, desired.attempts) == (6.0, 2.0, [])


def test_a_retired_node_is_told_so(session: Session, node: Node, now: float) -> None:
    nodes.get(session, node.id).state = "retired"
    with pytest.raises(NotPermitted, match="enrol it again"):
        sync.record(session, node.id, report(2), now)
