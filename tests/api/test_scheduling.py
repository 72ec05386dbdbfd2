"""Why, quotas and usage over HTTP: the real application, a real database, the SDK."""

from __future__ import annotations

from datetime import datetime

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import tenants
from fleet.client import ApiError, Client
from fleet.db import now
from tests.api.agent import Agent, exited, running
from tests.fleet.floors import boxed

NOOP = {"kind": "noop"}


@pytest.fixture
def box(http: TestClient, client: Client) -> Agent:
    """A node with four GPUs."""
    agent = Agent.enrolled(http, client.join_token().secret, name="box1")
    agent.sync(inventory=boxed(4).model_dump(mode="json"))
    return agent


def test_a_job_that_asks_for_too_much_is_told_what_to_lift(client: Client, box: Agent) -> None:
    job = client.submit_job(NOOP, requirements={"gpus": 2, "gpu_vendor": "nvidia", "labels": {"zone": "a"}})
    found = client.why(job.id)
    assert (found.ahead, found.queued, found.would_start) == (0, 1, False)
    assert [(each.requirement, each.nodes, each.lasting) for each in found.groups] == [
        ("gpu_vendor", ["box1"], True),
        ("labels", ["box1"], True),
    ]
    assert [(each.lift, each.at_once) for each in found.remedies] == [
        (["gpu_vendor", "labels"], True),
        (["gpus", "labels"], True),
    ]
    client.label_node(box.node_id, {"zone": "a"})
    remedy, _ = client.why(job.id).remedies
    assert remedy.lift == ["gpu_vendor"]


def test_a_job_that_nothing_keeps_starts_with_the_next_look(client: Client, box: Agent) -> None:
    job = client.submit_job(NOOP, requirements={"gpus": 4})
    assert client.why(job.id).would_start
    assert client.node(box.node_id).devices[1].vendor == "acme"


def test_another_tenants_job_is_none(client: Client, http: TestClient, parts: Parts, box: Agent) -> None:
    job = client.submit_job(NOOP)
    with parts.write() as session:
        secret = tenants.mint(session, name="eve", role="admin", now=now(session), tenant="other")[1]
    bearer = {"Authorization": f"Bearer {secret}"}
    assert http.get(f"/v1/jobs/{job.id}/why", headers=bearer).status_code == 404
    listed = http.get("/v1/tenants", headers=bearer).json()["items"]
    assert [each["tenant"] for each in listed] == ["other"]
    refused = http.put("/v1/tenants/other/quota", headers=bearer, json={"max_gpus": 100})
    assert refused.status_code == 403
    assert http.get("/v1/usage", headers=bearer).json()["nodes"] == []


def test_a_full_queue_refuses_and_says_how_many_there_are(client: Client) -> None:
    client.put_quota("default", max_queued=1)
    client.submit_job(NOOP)
    with pytest.raises(ApiError, match="tenant default has 1 of 1 queued jobs") as caught:
        client.submit_job(NOOP)
    assert caught.value.status == 409
    assert (caught.value.problem["held"], caught.value.problem["limit"]) == (1, 1)
    (row,) = client.tenants().items
    assert (row.tenant, row.queued, row.max_queued) == ("default", 1, 1)


@pytest.mark.parametrize(
    ("limits", "says"),
    [({"period_s": 100_000.0}, "whole number of days"), ({"max_gpus": -1}, "greater than or equal")],
)
def test_a_quota_that_cannot_be_is_refused(client: Client, limits: dict[str, float], says: str) -> None:
    with pytest.raises(ApiError, match=says):
        client.put_quota("default", **limits)  # type: ignore[arg-type]


def test_there_is_no_quota_of_nobody(client: Client) -> None:
    with pytest.raises(ApiError, match="there is no tenant nobody"):
        client.put_quota("nobody", max_gpus=1)


def test_what_is_held_is_counted_while_it_is_and_after(client: Client, parts: Parts, box: Agent) -> None:
    client.submit_job(NOOP, requirements={"gpus": 3})
    parts.controllers.tick()
    (attempt,) = box.sync().attempts
    box.sync(attempts=[running(attempt)])
    (during,) = client.usage().tenants
    assert (during.tenant, during.node, during.attempts) == ("default", "box1", 1)
    assert 0 < during.gpu_busy_s <= during.gpu_leased_s
    box.sync(attempts=[exited(attempt)])
    (after,) = client.usage().tenants
    assert after.gpu_leased_s >= during.gpu_leased_s
    (node,) = client.usage().nodes
    assert (node.node, node.gpus) == ("box1", 4)
    assert node.leased_s + node.idle_s + node.quarantined_s == pytest.approx(node.gpu_s)


def test_the_likely_start_rests_on_how_long_such_jobs_have_run(
    client: Client, parts: Parts, box: Agent
) -> None:
    for _ in range(2):
        client.submit_job(NOOP, name="train", requirements={"gpus": 4})
    parts.controllers.tick()
    (attempt,) = box.sync().attempts
    box.sync(attempts=[exited(attempt, elapsed_s=100.0)])
    parts.controllers.tick()
    (attempt,) = box.sync().attempts
    box.sync(attempts=[running(attempt)])
    third = client.submit_job(NOOP, name="train", requirements={"gpus": 4})
    found = client.why(third.id)
    assert found.likely_s == pytest.approx(100.0)
    assert found.expected_at is not None
    begins = client.attempts(2)[0].started_at
    assert begins is not None
    waits = datetime.fromisoformat(found.expected_at) - datetime.fromisoformat(begins)
    assert waits.total_seconds() == pytest.approx(100.0, abs=1.0)
    assert [(each.requirement, each.lasting) for each in found.groups] == [("free", False)]


def test_what_attempts_drew_is_counted_by_job_tenant_and_node(
    client: Client, parts: Parts, box: Agent
) -> None:
    drew = {"joules": 7.2e6, "method": "counter", "throttled_s": 3.5}
    known, unknown = (client.submit_job(NOOP, requirements={"gpus": 1}) for _ in range(2))
    parts.controllers.tick()
    first, second = box.sync().attempts
    box.sync(attempts=[running(first), running(second)])
    box.sync(attempts=[exited(first, energy=drew), exited(second)])
    (attempt,) = client.attempts(known.id)
    assert (attempt.joules, attempt.energy_method, attempt.throttled_s) == (7.2e6, "counter", 3.5)
    job = client.job(known.id)
    assert (job.joules, job.throttled_s) == (7.2e6, 3.5)
    assert client.job(unknown.id).joules is None, "not known, and not nothing"
    used = client.usage()
    assert (used.tenants[0].joules, used.tenants[0].throttled_s) == (7.2e6, 3.5)
    assert used.nodes[0].joules == 7.2e6


@pytest.mark.parametrize("wrong", [{"joules": -1.0}, {"method": "guessed"}, {"watts": 5.0}])
def test_joules_that_cannot_be_are_refused(
    client: Client, parts: Parts, box: Agent, wrong: dict[str, object]
) -> None:
    client.submit_job(NOOP, requirements={"gpus": 1})
    parts.controllers.tick()
    (attempt,) = box.sync().attempts
    drew = {"joules": 1.0, "method": "counter", "throttled_s": 0.0} | wrong
    assert box.observe(attempts=[exited(attempt, energy=drew)]).status_code == 422
