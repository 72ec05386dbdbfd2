"""One tick of the controllers: snapshot → plan → apply, each action guarded by the generation it was decided on.

An action whose row has moved on is dropped: somebody was faster, and the next tick sees the truth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from fleet import (
    arrays,
    artifacts,
    confirmations,
    db,
    dependencies,
    events,
    gpu_ticks,
    jobs,
    leases,
    nodes,
    rounds,
    settling,
    snapshot,
)
from fleet.blobs import Blobs
from fleet.errors import InvalidTransition, StaleWrite
from fleet.firing import amend
from fleet.lifecycle import JobEvent, JobState, NodeEvent, NodeState
from fleet.models import Job, Node
from fleet.order import Overdue
from fleet.placement import Delay, Preemption
from fleet.plan import Contacted, Empty, EndAttempt, Plan, plan
from fleet.settings import Timings

log = logging.getLogger(__name__)
PASSES = 4  # what one pass writes may call for another at once: a round's jobs want placing
BATCH = 64  # actions in one transaction
Action = Callable[[Session], object]


@dataclass(frozen=True)
class TickResult:
    """What a tick did: the nodes whose agents have not applied their newest desired set, and a count."""

    hints: frozenset[int]
    applied: int = 0
    dropped: int = 0


def tick(
    sessions: sessionmaker[Session],
    blobs: Blobs,
    now: float | None = None,
    timings: Timings | None = None,
    up_since: float = 0.0,
    check: Action | None = None,
) -> TickResult:
    """Look and act until nothing is left to do, a few times at most. `now`: the database's clock unless given.

    `up_since`: when this control plane started, by that clock; no silence counts from earlier. `check` is called in each
    transaction before anything is written: the StaleWrite of one that no longer decides ends the tick.
    """
    timings = timings or Timings()
    applied = dropped = 0
    for _ in range(PASSES):
        at, decided = _look(sessions, blobs, now, timings, up_since)
        actions = list(_actions(decided, blobs, at))
        done = _apply(sessions, actions, check)
        applied, dropped = applied + done, dropped + len(actions) - done
        if not decided.frees_or_makes_work:
            break
    return TickResult(behind(sessions), applied, dropped)


def _look(
    sessions: sessionmaker[Session], blobs: Blobs, now: float | None, timings: Timings, up_since: float
) -> tuple[float, Plan]:
    with db.reading(sessions) as reader:
        at = db.now(reader) if now is None else now
        seen = snapshot.load(reader, blobs, at, timings, up_since, sparing=True)
    return at, plan(seen, at)


def _apply(sessions: sessionmaker[Session], actions: list[Action], check: Action | None) -> int:
    starts = range(0, len(actions), BATCH)
    return sum(_write(sessions, actions[start : start + BATCH], check) for start in starts)


def _write(sessions: sessionmaker[Session], actions: list[Action], check: Action | None) -> int:
    """Write a batch in one transaction; returns how many were not dropped."""
    done = 0
    with sessions.begin() as session:
        if check is not None:
            check(session)
        for action in actions:
            try:
                with session.begin_nested():
                    action(session)
                done += 1
            except (StaleWrite, InvalidTransition) as error:
                log.info("dropped an action: %s", error)
                session.expire_all()  # what the undone action wrote is still in the loaded rows
            except Exception:  # one row that cannot be must not stop the fleet
                log.exception("an action failed; the others go on")
                session.expire_all()
    return done


def _actions(decided: Plan, blobs: Blobs, now: float) -> Iterator[Action]:
    yield from (partial(_end, end=each, now=now) for each in decided.ends)
    yield from (partial(_empty, empty=each, now=now) for each in decided.emptied)
    yield from (partial(_contact, contacted=each, now=now) for each in decided.contacts)
    for each in decided.steps:
        yield partial(rounds.apply, step=each, kept=artifacts.keep(blobs, each), now=now)
    yield from (partial(confirmations.apply, step=each, now=now) for each in decided.confirmations)
    yield from (partial(dependencies.apply, unblock=each, now=now) for each in decided.unblocked)
    yield from (partial(arrays.apply, make=each, now=now) for each in decided.made)
    yield from (partial(arrays.drop, drop=each, now=now) for each in decided.dropped)
    yield from (partial(_give_up, late=each, now=now) for each in decided.overdue)
    yield from (partial(_preempt, preemption=each, now=now) for each in decided.preemptions)
    yield from (partial(leases.grant, placement=each, now=now) for each in decided.placements)
    yield from (partial(_delay, delay=each) for each in decided.delays)


def _end(session: Session, end: EndAttempt, now: float) -> None:
    attempt = leases.get(session, end.attempt_id)
    if attempt.generation != end.generation:
        raise StaleWrite("attempt", attempt.id, "it changed after it was looked at")
    leases.end(session, attempt, leases.Ending(end.outcome, end.error), now)


def _empty(session: Session, empty: Empty, now: float) -> None:
    node = nodes.get(session, empty.node_id)
    if node.state == NodeState.DRAINING and not leases.held(session, node.id):
        nodes.fire(session, node, NodeEvent.EMPTY, now)


def _contact(session: Session, contacted: Contacted, now: float) -> None:
    node = nodes.get(session, contacted.node_id)
    data = {"before": node.contact}
    node.contact = contacted.contact
    events.append(session, f"node.{contacted.contact}", f"node:{node.id}", data, now)
    if contacted.contact == nodes.Contact.UNREACHABLE:
        gpu_ticks.note_flap(session, node.id, now)


def _preempt(session: Session, preemption: Preemption, now: float) -> None:
    settling.preempt(session, _current(session, preemption), preemption.why, now)


def _give_up(session: Session, late: Overdue, now: float) -> None:
    job = _current(session, late)
    error = f"it waited for longer than its queue timeout of {late.queue_timeout_s:.0f} s: {job.reason}"
    jobs.fire(session, job, JobEvent.FAIL, now, finished_at=now, error=error, reason="")


def _current(session: Session, decided: Preemption | Overdue) -> Job:
    job = jobs.get(session, decided.job_id)
    if job.generation != decided.generation:
        raise StaleWrite("job", job.id, "it changed after it was looked at")
    return job


def _delay(session: Session, delay: Delay) -> None:
    job = jobs.get(session, delay.job_id)
    if job.generation != delay.generation or job.state != JobState.QUEUED:
        raise StaleWrite("job", job.id, "it changed after it was looked at")
    told = {} if delay.expected_at is None else {"expected_at": delay.expected_at}
    amend(session, "job", job, {"reason": delay.reason, "planned": list(delay.nodes) or None, **told})


def behind(sessions: sessionmaker[Session]) -> frozenset[int]:
    """The nodes whose agents have not applied their newest desired set."""
    with db.reading(sessions) as reader:
        late = Node.applied_generation < Node.desired_generation
        return frozenset(reader.scalars(select(Node.id).where(late, Node.state != NodeState.RETIRED)))
