from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
from starlette.testclient import TestClient

from api.schemas import MEDIA_TYPE
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


JSON = {"Content-Type": "application/json"}
