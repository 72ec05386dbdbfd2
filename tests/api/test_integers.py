"""Integers beyond what the database and every client's numbers hold are refused wherever a request has one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.deps import Parts
from fleet import documents
from fleet.agents.protocol import LARGEST_INT
from fleet.client import Client
from tests.api.agent import Agent, exited
from tests.fleet.acting import inventory
from tests.signing import Bearer

Place = tuple[str | int, ...]
Hole = tuple[Place, Any]  # where an integer is, and a document with one beyond all bounds there
HUGE = 1 << 70


def holes(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Hole]:
    """Every place of a schema where an integer may stand."""
    if "$ref" in schema:
        yield from holes(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for form in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        yield from holes(form, schemas)
    if schema.get("type") == "integer":
        yield (), HUGE
    if "items" in schema:
        yield from (((0, *place), [document]) for place, document in holes(schema["items"], schemas))
    told_by = {name: each["const"] for name, each in schema.get("properties", {}).items() if "const" in each}
    for name, below in schema.get("properties", {}).items():
        for place, document in holes(below, schemas):
            yield (name, *place), {**told_by, name: document}


def bodies(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Place, Any]]:
    """Method, path, place and body, of every integer in every JSON body of the API."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for place, body in holes(content.get("schema", {}), document["components"]["schemas"]):
                yield method.upper(), path, place, body


def addresses(document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Method, address and field, of every integer in every path and query of the API, each beyond all bounds."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for told in operation.get("parameters", ()):
                takes_integers = list(holes(told["schema"], document["components"]["schemas"]))
                if told["in"] == "header" or not takes_integers:
                    continue
                name, field = told["name"], f"{told['in']}.{told['name']}"
                query = f"?{name}={HUGE}" if told["in"] == "query" else ""
                yield method.upper(), re.sub(r"{\w+}", str(HUGE), path) + query, field


@pytest.fixture
def who(client: Client, agent: Agent, secret: Callable[[str], str]) -> dict[str, httpx.Auth]:
    """By path, who may use it; the administrator is under ''."""
    joining = Bearer(client.join_token().secret)
    signed = dict.fromkeys(("/v1/agents/sync", "/v1/agents/keys"), agent.auth)
    return {"": Bearer(secret("admin")), "/v1/agents/enroll": joining, **signed}


def test_an_integer_beyond_all_bounds_is_refused_by_the_name_of_its_field(
    app: FastAPI, http: TestClient, who: dict[str, httpx.Auth]
) -> None:
    tried = set()
    for method, path, place, body in bodies(app.openapi()):
        reply = http.request(method, path, json=body, auth=who.get(path, who[""]))
        field = documents.path(place)
        assert reply.status_code == 422, (path, field, reply.text)
        assert field in [error["field"] for error in reply.json()["errors"]], (path, field, reply.text)
        tried.add((path, field))
    assert {
        ("/v1/agents/enroll", "inventory.devices[0].memory_bytes"),
        ("/v1/agents/sync", "attempts[0].fence"),
        ("/v1/jobs", "spec.kernel.shape[0]"),
        ("/v1/jobs", "node"),
        ("/v1/searches", "seed"),
    } <= tried


def test_an_integer_beyond_all_bounds_in_an_address_is_refused_by_the_name_of_the_parameter(
    app: FastAPI, http: TestClient, who: dict[str, httpx.Auth]
) -> None:
    node = who["/v1/agents/sync"]
    tried = set()
    for method, address, field in addresses(app.openapi()):
        reply = http.request(method, address, auth=node if "/agents/" in address else who[""])
        assert reply.status_code == 422, (address, reply.text)
        assert [error["field"] for error in reply.json()["errors"]].count(field) == 1, (address, reply.text)
        tried.add(field)
    assert {"path.job_id", "path.attempt_id", "query.after", "query.attempt", "query.fence"} <= tried


def test_the_largest_integer_is_kept_as_it_is(client: Client, agent: Agent) -> None:
    agent.sync(inventory=inventory(memory_bytes=LARGEST_INT).model_dump(mode="json"))
    assert client.node(agent.node_id).devices[0].memory_bytes == LARGEST_INT


@pytest.mark.parametrize("path", ["/v1/agents/enroll", "/v1/agents/sync"])
def test_a_device_that_is_listed_twice_is_refused(
    http: TestClient, who: dict[str, httpx.Auth], path: str
) -> None:
    reported = inventory().model_dump(mode="json")
    reported["devices"] *= 2
    about = (
        {"name": "tiny9", "public_key": "0" * 64, "proof": "0" * 128}
        if path.endswith("enroll")
        else {"boot_id": "boot-1", "sequence": 99}
    )
    reply = http.post(path, json={**about, "inventory": reported}, auth=who[path])
    assert reply.status_code == 422
    assert reply.json()["errors"] == [
        {"field": "inventory.devices", "message": "device cpu is listed more than once"}
    ]


def test_an_attempt_that_is_listed_twice_is_refused_and_nothing_of_it_recorded(
    parts: Parts, client: Client, agent: Agent
) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    reply = agent.observe(attempts=[exited(attempt), exited(attempt, "failed")])
    assert reply.status_code == 422
    [error] = reply.json()["errors"]
    assert error["field"] == "attempts"
    assert f"attempt {attempt.attempt_id} under fence {attempt.fence}" in error["message"]
    assert client.job(job.id).state == "leased"
