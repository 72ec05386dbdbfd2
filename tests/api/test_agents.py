from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from api.waits import node_key
from fleet.agents.protocol import Desired
from fleet.client import Client
from fleet.db import now
from fleet.resources import Job
from fleet.tenants import mint
from tests.api.agent import Agent, enroll, exited, running
from tests.api.conftest import Served
from tests.whole import until


def test_a_node_joins_once_with_a_join_token(http: TestClient, client: Client) -> None:
    secret = client.join_token().secret
    first = enroll(http, secret, "tiny1")
    again = enroll(http, secret, "tiny2")
    assert (first.status_code, again.status_code) == (201, 403)
    assert first.headers["cache-control"] == "no-store"
    assert [node.name for node in client.nodes().items] == ["tiny1"]


def test_a_node_stands_where_its_join_token_says(http: TestClient, client: Client) -> None:
    secret = client.join_token(pool="red", place=("hall", "r1")).secret
    assert enroll(http, secret, "tiny1").status_code == 201
    [node] = client.nodes().items
    assert (node.pool, node.rack) == ("red", "r1")
    [rack] = client.racks().items
    assert (rack.site, rack.name, rack.nodes) == ("hall", "r1", 1)


def test_only_who_may_place_nodes_binds_a_join_token_to_a_rack(
    http: TestClient, parts: Parts, client: Client
) -> None:
    with parts.write() as session:
        secret = mint(session, name="door", role="admin", now=now(session), scopes=["join"])[1]
    headers = {"Authorization": f"Bearer {secret}"}
    bound = http.post("/v1/join-tokens", json={"place": {"site": "hall", "rack": "r1"}}, headers=headers)
    assert bound.status_code == 403
    assert http.post("/v1/join-tokens", json={}, headers=headers).status_code == 201
    half = http.post("/v1/join-tokens", json={"place": {"site": "hall"}}, headers=headers)
    assert half.json()["errors"][0]["field"] == "place.rack"


def test_a_name_that_is_taken_does_not_spend_the_join_token(http: TestClient, client: Client) -> None:
    enroll(http, client.join_token().secret, "tiny1")
    secret = client.join_token().secret
    assert enroll(http, secret, "tiny1").status_code == 409
    assert enroll(http, secret, "tiny2").status_code == 201


def test_a_job_goes_to_the_node_and_its_result_comes_back(parts: Parts, client: Client, agent: Agent) -> None:
    job = client.submit_job({"kind": "noop"}, name="first")
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    assert attempt.job_id == job.id
    agent.sync(attempts=[running(attempt)])
    assert client.job(job.id).state == "running"
    settled = agent.sync(attempts=[exited(attempt, result={"answer": 42})])
    assert attempt.attempt_id in settled.settled
    done = client.job(job.id)
    assert (done.state, done.result, done.attempts) == ("succeeded", {"answer": 42}, 1)
    [shown] = client.attempts(job.id)
    assert (shown.node, shown.device, shown.fence) == ("tiny1", "cpu", attempt.fence)


def test_an_old_report_is_refused_and_changes_nothing(client: Client, agent: Agent) -> None:
    agent.sync()
    agent.sequence -= 1
    reply = agent.observe()
    assert reply.status_code == 409
    assert reply.json()["type"].endswith("stale-write")


def test_a_report_with_an_unknown_field_names_it(agent: Agent) -> None:
    reply = agent.observe(attmepts=[])
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"field": "attmepts", "message": "unknown field"}]


def test_a_name_that_cannot_be_one_is_named_by_itself(agent: Agent) -> None:
    said = {"attempt_id": 1, "fence": 1, "state": "exited", "outcome": "failed"}
    reply = agent.observe(attempts=[{**said, "artifacts": {"no name!": "0" * 64}}])
    assert [error["field"] for error in reply.json()["errors"]] == ["attempts[0].artifacts.no name!"]


def test_a_log_goes_on_where_the_server_says(parts: Parts, client: Client, agent: Agent) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    assert agent.log(attempt, 0, b"first\n").json() == {"offset": 6}
    assert agent.log(attempt, 0, b"first\nsecond\n").json() == {"offset": 13}
    assert agent.log(attempt, 99, b"from the future").json() == {"offset": 13}
    assert agent.log(attempt, 13, b"old", fence=attempt.fence + 1).status_code == 409
    assert "".join(client.job_logs(job.id)) == "first\nsecond\n"


