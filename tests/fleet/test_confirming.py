"""Who may confirm a kernel, decided from plain values."""

from __future__ import annotations

import pytest

from fleet.advance import StepJob
from fleet.agents.protocol import CandidateOutcome, CandidateRef, CandidateResult
from fleet.confirming import TRIES, Again, Ask, ClaimView, Confirm, Refute, confirming
from fleet.requirements import DeviceView, NodeView
from tests.fleet.acting import GEMM, TARGET_ID

HASH = "a" * 64
SCHEDULE = CandidateRef(hash=HASH, schedule=[])


def node(number: int, trust: str = "sealed", cores: int = 4, **axes: object) -> NodeView:
    """A node with one cpu of the target."""
    device = DeviceView(number, "cpu", "cpu", "acme", TARGET_ID, 4)
    return NodeView(
        **{"id": number, "name": f"n{number}", "state": "ready", "cordoned": False, "contact": "online"}
        | axes,  # type: ignore[arg-type]
        cores=cores,
        devices=(device,),
        trust=trust,
    )


def claim(
    involved: set[int], job: StepJob | None = None, said: CandidateResult | None = None, **more: int
) -> ClaimView:
    """What the first node has found."""
    fields = {"id": 1, "threads": 2, "seed": 7, "tries": 0} | more
    return ClaimView(
        kernel=GEMM,
        schedule=SCHEDULE,
        target_id=TARGET_ID,
        involved=frozenset(involved),
        job=job,
        said=said,
        **fields,
    )


def asked(found: ClaimView, *nodes: NodeView) -> int | None:
    """The node that is asked, if one is."""
    steps = confirming([found], nodes)
    assert all(isinstance(step, Ask) for step in steps)
    return next((step.node_id for step in steps if isinstance(step, Ask)), None)


def test_another_sealed_node_is_asked_and_never_one_on_whose_word_it_rests() -> None:
    assert asked(claim({1}), node(1), node(2)) == 2
    assert asked(claim({1, 2}), node(1), node(2), node(3)) == 3
    assert asked(claim({1}), node(1), node(2, "shared"), node(3, "tainted"), node(4)) == 4


def test_the_finder_itself_is_asked_only_where_there_is_no_other_sealed_node() -> None:
    assert asked(claim({1}), node(1)) == 1
    assert asked(claim({1}), node(1), node(2, "shared")) == 1
    assert asked(claim({1}), node(1, "shared")) is None
    assert asked(claim({1}), node(1, "shared"), node(2, "tainted")) is None


@pytest.mark.parametrize("axes", [{"cordoned": True}, {"contact": "lost"}, {"state": "drained"}])
def test_another_node_that_is_away_is_waited_for(axes: dict[str, object]) -> None:
    assert asked(claim({1}), node(1), node(2, **axes)) is None


def test_a_node_that_could_never_run_it_is_not_waited_for() -> None:
    assert asked(claim({1}), node(1), node(2, cores=1)) == 1


def test_each_run_has_a_seed_of_its_own_beyond_those_of_the_search() -> None:
    seeds = set()
    for tries in range(TRIES):
        [step] = confirming([claim({1}, tries=tries)], [node(2)])
        assert isinstance(step, Ask)
        seeds.add(step.spec.seed)
    assert len(seeds) == TRIES
    assert seeds.isdisjoint({7, 8})
    assert confirming([claim({1}, tries=TRIES)], [node(2)]) == ()


def result(outcome: CandidateOutcome, time_s: float | None = None) -> CandidateResult:
    """What a run says."""
    return CandidateResult(hash=HASH, schedule=[], outcome=outcome, time_s=time_s)


@pytest.mark.parametrize(
    ("state", "said", "step"),
    [
        ("running", None, None),
        ("succeeded", result(CandidateOutcome.OK, 0.5), Confirm),
        ("succeeded", result(CandidateOutcome.OK), Again),
        ("succeeded", result(CandidateOutcome.OK, 0.0), Again),
        ("succeeded", result(CandidateOutcome.SLOW), Again),
        ("succeeded", result(CandidateOutcome.WRONG), Refute),
        ("succeeded", result(CandidateOutcome.OUT_OF_BOUNDS), Refute),
        ("succeeded", None, Again),
        ("failed", None, Again),
        ("cancelled", None, Again),
    ],
)
def test_what_a_run_says_decides(state: str, said: CandidateResult | None, step: type | None) -> None:
    found = confirming([claim({1}, StepJob(9, state, node_id=2), said)], [node(1), node(2)])
    assert [type(each) for each in found] == ([] if step is None else [step])
