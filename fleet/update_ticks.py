"""One pass over the rollout of the version that is wanted: look → decide → write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy.orm import Session

from fleet import events, nodes, updates
from fleet.db import now as database_now
from fleet.errors import StaleWrite
from fleet.firing import fire
from fleet.lifecycle_updates import ROLLOUT, UPDATE, RolloutEvent, UpdateEvent
from fleet.models import NodeUpdate, Rollout
from fleet.settings import Timings
from fleet.updating import GiveUp, Offer, Pause, Promote, Step, plan

log = logging.getLogger(__name__)
OpenSession = Callable[[], AbstractContextManager[Session]]


def tick(
    read: OpenSession, write: OpenSession, timings: Timings, up_since: float, now: float | None = None
) -> int:
    """Do what is due; returns how many steps were written. Costs one small read while no version is wanted."""
    with read() as session:
        row = updates.current(session)
        if row is None:
            return 0
        at = database_now(session) if now is None else now
        steps = plan(updates.rollout_view(row), updates.node_views(session, row, at, timings, up_since), at)
        seen = row.generation
    if not steps:
        return 0
    try:
        with write() as session:
            found = updates.current(session)
            if found is None or found.id != row.id or found.generation != seen:
                return 0  # an operator was faster
            for step in steps:
                _apply(session, found, step, at)
    except StaleWrite as error:
        log.info("dropped the steps of a rollout: %s", error)
        return 0
    return len(steps)


def _apply(session: Session, row: Rollout, step: Step, now: float) -> None:
    match step:
        case Offer():
            _offer(session, row, step, now)
        case GiveUp():
            part = updates.parts(session, row.id)[step.node_id]
            fire(session, UPDATE, part, UpdateEvent.FAIL, now, error=step.error)
            nodes.redirect(session, step.node_id)
        case Pause():
            updates.set_paused(session, row, True, step.reason, now)
        case Promote():
            fire(session, ROLLOUT, row, RolloutEvent.PROMOTE, now)


def _offer(session: Session, row: Rollout, step: Offer, now: float) -> None:
    part = NodeUpdate(
        rollout_id=row.id,
        node_id=step.node_id,
        ring=step.ring,
        state=UPDATE.initial,
        state_at=now,
        offered_at=now,
    )
    session.add(part)
    session.flush()
    data = {"node": step.node_id, "version": row.version, "ring": step.ring}
    events.append(session, "update.offered", f"update:{part.id}", data, now)
    nodes.redirect(session, step.node_id)
