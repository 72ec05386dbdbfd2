"""What one writer at a time hides, on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session, sessionmaker

from fleet import (
    audit,
    datasets,
    db,
    events,
    identities,
    jobs,
    leases,
    logs,
    nodes,
    reconcile,
    sync,
    tenants,
)
from fleet.agents.keys import Key
from fleet.agents.protocol import CachedData, CommandSpec, DataFile, DataList, Observed
from fleet.agents.signature import parse
from fleet.blobs import Blobs
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


def test_logs_by_stream_and_data_sets_are_the_same_there(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path)
    with postgres.begin() as writer:
        now = db.now(writer)
        admin = tenants.authenticate(writer, tenants.mint(writer, name="root", role="admin", now=now)[1], now)
        secret = tenants.mint_join(writer, now=now, by=admin)
        node_id = nodes.enroll(writer, secret, joining(secret, "tiny1", Key.made(), inventory()), now).node_id
        listed = DataList(
            files=[
                DataFile(
                    path="a", size=7, parts=[blobs.put(writer, b"content", now, holder="tenant:default")]
                )
            ]
        )
        address = blobs.put(writer, listed.text(), now, holder="tenant:default")
        datasets.put(writer, address, listed, admin, now)
        data = [CachedData(data_set=address, bytes=7)]
        sync.record(writer, node_id, Observed(boot_id="1", sequence=1, inventory=inventory(), data=data), now)
        job = jobs.submit(writer, CommandSpec(argv=["true"], data={"x": address}), principal=admin, now=now)
        assert datasets.nearness(writer, [job.id]) == {job.id: ((node_id, 7),)}
    reconcile.tick(postgres, blobs, now)
    with postgres.begin() as writer:
        [attempt] = jobs.attempts(writer, job.id)
        fence = leases.fences(writer, [attempt.id])[attempt.id]
        assert logs.append(writer, node_id, attempt.id, fence, 0, b"outERR", "o3.e3") == 6
        assert logs.append(writer, node_id, attempt.id, fence, 3, b"ERRout", "e3.o3") == 9
        assert logs.read(writer, attempt.id) == b"outERRout"
        assert logs.read(writer, attempt.id, offset=4, stream="stdout") == b"ut"
        assert [chunk.sequence for chunk in logs.chunks(writer, attempt.id, 1, 100, 100)] == [1, 2]
        much = b"x" * (logs.MAX_LOG_BYTES + 1)
        logs.append(writer, node_id, attempt.id, fence, 9, much)
        assert logs.read(writer, attempt.id, limit=1 << 30).endswith(logs.TRUNCATED)
        logs.append(writer, node_id, attempt.id, fence, 9 + len(much), b"more")
        assert logs.read(writer, attempt.id, limit=1 << 30).count(logs.TRUNCATED) == 1
