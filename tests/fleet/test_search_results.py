"""What agents say of candidates, true or not, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from fleet import blobs as blobs_module
from fleet import db, events, kernels, reconcile, searches, tenants
from fleet.agents.protocol import CandidateOutcome, CandidateResult, Outcome
from fleet.principals import Principal
from fleet.resources import Event
from fleet.settings import Settings
from tests.fleet.acting import Agent, Watchful, time_of
from tests.fleet.stepping import Fleet, Submit

pytestmark = pytest.mark.slow


def test_liars_and_crashers_are_quarantined_with_their_source_and_the_best_honest_one_wins(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    def verdict(_kind: str, schedule: list[list[Any]]) -> CandidateOutcome:
        if schedule[-1][3] == 5:
            return CandidateOutcome.WRONG
        return CandidateOutcome.CRASHED if schedule[-1][3] == 2 else CandidateOutcome.OK

    agent.verdict = verdict
    search = fleet.finish(submit())
    assert (search.state, search.best_s) == ("done", time_of([[0, 0, 0, 3]] * 3))
    with db.reading(fleet.sessions) as reader:
        found = kernels.quarantine(reader, "default", limit=200)
        assert {row.outcome for row in found} == {"wrong", "crashed"}
        source = fleet.blobs.get(found[0].source_blob or "")
        assert source == f"// {found[0].schedule}".encode()


def test_a_candidate_in_quarantine_is_not_proposed_to_the_next_search(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    agent.verdict = lambda _, schedule: CandidateOutcome.HUNG if len(schedule) == 3 else CandidateOutcome.OK
    fleet.finish(submit())
    with db.reading(fleet.sessions) as reader:
        culprits = {row.schedule_hash for row in kernels.quarantine(reader, "default", limit=200)}
    with fleet.sessions.begin() as session:  # the cache is emptied, the quarantine is not
        session.delete(kernels.get(session, 1))
    agent.measured.clear()
    assert fleet.finish(submit()).state == "done"
    assert culprits
    assert not culprits & set(agent.measured)


def test_finalists_that_fail_at_full_shape_are_replaced_by_the_next(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    best = time_of([[0, 0, 0, 5]] * 3)

    def verdict(kind: str, schedule: list[list[Any]]) -> CandidateOutcome:
        lies = kind == "confirm" and time_of(schedule) < best * 1.8
        return CandidateOutcome.WRONG if lies else CandidateOutcome.OK

    agent.verdict = verdict
    search = fleet.finish(submit())
    assert search.state == "done"
    assert (search.best_s or 0) >= best * 1.8
    assert len(search.confirmed) > 3


def test_a_search_in_which_every_candidate_lies_fails(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    agent.verdict = lambda _kind, _schedule: CandidateOutcome.WRONG
    search = fleet.finish(submit())
    assert (search.state, search.tuned_kernel_id) == ("failed", None)
    assert search.error


def test_a_kernel_that_the_engine_refuses_fails_the_search_with_its_words(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    search = submit()
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    agent.sync(fleet.now)
    (attempt_id,) = agent.running
    agent.exit(attempt_id, Outcome.INVALID, error="kernel.nodes[3]: shapes do not fit")
    agent.sync(fleet.now)
    found = fleet.finish(search)
    assert (found.state, found.error) == ("failed", "expand failed: kernel.nodes[3]: shapes do not fit")


def test_a_result_that_is_not_one_fails_the_search(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    search = submit()
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    agent.sync(fleet.now)
    (attempt_id,) = agent.running
    agent.exit(attempt_id, Outcome.SUCCEEDED, result={"candidates": "many"})
    agent.sync(fleet.now)
    found = fleet.finish(search)
    assert found.state == "failed"
    assert "cannot be read" in found.error


def distort(agent: Agent, kind: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Make an agent change the results of one kind of job before it reports them."""
    whole = agent._result

    def changed(attempt: Any, now: float) -> tuple[dict[str, Any], dict[str, str]]:
        result, artifacts = whole(attempt, now)
        if attempt.spec.kind == kind:
            change(result)
        return result, artifacts

    agent._result = changed  # type: ignore[method-assign]


@pytest.mark.parametrize("field", ["kernel_hash", "target_id"])
def test_a_measurement_of_something_else_does_not_count(
    submit: Submit, fleet: Fleet, agent: Agent, field: str
) -> None:
    distort(agent, "measure", lambda result: result.update({field: "0" * 64}))
    found = fleet.finish(submit())
    assert found.state == "failed"
    assert f"is about {field.split('_')[0]} {'0' * 64}, not" in found.error


