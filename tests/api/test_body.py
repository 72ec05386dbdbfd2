from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from starlette.testclient import TestClient

from api import body
from api.app import ROUTERS, api_routes
from api.body import StrictRoute
from api.routing import INSTALLING, PUBLIC
from api.schemas import MEDIA_TYPE
from fleet.client import Client
from tests.api.conftest import Served

MIB = 1 << 20


def chunks(count: int) -> Iterator[bytes]:
    """A body of unknown length, in pieces of 256 KiB."""
    for _ in range(count):
        yield b"x" * (MIB // 4)


def test_a_declared_length_over_the_limit_is_refused(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.post("/v1/jobs", content=b" " * (MIB + 1), headers=bearer("user") | JSON)
    assert reply.status_code == 413
    assert reply.headers["content-type"] == MEDIA_TYPE
    assert str(MIB) in reply.json()["detail"]


def test_a_body_that_grows_over_the_limit_is_refused(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.post("/v1/jobs", content=chunks(5), headers=bearer("user") | JSON)
    assert reply.status_code == 413
    assert reply.headers["content-type"] == MEDIA_TYPE


def test_blobs_may_be_larger_than_other_bodies(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.put(f"/v1/blobs/{'0' * 64}", content=b"x" * (2 * MIB), headers=bearer("user"))
    assert reply.status_code == 422  # read, and found to have another address


def test_a_client_that_sends_too_much_over_a_network_reads_the_answer(
    served: Served, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer("user") | JSON
    declared = httpx.post(f"{served.url}/v1/jobs", content=b" " * (2 * MIB), headers=headers)
    chunked = httpx.post(f"{served.url}/v1/jobs", content=chunks(8), headers=headers)
    assert (declared.status_code, chunked.status_code) == (413, 413)


def test_nothing_of_a_strangers_blob_is_read(served: Served) -> None:
    reply = httpx.put(f"{served.url}/v1/blobs/{'0' * 64}", content=b"x" * MIB)
    assert reply.status_code == 401


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b'{"spec": {"kind": "noop"}, "spec": {"kind": "noop"}}', "spec"),
        (b'{"spec": {"kind": "noop", "seconds": 1, "seconds": 2}}', "spec.seconds"),
    ],
)
def test_a_key_that_is_given_twice_is_named(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]], content: bytes, field: str
) -> None:
    reply = http.post("/v1/jobs", content=content, headers=bearer("user") | JSON)
    assert reply.status_code == 422
    assert reply.json()["errors"] == [{"field": field, "message": "it is given more than once"}]
    assert client.jobs().items == []


@pytest.mark.parametrize("said", ["text/plain", "application/octet-stream", "application/x-json", None])
def test_a_body_that_is_not_said_to_be_json_is_refused(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]], said: str | None
) -> None:
    headers = bearer("user") | ({"Content-Type": said} if said else {})
    reply = http.post("/v1/jobs", content=b'{"spec": {"kind": "noop"}}', headers=headers)
    assert reply.status_code == 415
    assert "Content-Type: application/json" in reply.json()["detail"]
    assert client.jobs().items == []


def test_json_may_say_its_encoding(http: TestClient, bearer: Callable[[str], dict[str, str]]) -> None:
    headers = bearer("user") | {"Content-Type": "Application/JSON; charset=utf-8"}
    reply = http.post("/v1/jobs", content=b'{"spec": {"kind": "noop"}}', headers=headers)
    assert reply.status_code == 201


def test_no_body_where_none_is_needed_says_nothing_of_its_type(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    assert http.post("/v1/join-tokens", headers=bearer("admin")).status_code == 201


LISTS = ("jobs", "searches", "searches/1/candidates", "nodes", "kernels", "quarantine", "events", "tokens")
SINGLES = ("jobs/1", "jobs/1/logs", "events/stream", "whoami", "openapi.json", f"blobs/{'0' * 64}")


@pytest.mark.parametrize("path", [*LISTS, *SINGLES])
def test_a_query_parameter_that_a_route_does_not_have_is_named(
    http: TestClient, bearer: Callable[[str], dict[str, str]], path: str
) -> None:
    reply = http.get(f"/v1/{path}?foo=1", headers=bearer("admin"))
    assert reply.status_code == 422
    [error] = reply.json()["errors"]
    assert error["field"] == "query.foo"
    assert error["message"].startswith("unknown parameter")


def test_every_route_of_the_api_reads_strictly() -> None:
    lax = {route.path for route in api_routes(ROUTERS) if not isinstance(route, StrictRoute)}
    assert lax == PUBLIC - INSTALLING


def test_a_query_parameter_of_a_route_is_told_where_another_was_given(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.get("/v1/nodes?stat=ready", headers=bearer("viewer"))
    [error] = reply.json()["errors"]
    assert error == {
        "field": "query.stat",
        "message": "unknown parameter; there is after, limit, state",
    }


def test_a_submission_takes_no_query(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.post("/v1/jobs?priority=3", json={"spec": {"kind": "noop"}}, headers=bearer("user"))
    assert reply.status_code == 422
    assert client.jobs().items == []


JSON = {"Content-Type": "application/json"}


def test_no_more_of_all_bodies_is_taken_in_than_memory_is_meant_for(
    served: Served, bearer: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is within its own limit; all of them together are not."""
    monkeypatch.setattr(body, "MOST_HELD_BYTES", 3 * MIB)
    headers = bearer("user")
    ready, go = threading.Barrier(4), threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"x" * MIB
        ready.wait(20)
        go.wait(20)
        yield b"x" * MIB

    def put() -> int:
        return httpx.put(f"{served.url}/v1/blobs/{'0' * 64}", content=pieces(), headers=headers).status_code

    with ThreadPoolExecutor() as pool:
        puts = [pool.submit(put) for _ in range(3)]
        ready.wait(20)
        go.set()
        found = sorted(each.result() for each in puts)
    assert set(found) <= {422, 503}
    assert 503 in found
    assert (
        httpx.put(f"{served.url}/v1/blobs/{'0' * 64}", content=b"x" * MIB, headers=headers).status_code == 422
    )
