"""What the end of an attempt means for its job: done, failed, tried again, or (in a gang) the end of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import events, jobs, run_times
from fleet.agents.protocol import RETRIED, Energy, Outcome
from fleet.lifecycle import AttemptState, JobEvent, JobState
from fleet.models import Attempt, Job

POISON = 3  # attempts that took their node or device down; then it is not tried again, whatever its retries
LONGEST_BACKOFF_S = 600.0
_FIRST_BACKOFF_S = 10.0
_KILLING = (Outcome.NODE_LOST, Outcome.DEVICE_WEDGED)


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as its agent said or as the control plane concluded."""

    outcome: Outcome
    error: str = ""
    elapsed_s: float = 0.0
    result: Mapping[str, Any] | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)
    energy: Energy | None = None


# ------------------------------------------------------------------------------------------------ settle


def settle(session: Session, job: Job, attempt: Attempt, ending: Ending, now: float) -> None:
    """Advance a job whose attempt has just ended."""
    left = live(session, job.id)
    if left:
        _break(session, job, attempt, ending, left, now)
        return
    event, changes = _settled(session, job, attempt, ending, now)
    if event is not JobEvent.RETRY:
        changes["finished_at"] = now
    if event is JobEvent.SUCCEED:
        run_times.learn(session, run_times.of(job), _ran_s(attempt, ending, now))
    changes.setdefault("started_at", job.started_at or attempt.started_at)
    jobs.fire(session, job, event, now, settling=None, **changes)


def _ran_s(attempt: Attempt, ending: Ending, now: float) -> float:
    return ending.elapsed_s or now - (attempt.started_at or attempt.created_at)


def live(session: Session, job_id: int) -> Sequence[Attempt]:
    """The job's attempts that have not ended."""
    query = select(Attempt).where(Attempt.job_id == job_id, Attempt.state != AttemptState.ENDED)
    return session.scalars(query.order_by(Attempt.rank)).all()


def _break(
    session: Session, job: Job, attempt: Attempt, ending: Ending, left: Sequence[Attempt], now: float
) -> None:
    """One rank of several has ended. When it failed, the gang has: the others are stopped."""
    if job.state not in (JobState.LEASED, JobState.RUNNING) or ending.outcome is Outcome.SUCCEEDED:
        return
    event, changes = _settled(session, job, attempt, ending, now)
    if ending.error:
        changes["error" if event is JobEvent.FAIL else "reason"] = f"rank {attempt.rank}: {ending.error}"
    jobs.fire(
        session,
        job,
        JobEvent.BREAK,
        now,
        settling={"event": str(event), "changes": changes},
        reason=f"rank {attempt.rank} ended as {ending.outcome}; the others are being stopped",
    )
    jobs.redirect(session, left)


def _settled(
    session: Session, job: Job, attempt: Attempt, ending: Ending, now: float
) -> tuple[JobEvent, dict[str, Any]]:
    if job.state == JobState.CANCELLING:
        return JobEvent.STOP, {"outcome": str(Outcome.CANCELLED)}
    if job.state == JobState.STOPPING:
        known = job.settling or {"event": "fail", "changes": findings(ending)}
        return JobEvent(known["event"]), {"reason": "", **known["changes"]}
    if job.state == JobState.PREEMPTING and (ending.outcome is not Outcome.SUCCEEDED or job.ranks > 1):
        return JobEvent.RETRY, {"preempted": job.preempted + 1, "reason": f"it was stopped: {job.reason}"}
    if ending.outcome is Outcome.SUCCEEDED:
        return JobEvent.SUCCEED, findings(_of_first(session, job, attempt, ending))
    return _failed(session, job, ending, now)


def _of_first(session: Session, job: Job, attempt: Attempt, ending: Ending) -> Ending:
    """A gang's result is rank 0's."""
    if attempt.rank == 0:
        return ending
    query = select(Attempt).where(
        Attempt.job_id == job.id, Attempt.number == attempt.number, Attempt.rank == 0
    )
    first = session.scalars(query).one()
    return Ending(Outcome.SUCCEEDED, first.error, first.elapsed_s, first.result, first.artifacts)


def _failed(session: Session, job: Job, ending: Ending, now: float) -> tuple[JobEvent, dict[str, Any]]:
    if not _retried(job, ending):
        return JobEvent.FAIL, findings(ending)
    killed = _killed(session, job.id) if ending.outcome in _KILLING else 0
    if killed >= POISON:
        error = (
            f"it is not tried again: {killed} attempts at it took their node or device down; {ending.error}"
        )
        return JobEvent.FAIL, findings(Ending(ending.outcome, error))
    why = f"retrying after {ending.outcome}: {ending.error}"
    not_before = now + backoff_s(ending.outcome, job.retries)
    return JobEvent.RETRY, {"retries": job.retries + 1, "reason": why, "not_before": not_before}


def _retried(job: Job, ending: Ending) -> bool:
    if job.retries >= job.max_retries:
        return False
    if ending.outcome is Outcome.CANCELLED:
        return True  # an agent that cancelled what nobody asked it to cancel is an infrastructure failure
    after = RETRIED if job.retry_on is None else {Outcome(each) for each in job.retry_on}
    return ending.outcome in after


def backoff_s(outcome: Outcome, retries: int) -> float:
    """How long a job waits before it is tried again: not at all at first where the fault was the infrastructure's,
    for it goes elsewhere; else ten seconds, and each time twice as long."""
    if outcome not in (Outcome.FAILED, Outcome.TIMED_OUT) and retries == 0:
        return 0.0
    return float(min(LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2**retries))


def _killed(session: Session, job_id: int) -> int:
    """How many tries at the job took a node or a device down."""
    numbers = select(func.count(Attempt.number.distinct())).where(
        Attempt.job_id == job_id, Attempt.outcome.in_([str(each) for each in _KILLING])
    )
    return session.scalar(numbers) or 0


# ------------------------------------------------------------------------------------------- preemption


def preempt(session: Session, job: Job, why: str, now: float) -> None:
    """Have a running job make way; it is queued again when its nodes have stopped it."""
    jobs.fire(session, job, JobEvent.PREEMPT, now, reason=why)
    jobs.redirect(session, live(session, job.id))
    events.append(session, "job.preempted", f"job:{job.id}", {"why": why}, now)


def findings(ending: Ending) -> dict[str, Any]:
    """How a job ended, as its columns."""
    return {
        "outcome": str(ending.outcome),
        "error": ending.error,
        "result": dict(ending.result) if ending.result is not None else None,
        "artifacts": dict(ending.artifacts),
    }
