"""The races that one writer at a time hides, on a real PostgreSQL: TINYFLEET_TEST_POSTGRESQL names a server, as
postgresql+psycopg://postgres@localhost/postgres, in which databases may be made."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, identities, nodes, tenants
from fleet.agents.keys import Key
from fleet.agents.signature import parse
from fleet.errors import NotPermitted
from fleet.principals import Principal
from tests.fleet.acting import inventory
from tests.signing import joining

RACERS = 16


@pytest.fixture
def postgres() -> Iterator[sessionmaker[Session]]:
    """Sessions over a new database with the newest schema; skipped where no server is named."""
    url = os.environ.get("TINYFLEET_TEST_POSTGRESQL")
    if not url:
        pytest.skip("TINYFLEET_TEST_POSTGRESQL names no server")
    name = f"tinyfleet_{uuid.uuid4().hex}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = db.engine_for(make_url(url).set(database=name).render_as_string(hide_password=False))
    db.upgrade(engine)
    yield db.session_factory(engine)
    engine.dispose()
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    server.dispose()


def race(act: Callable[[int], Any]) -> list[Any]:
    """What each of the racers gets, who all begin at once; None for a refusal."""
    start, found = threading.Barrier(RACERS), list[Any]()

    def run(number: int) -> None:
        start.wait()
        try:
            found.append(act(number))
        except NotPermitted:
            found.append(None)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_one_join_token_and_one_signed_request_are_each_accepted_once(
    postgres: sessionmaker[Session],
) -> None:
    key, gib = Key.made(), 1 << 30
    small = inventory(memory_bytes=gib).model_copy(update={"memory_bytes": gib})
    admin = Principal("user", 1, "root", "default", "admin")
    with postgres.begin() as session:
        now = db.now(session)
        secret, other = (tenants.mint_join(session, now=now, by=admin) for _ in range(2))
        nodes.enroll(session, other, joining(other, "signer", key, small), now)

    def join(number: int) -> int:
        with postgres.begin() as session:
            asked = joining(secret, f"racer{number}", Key.made(), small)
            return nodes.enroll(session, secret, asked, now).node_id

    assert len([found for found in race(join) if found is not None]) == 1
    said = parse(key.request("PUT", "/v1/blobs/x", b"", now))

    def send(_number: int) -> bool:
        with postgres.begin() as session:
            identities.verify(session, said, "PUT", "/v1/blobs/x", now)
            identities.spend(session, said, now)
            return True

    assert race(send).count(True) == 1
