from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from fleet.client import ApiError, Client, Unreachable
from fleet.resources import rfc3339

JOB = {
    "id": 1,
    "kind": "noop",
    "state": "queued",
    "spec": {"kind": "noop"},
    "priority": 0,
    "timeout_s": 600,
    "max_retries": 2,
    "created_at": "2026-11-22T11:05:00.125Z",
    "a_field_of_a_newer_server": 1,
}
Answer = Callable[[httpx.Request], httpx.Response]


class Wire(httpx.BaseTransport):
    """A network that loses the first requests, and then answers; it keeps all that were sent."""

    def __init__(self, answer: Answer, lost: int = 0, how: type[httpx.TransportError] = httpx.ConnectError):
        self.sent: list[httpx.Request] = []
        self._answer = answer
        self._lost = lost
        self._how = how

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.sent.append(request)
        if len(self.sent) <= self._lost:
            raise self._how("the connection broke")
        return self._answer(request)


def client(wire: Wire, retries: int = 3) -> Client:
    """A client on that network that does not wait before it tries again."""
    return Client("http://127.0.0.1:1", "tfu_secret", transport=wire, retry_delays_s=(0.0,) * retries)


def a_job(request: httpx.Request) -> httpx.Response:
    """Any request is answered with a job."""
    return httpx.Response(200, json=JOB)


@pytest.mark.parametrize("how", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError])
def test_a_read_is_tried_again_after_a_broken_connection(how: type[httpx.TransportError]) -> None:
    wire = Wire(a_job, lost=3, how=how)
    assert client(wire).job(1).id == 1
    assert len(wire.sent) == 4


def test_a_server_that_stays_away_is_unreachable() -> None:
    wire = Wire(a_job, lost=99)
    with pytest.raises(Unreachable, match="the connection broke") as gone:
        client(wire).job(1)
    assert gone.value.url == "http://127.0.0.1:1"
    assert len(wire.sent) == 4


def test_a_submission_is_repeated_with_the_same_key_and_body() -> None:
    wire = Wire(a_job, lost=2)
    client(wire).submit_job({"kind": "noop"}, name="mine")
    keys = {request.headers["idempotency-key"] for request in wire.sent}
    bodies = {request.content for request in wire.sent}
    assert (len(wire.sent), len(keys), len(bodies)) == (3, 1, 1)


def test_two_submissions_have_two_keys() -> None:
    wire = Wire(a_job)
    for _ in range(2):
        client(wire).submit_job({"kind": "noop"})
    first, second = (request.headers["idempotency-key"] for request in wire.sent)
    assert first != second


def test_a_mutation_without_a_key_is_not_repeated() -> None:
    wire = Wire(a_job, lost=1)
    with pytest.raises(Unreachable):
        client(wire).cancel_job(1)
    assert len(wire.sent) == 1


def test_an_answer_that_takes_too_long_is_not_asked_for_again() -> None:
    wire = Wire(a_job, lost=1, how=httpx.ReadTimeout)
    with pytest.raises(Unreachable):
        client(wire).job(1)
    assert len(wire.sent) == 1


def test_a_refusal_carries_the_problem_and_names_the_fields() -> None:
    problem = {
        "title": "Invalid request",
        "status": 422,
        "detail": "one field",
        "errors": [{"field": "body.x", "message": "unknown field"}],
    }
    wire = Wire(lambda request: httpx.Response(422, json=problem))
    with pytest.raises(ApiError, match=r"body\.x: unknown field") as refused:
        client(wire).jobs()
    assert (refused.value.status, refused.value.problem) == (422, problem)
    assert len(wire.sent) == 1


@pytest.mark.parametrize("content", [b"<html>Bad Gateway</html>", b"[1]", b"\xff"])
def test_a_refusal_that_is_no_problem_document_is_a_refusal_too(content: bytes) -> None:
    wire = Wire(lambda request: httpx.Response(502, content=content))
    with pytest.raises(ApiError) as refused:
        client(wire).jobs()
    assert refused.value.status == 502
    assert refused.value.problem["title"] == "Bad Gateway"


def test_bytes_that_do_not_belong_to_an_address_are_not_handed_on() -> None:
    wire = Wire(lambda request: httpx.Response(200, content=b"something else"))
    with pytest.raises(ValueError, match="have the address"):
        client(wire).get_blob("0" * 64)


def test_a_parked_request_has_time_for_its_wait() -> None:
    wire = Wire(a_job)
    client(wire).job(1, wait=55)
    assert wire.sent[0].extensions["timeout"]["read"] > 55


def test_the_secret_is_in_no_message_of_the_client() -> None:
    with pytest.raises(Unreachable) as gone:
        client(Wire(a_job, lost=99)).whoami()
    assert "tfu_secret" not in f"{gone.value!r} {gone.value} {vars(gone.value)}"


def test_what_was_not_given_is_left_to_the_server() -> None:
    wire = Wire(a_job)
    client(wire).submit_job({"kind": "noop"})
    assert wire.sent[0].content == b'{"spec":{"kind":"noop"}}'


@pytest.mark.parametrize(
    ("epoch_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1795345500.1254, "2026-11-22T11:05:00.125Z"),
        (1795345499.9999, "2026-11-22T11:05:00.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(epoch_s: float, text: str) -> None:
    assert rfc3339(epoch_s) == text


@pytest.mark.parametrize("url", ["http://fleet.lab:8000", "http://10.0.0.1", "http://[fe80::1]:80"])
def test_no_token_is_shown_in_plain_http_off_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="plain HTTP"):
        Client(url, "tfu_x")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:8000", "http://localhost", "http://[::1]:80", "https://fleet.lab"]
)
def test_loopback_and_tls_may_have_it(url: str) -> None:
    Client(url, "tfu_x").close()
