"""Uploads and collectors at once, over one PostgreSQL: no row without its file, nothing that is named is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from fleet import blobs as blob_rows
from fleet import db, events
from fleet.blobs import Blobs
from fleet.garbage import Collector
from fleet.models import Blob, Event
from fleet.retention import DAY_S, Retention
from tests.postgresql import database, server

pytestmark = pytest.mark.slow
CONTENTS = [f"content {number}".encode() for number in range(6)]
TIMES = 15


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture
def postgres(url: str) -> Iterator[sessionmaker[Session]]:
    with database(url) as sessions:
        yield sessions


def collector(sessions: sessionmaker[Session], blobs: Blobs) -> Collector:
    return Collector(partial(db.reading, sessions), partial(db.writing, sessions), blobs, Retention())


def test_uploads_and_collectors_at_once_leave_no_row_without_its_file(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path)
    start = threading.Barrier(6)
    failures: list[BaseException] = []
    clock = count(1)  # at each look ten days have passed: all that is there may go

    def upload() -> None:
        start.wait()
        try:
            for _ in range(TIMES):
                for content in CONTENTS:
                    with postgres.begin() as session:
                        blobs.put(session, content, next(clock) * 10 * DAY_S)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    def collect() -> None:
        start.wait()
        try:
            for _ in range(TIMES):
                collector(postgres, blobs).collect(next(clock) * 10 * DAY_S)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=each) for each in (upload, upload, upload, collect, collect, collect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert next(clock) > 6 * TIMES
    with postgres() as session:
        rows = list(session.scalars(select(Blob.address)))
    assert [address for address in rows if not blobs.path(address).exists()] == []
    assert list(tmp_path.rglob("*.gone")) == []


def test_a_name_that_comes_while_a_blob_goes_is_told_that_it_has_gone(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path)
    with postgres.begin() as session:
        address = blobs.put(session, b"content", 1.0)
        now = db.now(session)
    with postgres.begin() as naming:
        assert blob_rows.touch(naming, [address], now) == {address}
        waiting = threading.Thread(target=collector(postgres, blobs).collect)
        waiting.start()  # waits for the row
    waiting.join()
    assert blobs.get(address) == b"content"
    with postgres.begin() as session:
        session.execute(text("UPDATE blobs SET touched_at = NULL"))
    with postgres.begin() as taking:
        taking.execute(text("DELETE FROM blobs"))
        found: list[set[str]] = []

        def name() -> None:
            with postgres.begin() as session:
                found.append(blob_rows.touch(session, [address], now))

        waiting = threading.Thread(target=name)
        waiting.start()  # waits for the row, which goes
    waiting.join()
    assert found == [set()]


def test_every_kind_is_chosen_counted_and_removed_there_too(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    with postgres.begin() as session:
        now = db.now(session)
        for _ in range(5):
            events.append(session, "a.b", "node:1", {"x": 1}, now - 40 * DAY_S)
    found = collector(postgres, Blobs(tmp_path))
    assert found.look().rows["events"] == 4
    assert found.collect().rows["events"] == 4
    with postgres() as session:
        assert len(list(session.scalars(select(Event.id)))) == 1
