from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.deps import Parts
from fleet.agents.protocol import blob_address
from fleet.client import ApiError, Client
from fleet.db import now
from tests.api.agent import Agent
from tests.fleet.acting import Watchful

CONTENT = bytes(range(256)) * 16


def test_bytes_come_back_as_they_went(client: Client) -> None:
    address = client.put_blob(CONTENT)
    assert client.put_blob(CONTENT) == address == blob_address(CONTENT)
    assert client.get_blob(address) == CONTENT


def test_a_blob_is_never_taken_for_a_page(
    http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    address = client.put_blob(b"<script>alert(1)</script>")
    reply = http.get(f"/v1/blobs/{address}", headers=bearer("viewer"))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-disposition"] == "attachment"


def test_a_node_may_ask_before_it_uploads(http: TestClient, agent: Agent) -> None:
    address = blob_address(CONTENT)
    assert http.head(f"/v1/blobs/{address}", auth=agent.auth).status_code == 404
    assert http.put(f"/v1/blobs/{address}", content=CONTENT, auth=agent.auth).status_code == 200
    known = http.head(f"/v1/blobs/{address}", auth=agent.auth)
    assert (known.status_code, known.headers["content-length"]) == (200, str(len(CONTENT)))


def test_an_upload_writes_its_file_while_the_database_is_free(
    parts: Parts, bearer: Callable[[str], dict[str, str]]
) -> None:
    headers = bearer("user")
    watchful = Watchful(parts.settings.fleet.blobs, parts.settings.fleet.data / "fleet.db")
    app = create_app(dataclasses.replace(parts, blobs=watchful), run_controllers=False)
    reply = TestClient(app).put(f"/v1/blobs/{blob_address(CONTENT)}", content=CONTENT, headers=headers)
    assert (reply.status_code, watchful.written) == (200, 1)


def test_an_upload_of_what_is_there_needs_no_writer(
    parts: Parts, http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    address, headers = client.put_blob(CONTENT), bearer("user")
    with parts.write() as session:
        now(session)  # somebody has the writer's lock, and takes its time
        assert http.put(f"/v1/blobs/{address}", content=CONTENT, headers=headers).status_code == 200


def test_bytes_with_another_address_are_refused(
    http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    reply = http.put(f"/v1/blobs/{'0' * 64}", content=CONTENT, headers=bearer("user"))
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "hash"


@pytest.mark.parametrize("address", ["0" * 63, "0" * 65, "G" * 64, "..%2f..%2ffleet.db"])
def test_what_is_no_address_is_refused(
    http: TestClient, bearer: Callable[[str], dict[str, str]], address: str
) -> None:
    assert http.get(f"/v1/blobs/{address}", headers=bearer("viewer")).status_code in (404, 422)


def test_an_unknown_address_is_not_found(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.get_blob("0" * 64)
    assert refused.value.status == 404
