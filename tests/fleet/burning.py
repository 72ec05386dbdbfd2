"""A node with GPUs that go wrong, under the control plane's ticks by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, faults, gpu_ticks, gpus, jobs, nodes, reconcile
from fleet.agents.protocol import BurninSpec, NoopSpec, Observed, Outcome, ResetReport, ResetSpec
from fleet.blobs import Blobs
from fleet.health import Action, Finding, Verdict
from fleet.models import Device, GpuLadder, Job
from fleet.principals import Principal
from fleet.wishes import Requirements
from tests.fleet.acting import Agent

XID = Finding("gpu1", Verdict.SUSPECT, "XID 48", Action.RESET)


@dataclass
class Box(Agent):
    """An agent that resets its GPUs, and burns them in, as it is told to by the test."""

    asked: list[ResetSpec] = field(default_factory=list)
    said: dict[str, ResetReport] = field(default_factory=dict)

    def observed(self) -> Observed:
        return super().observed().model_copy(update={"resets": list(self.said.values())})

    def sync(self, now: float) -> Any:
        desired = super().sync(now)
        self.asked = desired.resets
        wanted = {(spec.gpu, spec.generation) for spec in desired.resets}
        self.said = {name: s for name, s in self.said.items() if (s.gpu, s.generation) in wanted}
        return desired

    def reset(self, done: bool = True, detail: str = "") -> None:
        """Answer what was asked."""
        for spec in self.asked:
            self.said[spec.gpu] = ResetReport(
                gpu=spec.gpu, generation=spec.generation, done=done, detail=detail
            )

    def burn(self, passed: bool = True) -> int:
        """End the burn-ins; returns how many there were."""
        mine = [each for each in self.running.values() if isinstance(each.spec, BurninSpec)]
        for each in mine:
            if passed:
                result = {"rate": 1e12, "rounds": 10, "seconds": 1.0}
                self.exit(each.attempt_id, Outcome.SUCCEEDED, result=result)
            else:
                self.exit(each.attempt_id, Outcome.FAILED, error="3 known answers are wrong")
        return len(mine)


@dataclass
class World:
    """One node with GPUs under the control plane's ticks."""

    sessions: sessionmaker[Session]
    blobs: Blobs
    admin: Principal
    agent: Box
    now: float

    def tick(self) -> None:
        """A second passes; the controllers look, and the agent hears of it."""
        self.now += 1.0
        gpu_ticks.tick(lambda: db.reading(self.sessions), lambda: db.writing(self.sessions), self.now)
        reconcile.tick(self.sessions, self.blobs, self.now)
        self.agent.sync(self.now)
        self.agent.sync(self.now)

    def observe(self, *found: Finding) -> None:
        """What the node's metrics were found to say."""
        with self.sessions.begin() as session:
            faults.observe(session, self.agent.node_id, {each.device: each for each in found}, self.now)

    def ask(self, gpu_count: int = 2, seconds: float = 0.0) -> int:
        """Submit a job that needs GPUs."""
        with self.sessions.begin() as session:
            wishes = Requirements(gpus=gpu_count)
            spec = NoopSpec(seconds=seconds)
            return jobs.submit(session, spec, principal=self.admin, now=self.now, requirements=wishes).id

    def states(self) -> dict[str, str]:
        """Each GPU's state."""
        with db.reading(self.sessions) as reader:
            mine = nodes.devices(reader, self.agent.node_id)
            rows = gpus.ladders(reader, [self.agent.node_id])
            return {each.name: gpus.standing(rows.get(each.id))[0] for each in mine if each.kind == "gpu"}

    def ladder(self, name: str) -> GpuLadder:
        with db.reading(self.sessions) as reader:
            query = select(GpuLadder).join(Device, Device.id == GpuLadder.id)
            mine = (Device.node_id == self.agent.node_id) & (Device.name == name)
            return reader.scalars(query.where(mine)).one()

    def job(self, job_id: int) -> Job:
        with db.reading(self.sessions) as reader:
            return jobs.get(reader, job_id)
