"""Several control planes over one PostgreSQL: a due time has one run, whoever decides it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from fleet import cron_ticks, crons, db
from fleet.blobs import Blobs
from fleet.cron_plan import CatchUp, Overlap
from fleet.errors import AlreadyExists, StaleWrite
from fleet.models import CronRun, Event, Job, Tenant
from fleet.principals import Principal
from tests.postgresql import database, server

pytestmark = pytest.mark.slow
RACERS = 12
ADMIN = Principal("user", 1, "root", "default", "admin")
HOUR = 3600.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture
def postgres(url: str) -> Iterator[sessionmaker[Session]]:
    with database(url) as sessions:
        with sessions.begin() as session:
            if session.get(Tenant, "default") is None:
                session.add(Tenant(name="default", created_at=0.0))
        yield sessions


def race(act: Callable[[], Any], refusals: tuple[type[Exception], ...] = ()) -> list[Any]:
    """What each racer gets, all beginning at once; None for a refusal."""
    start, found = threading.Barrier(RACERS), list[Any]()

    def run() -> None:
        start.wait()
        try:
            found.append(act())
        except refusals:
            found.append(None)

    threads = [threading.Thread(target=run) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == RACERS, "a racer failed"
    return found


def add(sessions: sessionmaker[Session], now: float, name: str) -> int:
    """An hourly cron that catches up all of what it missed."""
    with sessions.begin() as session:
        return crons.add(
            session,
            name=name,
            schedule="0 * * * *",
            timezone="UTC",
            job={"spec": {"kind": "noop"}},
            principal=ADMIN,
            now=now,
            overlap=Overlap.QUEUE,
            catch_up=CatchUp.ALL,
        ).id


def test_a_due_time_that_several_decide_at_once_has_one_run_and_one_job(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    with postgres() as session:
        now = db.now(session) // HOUR * HOUR + 60
    ids = [add(postgres, now, f"cron{number}") for number in range(5)]
    written = race(lambda: cron_ticks.tick(postgres, Blobs(tmp_path), now + 3 * HOUR))
    assert sum(written) == len(ids)
    with postgres() as session:
        assert session.scalar(select(func.count()).select_from(CronRun)) == 3 * len(ids)
        assert session.scalar(select(func.count()).select_from(Job)) == len(ids)
        started = select(func.count()).select_from(Event).where(Event.kind == "cron.started")
        assert session.scalar(started) == len(ids)


def test_a_name_is_given_once(postgres: sessionmaker[Session]) -> None:
    found = race(lambda: add(postgres, 1e9, "nightly"), (AlreadyExists,))
    assert len([each for each in found if each is not None]) == 1


def test_a_run_now_and_a_tick_at_once_are_two_runs_one_after_the_other(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    with postgres() as session:
        now = db.now(session) // HOUR * HOUR + 60
    cron_id = add(postgres, now, "both")

    def wish() -> int:
        with postgres.begin() as session:
            return crons.run_now(session, cron_id, ADMIN, db.now(session)).id

    wishes = race(lambda: (cron_ticks.tick(postgres, Blobs(tmp_path), now + HOUR), wish())[1], (StaleWrite,))
    with postgres() as session:
        states = list(session.scalars(select(CronRun.state).where(CronRun.cron_id == cron_id)))
    assert states.count("running") == 1
    assert len(states) == 1 + len([each for each in wishes if each is not None])
