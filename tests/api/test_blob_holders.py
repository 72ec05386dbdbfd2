"""Bytes open to whom they belong, and to the nodes that need them now; to know an address opens nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import tenants
from fleet.agents.protocol import DataFile, DataList, blob_address
from fleet.client import Client
from fleet.db import now
from tests.api.agent import Agent, exited, running

CONTENT = b"whose is this?"
ADDRESS = blob_address(CONTENT)
Bearer = dict[str, str]


@pytest.fixture
def stranger(parts: Parts) -> Bearer:
    """The headers of another tenant's administrator."""
    with parts.write() as session:
        secret = tenants.mint(session, name="eve", role="admin", now=now(session), tenant="other")[1]
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def other_agent(http: TestClient, client: Client) -> Agent:
    """A second node, without work."""
    return Agent.enrolled(http, client.join_token().secret, "tiny2")


def reads(http: TestClient, headers: Bearer, address: str = ADDRESS) -> tuple[int, int]:
    """What fetching and asking are answered."""
    path = f"/v1/blobs/{address}"
    return http.get(path, headers=headers).status_code, http.head(path, headers=headers).status_code


def node_reads(http: TestClient, agent: Agent, address: str = ADDRESS) -> tuple[int, int]:
    """The same for a node."""
    path = f"/v1/blobs/{address}"
    return http.get(path, auth=agent.auth).status_code, http.head(path, auth=agent.auth).status_code


def test_a_tenant_reads_what_it_has_uploaded_and_nobody_else_does(
    http: TestClient, client: Client, stranger: Bearer, bearer: Callable[[str], Bearer]
) -> None:
    assert client.put_blob(CONTENT) == ADDRESS
    assert reads(http, bearer("viewer")) == (200, 200)
    assert reads(http, stranger) == (404, 404)


def test_whoever_has_the_bytes_already_shows_it_by_uploading_them(
    http: TestClient, client: Client, stranger: Bearer
) -> None:
    client.put_blob(CONTENT)
    assert http.put(f"/v1/blobs/{ADDRESS}", content=CONTENT, headers=stranger).status_code == 200
    assert reads(http, stranger) == (200, 200)


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("/v1/jobs", {"kind": "command", "argv": ["cat", "in"], "files": [{"path": "in", "blob": ADDRESS}]}),
        ("/v1/jobs", {"kind": "kernel", "kernel": {"hash": ADDRESS}}),
    ],
    ids=["a file", "a kernel"],
)
def test_no_job_brings_somebody_elses_bytes(
    http: TestClient,
    client: Client,
    stranger: Bearer,
    bearer: Callable[[str], Bearer],
    path: str,
    spec: object,
) -> None:
    client.put_blob(CONTENT)
    assert http.post(path, json={"spec": spec}, headers=bearer("user")).status_code == 201
    refused = http.post(path, json={"spec": spec}, headers=stranger)
    assert (refused.status_code, ADDRESS in refused.text) == (422, True)


def test_no_search_array_or_cron_brings_them_either(
    http: TestClient, client: Client, stranger: Bearer
) -> None:
    client.put_blob(CONTENT)
    command = {"kind": "command", "argv": ["cat", "in"], "files": [{"path": "in", "blob": ADDRESS}]}
    for path, body in {
        "/v1/searches": {"kernel": {"hash": ADDRESS}},
        "/v1/arrays": {"spec": command, "size": 2},
        "/v1/jobs/batch": {"jobs": [{"spec": command}]},
        "/v1/crons": {"name": "thief", "schedule": "@daily", "job": {"spec": command}},
    }.items():
        reply = http.post(path, json=body, headers=stranger)
        assert (path, reply.status_code, ADDRESS in reply.text) == (path, 422, True), reply.text


def test_a_data_set_is_made_of_ones_own_bytes(http: TestClient, client: Client, stranger: Bearer) -> None:
    client.put_blob(CONTENT)
    listed = DataList(files=[DataFile(path="a", size=len(CONTENT), parts=[ADDRESS])]).text()
    address = client.put_blob(listed)
    assert http.put(f"/v1/data-sets/{address}", headers=stranger).status_code == 404, "nor its list"
    assert http.put(f"/v1/blobs/{address}", content=listed, headers=stranger).status_code == 200
    refused = http.put(f"/v1/data-sets/{address}", headers=stranger)
    assert (refused.status_code, ADDRESS in refused.text) == (422, True)


def test_a_node_reads_what_an_attempt_of_it_needs_while_it_runs(
    http: TestClient, client: Client, agent: Agent, other_agent: Agent, parts: Parts
) -> None:
    client.put_blob(CONTENT)
    part = client.put_blob(b"a part of it")
    listed = DataList(files=[DataFile(path="a", size=12, parts=[part])])
    data_set = client.put_data_set(listed).address
    assert node_reads(http, agent) == (404, 404)
    spec = {
        "kind": "command",
        "argv": ["true"],
        "files": [{"path": "in", "blob": ADDRESS}],
        "data": {"x": data_set},
    }
    job = client.submit_job(spec, node=agent.node_id)
    parts.controllers.tick()
    (attempt,) = agent.sync().attempts
    for address in (ADDRESS, data_set, part):
        assert node_reads(http, agent, address) == (200, 200)
        assert node_reads(http, other_agent, address) == (404, 404)
    agent.sync(attempts=[running(attempt)])
    assert node_reads(http, agent) == (200, 200)
    agent.sync(attempts=[exited(attempt)])
    assert client.job(job.id).state == "succeeded"
    for address in (ADDRESS, data_set, part):
        assert node_reads(http, agent, address) == (404, 404)


def test_what_a_job_leaves_is_its_tenants(
    http: TestClient, agent: Agent, stranger: Bearer, bearer: Callable[[str], Bearer], parts: Parts
) -> None:
    http.post("/v1/jobs", json={"spec": {"kind": "command", "argv": ["true"]}}, headers=stranger)
    parts.controllers.tick()
    (attempt,) = agent.sync().attempts
    assert http.put(f"/v1/blobs/{ADDRESS}", content=CONTENT, auth=agent.auth).status_code == 200
    assert (reads(http, stranger), node_reads(http, agent)) == ((404, 404), (200, 200))
    agent.sync(attempts=[exited(attempt, artifacts={"out": ADDRESS})])
    assert reads(http, stranger) == (200, 200)
    assert reads(http, bearer("admin")) == (404, 404)


def test_a_node_gives_away_nothing_that_it_only_knows_the_name_of(
    http: TestClient, client: Client, agent: Agent, stranger: Bearer, parts: Parts
) -> None:
    client.put_blob(CONTENT)
    http.post("/v1/jobs", json={"spec": {"kind": "command", "argv": ["true"]}}, headers=stranger)
    parts.controllers.tick()
    (attempt,) = agent.sync().attempts
    agent.sync(attempts=[exited(attempt, artifacts={"out": ADDRESS})])
    assert reads(http, stranger) == (404, 404)
