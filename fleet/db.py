"""The database: engine, sessions, clock and migrations. The one module that knows which database it is.

On SQLite: WAL, one writer at a time. A session's transaction begins as a writer (BEGIN IMMEDIATE), because one
that reads first and writes later fails when somebody wrote between; `reading` opens one that never waits.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import alembic.command
import alembic.config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from fleet.errors import DatabaseUnavailable

__all__ = ["Session", "check", "engine_for", "now", "reading", "session_factory", "upgrade", "writing"]

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
# What the database says about a statement of ours; every other error of its is about itself.
_OUR_FAULT = (IntegrityError, ProgrammingError, DataError, NotSupportedError)
_CLOCKS = {
    # julianday counts milliseconds; the time is UTC on both
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())"),
}


def engine_for(url: str) -> Engine:
    """An engine for `url`; the folder of a SQLite file is made, mode 0700, and the file is its owner's, mode 0600."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    # a connection per waiting thread: waiting for the one writer is the database's business, not the pool's
    engine = create_engine(url, pool_size=8, max_overflow=120)
    if engine.url.database:
        _keep_private(Path(engine.url.database))
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _keep_private(database: Path) -> None:
    """The rows hold hashes of tokens, and logs: nobody else reads them, whatever the folder's mode."""
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for suffix in ("", "-wal", "-shm"):  # made later, the two get the file's mode
        with suppress(FileNotFoundError, PermissionError):  # not ours to change: opening it decides
            database.with_name(database.name + suffix).chmod(0o600)


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _on_begin does
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(
        "PRAGMA recursive_triggers=ON"
    )  # else INSERT OR REPLACE deletes a row of the audit unasked
    connection.execute("PRAGMA busy_timeout=30000")  # milliseconds


def _on_begin(connection: Connection) -> None:
    reader = connection.get_execution_options().get("reader", False)
    connection.exec_driver_sql("BEGIN" if reader else "BEGIN IMMEDIATE")


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Sessions whose rows stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def reading(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A session that only reads: one consistent snapshot, which neither waits for the writer nor blocks it.

    DatabaseUnavailable when the database fails.
    """
    engine: Engine = sessions.kw["bind"]
    with (
        _failures_named(),
        engine.connect().execution_options(reader=True) as connection,
        sessions(bind=connection) as session,
    ):
        yield session


@contextmanager
def writing(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A transaction that is committed at its end. DatabaseUnavailable when the database fails."""
    with _failures_named(), sessions.begin() as session:
        yield session


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if isinstance(error, _OUR_FAULT):
            raise
        raise DatabaseUnavailable from error


def check(session: Session) -> None:
    """Read a row of the database's file, which asking for the time does not."""
    session.execute(text("SELECT version_num FROM alembic_version")).scalar_one()


def now(session: Session) -> float:
    """The database's clock, epoch seconds with milliseconds."""
    return float(session.execute(_CLOCKS[session.get_bind().dialect.name]).scalar_one())


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest migration."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
