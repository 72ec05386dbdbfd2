"""The next step of a search: plain values in, one step out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet.advance import (
    Close,
    Conclude,
    Confirmed,
    Fail,
    GiveUp,
    Hold,
    Propose,
    RoundView,
    SearchView,
    Start,
    Step,
    StepJob,
    StopJobs,
    Stray,
    advance,
)
from fleet.agents.protocol import (
    CandidateOutcome,
    CandidateRef,
    CandidateResult,
    ConfirmSpec,
    ExpandResult,
    ExpandSpec,
    MeasureResult,
    canonical_hash,
)
from fleet.requirements import DeviceView, NodeView
from tests.fleet.acting import GEMM

CPU = DeviceView(id=10, name="cpu", kind="cpu", arch="acme", target_id="t1", slots=2)
TINY1 = NodeView(1, "tiny1", "ready", False, "online", 4, (CPU,))
TINY2 = replace(TINY1, id=2, name="tiny2")
SEARCH = SearchView(
    id=7,
    generation=3,
    state="running",
    kernel=GEMM,
    arch=None,
    target_id="t1",
    threads=1,
    width=2,
    budget_s=30.0,
    per_round=3,
    max_rounds=32,
    seed=5,
    round=1,
    started_at=100.0,
    rounds=(RoundView(1),),
)


def step(search: SearchView, *nodes: NodeView, now: float = 101.0) -> Step | None:
    """The next step with nothing else under way."""
    return advance(search, nodes or (TINY1,), {}, now)


def key(name: str) -> str:
    """A candidate's hash."""
    return canonical_hash(name)


def ref(name: str) -> CandidateRef:
    """A candidate."""
    return CandidateRef(hash=key(name), schedule=[[name]])


def refs(names: str) -> tuple[CandidateRef, ...]:
    """A candidate for each letter."""
    return tuple(map(ref, names))


def result(
    name: str, time_s: float | None = None, outcome: CandidateOutcome = CandidateOutcome.OK
) -> CandidateResult:
    """What became of a candidate."""
    return CandidateResult(hash=key(name), schedule=[[name]], outcome=outcome, time_s=time_s)


def expanded(*names: str) -> StepJob:
    """A successful expand job that proposes these."""
    found = ExpandResult(
        kernel_hash=key("kernel"),
        flops=1.0,
        bytes=1.0,
        candidates=[ref(name) for name in names],
        generated=9,
        illegal=1,
        duplicate=2,
    )
    return StepJob(1, "succeeded", found=found)


def tried(*results: CandidateResult, number: int = 2, **given: Any) -> StepJob:
    """A successful measure or confirm job."""
    found = MeasureResult(kernel_hash=key("kernel"), target_id=key("t1"), results=list(results))
    own = tuple(CandidateRef(hash=each.hash, schedule=each.schedule) for each in results)
    asked = given.pop("candidates", own)
    return StepJob(number, "succeeded", found=found, candidates=asked, node_id=1, **given)


def measuring(*jobs: StepJob, **given: Any) -> SearchView:
    """A search in the measure phase of its first round."""
    return replace(SEARCH, phase="measure", jobs=jobs, **given)


def past(number: int, *tops: CandidateResult, hashes: tuple[str, ...] = ()) -> RoundView:
    """A closed round."""
    best = min((each.time_s or 0.0 for each in tops), default=None)
    return RoundView(number, frozenset(map(key, hashes)), tops, best)


# ----------------------------------------------------------------------------------------------- begin


def test_a_queued_search_starts_on_its_target_from_the_seeds() -> None:
    found = step(replace(SEARCH, state="queued", rounds=()))
    assert isinstance(found, Start)
    assert found.target_id == "t1"
    assert (found.expand.survivors, found.expand.limit, found.expand.seed) == ([], 3, 5)


def test_a_search_without_a_target_takes_the_one_most_nodes_have() -> None:
    odd = replace(TINY1, id=3, devices=(replace(CPU, target_id="t0"),))
    found = step(replace(SEARCH, state="queued", target_id=None), odd, TINY1, TINY2)
    assert isinstance(found, Start)
    assert found.target_id == "t1"


def test_a_queued_search_says_what_it_waits_for_once() -> None:
    queued = replace(SEARCH, state="queued", arch="other")
    found = step(queued)
    assert found == Hold(7, 3, "no node fits: tiny1 has architecture acme, not other")
    assert step(replace(queued, reason=found.reason)) is None


# ---------------------------------------------------------------------------------------------- expand


def test_proposed_candidates_are_new_and_no_more_than_a_round_takes() -> None:
    rounds = (past(1, hashes=("a",)), RoundView(2))
    barred = frozenset({key("b")})
    found = step(replace(SEARCH, jobs=(expanded(*"abccdefg"),), rounds=rounds, round=2, barred=barred))
    assert isinstance(found, Propose)
    assert [each.hash for each in found.candidates] == [key("c"), key("d"), key("e")]
    assert found.duplicate == 2 + 5


