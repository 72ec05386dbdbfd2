"""How long jobs of a kind have run, and how well their starts were guessed: a running mean for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet.agents.protocol import canonical_hash
from fleet.models import Job, RunTime

FORECAST = "forecast"
_NEWEST = 0.2  # the weight of the newest, once there are some
_AT_ONCE = 500  # keys in one query


@dataclass(frozen=True)
class Known:
    """Of `count` values: their mean and their mean distance from it, seconds."""

    count: int
    mean_s: float
    deviation_s: float


def key(tenant: str, kind: str, name: str | None, requirement: str) -> str:
    """What jobs that likely run as long have in common."""
    return canonical_hash([tenant, kind, name, requirement])


def of(job: Job) -> str:
    """A job's key."""
    return key(job.tenant, job.kind, job.name, job.requirement)


def known(session: Session, keys: Iterable[str]) -> Mapping[str, Known]:
    """What is known of each of these keys; of those that nothing is known of, none."""
    found: dict[str, Known] = {}
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _AT_ONCE):
        query = select(RunTime).where(RunTime.key.in_(wanted[start : start + _AT_ONCE]))
        found |= {row.key: Known(row.count, row.mean_s, row.deviation_s) for row in session.scalars(query)}
    return found


def learn(session: Session, of_key: str, seconds: float) -> None:
    """One more value."""
    row = session.get(RunTime, of_key)
    if row is None:
        first = abs(seconds) if of_key == FORECAST else 0.0
        session.add(RunTime(key=of_key, count=1, mean_s=seconds, deviation_s=first))
    else:
        row.count += 1
        weight = max(_NEWEST, 1 / row.count)
        # of a guess the distance is from what was guessed, of a run from how long they run
        distance = abs(seconds) if of_key == FORECAST else abs(seconds - row.mean_s)
        row.mean_s += weight * (seconds - row.mean_s)
        row.deviation_s += weight * (distance - row.deviation_s)
    session.flush()
