from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import httpx
import pytest
from starlette.testclient import TestClient

from api.deps import Parts
from api.routes import events as route
from api.waits import EVENTS
from fleet import events
from fleet.client import ApiError, Client, Unreachable
from fleet.db import now
from fleet.resources import Event
from fleet.tenants import mint
from tests.api.agent import Agent
from tests.api.conftest import Served
from tests.whole import until


def minted(served: Served, role: str = "admin") -> str:
    """The secret of a new token."""
    with served.parts.write() as session:
        return mint(session, name=role, role=role, now=now(session))[1]  # type: ignore[arg-type]


@pytest.fixture
def admin(served: Served) -> Iterator[Client]:
    """The administrator, over the network."""
    with Client(served.url, minted(served), retry_delays_s=()) as connected:
        yield connected


class Reader:
    """Reads a stream of events in a thread of its own, into a queue, until it fails: `failure` says how."""

    def __init__(self, client: Client, after: int | None = None) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.failure: Future[Exception] = Future()
        self._client = client
        self._after = after
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in self._client.stream_events(after=self._after):
                self.events.put(event)
        except (ApiError, Unreachable) as error:
            self.failure.set_result(error)

    def next(self) -> Event:
        """The next event, as soon as it is there."""
        return self.events.get(timeout=20)


def test_events_come_page_by_page_oldest_first(client: Client) -> None:
    jobs = [client.submit_job({"kind": "noop"}) for _ in range(3)]
    first = client.events(after=0, limit=2)
    rest = client.events(limit=2, after=first.next)
    assert [event.subject for event in first.items + rest.items] == [f"job:{job.id}" for job in jobs]
    assert first.items[0].kind == "job.queued"
    assert first.items[0].at.endswith("Z")


def test_without_a_cursor_the_newest_events_come(client: Client) -> None:
    jobs = [client.submit_job({"kind": "noop"}) for _ in range(3)]
    page = client.events(limit=2)
    assert [event.subject for event in page.items] == [f"job:{job.id}" for job in jobs[1:]]
    assert page.next is None
    assert client.events(after=page.items[-1].id).items == []


def test_a_stream_begins_now_and_tells_what_happens(served: Served, admin: Client) -> None:
    admin.submit_job({"kind": "noop"})  # before: not told
    reader = Reader(admin)
    until(lambda: served.parts.waits.listening(EVENTS), "the stream is open")
    job = admin.submit_job({"kind": "noop"})
    event = reader.next()
    assert (event.kind, event.subject) == ("job.queued", f"job:{job.id}")
    admin.cancel_job(job.id)
    assert reader.next().kind == "job.cancelled"
    served.stop()
    assert isinstance(reader.failure.result(20), Unreachable)


def test_a_stream_goes_on_after_a_cursor(served: Served, admin: Client) -> None:
    first, second = admin.submit_job({"kind": "noop"}), admin.submit_job({"kind": "noop"})
    told = admin.events().items[0]
    reader = Reader(admin, after=told.id)
    assert told.subject == f"job:{first.id}"
    assert reader.next().subject == f"job:{second.id}"
    served.stop()
    assert isinstance(reader.failure.result(20), Unreachable)


def test_a_browser_that_returns_goes_on_where_it_was(served: Served, admin: Client) -> None:
    for _ in range(2):
        admin.submit_job({"kind": "noop"})
    first, second = admin.events().items
    headers = {"Authorization": f"Bearer {minted(served)}", "Last-Event-ID": str(first.id)}
    with httpx.stream("GET", f"{served.url}/v1/events/stream", headers=headers) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert reply.headers["cache-control"] == "no-store"
        lines = reply.iter_lines()
        assert next(line for line in lines if line.startswith("id:")) == f"id: {second.id}"


