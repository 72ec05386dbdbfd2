"""Gangs, arrays, dependencies, quotas and windows on a real PostgreSQL: the same queries, another database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import arrays, db, explanations, jobs, nodes, quotas, sync, tenants, usage, windows
from fleet.agents.keys import Key
from fleet.agents.protocol import NoopSpec, Observed
from fleet.blobs import Blobs
from fleet.principals import Principal
from fleet.settings import Timings
from fleet.wishes import Requirements
from tests.fleet.acting import Agent
from tests.fleet.floors import boxed
from tests.fleet.stepping import Fleet
from tests.postgresql import database, server
from tests.signing import joining

pytestmark = pytest.mark.slow


@pytest.fixture
def postgres() -> Iterator[sessionmaker[Session]]:
    with server() as url, database(url) as sessions:
        yield sessions


def enrolled(sessions: sessionmaker[Session], blobs: Blobs, admin: Principal, name: str, now: float) -> Agent:
    with sessions.begin() as session:
        secret = tenants.mint_join(session, now=now, by=admin)
        node = nodes.enroll(session, secret, joining(secret, name, Key.made(), boxed(2)), now)
        sync.record(session, node.node_id, Observed(boot_id="boot-1", sequence=1, inventory=boxed(2)), now)
    return Agent(sessions, blobs, node.node_id)


def test_what_is_scheduled_on_sqlite_is_on_postgresql(
    postgres: sessionmaker[Session], tmp_path: Path
) -> None:
    with postgres.begin() as session:
        now = db.now(session)
        secret = tenants.mint(session, name="root", role="admin", now=now)[1]
    with db.reading(postgres) as reader:
        admin = tenants.authenticate(reader, secret, now)
    blobs = Blobs(tmp_path / "blobs", 1 << 20)
    fleet = Fleet(
        postgres, blobs, now, *(enrolled(postgres, blobs, admin, name, now) for name in ("box1", "box2"))
    )
    limits = {"weight": 2.0, "max_gpus": 4, "gpu_seconds": 1e6, "period_s": 86_400.0, "max_queued": 99}
    with postgres.begin() as session:
        quotas.put(session, "default", admin, now, **limits)
        both = Requirements(gpus=2, ranks=2)
        gang = jobs.submit(session, NoopSpec(), principal=admin, now=now, requirements=both)
        after = jobs.submit(session, NoopSpec(), principal=admin, now=now, after_ok=[gang.id])
        late = jobs.submit(session, NoopSpec(), principal=admin, now=now, requirements=Requirements(gpus=9))
        array = arrays.submit(session, jobs.asked(NoopSpec()), 5, principal=admin, now=now, parallel=2)
        many = jobs.asked(NoopSpec(), after_ok_arrays=[array.id], after_any=[gang.id])
        second = arrays.submit(session, many, 2, principal=admin, now=now)
        last = jobs.submit(session, NoopSpec(), principal=admin, now=now, after_ok_arrays=[second.id])
        dropped = arrays.submit(session, jobs.asked(NoopSpec()), 50, principal=admin, now=now)
        arrays.cancel(session, dropped.id, admin, now)
        windows.add(
            session,
            kind="maintenance",
            tenant=None,
            node_ids=[fleet.agents[0].node_id],
            starts_at=now + 1e5,
            ends_at=now + 2e5,
            reason="fans",
            principal=admin,
            now=now,
        )
    for _ in range(12):
        fleet.step()
    with db.reading(postgres) as reader:
        assert [jobs.get(reader, each.id).state for each in (gang, after)] == ["succeeded", "succeeded"]
        assert arrays.counts(reader, [array])[array.id].states == {"succeeded": 5}
        assert arrays.counts(reader, [second])[second.id].states == {"succeeded": 2}
        assert jobs.get(reader, last.id).state == "succeeded"
        why = explanations.of(reader, jobs.get(reader, late.id), fleet.now, Timings(), 0.0).why
        assert why is not None
        assert why.quota.startswith("quota: tenant default")
        held = usage.held(reader, now // 86_400 * 86_400, fleet.now)
        assert {row.node_id for row in held} == {agent.node_id for agent in fleet.agents}
        assert sum(row.attempts for row in held) == 2 + 1 + 5 + 2 + 1