def test_a_node_cannot_write_another_nodes_log(
    parts: Parts, http: TestClient, client: Client, agent: Agent
) -> None:
    client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    other = Agent.enrolled(http, client.join_token().secret, "tiny2")
    assert other.log(attempt, 0, b"not mine").status_code == 404


def test_a_retired_node_is_refused(client: Client, agent: Agent, parts: Parts) -> None:
    client.drain(agent.node_id)
    parts.controllers.tick()
    client.retire(agent.node_id)
    assert agent.observe().status_code == 401


# ------------------------------------------------------------------------------------- parked, for real


@pytest.fixture
def admin(served: Served) -> Iterator[Client]:
    """The administrator, over the network."""
    with served.parts.write() as session:
        secret = mint(session, name="root", role="admin", now=now(session))[1]
    with Client(served.url, secret, retry_delays_s=()) as connected:
        yield connected


@pytest.fixture
def far_agent(served: Served, admin: Client) -> Iterator[Agent]:
    """A node, over the network."""
    with httpx.Client(base_url=served.url, timeout=60) as connected:
        yield Agent.enrolled(connected, admin.join_token().secret)


def parked(pool: ThreadPoolExecutor, served: Served, agent: Agent) -> Future[Desired]:
    """A poll of the agent that the server holds."""
    asked = pool.submit(agent.sync, wait_s=50)
    until(lambda: served.parts.waits.listening(node_key(agent.node_id)), "the poll is parked")
    return asked


def test_a_parked_poll_is_answered_when_there_is_work(
    served: Served, admin: Client, far_agent: Agent
) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = parked(pool, served, far_agent)
        job = admin.submit_job({"kind": "noop"})
        served.parts.controllers.tick()
        assert [each.job_id for each in asked.result(20).attempts] == [job.id]


def test_a_parked_poll_ends_when_the_server_stops(served: Served, far_agent: Agent) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = parked(pool, served, far_agent)
        served.stop()
        assert asked.result(20).attempts == []


def test_many_parked_polls_leave_the_server_its_threads(
    served: Served, admin: Client, far_agent: Agent
) -> None:
    with ThreadPoolExecutor(60) as pool:  # more than the server has threads
        job = admin.submit_job({"kind": "noop"})
        waiting = [pool.submit(admin.job, job.id, 50) for _ in range(60)]
        until(lambda: served.parts.waits.listening(f"job:{job.id}") == 60, "all are parked")
        assert admin.whoami().role == "admin"
        admin.cancel_job(job.id)
        states = {each.result(20).state for each in waiting}
    assert states == {"cancelled"}


def test_waiting_for_a_job_ends_with_the_job(served: Served, admin: Client, far_agent: Agent) -> None:
    job = admin.submit_job({"kind": "noop"})
    served.parts.controllers.tick()
    [attempt] = far_agent.sync().attempts
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Job] = pool.submit(admin.job, job.id, 50)
        until(lambda: served.parts.waits.listening(f"job:{job.id}"), "the client is parked")
        far_agent.sync(attempts=[running(attempt)])
        far_agent.sync(attempts=[exited(attempt, "failed", error="as asked")])
        done = waiting.result(20)
    assert (done.state, done.error) == ("failed", "as asked")


def test_a_log_is_followed_across_a_retry(served: Served, admin: Client, far_agent: Agent) -> None:
    job = admin.submit_job({"kind": "noop"})
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(lambda: "".join(admin.job_logs(job.id, follow=True)))
        served.parts.controllers.tick()
        [first] = far_agent.sync().attempts
        far_agent.sync(attempts=[running(first)])
        far_agent.log(first, 0, "la première\n".encode())
        far_agent.sync(attempts=[exited(first, "infra_failed")])
        served.parts.controllers.tick()
        [second] = far_agent.sync().attempts
        far_agent.sync(attempts=[running(second)])
        far_agent.log(second, 0, b"the second\n")
        far_agent.sync(attempts=[exited(second)])
        assert followed.result(20) == "la première\nthe second\n"
