"""Crons over a real database: due times become jobs, jobs become runs, and what goes wrong is told."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from fleet import crons, jobs, nodes, people, tenants
from fleet.agents.protocol import Outcome
from fleet.baselines import Better
from fleet.blobs import Blobs
from fleet.cron_plan import CatchUp, Overlap
from fleet.errors import AlreadyExists, InvalidSpec, NotFound, NotPermitted
from fleet.models import Audit, Job
from fleet.principals import Principal
from tests.fleet.acting import Agent
from tests.fleet.crons import HOUR, NOOP, Clockwork, watched


@pytest.fixture
def fleet(
    sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float
) -> Clockwork:
    """At half past an hour: an hourly cron is due in 30 minutes."""
    half_past = now - now % HOUR + 1.5 * HOUR
    found = Clockwork(sessions, blobs, agent, admin, half_past)
    found.at(half_past)
    return found


def hour(fleet: Clockwork, count: int = 1) -> float:
    """The next full hour but some, a second late."""
    return fleet.now - fleet.now % HOUR + count * HOUR + 1.0


def test_a_due_time_becomes_a_job_and_its_end_becomes_the_runs(fleet: Clockwork) -> None:
    cron_id = fleet.add()
    fleet.tick()
    assert fleet.runs(cron_id) == []
    fleet.at(hour(fleet))
    [run] = fleet.runs(cron_id)
    assert (run.state, run.scheduled_at) == ("running", fleet.now - 1.0)
    with fleet.sessions() as session:
        job = jobs.get(session, run.job_id or 0)
        assert (job.name, job.created_by, job.tenant) == ("nightly", "cron:nightly", "default")
    fleet.tick()
    assert len(fleet.runs(cron_id)) == 1  # once for each time, however often it is looked at
    fleet.work()
    assert fleet.states(cron_id) == ["succeeded"]
    assert [kind for kind, _ in fleet.told(cron_id)] == ["cron.added", "cron.started", "cron.succeeded"]
    assert fleet.cron(cron_id).health == "ok"


def test_a_failure_is_told_at_once_and_so_is_the_recovery(fleet: Clockwork) -> None:
    cron_id = fleet.add(job={"spec": {"kind": "noop", "fail": True}})
    for number in (1, 2):
        fleet.at(hour(fleet))
        fleet.work(Outcome.FAILED, error="no space left")
        [*_, (kind, data)] = fleet.told(cron_id)
        assert (kind, data["in_a_row"]) == ("cron.failed", number)
        assert "no space left" in data["error"]
    assert (fleet.cron(cron_id).health, fleet.cron(cron_id).failures) == ("failing", 2)
    fleet.at(hour(fleet))
    fleet.work()
    assert [kind for kind, _ in fleet.told(cron_id)][-2:] == ["cron.succeeded", "cron.recovered"]
    assert (fleet.cron(cron_id).health, fleet.cron(cron_id).failures) == ("ok", 0)


def test_a_job_that_no_node_begins_within_a_period_is_told_with_why(fleet: Clockwork) -> None:
    cron_id = fleet.add()
    fleet.act(lambda session: nodes.cordon(session, fleet.agent.node_id, fleet.admin, fleet.now))
    first = hour(fleet)
    fleet.at(first)
    fleet.at(first + HOUR - 2)
    assert fleet.told(cron_id, "cron.stalled") == []
    fleet.at(first + HOUR)
    [(_, data)] = fleet.told(cron_id, "cron.stalled")
    assert data["since"] == first - 1.0
    assert "queued" in data["why"]
    fleet.at(first + 3 * HOUR)
    assert len(fleet.told(cron_id, "cron.stalled")) == 1  # said once
    assert fleet.cron(cron_id).health == "stalled"


def test_a_control_plane_that_was_away_says_so_and_catches_up(fleet: Clockwork) -> None:
    last, none, every = (
        fleet.add(name, catch_up=policy, most_caught_up=2) for name, policy in
        (("last", CatchUp.LAST), ("none", CatchUp.NONE), ("every", CatchUp.ALL))
    )  # fmt: skip
    fleet.at(hour(fleet, 4) + 600)
    assert fleet.states(last) == ["missed", "missed", "missed", "running"]
    assert fleet.states(none) == ["missed"] * 4
    assert fleet.states(every) == ["missed", "missed", "running", "waiting"]
    assert [len(fleet.told(each, "cron.stalled")) for each in (last, none, every)] == [1, 1, 1]
    fleet.work()
    assert fleet.states(every)[2:] == ["succeeded", "running"]
    fleet.work()
    assert fleet.states(every)[2:] == ["succeeded", "succeeded"]
    assert fleet.told(last, "cron.recovered")


def test_overlap_skip_leaves_a_run_out(fleet: Clockwork) -> None:
    cron_id = fleet.add()
    fleet.at(hour(fleet))
    fleet.at(hour(fleet))
    assert fleet.states(cron_id) == ["running", "skipped"]
    assert fleet.runs(cron_id)[1].reason == "another run is still under way"


def test_overlap_queue_runs_one_after_the_other(fleet: Clockwork) -> None:
    cron_id = fleet.add(overlap=Overlap.QUEUE)
    fleet.at(hour(fleet))
    fleet.at(hour(fleet))
    assert fleet.states(cron_id) == ["running", "waiting"]
    fleet.work()
    assert fleet.states(cron_id) == ["succeeded", "running"]


def test_overlap_replace_stops_the_run_before(fleet: Clockwork) -> None:
    cron_id = fleet.add(overlap=Overlap.REPLACE)
    fleet.at(hour(fleet))
    fleet.agent.sync(fleet.now)
    fleet.agent.sync(fleet.now)  # it runs
    fleet.at(hour(fleet))
    assert fleet.states(cron_id) == ["running", "waiting"]
    fleet.agent.sync(fleet.now)  # is told to stop
    fleet.agent.sync(fleet.now)  # has stopped
    fleet.tick()
    assert fleet.states(cron_id) == ["cancelled", "running"]


def test_numbers_are_kept_and_a_regression_is_told(fleet: Clockwork) -> None:
    cron_id = fleet.add(watch=[watched("time_s"), watched("rate", better=Better.HIGHER)])
    for time_s in (1.0, 1.01, 1.02):
        fleet.at(hour(fleet))
        fleet.work(numbers={"time_s": time_s, "rate": 5, "other": 1})
    assert fleet.told(cron_id, "cron.regressed") == []
    fleet.at(hour(fleet))
    fleet.work(numbers={"time_s": 2.0, "rate": 5, "other": 99})
    [(_, data)] = fleet.told(cron_id, "cron.regressed")
    assert (data["series"], data["value"], data["baseline"]) == ("time_s", 2.0, 1.01)
    assert fleet.runs(cron_id)[-1].regressed
    with fleet.sessions() as session:
        found = crons.series(session, cron_id)
        assert [point.verdict for point in found["time_s"]] == ["new", "new", "ok", "regressed"]
        assert [point.verdict for point in found["other"]] == ["new"] * 4
        assert len(crons.series(session, cron_id, limit=2)["rate"]) == 2
    # what has regressed is in no baseline: the next one as slow is told too, until it is accepted
    fleet.at(hour(fleet))
    fleet.work(numbers={"time_s": 2.0, "rate": 5})
    assert len(fleet.told(cron_id, "cron.regressed")) == 2
    fleet.act(lambda session: crons.accept(session, cron_id, "time_s", fleet.admin, fleet.now))
    for _ in range(2):
        fleet.at(hour(fleet))
        fleet.work(numbers={"time_s": 2.0, "rate": 5})
    assert len(fleet.told(cron_id, "cron.regressed")) == 2


def test_numbers_that_cannot_be_read_are_said_and_the_run_has_succeeded(fleet: Clockwork) -> None:
    cron_id = fleet.add(watch=[watched("time_s")])
    fleet.at(hour(fleet))
    fleet.work(numbers=["no", "object"])
    fleet.at(hour(fleet))
    fleet.work(numbers={"x": "y" * 70_000})
    fleet.at(hour(fleet))
    fleet.work(numbers={"other": 1})
    said = [(run.state, run.error) for run in fleet.runs(cron_id)]
    assert [state for state, _ in said] == ["succeeded"] * 3
    assert "is no object" in said[0][1]
    assert "at most 65536" in said[1][1]
    assert said[2][1] == "it declares no time_s, which is watched"


def test_a_paused_cron_starts_nothing_and_misses_nothing(fleet: Clockwork) -> None:
    cron_id = fleet.add(catch_up=CatchUp.ALL)
    fleet.act(lambda session: crons.pause(session, cron_id, fleet.admin, fleet.now))
    fleet.at(hour(fleet, 3))
    assert fleet.runs(cron_id) == []
    fleet.act(lambda session: crons.resume(session, cron_id, fleet.admin, fleet.now))
    fleet.tick()
    assert fleet.runs(cron_id) == []
    fleet.at(hour(fleet))
    assert fleet.states(cron_id) == ["running"]


def test_a_run_now_waits_for_its_turn_and_comes_once_for_its_key(fleet: Clockwork) -> None:
    cron_id = fleet.add(paused=True)
    first = fleet.act(lambda session: crons.run_now(session, cron_id, fleet.admin, fleet.now, "k").id)
    again = fleet.act(lambda session: crons.run_now(session, cron_id, fleet.admin, fleet.now + 1, "k").id)
    assert first == again
    fleet.act(lambda session: crons.run_now(session, cron_id, fleet.admin, fleet.now))  # at the same moment
    assert fleet.states(cron_id) == ["running", "waiting"]
    fleet.tick()
    fleet.work()
    fleet.work()
    assert fleet.states(cron_id) == ["succeeded", "succeeded"]
    assert {run.by for run in fleet.runs(cron_id)} == {"user:root"}


def test_a_removed_cron_ends_what_runs_and_gives_its_name_back(fleet: Clockwork) -> None:
    cron_id = fleet.add(overlap=Overlap.QUEUE)
    fleet.at(hour(fleet))
    fleet.at(hour(fleet))
    fleet.act(lambda session: crons.remove(session, cron_id, fleet.admin, fleet.now))
    with pytest.raises(NotFound):
        fleet.cron(cron_id)
    assert fleet.states(cron_id) == ["cancelled", "cancelled"]
    with fleet.sessions() as session:
        states = session.scalars(select(Job.state)).all()
    assert set(states) <= {"cancelled", "cancelling"}
    assert fleet.add() != cron_id
    fleet.at(hour(fleet))
    assert fleet.states(cron_id) == ["cancelled", "cancelled"]


def test_a_job_that_is_refused_when_it_is_due_is_a_run_that_failed(fleet: Clockwork) -> None:
    cron_id = fleet.add(job={**NOOP, "node": fleet.agent.node_id})
    fleet.act(lambda session: nodes.drain(session, fleet.agent.node_id, fleet.admin, fleet.now))
    fleet.tick()
    fleet.act(lambda session: nodes.retire(session, fleet.agent.node_id, fleet.admin, fleet.now))
    fleet.now = hour(fleet)
    fleet.tick()
    [run] = fleet.runs(cron_id)
    assert run.state == "failed"
    assert "refused" in run.error
    fleet.now = hour(fleet, 2)
    fleet.tick()
    assert fleet.told(cron_id, "cron.stalled") == []  # it did not stop in silence


def test_what_could_not_be_submitted_cannot_be_added(fleet: Clockwork) -> None:
    before = count(fleet)
    with pytest.raises(InvalidSpec) as caught:
        fleet.add(job={**NOOP, "node": 4711})
    assert caught.value.field.startswith("job.")
    with pytest.raises(InvalidSpec):
        fleet.add(watch=[watched("x"), watched("x")])
    with pytest.raises(InvalidSpec):
        fleet.add(watch=[watched("x", window=1)])
    fleet.add()
    with pytest.raises(AlreadyExists):
        fleet.add()
    assert count(fleet) == before  # the trial of its job leaves nothing behind


def count(fleet: Clockwork) -> tuple[int, int]:
    """Jobs, and audits of jobs."""
    with fleet.sessions() as session:
        audits = session.scalars(select(Audit.id).where(Audit.action == "job.submit")).all()
        return len(session.scalars(select(Job.id)).all()), len(audits)


def test_a_viewer_adds_none_and_another_tenant_sees_none(fleet: Clockwork) -> None:
    cron_id = fleet.add()
    viewer = Principal("user", 9, "eye", "default", "viewer")
    stranger = Principal("user", 10, "eve", "other", "admin")
    with fleet.sessions.begin() as session:
        with pytest.raises(NotPermitted):
            crons.pause(session, cron_id, viewer, fleet.now)
        with pytest.raises(NotFound):
            crons.remove(session, cron_id, stranger, fleet.now)
        assert crons.page(session, "other") == []


def test_the_database_has_one_run_for_a_cron_and_a_time(fleet: Clockwork) -> None:
    cron_id = fleet.add()
    with fleet.sessions() as session:
        row = crons.get(session, cron_id, "default")
        crons.insert_run(session, row, 12.0, fleet.now)
        with pytest.raises(IntegrityError):
            crons.insert_run(session, row, 12.0, fleet.now)


def test_a_removed_persons_crons_are_paused_and_their_runs_end(fleet: Clockwork) -> None:
    with fleet.sessions.begin() as session:
        tenants.mint(session, name="ann", role="user", now=fleet.now)
    ann = Principal("user", 2, "ann", "default", "user")
    fleet.admin, admin = ann, fleet.admin
    cron_id = fleet.add()
    fleet.at(hour(fleet))
    with fleet.sessions.begin() as session:
        assert people.remove(session, "ann", admin, fleet.now).crons == 1
    assert fleet.cron(cron_id).paused_at is not None
    fleet.agent.sync(fleet.now)
    fleet.agent.sync(fleet.now)
    fleet.tick()
    assert fleet.states(cron_id) == ["cancelled"]


def test_a_job_that_has_gone_ends_its_run(fleet: Clockwork) -> None:
    cron_id = fleet.add()
    fleet.at(hour(fleet))
    fleet.work()
    fleet.at(hour(fleet))
    with fleet.sessions.begin() as session:
        [run] = crons.live_runs(session, cron_id)
        run.job_id = 4711
    fleet.tick()
    assert fleet.states(cron_id) == ["succeeded", "failed"]
