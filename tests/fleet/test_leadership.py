"""Of several servers on one database one decides, and another does once that one has been silent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, jobs, reconcile
from fleet.agents.protocol import NoopSpec
from fleet.blobs import Blobs
from fleet.errors import StaleWrite
from fleet.leadership import LEASE_S, MARGIN_S, RENEWED_AFTER_S, Leadership
from fleet.models import Node
from fleet.principals import Principal
from fleet.scheduling_rows import Leader
from tests.postgresql import database, server


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def claim(sessions: sessionmaker[Session], clock: Clock) -> Leadership:
    return Leadership(partial(db.writing, sessions), clock=clock)


def run_out(sessions: sessionmaker[Session]) -> None:
    """The lease ends, as if its holder had been silent."""
    with sessions.begin() as session:
        session.execute(update(Leader).values(until=1.0))


def check_that_one_decides_at_a_time(sessions: sessionmaker[Session]) -> None:
    clock = Clock()
    first, second = claim(sessions, clock), claim(sessions, clock)
    assert (first.held(), second.held(), first.held()) == (True, False, True)
    run_out(sessions)
    assert second.held()
    assert first.held(), "until it asks again it counts by its own clock"
    clock.now += RENEWED_AFTER_S
    assert not first.held()
    with sessions.begin() as session, pytest.raises(StaleWrite, match="another server decides now"):
        first.check(session)
    with sessions.begin() as session:
        second.check(session)
    second.release()
    assert first.held()


def test_one_decides_at_a_time(sessions: sessionmaker[Session]) -> None:
    check_that_one_decides_at_a_time(sessions)


@pytest.fixture
def postgres() -> Iterator[sessionmaker[Session]]:
    with server() as url, database(url) as sessions:
        yield sessions


@pytest.mark.slow
def test_one_decides_at_a_time_on_postgresql(postgres: sessionmaker[Session]) -> None:
    check_that_one_decides_at_a_time(postgres)


def test_one_that_could_not_ask_stops_before_another_may_begin(sessions: sessionmaker[Session]) -> None:
    clock = Clock()
    first = claim(sessions, clock)
    assert first.held()
    assert RENEWED_AFTER_S < LEASE_S - MARGIN_S
    slow = Leadership(partial(db.writing, sessions), clock=iter([0.0, LEASE_S]).__next__)
    run_out(sessions)
    assert not slow.held(), "its answer came when the lease was over"


def test_a_tick_of_one_that_decides_no_more_writes_nothing(
    sessions: sessionmaker[Session], blobs: Blobs, node: Node, admin: Principal, now: float
) -> None:
    clock = Clock()
    first, second = claim(sessions, clock), claim(sessions, clock)
    assert first.held()
    with sessions.begin() as session:
        job = jobs.submit(session, NoopSpec(), principal=admin, now=now).id
    run_out(sessions)
    assert second.held()
    with pytest.raises(StaleWrite):
        reconcile.tick(sessions, blobs, now, check=first.check)
    with db.reading(sessions) as reader:
        assert jobs.get(reader, job).state == "queued"
    reconcile.tick(sessions, blobs, now, check=second.check)
    with db.reading(sessions) as reader:
        assert jobs.get(reader, job).state == "leased"


def test_where_there_can_be_one_only_nothing_is_waited_for(sessions: sessionmaker[Session]) -> None:
    one = Leadership(partial(db.writing, sessions), alone=True)
    other = claim(sessions, Clock())
    assert other.held()
    assert one.held()
    with sessions.begin() as session:
        one.check(session)
