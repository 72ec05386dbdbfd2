"""Logs over HTTP: by stream, in chunks, and followed to the end."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from api.waits import job_key
from fleet import tenants
from fleet.client import Client
from fleet.db import now
from tests.api.agent import Agent, exited, running
from tests.api.conftest import Served
from tests.whole import until


def test_a_stream_is_read_apart(
    parts: Parts, http: TestClient, client: Client, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    job = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    assert agent.log(attempt, 0, b"outERRout", runs="o3.e3.o3").json() == {"offset": 9}
    viewer = bearer("viewer")
    assert http.get(f"/v1/jobs/{job.id}/logs", headers=viewer).text == "outERRout"
    assert http.get(f"/v1/jobs/{job.id}/logs?stream=stderr", headers=viewer).text == "ERR"
    assert http.get(f"/v1/jobs/{job.id}/logs?stream=tty", headers=viewer).status_code == 422
    assert agent.log(attempt, 9, b"x", runs="o2").status_code == 422


def test_chunks_are_read_in_order_and_end_with_the_job(
    parts: Parts, client: Client, agent: Agent, http: TestClient, bearer: Callable[[str], dict[str, str]]
) -> None:
    job = client.submit_job({"kind": "noop"})
    viewer, path = bearer("viewer"), f"/v1/jobs/{job.id}/log-chunks"
    assert http.get(path, headers=viewer).json() == {"items": [], "attempt": None, "after": -1, "end": False}
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    agent.log(attempt, 0, b"one\xfftwo", runs="o4.e3")
    found = http.get(path, headers=viewer).json()
    assert [(each["sequence"], each["stream"], each["offset"]) for each in found["items"]] == [
        (0, "stdout", 0),
        (1, "stderr", 0),
    ]
    assert base64.b64decode(found["items"][0]["data"]) == b"one\xff"
    assert (found["attempt"], found["after"], found["end"]) == (attempt.attempt_id, 1, False)
    agent.sync(attempts=[exited(attempt)])
    rest = http.get(f"{path}?attempt={found['attempt']}&after=1", headers=viewer).json()
    assert (rest["items"], rest["end"]) == ([], True)


@pytest.fixture
def admin(served: Served) -> Iterator[Client]:
    """The administrator of the real server."""
    with served.parts.write() as session:
        secret = tenants.mint(session, name="root", role="admin", now=now(session))[1]
    with Client(served.url, secret, retry_delays_s=(0.0,)) as sdk:
        yield sdk


def test_a_followed_log_comes_as_it_grows_and_ends_with_the_job(served: Served, admin: Client) -> None:
    with httpx.Client(base_url=served.url) as http:
        agent = Agent.enrolled(http, admin.join_token().secret)
        job = admin.submit_job({"kind": "noop"})
        served.parts.controllers.tick()
        [attempt] = agent.sync().attempts
        agent.sync(attempts=[running(attempt)])
        came: list[str] = []
        reader = threading.Thread(target=lambda: came.extend(admin.follow_log(job.id)))
        reader.start()
        until(lambda: served.parts.waits.listening(job_key(job.id)), "the log is followed")
        agent.log(attempt, 0, "é1".encode()[:1])
        agent.log(attempt, 1, "é1".encode()[1:])
        until(lambda: "".join(came) == "é1", "the first piece has come")
        agent.log(attempt, 3, b" and the last")
        agent.sync(attempts=[exited(attempt)])
        reader.join(20)
    assert not reader.is_alive()
    assert "".join(came) == "é1 and the last"


def test_a_log_is_followed_no_longer_than_its_token(served: Served, admin: Client) -> None:
    minted = admin.mint_token("guest", role="viewer")
    job = admin.submit_job({"kind": "noop"})
    came: list[str] = []
    with Client(served.url, minted.secret, retry_delays_s=(0.0,)) as guest:
        reader = threading.Thread(target=lambda: came.extend(guest.follow_log(job.id)))
        reader.start()
        until(lambda: served.parts.waits.listening(job_key(job.id)), "the log is followed")
        admin.revoke_token(minted.id)
        served.parts.waits.hint(job_key(job.id))
        served.stop()  # the next look is at the token
        reader.join(20)
    assert not reader.is_alive()
    assert came == []
