from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import models
from fleet.client import ApiError, Client
from fleet.cron_resources import Cron
from tests.api.agent import Agent, exited, running

NOOP = {"spec": {"kind": "noop"}}
WHOLE = {"name": "nightly", "schedule": "30 2 * * *", "job": NOOP}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"schedule": "61 * * * *"}, "schedule"),
        ({"schedule": "* * * * * *"}, "schedule"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"overlap": "both"}, "overlap"),
        ({"catch_up": "some"}, "catch_up"),
        ({"colour": "red"}, "colour"),
        ({"name": "a b"}, "name"),
        ({"job": {"spec": {"kind": "noop", "seconds": -1}}}, "job.spec.seconds"),
        ({"job": {**NOOP, "arch": "never-seen"}}, "job.arch"),
        ({"watch": [{"name": "loss", "better": "up"}]}, "watch[0].better"),
        ({"watch": [{"name": "loss", "window": 2, "least": 3}]}, "watch[0].least"),
        ({"most_caught_up": 101}, "most_caught_up"),
    ],
)
def test_what_cannot_be_is_named(
    http: TestClient, bearer: Callable[[str], dict[str, str]], agent: Agent, said: object, field: str
) -> None:
    reply = http.post("/v1/crons", json={**WHOLE, **said}, headers=bearer("user"))  # type: ignore[dict-item]
    assert reply.status_code == 422
    problem = reply.json()
    assert field in [problem.get("field"), *(each["field"] for each in problem.get("errors") or [])]


def test_a_cron_is_added_shown_paused_resumed_and_removed(client: Client) -> None:
    watch = [{"name": "loss", "better": "lower"}]
    cron = client.add_cron("nightly", "30 2 * * *", NOOP, timezone="Europe/Zurich", watch=watch)
    assert (cron.health, cron.paused, len(cron.upcoming), cron.created_by) == ("ok", False, 5, "user:a-admin")
    assert cron.watch[0].window == 10
    assert cron.upcoming[0].endswith(("00:30:00.000Z", "01:30:00.000Z"))  # 02:30 in Zurich
    assert client.crons(name="nightly").items == [client.cron(cron.id)]
    assert client.crons(name="other").items == []
    paused = client.pause_cron(cron.id)
    assert (paused.paused, paused.paused_by, paused.upcoming) == (True, "user:a-admin", [])
    assert client.resume_cron(cron.id).upcoming == cron.upcoming
    client.remove_cron(cron.id)
    with pytest.raises(ApiError) as refused:
        client.cron(cron.id)
    assert refused.value.status == 404


def test_a_cron_is_changed_and_keeps_its_history(parts: Parts, client: Client, agent: Agent) -> None:
    cron = client.add_cron("nightly", "@daily", NOOP, watch=[{"name": "loss", "better": "lower"}])
    run = client.run_cron(cron.id)
    changed = client.change_cron(cron.id, schedule="*/5 * * * *", overlap="queue", watch=[])
    assert (changed.schedule, changed.overlap, changed.watch, changed.timezone) == (
        "*/5 * * * *",
        "queue",
        [],
        "UTC",
    )
    assert changed.upcoming[0] < cron.upcoming[0]
    assert [each.id for each in client.cron_runs(cron.id).items] == [run.id]
    job = {"spec": {"kind": "noop", "seconds": 1}, "timeout_s": 5}
    assert client.change_cron(cron.id, job=job).job["timeout_s"] == 5
    paused = client.pause_cron(cron.id)
    assert client.change_cron(cron.id, schedule="@weekly").upcoming == paused.upcoming == []
    for said, field in (
        ({"schedule": "nonsense"}, "schedule"),
        ({"timezone": "Mars"}, "timezone"),
        ({"job": {"spec": {"kind": "noop"}, "arch": "never-seen"}}, "job.arch"),
        ({"colour": "red"}, "colour"),
    ):
        with pytest.raises(ApiError) as refused:
            client.change_cron(cron.id, **said)
        assert refused.value.status == 422
        assert field in str(refused.value.problem)
    assert client.cron(cron.id).schedule == "@weekly"


def test_the_same_key_adds_one_cron_and_another_body_is_refused(client: Client) -> None:
    first = client.add_cron("nightly", "@daily", NOOP, idempotency_key="k")
    assert client.add_cron("nightly", "@daily", NOOP, idempotency_key="k").id == first.id
    for name, schedule in (("nightly", "@hourly"), ("weekly", "@daily")):
        with pytest.raises(ApiError) as refused:
            client.add_cron(name, schedule, NOOP, idempotency_key="k")
        assert refused.value.status == 422
    with pytest.raises(ApiError) as refused:
        client.add_cron("nightly", "@daily", NOOP)
    assert refused.value.status == 409