def test_a_round_is_dealt_to_the_nodes_of_the_target_best_first() -> None:
    found = step(replace(SEARCH, per_round=5, jobs=(expanded(*"abcde"),)), TINY1, TINY2)
    assert isinstance(found, Propose)
    dealt = [[each.hash for each in batch.candidates] for batch in found.batches]
    assert dealt == [[key("a"), key("c"), key("e")], [key("b"), key("d")]]


def test_a_batch_has_the_rest_of_the_budget_and_the_best_time_as_its_bound() -> None:
    found = step(replace(SEARCH, best_s=0.5, jobs=(expanded("a"),)), now=110.0)
    assert isinstance(found, Propose)
    assert (found.batches[0].budget_s, found.batches[0].bound_s) == (20.0, 0.5)


def test_the_first_round_is_measured_even_when_expanding_took_the_budget() -> None:
    found = step(replace(SEARCH, jobs=(expanded("a"),)), now=200.0)
    assert isinstance(found, Propose)
    assert found.batches[0].budget_s == 5.0


def test_no_new_candidate_leads_to_the_finalists() -> None:
    rounds = (past(1, result("a", 0.2), result("b", 0.1), hashes=("a", "b")), RoundView(2))
    found = step(replace(SEARCH, jobs=(expanded("a", "b"),), rounds=rounds, round=2))
    assert isinstance(found, Conclude)
    assert isinstance(found.then, ConfirmSpec)
    assert [each.hash for each in found.then.candidates] == [key("b"), key("a")]
    assert found.then.seed == 6


def test_a_kernel_without_a_single_schedule_gives_up() -> None:
    found = step(replace(SEARCH, jobs=(expanded(),)))
    assert isinstance(found, Conclude)
    assert found.then == GiveUp("no schedule of this kernel is left to try")


def test_a_failed_expand_fails_the_search_with_its_error() -> None:
    job = StepJob(1, "failed", error="shapes do not fit")
    assert step(replace(SEARCH, jobs=(job,))) == Fail(7, 3, "expand failed: shapes do not fit")


def test_an_expand_that_fails_later_does_not_lose_what_was_found() -> None:
    rounds = (past(1, result("a", 0.2), hashes=("a",)), RoundView(2))
    failed = StepJob(1, "failed", error="the node went away")
    found = step(replace(SEARCH, jobs=(failed,), rounds=rounds, round=2))
    assert isinstance(found, Conclude)
    assert isinstance(found.then, ConfirmSpec)
    assert [each.hash for each in found.then.candidates] == [key("a")]


# --------------------------------------------------------------------------------------------- measure


def test_a_round_waits_for_its_last_job() -> None:
    assert step(measuring(tried(result("a", 0.1)), StepJob(3, "running"))) is None


def test_a_queued_job_lends_its_reason_to_the_search() -> None:
    assert step(measuring(StepJob(3, "queued", reason="no node"))) == Hold(7, 3, "no node")


def test_a_closed_round_counts_sorts_and_goes_on_with_the_survivors() -> None:
    slow = result("c", 9.0, CandidateOutcome.SLOW)
    found = step(measuring(tried(result("a", 0.3), result("b", 0.1), slow)))
    assert isinstance(found, Close)
    assert found.counts == {"ok": 2, "slow": 1}
    assert found.round.best_s == 0.1
    assert found.round.hashes == {key("a"), key("b"), key("c")}
    assert isinstance(found.then, ExpandSpec)
    assert found.then.survivors == [[["b"]], [["a"]]]
    assert found.then.seen == sorted([key("a"), key("b"), key("c")])


def test_survivors_are_the_best_of_all_rounds() -> None:
    rounds = (past(1, result("x", 0.05), hashes=("x",)), RoundView(2))
    found = step(measuring(tried(result("a", 0.3), result("b", 0.1)), rounds=rounds, round=2))
    assert isinstance(found, Close)
    assert isinstance(found.then, ExpandSpec)
    assert found.then.survivors == [[["x"]], [["b"]]]


def test_what_was_skipped_or_not_spoken_of_may_be_tried_again() -> None:
    skipped = result("b", None, CandidateOutcome.SKIPPED)
    job = tried(result("a", 0.3), skipped, candidates=refs("abc"))
    found = step(measuring(job))
    assert isinstance(found, Close)
    assert found.counts == {"ok": 1, "skipped": 2}
    assert found.round.hashes == {key("a")}


def test_a_result_nobody_asked_for_is_ignored_and_named() -> None:
    job = tried(result("a", 0.3), result("z", 0.01), candidates=refs("a"))
    found = step(measuring(job))
    assert isinstance(found, Close)
    assert found.round.best_s == 0.3
    assert found.counts == {"ok": 1}
    assert found.strays == (Stray(job, (key("z"),)),)


def test_a_result_stands_for_the_schedule_that_was_proposed() -> None:
    swapped = result("a", 0.3).model_copy(update={"schedule": [["another"]]})
    found = step(measuring(tried(swapped, candidates=refs("a"))))
    assert isinstance(found, Close)
    assert found.round.top[0].schedule == [["a"]]
    assert isinstance(found.then, ExpandSpec)
    assert found.then.survivors == [[["a"]]]


