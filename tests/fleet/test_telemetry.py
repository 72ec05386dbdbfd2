"""Both stores keep the same promises: memory, and rows on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, nodes, tenants
from fleet.agents.keys import Key
from fleet.errors import StaleWrite
from fleet.principals import Principal
from fleet.readings import GpuReading, Reading
from fleet.telemetry import (
    KEPT_S,
    POINT_EVERY_S,
    Exposition,
    InMemory,
    InRows,
    Latest,
    Telemetry,
    telemetry_for,
)
from fleet.telemetry_rows import UNLOGGED
from tests.fleet.acting import inventory
from tests.postgresql import database, server
from tests.signing import joining

READING = Reading(
    (GpuReading("gpu0", {"power_watts": 312.5, "sm_active_ratio": 0.75}), GpuReading("gpu1", {})),
    990.0,
    "pdu",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture
def postgres(url: str) -> Iterator[sessionmaker[Session]]:
    """Sessions over a PostgreSQL with nodes 1 and 2."""
    admin = Principal("user", 1, "root", "default", "admin")
    with database(url) as sessions:
        with sessions.begin() as writer:
            moment = db.now(writer)
            for name in ("tiny1", "tiny2"):
                secret = tenants.mint_join(writer, now=moment, by=admin)
                nodes.enroll(writer, secret, joining(secret, name, Key.made(), inventory()), moment)
        yield sessions


@pytest.fixture(params=["memory", pytest.param("rows", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest) -> Telemetry:
    """Each of the stores."""
    if request.param == "memory":
        return InMemory()
    sessions = request.getfixturevalue("postgres")
    return InRows(partial(db.reading, sessions), partial(db.writing, sessions))


def said(at: float, packed: bytes = b"text", reading: Reading = READING) -> Exposition:
    """An exposition that was signed when it came."""
    return Exposition(packed, at, at, reading)


def test_the_latest_text_is_kept_with_its_age_and_what_was_read(store: Telemetry) -> None:
    assert store.latest(1) is None
    store.put(1, said(100.0))
    store.put(1, said(110.0, b"newer"))
    assert store.latest(1) == said(110.0, b"newer")
    assert store.readings([1, 2]) == {1: Latest(110.0, 110.0, READING)}


@pytest.mark.parametrize("at", [99.0, 100.0])
def test_one_that_was_not_signed_later_is_refused(store: Telemetry, at: float) -> None:
    store.put(1, said(100.0))
    with pytest.raises(StaleWrite):
        store.put(1, Exposition(b"old", 130.0, at, READING))
    assert store.latest(1) == said(100.0)
    store.put(2, said(50.0))  # another node's order is its own


def test_the_last_hour_is_kept_a_moment_every_half_minute(store: Telemetry) -> None:
    every, last = 10.0, KEPT_S + 600.0
    for step in range(int(last / every) + 1):
        store.put(1, said(1000.0 + step * every))
    points = store.history(1, 1000.0 + last - KEPT_S)
    times = [point.at for point in points]
    assert len(points) == KEPT_S / POINT_EVERY_S
    assert {after - before for before, after in pairwise(times)} == {POINT_EVERY_S}
    assert points[-1].reading.gpus == READING.gpus
    assert points[-1].reading.power_watts == 990.0
    assert store.history(2, 0.0) == []


def test_the_store_goes_with_the_database() -> None:
    def never() -> object:
        raise AssertionError

    assert isinstance(telemetry_for("sqlite:///x.db", never, never), InMemory)  # type: ignore[arg-type]
    assert isinstance(telemetry_for("postgresql+psycopg:///x", never, never), InRows)  # type: ignore[arg-type]


@pytest.mark.slow
def test_any_replica_serves_what_another_was_told(postgres: sessionmaker[Session]) -> None:
    one, other = (InRows(partial(db.reading, postgres), partial(db.writing, postgres)) for _ in range(2))
    one.put(1, said(100.0))
    assert other.latest(1) == said(100.0)


@pytest.mark.slow
def test_of_replicas_that_race_with_the_same_text_one_keeps_it(postgres: sessionmaker[Session]) -> None:
    start, kept = threading.Barrier(8), list[bool]()

    def push() -> None:
        store = InRows(partial(db.reading, postgres), partial(db.writing, postgres))
        start.wait()
        try:
            store.put(1, said(100.0))
            kept.append(True)
        except StaleWrite:
            kept.append(False)

    threads = [threading.Thread(target=push) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept) == [False] * 7 + [True]


@pytest.mark.slow
def test_the_tables_are_unlogged(postgres: sessionmaker[Session]) -> None:
    query = text("SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'")
    with postgres() as session:
        assert set(session.scalars(query)) == set(UNLOGGED)