@pytest.fixture
def watched(client: Client, agent: Agent) -> Cron:
    """A cron that compares its loss after one good run."""
    return client.add_cron("train", "@daily", NOOP, watch=[{"name": "loss", "better": "lower", "least": 1}])


def run_with(parts: Parts, client: Client, agent: Agent, cron: Cron, numbers: bytes) -> int:
    """Run the cron now; its job leaves these numbers behind."""
    run = client.run_cron(cron.id)
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[running(attempt)])
    artifacts = {"results.json": client.put_blob(numbers)}
    agent.sync(attempts=[exited(attempt, artifacts=artifacts)])
    parts.controllers.tick()
    return run.id


def test_a_run_leaves_a_history_and_its_numbers(
    parts: Parts, client: Client, agent: Agent, watched: Cron
) -> None:
    first = run_with(parts, client, agent, watched, b'{"loss": 1.0}')
    second = run_with(parts, client, agent, watched, b'{"loss": 2.0}')
    history = client.cron_runs(watched.id)
    assert [(run.id, run.state, run.regressed) for run in history.items] == [
        (second, "succeeded", True),
        (first, "succeeded", False),
    ]
    assert client.cron_runs(watched.id, limit=1).next == second
    [series] = client.cron_series(watched.id)
    assert series.watched is not None
    assert [(point.value, point.verdict, point.baseline) for point in series.points] == [
        (1.0, "new", None),
        (2.0, "regressed", 1.0),
    ]
    shown = client.cron(watched.id)
    assert shown.last_run is not None
    assert (shown.last_run.id, shown.last_run.job_id) == (second, history.items[0].job_id)
    kinds = [event.kind for event in client.events(after=0, limit=200).items]
    assert kinds.count("cron.regressed") == 1
    client.accept_series(watched.id, "loss")
    run_with(parts, client, agent, watched, b'{"loss": 2.0}')
    assert client.cron_series(watched.id)[0].points[-1].verdict == "ok"


def test_a_viewer_sees_crons_and_changes_none(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    cron = client.add_cron("nightly", "@daily", NOOP)
    viewer = bearer("viewer")
    assert http.get(f"/v1/crons/{cron.id}", headers=viewer).status_code == 200
    assert http.post(f"/v1/crons/{cron.id}/run", headers=viewer).status_code == 403
    assert http.post("/v1/crons", json=WHOLE, headers=viewer).status_code == 403


def test_a_cron_asks_for_what_a_job_can_ask_for(parts: Parts, client: Client, agent: Agent) -> None:
    job = {
        "spec": {"kind": "command", "argv": ["train"], "artifacts": ["results.json"]},
        "requirements": {"labels": {"pool": "a"}, "cpus": 2},
        "timeout_s": 60,
        "retry_on": ["failed"],
    }
    cron = client.add_cron("train", "@daily", job)
    run = client.run_cron(cron.id)
    assert run.job_id is not None
    submitted = client.job(run.job_id)
    assert (submitted.kind, submitted.timeout_s, submitted.spec["argv"]) == ("command", 60, ["train"])
    with parts.read() as session:
        assert session.get_one(models.Job, run.job_id).requires["labels"] == {"pool": "a"}


def test_prometheus_reads_how_crons_stand(
    parts: Parts,
    client: Client,
    agent: Agent,
    watched: Cron,
    http: TestClient,
    bearer: Callable[[str], dict[str, str]],
) -> None:
    for numbers in (b'{"loss": 1.0}', b'{"loss": 2.0}'):
        run_with(parts, client, agent, watched, numbers)
    client.add_cron("idle", "@daily", NOOP, paused=True)
    text = http.get("/metrics", headers=bearer("viewer")).text
    assert 'fleet_cron_health{cron="train",health="ok",tenant="default"} 1.0' in text
    assert 'fleet_cron_health{cron="train",health="stalled",tenant="default"} 0.0' in text
    assert 'fleet_cron_series_regressed{cron="train",series="loss",tenant="default"} 1.0' in text
    assert 'fleet_webhook_deliveries{state="dead"} 0.0' in text
    assert "idle" not in text