@pytest.mark.parametrize("time_s", [0.0, -1.0, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_no_best_time(time_s: float) -> None:
    found = step(measuring(tried(result("a", time_s), result("b", 0.5))))
    assert isinstance(found, Close)
    assert [each.hash for each in found.round.top] == [key("b")]


def test_a_batch_that_failed_for_good_is_not_tried_again() -> None:
    broken = StepJob(3, "failed", error="out of memory", candidates=refs("b"))
    found = step(measuring(tried(result("a", 0.3)), broken))
    assert isinstance(found, Close)
    assert found.round.hashes == {key("a"), key("b")}
    assert found.results[1][1].detail == "its batch ended as failed: out of memory"
    assert isinstance(found.then, ExpandSpec)


def test_a_round_of_which_every_batch_failed_gives_up_with_the_error() -> None:
    found = step(measuring(StepJob(3, "failed", error="out of memory", candidates=refs("a"))))
    assert isinstance(found, Close)
    assert found.then == GiveUp("no candidate was measured: out of memory")


def test_a_used_up_budget_stops_the_batches_that_have_not_begun() -> None:
    waiting = measuring(StepJob(3, "running"), StepJob(4, "queued"), best_s=0.1)
    assert step(waiting, now=131.0) == StopJobs(7, 3, (4,))
    assert step(replace(waiting, best_s=None), now=131.0) is None


def test_a_used_up_budget_does_not_wait_for_an_expand_that_has_not_begun() -> None:
    waiting = replace(SEARCH, jobs=(StepJob(3, "queued"),), best_s=0.1)
    assert step(waiting, now=131.0) == StopJobs(7, 3, (3,))
    assert step(replace(waiting, phase="confirm"), now=131.0) is None


def test_budget_and_rounds_bound_the_search() -> None:
    measured = measuring(tried(result("a", 0.3)))
    for search, now in ((measured, 131.0), (replace(measured, max_rounds=1), 101.0)):
        found = step(search, now=now)
        assert isinstance(found, Close)
        assert isinstance(found.then, ConfirmSpec)


def test_three_rounds_without_half_a_percent_end_the_search() -> None:
    bests = [1.0, 0.999, 0.998]
    rounds = tuple(past(n + 1, result(f"r{n}", best)) for n, best in enumerate(bests))
    last = RoundView(4)

    def then(time_s: float) -> object:
        job = tried(result("a", time_s))
        found = step(measuring(job, rounds=(*rounds, last), round=4))
        assert isinstance(found, Close)
        return type(found.then)

    assert then(0.997) is ConfirmSpec
    assert then(0.99) is ExpandSpec


def test_nothing_right_at_the_end_gives_up() -> None:
    wrong = result("a", None, CandidateOutcome.WRONG)
    found = step(measuring(tried(wrong)), now=131.0)
    assert isinstance(found, Close)
    assert found.then == GiveUp("no candidate was right in time")


# --------------------------------------------------------------------------------------------- confirm


def test_the_fastest_right_finalist_wins() -> None:
    job = tried(result("a", 0.2), result("b", 0.1, CandidateOutcome.WRONG), result("c", 0.3))
    found = step(replace(SEARCH, phase="confirm", jobs=(job,)))
    assert isinstance(found, Confirmed)
    assert found.winner is not None
    assert found.winner.hash == key("a")


def test_wrong_finalists_give_way_to_the_next() -> None:
    tops = tuple(result(name, time_s) for name, time_s in zip("abcde", (1, 2, 3, 4, 5), strict=True))
    wrong = [result(name, None, CandidateOutcome.WRONG) for name in "ab"]
    job = tried(*wrong, candidates=refs("abc"))  # says nothing of c
    found = step(replace(SEARCH, phase="confirm", jobs=(job,), rounds=(past(1, *tops),)))
    assert isinstance(found, Confirmed)
    assert isinstance(found.then, ConfirmSpec)
    assert [each.hash for each in found.then.candidates] == [key("d"), key("e")]
    assert [each.outcome for each in found.results] == ["wrong", "wrong", "skipped"]


def test_a_finalist_nobody_asked_for_does_not_win() -> None:
    job = tried(result("a", 0.2), result("z", 0.1), candidates=refs("a"))
    found = step(replace(SEARCH, phase="confirm", jobs=(job,)))
    assert isinstance(found, Confirmed)
    assert found.winner is not None
    assert found.winner.hash == key("a")
    assert found.strays == (Stray(job, (key("z"),)),)


def test_no_finalist_left_gives_up() -> None:
    job = tried(result("a", None, CandidateOutcome.WRONG))
    found = step(replace(SEARCH, phase="confirm", jobs=(job,), rounds=(past(1, result("a", 1.0)),)))
    assert isinstance(found, Confirmed)
    assert found.then == GiveUp("no finalist was right at full shape")


def test_a_search_that_does_not_end_fails_ten_minutes_after_its_budget() -> None:
    stuck = measuring(StepJob(3, "queued", reason="no node"), reason="no node")
    assert step(stuck, now=730.0) is None
    assert step(stuck, now=731.0) == Fail(7, 3, "not finished 600 s after its budget: no node")
