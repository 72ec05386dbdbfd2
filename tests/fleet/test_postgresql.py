"""What one writer at a time hides, on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session, sessionmaker

from fleet import audit, db, events, identities, nodes, tenants
from fleet.agents.keys import Key
from fleet.agents.signature import parse
from fleet.errors import NotPermitted
from fleet.principals import Principal
from tests.fleet.acting import inventory
from tests.postgresql import database, server
from tests.signing import joining

pytestmark = pytest.mark.slow

RACERS = 16
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server() as found:
        yield found


@pytest.fixture
def postgres(url: str) -> Iterator[sessionmaker[Session]]:
    with database(url) as sessions:
        yield sessions


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
    key, whole = Key.made(), inventory(memory_bytes=3 << 40)
    admin = Principal("user", 1, "root", "default", "admin")
    with postgres.begin() as session:
        now = db.now(session)
        secret, other = (tenants.mint_join(session, now=now, by=admin) for _ in range(2))
        nodes.enroll(session, other, joining(other, "signer", key, whole), now)

    def join(number: int) -> int:
        with postgres.begin() as session:
            asked = joining(secret, f"racer{number}", Key.made(), whole)
            return nodes.enroll(session, secret, asked, now).node_id

    assert len([found for found in race(join) if found is not None]) == 1
    said = parse(key.request("PUT", "/v1/blobs/x", b"", now))

    def send(_number: int) -> bool:
        with postgres.begin() as session:
            identities.verify(session, said, "PUT", "/v1/blobs/x", now)
            identities.spend(session, said, now)
            return True

    assert race(send).count(True) == 1


@pytest.mark.parametrize("statement", ["UPDATE audit SET action = 'nothing'", "DELETE FROM audit"])
def test_the_audit_is_sealed_and_nobody_changes_it(postgres: sessionmaker[Session], statement: str) -> None:
    admin = Principal("user", 1, "root", "default", "admin")
    with postgres.begin() as session:
        now = db.now(session)
        events.audit(session, admin, "job.submit", "job:1", {"name": "ü"}, now)
    with postgres.begin() as session:
        assert audit.seal(session, KEY) == 1
    with postgres() as session:
        assert audit.verify(session, KEY, (), now).problems == ()
        with pytest.raises(DatabaseError, match="append-only"):
            session.execute(text(statement))
