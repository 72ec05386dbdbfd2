"""A cron that fails, or stops running, rings at every kind of receiver, and in the metrics, within one period."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest
from cryptography.fernet import Fernet
from sqlalchemy.orm import Session, sessionmaker

from fleet import cron_metrics, db, guard, nodes, webhooks
from fleet.agents.protocol import Outcome
from fleet.blobs import Blobs
from fleet.principals import Principal
from fleet.webhook_plan import Shape
from fleet.webhook_sending import Sender
from tests.fleet.acting import Agent
from tests.fleet.crons import HOUR, Clockwork
from tests.fleet.receiving import PUBLIC, Receiver, receiving

KEYS = [Fernet.generate_key().decode()]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def fleet(
    sessions: sessionmaker[Session], blobs: Blobs, agent: Agent, admin: Principal, now: float
) -> Clockwork:
    """At half past an hour, with a receiver of each shape."""
    found = Clockwork(sessions, blobs, agent, admin, now - now % HOUR + 1.5 * HOUR)
    found.at(found.now)
    with sessions.begin() as session:
        for shape in Shape:
            target = guard.check(f"https://hooks.example/{shape}", resolve=lambda _host, _port: [PUBLIC])
            webhooks.add(
                session,
                name=str(shape),
                target=target,
                kinds=["cron.failed", "cron.stalled"],
                shape=shape,
                principal=admin,
                keys=KEYS,
                now=found.now,
            )
    return found


def told(fleet: Clockwork, receiver: Receiver) -> dict[str, object]:
    """What each receiver has been told last, by its shape."""
    read, write = partial(db.reading, fleet.sessions), partial(db.writing, fleet.sessions)
    Sender(read, write, lambda: KEYS, receiver.client).tick(fleet.now)
    return {request.path.strip("/"): json.loads(request.body) for request in receiver.received}


def health(fleet: Clockwork) -> str:
    """The health that Prometheus reads."""
    with db.reading(fleet.sessions) as reader:
        [family] = [each for each in cron_metrics.metrics(reader) if each.name == "fleet_cron_health"]
    [said] = [sample.labels["health"] for sample in family.samples if sample.value]
    return said


def test_a_failure_rings_everywhere_at_once(fleet: Clockwork, receiver: Receiver) -> None:
    cron_id = fleet.add()
    fleet.at(fleet.now - fleet.now % HOUR + HOUR + 1)
    fleet.work(Outcome.FAILED, error="no <space> left")
    said = told(fleet, receiver)
    sentence = "cron nightly failed: run 1: job 1 failed: no <space> left"
    assert said["discord"] == {"content": sentence, "allowed_mentions": {"parse": []}}
    assert said["slack"] == {"text": sentence.replace("<", "&lt;").replace(">", "&gt;")}
    standard = said["standard"]
    assert isinstance(standard, dict)
    assert (standard["type"], standard["data"]["subject"]) == ("cron.failed", f"cron:{cron_id}")
    assert health(fleet) == "failing"


def test_a_cron_that_begins_nothing_rings_within_a_period(fleet: Clockwork, receiver: Receiver) -> None:
    fleet.add()
    fleet.act(lambda session: nodes.cordon(session, fleet.agent.node_id, fleet.admin, fleet.now))
    due = fleet.now - fleet.now % HOUR + HOUR
    fleet.at(due + 1)
    assert told(fleet, receiver) == {}
    fleet.at(due + HOUR)
    said = told(fleet, receiver)
    assert set(said) == {"standard", "slack", "discord"}
    assert "cron nightly stalled: nothing has begun for a whole period: job 1 is queued" in str(said["slack"])
    assert health(fleet) == "stalled"