def test_every_event_names_what_it_happened_to_by_noun_and_id(
    submit: Submit, fleet: Fleet, agent: Agent, admin: Principal
) -> None:
    agent.verdict = lambda _, schedule: CandidateOutcome.HUNG if schedule[-1][3] == 2 else CandidateOutcome.OK
    fleet.finish(submit())
    with fleet.sessions.begin() as session:
        tenants.revoke(session, admin.id, admin, fleet.now)
    with db.reading(fleet.sessions) as reader:
        subjects = {event.subject for event in events.page(reader, limit=1000)}
    assert all(re.fullmatch(r"[a-z]+:[1-9]\d*", subject) for subject in subjects)
    nouns = {subject.partition(":")[0] for subject in subjects}
    assert nouns == {"job", "attempt", "node", "search", "kernel", "quarantine", "token"}
    documented = Event.model_fields["subject"].description or ""
    assert all(noun in documented for noun in nouns)


def test_results_that_nobody_asked_for_are_ignored_and_recorded(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    stray = CandidateResult(hash="0" * 64, schedule=[], outcome=CandidateOutcome.CRASHED).model_dump()
    distort(agent, "measure", lambda result: result["results"].append(stray))
    search = fleet.finish(submit(max_rounds=1))
    assert search.state == "done"
    with db.reading(fleet.sessions) as reader:
        assert "0" * 64 not in {each.hash for each in searches.candidates(reader, search.id, 200)}
        assert kernels.quarantine(reader, "default") == []
        (event,) = [each for each in events.page(reader, limit=500) if each.kind == "search.stray_results"]
    assert event.subject == f"search:{search.id}"
    assert (event.data["count"], event.data["hashes"], event.data["node"]) == (1, ["0" * 64], agent.node_id)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"kernel_hash": NaN}', b"\xff"], ids=str)
def test_an_artifact_that_cannot_be_read_fails_its_search_and_nothing_else(
    submit: Submit, fleet: Fleet, agent: Agent, content: bytes
) -> None:
    search = submit()
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    agent.sync(fleet.now)
    with fleet.sessions.begin() as session:
        address = fleet.blobs.put(session, content, fleet.now)
    (attempt_id,) = agent.running
    agent.exit(
        attempt_id,
        Outcome.SUCCEEDED,
        result={"artifact": "result.json"},
        artifacts={"result.json": address},
    )
    agent.sync(fleet.now)
    assert "cannot be read" in fleet.finish(search).error


def test_the_winners_source_is_found_among_what_was_measured(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    whole = agent._result

    def without_sources(attempt: Any, now: float) -> tuple[dict[str, Any], dict[str, str]]:
        result, artifacts = whole(attempt, now)
        return result, {} if attempt.spec.kind == "confirm" else artifacts

    agent._result = without_sources  # type: ignore[method-assign]
    search = fleet.finish(submit())
    with db.reading(fleet.sessions) as reader:
        tuned = kernels.get(reader, search.tuned_kernel_id or 0)
        assert blobs_module.size(reader, tuned.source_blob or "") > 0
    assert fleet.blobs.get(tuned.source_blob or "") == f"// {tuned.schedule}".encode()


def test_a_source_under_another_name_is_not_kept(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    whole = agent._result

    def lie(attempt: Any, now: float) -> tuple[dict[str, Any], dict[str, str]]:
        result, artifacts = whole(attempt, now)
        sources = {each["source_hash"]: "// another" for each in result.get("results", [])}
        return result, {**artifacts, "candidates.json": agent.put(sources, now)}

    agent._result = lie  # type: ignore[method-assign]
    search = fleet.finish(submit())
    with db.reading(fleet.sessions) as reader:
        assert kernels.get(reader, search.tuned_kernel_id or 0).source_blob is None


def test_no_file_is_written_while_the_database_is_locked(
    submit: Submit, fleet: Fleet, settings: Settings
) -> None:
    fleet.blobs = Watchful(settings.blobs, settings.data / "fleet.db")
    assert fleet.finish(submit()).state == "done"
    assert fleet.blobs.written > 0


def test_a_slower_winner_gives_way_to_what_is_known(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    search = submit(max_rounds=1)
    fleet.run_until("confirm")
    with fleet.sessions.begin() as session:  # another search of the same kernel ends first
        row = searches.get(session, search.id)
        best = CandidateResult(hash="0" * 64, schedule=[], outcome=CandidateOutcome.OK, time_s=1e-6)
        known = kernels.record(
            session, row, best, arch="acme", node_id=agent.node_id, source_blob=None, now=fleet.now
        )
    found = fleet.finish(search)
    assert (found.tuned_kernel_id, found.best_s, found.best_hash) == (known.id, 1e-6, "0" * 64)


def test_a_large_result_comes_as_an_artifact(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    whole = agent._result

    def by_artifact(attempt: Any, now: float) -> tuple[dict[str, Any], dict[str, str]]:
        result, artifacts = whole(attempt, now)
        return {"artifact": "result.json"}, {**artifacts, "result.json": agent.put(result, now)}

    agent._result = by_artifact  # type: ignore[method-assign]
    assert fleet.finish(submit()).state == "done"
