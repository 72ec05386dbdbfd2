"""Who drew how much: what nodes say of attempts that ended, summed by job, tenant and node."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import tenants
from fleet.client import Client
from fleet.db import now
from tests.api.agent import Agent, exited, running


def ran(parts: Parts, client: Client, agent: Agent, **energy: object) -> int:
    """A job that ran to its end, with what it drew; its id."""
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.sync(attempts=[running(attempt)])
    said = {"energy": energy} if energy else {}
    agent.sync(attempts=[exited(attempt, **said)])
    agent.sync(attempts=[])
    return job.id


@pytest.fixture
def jobs(parts: Parts, client: Client, agent: Agent) -> list[int]:
    """Three jobs: by a counter, integrated, and on a device whose energy nobody knows."""
    return [
        ran(parts, client, agent, joules=5000.0, method="counter", throttled_s=2.0),
        ran(parts, client, agent, joules=700.0, method="integrated"),
        ran(parts, client, agent),
    ]


def test_energy_is_summed_by_job_tenant_and_node(client: Client, jobs: list[int]) -> None:
    by_job = {
        each.key: (each.joules, each.integrated_joules, each.throttled_s) for each in client.energy("job")
    }
    assert by_job == {str(jobs[0]): (5000.0, 0.0, 2.0), str(jobs[1]): (700.0, 700.0, 0.0)}
    for by, key in (("tenant", "default"), ("node", "tiny1")):
        [found] = client.energy(by)
        assert (found.key, found.joules, found.attempts) == (key, 5700.0, 2)


def test_the_same_report_twice_counts_once(parts: Parts, client: Client, agent: Agent) -> None:
    client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    said = exited(attempt, energy={"joules": 10.0, "method": "counter"})
    for _ in range(2):
        agent.sync(attempts=[said])
    assert [each.joules for each in client.energy("node")] == [10.0]


def test_another_tenant_sees_its_own_only(
    http: TestClient, parts: Parts, jobs: list[int], bearer: Callable[[str], dict[str, str]]
) -> None:
    with parts.write() as session:
        secret = tenants.mint(session, name="eve", role="admin", now=now(session), tenant="other")[1]
    stranger = {"Authorization": f"Bearer {secret}"}
    for by in ("job", "tenant", "node"):
        assert http.get(f"/v1/energy?by={by}", headers=stranger).json() == {"items": []}
    assert len(http.get("/v1/energy?by=job", headers=bearer("viewer")).json()["items"]) == len(jobs) - 1


def test_what_ended_earlier_does_not_count(client: Client, jobs: list[int]) -> None:
    assert client.energy("job", days=1e-7) == []


def test_what_is_summed_by_is_one_of_three(http: TestClient, bearer: Callable[[str], dict[str, str]]) -> None:
    reply = http.get("/v1/energy?by=rack", headers=bearer("viewer"))
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "query.by"
