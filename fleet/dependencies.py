"""Jobs that wait for others: noted at submission, looked at when what they wait for has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from fleet.blocking import Blocked, Needed, Unblock
from fleet.errors import InvalidSpec, StaleWrite
from fleet.firing import fire
from fleet.lifecycle import JOB, JobEvent, JobState
from fleet.models import Dependency, Job
from fleet.scheduling_rows import After

AT_ONCE = 512
_FINAL = [str(state) for state in JOB.final]


def check(session: Session, after: Mapping[str, Sequence[int]], tenant: str) -> None:
    """InvalidSpec for a job that there is not, and for a success that can no longer be."""
    for kind, job_ids in after.items():
        states = dict(
            session.execute(select(Job.id, Job.state).where(Job.id.in_(job_ids), Job.tenant == tenant)).all()
        )
        for job_id in job_ids:
            if job_id not in states:
                raise InvalidSpec(kind, f"there is no job {job_id}")
            if kind == After.OK and states[job_id] in (JobState.FAILED, JobState.CANCELLED):
                raise InvalidSpec(
                    kind, f"job {job_id} is {states[job_id]}: wait for another, or by after_any"
                )


def block(session: Session, job: Job, after: Mapping[str, Sequence[int]], now: float) -> None:
    """Have a job that has just been queued wait for others. One that is named twice counts by its strictest wish."""
    wanted: dict[int, str] = {}
    for kind in (After.STARTED, After.ANY, After.OK):
        wanted |= dict.fromkeys(after.get(kind, ()), str(kind))
    if not wanted:
        return
    session.add_all(Dependency(job_id=job.id, on_job_id=each, kind=kind) for each, kind in wanted.items())
    shown = ", ".join(str(each) for each in sorted(wanted)[:8]) + ("…" if len(wanted) > 8 else "")
    fire(session, JOB, job, JobEvent.BLOCK, now, reason=f"waits for job {shown}")


def ready(session: Session) -> tuple[Blocked, ...]:
    """Blocked jobs for which all has come to be, or something never will."""
    found = session.execute(_READY).all()
    needs = _needs(session, [job_id for job_id, _ in found]) if found else {}
    return tuple(Blocked(job_id, generation, tuple(needs[job_id])) for job_id, generation in found)


def _ready() -> Select[int, int]:
    other = aliased(Job)
    of_mine = and_(Dependency.job_id == Job.id, other.id == Dependency.on_job_id)
    ended = other.state.in_(_FINAL)
    met = or_(
        and_(Dependency.kind == After.OK, other.state == JobState.SUCCEEDED),
        and_(Dependency.kind != After.OK, ended),
        and_(Dependency.kind == After.STARTED, other.started_at.is_not(None)),
    )
    open_needs = exists().where(of_mine, ~met)
    broken = exists().where(of_mine, Dependency.kind == After.OK, ended, other.state != JobState.SUCCEEDED)
    return (
        select(Job.id, Job.generation)
        .where(Job.state == JobState.BLOCKED, or_(~open_needs, broken))
        .order_by(Job.id)
        .limit(AT_ONCE)
    )


_READY = _ready()  # put together once: it is asked at every look


def _needs(session: Session, job_ids: Sequence[int]) -> Mapping[int, list[Needed]]:
    found: dict[int, list[Needed]] = defaultdict(list)
    query = (
        select(Dependency.job_id, Job.id, Dependency.kind, Job.state, Job.started_at)
        .join(Job, Job.id == Dependency.on_job_id)
        .where(Dependency.job_id.in_(job_ids))
        .order_by(Job.id)
    )
    for job_id, on_job_id, kind, state, started_at in session.execute(query):
        found[job_id].append(Needed(on_job_id, kind, state, started_at is not None))
    return found


def apply(session: Session, unblock: Unblock, now: float) -> None:
    """Queue the job, or let it fail; StaleWrite when it has changed meanwhile."""
    job = session.get_one(Job, unblock.job_id)
    if job.generation != unblock.generation or job.state != JobState.BLOCKED:
        raise StaleWrite("job", job.id, "it changed after it was looked at")
    if unblock.error:
        fire(session, JOB, job, JobEvent.FAIL, now, finished_at=now, error=unblock.error, reason="")
    else:
        fire(session, JOB, job, JobEvent.UNBLOCK, now, reason="")
