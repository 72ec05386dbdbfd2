"""A cron over a real database, a control plane that is stepped by hand, and an agent that makes its numbers up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from fleet import cron_ticks, crons, db, reconcile
from fleet.agents.protocol import Outcome
from fleet.baselines import Watch
from fleet.blobs import Blobs
from fleet.models import Cron, CronRun, Event
from fleet.principals import Principal
from tests.fleet.acting import Agent

HOUR = 3600.0
NOOP = {"spec": {"kind": "noop"}}


@dataclass
class Clockwork:
    """The control plane, one agent, and a clock that is set by hand."""

    sessions: sessionmaker[Session]
    blobs: Blobs
    agent: Agent
    admin: Principal
    now: float

    def add(self, name: str = "nightly", schedule: str = "0 * * * *", **wanted: Any) -> int:
        """A cron, hourly unless said otherwise; returns its id."""
        asked: dict[str, Any] = {"timezone": "UTC", "job": NOOP, "watch": [], **wanted}
        with self.sessions.begin() as session:
            row = crons.add(
                session, name=name, schedule=schedule, principal=self.admin, now=self.now, **asked
            )
            return row.id

    def at(self, now: float) -> None:
        """Set the clock, hear the agent, and tick once."""
        self.now = now
        self.agent.sync(now)
        self.tick()

    def tick(self) -> None:
        """One tick of the crons and of the controllers."""
        cron_ticks.tick(self.sessions, self.blobs, self.now)
        reconcile.tick(self.sessions, self.blobs, self.now)

    def work(self, outcome: Outcome = Outcome.SUCCEEDED, numbers: object = None, **said: Any) -> None:
        """The agent takes what is placed, ends it so, and is heard; then a tick."""
        self.agent.sync(self.now)
        self.agent.sync(self.now)  # that it runs
        for attempt_id in list(self.agent.running):
            artifacts = {} if numbers is None else {"results.json": self.agent.put(numbers, self.now)}
            self.agent.exit(attempt_id, outcome, artifacts=artifacts, **said)
        self.agent.sync(self.now)
        self.agent.sync(self.now)
        self.tick()

    def cron(self, cron_id: int) -> Cron:
        with db.reading(self.sessions) as reader:
            return crons.get(reader, cron_id, self.admin.tenant)

    def runs(self, cron_id: int) -> list[CronRun]:
        """The runs, oldest first."""
        with db.reading(self.sessions) as reader:
            return list(reversed(crons.runs(reader, cron_id)))

    def states(self, cron_id: int) -> list[str]:
        """What became of each run, oldest first."""
        return [run.state for run in self.runs(cron_id)]

    def told(self, cron_id: int, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
        """The events about a cron, of these kinds or all."""
        with db.reading(self.sessions) as reader:
            query = select(Event).where(Event.subject == f"cron:{cron_id}").order_by(Event.id)
            rows = reader.scalars(query).all()
        return [(row.kind, row.data) for row in rows if not kinds or row.kind in kinds]

    def act(self, do: Callable[[Session], Any]) -> Any:
        """Something in a transaction."""
        with self.sessions.begin() as session:
            return do(session)


def watched(name: str, **more: Any) -> Watch:
    """A series to watch, compared after two good runs."""
    return Watch(**{"name": name, "least": 2, **more})
