"""Searches, driven by hand: reconcile.tick on one side, an agent with made-up results on the other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet import db, events, jobs, kernels, leases, reconcile, rounds, searches, snapshot
from fleet.advance import Confirmed
from fleet.agents.protocol import KernelRef, NoopSpec, Outcome
from fleet.artifacts import Kept
from fleet.errors import InvalidSpec, StaleWrite
from fleet.plan import plan
from fleet.principals import Principal
from fleet.settings import Settings, Timings
from tests.fleet.acting import KERNEL, KERNEL_HASH, TARGET_ID, Agent, inventory, time_of
from tests.fleet.stepping import Fleet, Submit


def test_a_search_goes_round_by_round_to_a_confirmed_tuned_kernel(submit: Submit, fleet: Fleet) -> None:
    search = fleet.finish(submit())
    assert (search.state, search.source, search.error) == ("done", "search", "")
    assert search.best_s == time_of([[0, 0, 0, 5]] * 3)
    with db.reading(fleet.sessions) as reader:
        tuned = kernels.get(reader, search.tuned_kernel_id or 0)
        rounds = searches.rounds(reader, search.id)
        assert tuned.time_s == search.best_s
        assert tuned.schedule_hash == search.best_hash
        assert (tuned.kernel_hash, tuned.target_id) == (KERNEL_HASH, TARGET_ID)
        assert fleet.blobs.get(tuned.source_blob or "").startswith(b"// ")
        assert [row.number for row in rounds] == list(range(1, len(rounds) + 1))
        assert rounds[0].best_s == time_of([[0, 0, 0, 5]])
        best = searches.candidates(reader, search.id, 3)
        assert best[0].hash == search.best_hash


def test_nothing_is_measured_twice(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    fleet.finish(submit())
    assert len(agent.measured) == len(set(agent.measured)) > 10


def test_a_restart_in_every_step_changes_nothing(
    submit: Submit, fleet: Fleet, agent: Agent, settings: Settings
) -> None:
    search = submit()
    for _ in range(60):
        engine = db.engine_for(settings.database_url)  # as a new process does
        fleet.sessions = agent.sessions = db.session_factory(engine)
        fleet.step()
        found = fleet.look(search)
        engine.dispose()
        if found.state == "done":
            break
    assert (found.state, found.best_s) == ("done", time_of([[0, 0, 0, 5]] * 3))
    assert len(agent.measured) == len(set(agent.measured))


def test_a_second_search_is_answered_from_the_cache(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    first = fleet.finish(submit())
    measured = len(agent.measured)
    again = submit(budget_s=5.0)
    assert (again.state, again.source, again.best_s) == ("done", "cache", first.best_s)
    assert again.tuned_kernel_id == first.tuned_kernel_id
    assert again.id != first.id
    assert len(agent.measured) == measured


def test_a_refreshed_search_runs_although_a_kernel_is_tuned_and_tries_that_one_first(
    submit: Submit, fleet: Fleet
) -> None:
    first = fleet.finish(submit())
    again = submit(refresh=True)
    assert again.state == "queued"
    done = fleet.finish(again)
    assert (done.state, done.source) == ("done", "search")
    assert (done.best_s or 1.0) <= (first.best_s or 0.0)
    with db.reading(fleet.sessions) as reader:
        assert searches.rounds(reader, again.id)[0].candidates[0]["hash"] == first.best_hash


def test_another_name_of_a_tuned_kernel_is_a_hit_once_it_is_expanded(submit: Submit, fleet: Fleet) -> None:
    first = fleet.finish(submit())
    search = submit(kernel=KernelRef(json={"nodes": ["the same kernel, sent as json"]}))
    assert search.state == "queued"
    assert fleet.step() == ["expand"]
    found = fleet.finish(search)
    assert (found.source, found.tuned_kernel_id) == ("cache", first.tuned_kernel_id)


def test_a_kernel_that_was_searched_can_be_named_by_its_hash(submit: Submit, fleet: Fleet) -> None:
    fleet.finish(submit())
    search = submit(kernel=KernelRef(hash=KERNEL_HASH), threads=2)
    assert search.kernel == {"json": {"nodes": ["made up"]}}
    assert fleet.finish(search).state == "done"


def test_a_kernel_whose_text_is_a_blob_can_be_searched_by_its_address(
    submit: Submit, fleet: Fleet, agent: Agent
) -> None:
    agent.put(KERNEL, fleet.now)
    search = submit(kernel=KernelRef(hash=KERNEL_HASH))
    assert search.kernel == {"hash": KERNEL_HASH}
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    (expand,) = agent.sync(fleet.now).attempts
    assert expand.blobs == [KERNEL_HASH]
    assert fleet.finish(search).state == "done"


def test_an_idempotency_key_finds_its_search_again_when_it_is_done(submit: Submit, fleet: Fleet) -> None:
    first = fleet.finish(submit(key="k1"))
    assert submit(key="k1").id == first.id


def test_a_search_without_a_node_of_its_target_waits_with_a_reason(submit: Submit, fleet: Fleet) -> None:
    search = submit(threads=99)
    fleet.step()
    found = fleet.look(search)
    assert (found.state, found.started_at) == ("queued", None)
    assert found.reason == "no node fits: tiny1 has 2 cores, not 99"


def test_a_search_for_an_architecture_that_no_node_has_is_refused_and_writes_nothing(
    submit: Submit, fleet: Fleet
) -> None:
    with pytest.raises(InvalidSpec, match=r"arch: .*'other-9'; there is acme-6-1\+avx2"):
        submit(arch="other-9")
    with db.reading(fleet.sessions) as reader:
        assert searches.page(reader) == []
        assert not [event for event in events.page(reader) if event.kind.startswith("search")]


def test_searches_on_one_node_run_one_after_the_other(submit: Submit, fleet: Fleet) -> None:
    first, second = submit(), submit(threads=2)
    fleet.step()
    assert (fleet.look(first).state, fleet.look(second).state) == ("running", "queued")
    assert fleet.look(second).reason == "waits for 1 other searches on the nodes of its target"
    assert fleet.finish(second).state == "done"
    assert fleet.look(first).state == "done"


def test_a_cancelled_search_cancels_its_jobs(
    submit: Submit, fleet: Fleet, agent: Agent, admin: Principal
) -> None:
    search = submit()
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    agent.sync(fleet.now)
    assert len(agent.running) == 1
    with fleet.sessions.begin() as session:
        assert searches.cancel(session, search.id, admin, fleet.now).state == "cancelled"
    agent.sync(fleet.now)  # is told to stop …
    agent.sync(fleet.now)  # … and says that it has
    with db.reading(fleet.sessions) as reader:
        assert [job.state for job in jobs.page(reader, kind="expand")] == ["cancelled"]


def test_a_cancelled_search_leaves_no_round_open(submit: Submit, fleet: Fleet, admin: Principal) -> None:
    search = submit()
    while "expand" not in fleet.step():
        pass
    with fleet.sessions.begin() as session:
        searches.cancel(session, search.id, admin, fleet.now)
    with db.reading(fleet.sessions) as reader:
        assert [row.finished_at for row in searches.rounds(reader, search.id)] == [fleet.now]


def test_a_confirm_that_ends_after_its_search_was_cancelled_changes_nothing(
    submit: Submit, fleet: Fleet, agent: Agent, admin: Principal
) -> None:
    search = submit(max_rounds=1)
    fleet.run_until("confirm")
    with fleet.sessions.begin() as session:
        searches.cancel(session, search.id, admin, fleet.now)
    agent.work(fleet.now)  # too late to be stopped
    agent.sync(fleet.now)
    fleet.step()
    with db.reading(fleet.sessions) as reader:
        assert [job.state for job in jobs.page(reader, kind="confirm")] == ["cancelled"]
        assert kernels.page(reader) == []
        assert leases.held(reader, agent.node_id) == []
    assert (fleet.look(search).state, fleet.look(search).tuned_kernel_id) == ("cancelled", None)


def test_a_step_that_was_decided_before_the_cancel_is_dropped(
    submit: Submit, fleet: Fleet, agent: Agent, admin: Principal
) -> None:
    search = submit(max_rounds=1)
    while "confirm" not in fleet.step():
        pass
    with db.reading(fleet.sessions) as reader:
        seen = snapshot.load(reader, fleet.blobs, fleet.now, Timings())
    (step,) = plan(seen, fleet.now).steps
    assert isinstance(step, Confirmed)
    with fleet.sessions.begin() as session:
        searches.cancel(session, search.id, admin, fleet.now)
    with pytest.raises(StaleWrite), fleet.sessions.begin() as session:
        rounds.apply(session, step, Kept(), fleet.now)
    assert fleet.look(search).state == "cancelled"


def test_a_search_gets_its_turn_while_small_jobs_keep_coming(
    submit: Submit, fleet: Fleet, agent: Agent, admin: Principal
) -> None:
    """Small jobs of three seconds, one more each second: without a rule the device would never be free."""
    search = submit(max_rounds=1, budget_s=60.0)
    ends: dict[int, float] = {}
    for _ in range(60):
        fleet.now += 1.0
        with fleet.sessions.begin() as session:
            jobs.submit(session, NoopSpec(seconds=3), principal=admin, now=fleet.now)
        reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
        agent.sync(fleet.now)
        for attempt_id, spec in list(agent.running.items()):
            ends.setdefault(attempt_id, fleet.now + (3.0 if spec.spec.kind == "noop" else 0.0))
            if ends[attempt_id] <= fleet.now:
                result, artifacts = agent._result(spec, fleet.now)
                agent.exit(attempt_id, Outcome.SUCCEEDED, result=result, artifacts=artifacts)
        agent.sync(fleet.now)
        if fleet.look(search).state == "done":
            break
    assert fleet.look(search).state == "done"
    with db.reading(fleet.sessions) as reader:
        assert len(jobs.page(reader, state="succeeded", kind="noop")) > 3


def test_a_used_up_budget_ends_the_rounds(submit: Submit, fleet: Fleet, agent: Agent) -> None:
    search = submit(budget_s=10.0)
    while fleet.step() != ["measure"]:
        pass
    fleet.now += 11.0
    done = fleet.finish(search)
    assert done.state == "done"
    assert done.round == 1


def test_a_round_is_dealt_over_the_nodes_of_the_target(
    submit: Submit, fleet: Fleet, agent: Agent, enroll: Callable[..., int]
) -> None:
    other = Agent(fleet.sessions, fleet.blobs, enroll("tiny2", inventory()))
    fleet.agents = (agent, other)
    search = submit()
    while "measure" not in (done := fleet.step()):
        pass
    assert done == ["measure", "measure"]
    assert fleet.finish(search).state == "done"
    both = agent.measured + other.measured
    assert agent.measured
    assert other.measured
    assert len(both) == len(set(both))


def test_a_node_lost_while_it_measures_loses_nothing_but_time(
    submit: Submit, fleet: Fleet, agent: Agent, enroll: Callable[..., int]
) -> None:
    other = Agent(fleet.sessions, fleet.blobs, enroll("tiny2", inventory()))
    search = submit()
    while "expand" not in fleet.step():
        pass
    reconcile.tick(fleet.sessions, fleet.blobs, fleet.now)
    agent.sync(fleet.now)
    other.sync(fleet.now)
    lost = [agent, other][not agent.running]
    fleet.agents = tuple(each for each in (agent, other) if each is not lost)
    for _ in range(12):
        fleet.now += 10.0
        fleet.step()
    assert fleet.finish(search).state == "done"
    both = agent.measured + other.measured
    assert len(both) == len(set(both))
