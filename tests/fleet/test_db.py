"""The database: its clock, its one writer, its readers."""

from __future__ import annotations

import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events
from fleet.errors import DatabaseUnavailable
from fleet.models import Event
from fleet.settings import Settings


def test_the_clock_is_the_databases_with_fractions_of_a_second(sessions: sessionmaker[Session]) -> None:
    with db.reading(sessions) as reader:
        before, found, after = time.time(), db.now(reader), time.time()
        readings = {db.now(reader) % 1 for _ in range(50)}
    assert before - 0.01 <= found <= after + 0.01
    assert readings != {0.0}


def test_writers_of_many_threads_take_turns_and_none_fails(sessions: sessionmaker[Session]) -> None:
    def write(thread: int) -> None:
        for number in range(10):
            with sessions.begin() as session:
                seen = len(events.page(session, limit=1000))  # reads first: a deferred BEGIN would fail
                events.append(session, "test.counted", f"test:{thread}", {"n": number, "seen": seen}, 0.0)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    with db.reading(sessions) as reader:
        found = events.page(reader, limit=1000)
    assert [event.data["seen"] for event in found] == list(range(120))
    assert [event.id for event in found] == sorted(event.id for event in found)


def test_a_reader_neither_waits_for_the_writer_nor_sees_its_half(sessions: sessionmaker[Session]) -> None:
    with sessions() as writer:
        writer.add(Event(at=0.0, kind="test", subject="test:1", data={}))
        writer.flush()
        with db.reading(sessions) as reader:
            assert events.page(reader) == []
        writer.commit()
    with db.reading(sessions) as reader:
        assert len(events.page(reader)) == 1


@pytest.mark.parametrize("there_before", [False, True])
def test_the_files_are_their_owners_in_a_folder_that_all_may_read(
    tmp_path: Path, migrated_database: Path, there_before: bool
) -> None:
    tmp_path.chmod(0o755)
    database = tmp_path / "fleet.db"
    if there_before:
        shutil.copyfile(migrated_database, database)
        database.chmod(0o644)
    engine = db.engine_for(f"sqlite:///{database}")
    with db.session_factory(engine).begin() as session:
        session.execute(text("CREATE TABLE made_up (number INTEGER)"))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("fleet.db*")}
    engine.dispose()
    assert modes == {"fleet.db": 0o600, "fleet.db-wal": 0o600, "fleet.db-shm": 0o600}


def test_foreign_keys_and_the_write_ahead_log_are_on(sessions: sessionmaker[Session]) -> None:
    with db.reading(sessions) as reader:
        assert reader.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert reader.execute(text("PRAGMA journal_mode")).scalar() == "wal"


@pytest.fixture
def broken(settings: Settings) -> Iterator[sessionmaker[Session]]:
    """Sessions over a file that is no database any more."""
    (settings.data / "fleet.db").write_bytes(b"this is no database " * 300)
    engine = db.engine_for(settings.database_url)
    yield db.session_factory(engine)
    engine.dispose()


def test_a_database_that_fails_is_named_as_such(broken: sessionmaker[Session]) -> None:
    with pytest.raises(DatabaseUnavailable), db.reading(broken) as reader:
        db.check(reader)
    with pytest.raises(DatabaseUnavailable), db.writing(broken) as writer:
        db.check(writer)


def test_a_database_that_answers_passes_its_check(sessions: sessionmaker[Session]) -> None:
    with db.reading(sessions) as reader:
        db.check(reader)


def test_a_statement_that_the_database_refuses_is_our_bug(sessions: sessionmaker[Session]) -> None:
    with pytest.raises(IntegrityError), db.writing(sessions) as writer:
        writer.execute(text("INSERT INTO events (id) VALUES (1)"))