def test_a_stream_ends_with_its_token(served: Served, admin: Client) -> None:
    secret = minted(served, "viewer")
    with Client(served.url, secret, retry_delays_s=(0.0,)) as viewer:
        token_id = viewer.whoami().id
        reader = Reader(viewer)
        until(lambda: served.parts.waits.listening(EVENTS), "the stream is open")
        admin.revoke_token(token_id)  # nothing else happens
        refusal = reader.failure.result(20)
        assert isinstance(refusal, ApiError)
        assert refusal.status == 401
        assert reader.events.empty()


def test_a_stream_that_is_left_is_forgotten(served: Served, admin: Client) -> None:
    headers = {"Authorization": f"Bearer {minted(served)}"}
    with httpx.stream("GET", f"{served.url}/v1/events/stream", headers=headers):
        until(lambda: served.parts.waits.listening(EVENTS), "the stream is open")
    until(lambda: not served.parts.waits.listening(EVENTS), "the stream is closed")


def test_events_about_one_thing_are_listed_alone(client: Client) -> None:
    jobs = [client.submit_job({"kind": "noop"}) for _ in range(3)]
    client.cancel_job(jobs[1].id)
    kinds = [event.kind for event in client.events(after=0, subject=f"job:{jobs[1].id}").items]
    assert kinds == ["job.queued", "job.cancelled"]
    assert client.events(subject=f"job:{jobs[1].id}", limit=1).items[0].kind == "job.cancelled"


def test_a_wait_for_events_ends_with_the_next_one(served: Served, admin: Client) -> None:
    admin.submit_job({"kind": "noop"})
    cursor = admin.events().items[-1].id
    assert admin.events(after=cursor, wait=0.01).items == []
    found: Future[list[Event]] = Future()

    def wait() -> None:
        with Client(served.url, minted(served), retry_delays_s=()) as waiting:
            found.set_result(waiting.events(after=cursor, wait=20).items)

    threading.Thread(target=wait, daemon=True).start()
    until(lambda: served.parts.waits.listening(EVENTS), "somebody waits")
    job = admin.submit_job({"kind": "noop"})
    assert [event.subject for event in found.result(20)] == [f"job:{job.id}"]


def test_another_tenants_attempts_are_hidden_and_do_not_end_a_page(
    client: Client, agent: Agent, parts: Parts, http: TestClient
) -> None:
    with parts.write() as session:
        secret = mint(session, name="eve", role="admin", now=now(session), tenant="other")[1]
    for _ in range(3):
        client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    agent.sync()
    subjects = [event.subject for event in client.events(after=0, limit=200).items]
    assert any(subject.startswith("attempt:") for subject in subjects)
    bearer = {"Authorization": f"Bearer {secret}"}
    seen: list[str] = []
    page = http.get("/v1/events?after=0&limit=1", headers=bearer).json()
    while page["items"]:
        seen += [event["subject"] for event in page["items"]]
        page = http.get(f"/v1/events?after={page['items'][-1]['id']}&limit=1", headers=bearer).json()
    assert seen
    assert {subject.partition(":")[0] for subject in seen} == {"node"}
    assert seen == [subject for subject in subjects if subject.startswith("node:")]


def test_what_somebody_may_not_see_is_passed_over_in_passing(
    http: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few are asked for, many are looked through at a time, and so many at the most for one request."""
    monkeypatch.setattr(route, "AT_ONCE", 10)
    monkeypatch.setattr(route, "PAGES", 3)
    with parts.write() as session:
        stranger = mint(session, name="eve", role="viewer", now=now(session), tenant="other")[1]
        for number in range(100):
            events.append(session, "job.queued", f"job:{number}", {}, now(session))
        events.append(session, "node.enrolled", "node:1", {}, now(session))
    headers = {"Authorization": f"Bearer {stranger}"}
    after, seen, asked = 0, [], 0
    while after is not None:
        page = http.get("/v1/events", params={"after": after, "limit": 1}, headers=headers).json()
        seen += [each["subject"] for each in page["items"]]
        after, asked = page["next"], asked + 1
    assert "node:1" in seen
    assert not any(subject.startswith("job:") for subject in seen)
    assert 4 <= asked < 12
