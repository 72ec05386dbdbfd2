"""Readers of events and senders of webhooks over one PostgreSQL, where several write at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
from cryptography.fernet import Fernet
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, guard, webhooks
from fleet.models import Tenant
from fleet.principals import Principal
from fleet.webhook_plan import Shape
from fleet.webhook_sending import Sender
from tests.fleet.receiving import PUBLIC, URL, receiving
from tests.postgresql import database, server

pytestmark = pytest.mark.slow
ADMIN = Principal("user", 1, "root", "default", "admin")
KEYS = [Fernet.generate_key().decode()]
WRITERS, EACH = 8, 40


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture
def postgres(url: str) -> Iterator[sessionmaker[Session]]:
    with database(url) as sessions:
        with sessions.begin() as session:
            session.add(Tenant(name="default", created_at=0.0))
        yield sessions


def seen(sessions: sessionmaker[Session], cursor: int, limit: int = 100) -> list[int]:
    """The ids of a page."""
    with db.reading(sessions) as reader:
        return [event.id for event in events.page(reader, cursor, limit)]


def test_an_earlier_event_that_is_committed_later_is_not_passed_over(postgres: sessionmaker[Session]) -> None:
    with postgres() as slow:
        first = events.append(slow, "a.first", "node:1", {}, 1.0)
        slow.flush()
        with postgres.begin() as fast:
            second = events.append(fast, "a.second", "node:1", {}, 1.0)
            fast.flush()
            assert second.id > first.id
        assert seen(postgres, 0) == []  # the second waits for the first, which may still come
        slow.commit()
    assert seen(postgres, 0) == [first.id, second.id]


def test_an_event_of_a_later_transaction_with_an_earlier_id_comes_after_it(
    postgres: sessionmaker[Session],
) -> None:
    with postgres() as early, postgres() as late:
        events.append(early, "a.begins", "node:1", {}, 1.0)
        early.flush()  # the older transaction
        first = events.append(late, "a.late", "node:1", {}, 1.0)
        late.flush()
        second = events.append(early, "a.early", "node:1", {}, 1.0)
        early.commit()
        assert second.id > first.id
        begun = seen(postgres, 0)
        assert begun[-1] == second.id
        late.commit()
    assert seen(postgres, begun[-1]) == [first.id]


def test_a_reader_with_a_cursor_sees_every_event_once_while_several_write(
    postgres: sessionmaker[Session],
) -> None:
    done = threading.Event()

    def write(number: int) -> None:
        for count in range(EACH):
            with postgres.begin() as session:
                for part in range(3):
                    events.append(session, "a.b", f"node:{number}", {"n": count * 3 + part}, 1.0)
                    session.flush()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    found: list[int] = []

    def read() -> None:
        while True:
            last = done.is_set()
            page = seen(postgres, found[-1] if found else 0, 7)
            found.extend(page)
            if last and not page:
                return

    reader = threading.Thread(target=read)
    reader.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert len(found) == len(set(found)) == WRITERS * EACH * 3


def test_the_newest_events_and_a_cursor_that_is_gone(postgres: sessionmaker[Session]) -> None:
    for number in range(4):
        with postgres.begin() as session:
            events.append(session, "a.b", f"node:{number}", {}, 1.0)
    with db.reading(postgres) as reader:
        assert [event.subject for event in events.latest(reader, 2)] == ["node:2", "node:3"]
        assert events.newest(reader) == 4
        assert [event.subject for event in events.page(reader, 1, subject="node:3")] == ["node:3"]
    with postgres.begin() as session:
        session.delete(events.page(session, 1, 1)[0])
    assert seen(postgres, 2) == [3, 4]


def test_several_senders_send_an_event_once(postgres: sessionmaker[Session]) -> None:
    with receiving() as receiver:
        senders = [
            Sender(
                partial(db.reading, postgres), partial(db.writing, postgres), lambda: KEYS, receiver.client
            )
            for _ in range(6)
        ]
        with postgres.begin() as session:
            now = db.now(session)
            target = guard.check(URL, resolve=lambda _host, _port: [PUBLIC])
            webhooks.add(
                session,
                name="chat",
                target=target,
                kinds=["cron.*"],
                shape=Shape.STANDARD,
                principal=ADMIN,
                keys=KEYS,
                now=now,
            )
        for number in range(10):
            with postgres.begin() as session:
                events.append(session, "cron.failed", "node:1", {"n": number}, now)
        start = threading.Barrier(len(senders))

        def send(sender: Sender) -> None:
            start.wait()
            for _ in range(6):
                sender.tick()

        threads = [threading.Thread(target=send, args=(sender,)) for sender in senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = [request.headers["webhook-id"] for request in receiver.received]
    assert len(ids) == len(set(ids)) == 10
