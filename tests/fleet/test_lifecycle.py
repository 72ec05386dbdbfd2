"""The tables of every state machine."""

from __future__ import annotations

import pytest

from fleet.errors import InvalidTransition
from fleet.lifecycle import JOB, MACHINES, JobEvent, JobState, Machine, advance, diagram
from fleet.lifecycle_boxes import ACCEPTANCE, BOX
from fleet.lifecycle_crons import CRON_RUN
from fleet.lifecycle_gpus import GPU
from fleet.lifecycle_updates import ROLLOUT, UPDATE
from tests.whole import ROOT

machines = pytest.mark.parametrize(
    "machine", [*MACHINES, CRON_RUN, ROLLOUT, UPDATE, GPU, BOX, ACCEPTANCE], ids=lambda machine: machine.name
)
# Stable states: they wait for a request or for a resource, not for somebody to finish.
STABLE = {
    "rollout": {"canary", "rest"},
    "update": {"updated"},
    "job": {"blocked", "queued"},
    "attempt": set(),
    "node": {"enrolled", "ready", "drained"},
    "search": {"queued"},
    "cron run": {"waiting"},
    "grant": set(),
    "gpu": {"ok", "quarantined"},
    "box": {"ordered", "stored", "installed", "repair"},
    "acceptance": {"accepted", "refused"},
}


@machines
def test_every_state_is_reachable(machine: Machine) -> None:
    reached = {machine.initial}
    for _ in machine.states:
        reached |= {after for state in reached for after in machine.edges[state].values()}
    assert reached == set(machine.states)


@machines
def test_every_state_leads_to_a_final_one_or_back_to_the_first(machine: Machine) -> None:
    saved = set(machine.final) or {machine.initial}  # a GPU is never done
    for _ in machine.states:
        saved |= {state for state, exits in machine.edges.items() if set(exits.values()) & saved}
    assert saved == set(machine.states)


@machines
def test_every_transient_state_has_a_bound_and_a_legal_rescue(machine: Machine) -> None:
    transient = {str(state) for state in machine.states} - STABLE[machine.name] - machine.final
    assert {str(state) for state in machine.rescues} == transient
    for state, rescue in machine.rescues.items():
        assert rescue.bound
        assert rescue.event in machine.edges[state]


@machines
def test_final_states_have_no_way_out(machine: Machine) -> None:
    for state in machine.final:
        with pytest.raises(InvalidTransition, match="it accepts nothing: it is final"):
            advance(machine, state, next(iter(machine.edges[machine.initial])))


def test_advance_follows_the_table_from_text() -> None:
    assert advance(JOB, "queued", JobEvent.LEASE) is JobState.LEASED


def test_an_illegal_event_names_what_the_state_accepts() -> None:
    with pytest.raises(InvalidTransition) as caught:
        advance(JOB, "queued", JobEvent.SUCCEED)
    assert str(caught.value) == "a job that is queued cannot succeed; it accepts block, lease, fail, cancel"
    assert caught.value.allowed == ["block", "lease", "fail", "cancel"]


def test_the_diagram_in_the_docs_is_the_table() -> None:
    assert diagram(GPU) in (ROOT / "docs" / "nodes.md").read_text(encoding="utf-8")
