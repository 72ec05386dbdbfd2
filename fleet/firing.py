"""Write a change of state: guarded by the row's generation, with its event in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from fleet import events
from fleet.errors import StaleWrite
from fleet.lifecycle import JOB, JobEvent, JobState, Machine, advance
from fleet.models import (
    Acceptance,
    Attempt,
    Box,
    Cron,
    CronRun,
    Delivery,
    GpuLadder,
    Grant,
    Job,
    Node,
    NodeUpdate,
    Rollout,
    Search,
    Webhook,
)

Guarded = Node | Job | Attempt | Search | Grant | Rollout | NodeUpdate | GpuLadder | Box | Acceptance
Versioned = Guarded | Cron | CronRun | Webhook | Delivery


def fire(
    session: Session, machine: Machine, row: Guarded, event: StrEnum, now: float, **changes: Any
) -> None:
    """Advance `row` by `event` and write `changes` with it; StaleWrite when somebody wrote it since."""
    before, state = row.state, advance(machine, row.state, event)
    amend(session, machine.name, row, {**changes, "state": str(state), "state_at": now})
    data = {"from": str(before), "event": str(event)}
    shown = {name: changes[name] for name in ("outcome", "error", "reason") if changes.get(name)}
    events.append(session, f"{machine.name}.{state}", f"{machine.name}:{row.id}", data | shown, now)


def fire_all(
    session: Session,
    which: ColumnElement[bool],
    before: JobState,
    event: JobEvent,
    now: float,
    **changes: Any,
) -> int:
    """Advance all jobs that are in the state `before` and that `which` holds of, in one statement; returns how many.

    For those that nobody has loaded: rows in the session do not change.
    """
    session.flush()
    state = advance(JOB, before, event)
    moved = (
        update(Job)
        .where(Job.state == before, which)
        .values(**changes, state=str(state), state_at=now, generation=Job.generation + 1)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    ids = session.scalars(moved).all()
    data = {"from": str(before), "event": str(event)}
    for job_id in ids:
        events.append(session, f"job.{state}", f"job:{job_id}", data, now)
    return len(ids)


def amend(session: Session, noun: str, row: Versioned, changes: Mapping[str, Any]) -> None:
    """UPDATE … WHERE id AND generation: write `changes` unless the row has moved on since it was read."""
    table, generation = type(row), row.generation
    values = {**changes, "generation": generation + 1}
    session.flush()
    result = session.execute(
        update(table)
        .where(table.id == row.id, table.generation == generation)
        .values(values)
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[Any]", result).rowcount != 1:
        raise StaleWrite(noun, row.id, f"generation {generation} is no longer the newest")
    for name, value in values.items():
        set_committed_value(row, name, value)
