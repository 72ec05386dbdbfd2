"""The control plane and its agents, stepped by hand."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session, sessionmaker

from fleet import db, reconcile, searches
from fleet.blobs import Blobs
from fleet.models import Search
from tests.fleet.acting import Agent

Submit = Callable[..., Search]


class Fleet:
    """The control plane and its agents, stepped by hand."""

    def __init__(self, sessions: sessionmaker[Session], blobs: Blobs, now: float, *agents: Agent) -> None:
        self.sessions, self.blobs, self.now, self.agents = sessions, blobs, now, agents

    def step(self) -> list[str]:
        """One tick and one exchange with every agent; returns the kinds of work done."""
        self.now += 0.1
        reconcile.tick(self.sessions, self.blobs, self.now)
        done = []
        for agent in self.agents:
            agent.sync(self.now)
            done += agent.work(self.now)
            agent.sync(self.now)
        return done

    def tick(self) -> None:
        """One look of the controllers."""
        reconcile.tick(self.sessions, self.blobs, self.now)

    def look(self, search: Search) -> Search:
        with db.reading(self.sessions) as reader:
            return searches.get(reader, search.id)

    def finish(self, search: Search) -> Search:
        """Step until the search is final, a bounded number of times."""
        for _ in range(60):
            found = self.look(search)
            if found.state not in ("queued", "running"):
                return found
            self.step()
        raise AssertionError(f"the search does not end: {found.state} {found.phase} {found.reason}")

    def run_until(self, kind: str) -> None:
        """Step until an agent runs a job of that kind, and has said so."""
        for _ in range(60):
            self.now += 0.1
            reconcile.tick(self.sessions, self.blobs, self.now)
            for agent in self.agents:
                agent.sync(self.now)
                agent.sync(self.now)
            if any(spec.spec.kind == kind for agent in self.agents for spec in agent.running.values()):
                return
            for agent in self.agents:
                agent.work(self.now)
                agent.sync(self.now)
        raise AssertionError(f"no job of kind {kind} begins")
