"""What was drawn, by whom and where: sums over ended attempts, each read from counters at its start and its end.

Joules of a job are no series: the rate of one that has just begun misleads (906 W were read instead of 1800).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import String, case, cast, func, select
from sqlalchemy.orm import Session

from fleet import jobs
from fleet.agents.protocol import Energy
from fleet.energy_rows import AttemptEnergy
from fleet.models import Attempt, Node
from fleet.permissions import Permission, of
from fleet.principals import Principal


class By(StrEnum):
    """What energy is summed by."""

    JOB = "job"
    TENANT = "tenant"
    NODE = "node"


@dataclass(frozen=True)
class Drawn:
    """A sum: of a job by its id, a tenant or a node by its name. `integrated_joules` are those of no counter."""

    key: str
    joules: float
    integrated_joules: float
    throttled_s: float
    attempts: int


def record(session: Session, attempt: Attempt, said: Energy | None, now: float) -> None:
    """Keep what a node says that an attempt drew, once it has ended; nothing where no device's energy is known."""
    if said is None:
        return
    job = jobs.get(session, attempt.job_id)
    session.add(
        AttemptEnergy(
            attempt_id=attempt.id,
            job_id=job.id,
            tenant=job.tenant,
            node_id=attempt.node_id,
            at=now,
            joules=said.joules,
            throttled_s=said.throttled_s,
            method=said.method,
        )
    )
    session.flush()


def drawn(session: Session, principal: Principal, by: By, since: float, limit: int) -> Sequence[Drawn]:
    """The largest sums of what ended after `since`: of everybody for who operates the nodes, else of one's tenant."""
    row = AttemptEnergy
    key = {By.JOB: cast(row.job_id, String), By.TENANT: row.tenant, By.NODE: Node.name}[by]
    joules = func.sum(row.joules)
    integrated = func.sum(case((row.method == "integrated", row.joules), else_=0.0))
    query = select(key, joules, integrated, func.sum(row.throttled_s), func.count())
    query = query.join(Node, Node.id == row.node_id).where(row.at > since)
    if Permission.OPERATE not in of(principal):
        query = query.where(row.tenant == principal.tenant)
    rows = session.execute(query.group_by(key).order_by(joules.desc(), key).limit(limit))
    return [Drawn(*each) for each in rows]
