"""Jobs and arrays that wait for others: noted at submission, looked at when what they wait for has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Select, and_, case, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from fleet.blocking import Blocked, Needed, Unblock
from fleet.errors import InvalidSpec, StaleWrite
from fleet.firing import fire
from fleet.lifecycle import JOB, JobEvent, JobState
from fleet.models import Dependency, Job, JobArray
from fleet.scheduling_rows import After, ArrayDependency

AT_ONCE = 512
_FINAL = [str(state) for state in JOB.final]
# What is wanted of arrays, as a request names it: all of its jobs have succeeded; or have ended, somehow.
OF_ARRAYS = {"after_ok_arrays": After.OK, "after_any_arrays": After.ANY}


def check(session: Session, after: Mapping[str, Sequence[int]], tenant: str) -> None:
    """InvalidSpec for a job that there is not, and for a success that can no longer be."""
    for kind, ids in after.items():
        noun, anyhow = ("array", "after_any_arrays") if kind in OF_ARRAYS else ("job", "after_any")
        states = _array_states(session, ids, tenant) if noun == "array" else _job_states(session, ids, tenant)
        for each in ids:
            if each not in states:
                raise InvalidSpec(kind, f"there is no {noun} {each}")
            ok = OF_ARRAYS.get(kind, kind) == After.OK
            if ok and states[each] in (JobState.FAILED, JobState.CANCELLED):
                raise InvalidSpec(kind, f"{noun} {each} is {states[each]}: wait for another, or by {anyhow}")


def _job_states(session: Session, ids: Sequence[int], tenant: str) -> Mapping[int, str]:
    query = select(Job.id, Job.state).where(Job.id.in_(ids), Job.tenant == tenant)
    return dict(session.execute(query).all())


def _array_states(session: Session, ids: Sequence[int], tenant: str | None = None) -> Mapping[int, str]:
    """Arrays as if each were a job: succeeded when the job of each index has, or one that was retried for it."""
    query = select(JobArray).where(JobArray.id.in_(ids))
    rows = session.scalars(query if tenant is None else query.where(JobArray.tenant == tenant)).all()
    won = func.count(case((Job.state == JobState.SUCCEEDED, Job.array_index)).distinct())
    live = func.count(case((Job.state.not_in(_FINAL), Job.id)))
    of_these = select(Job.array_id, won, live).where(Job.array_id.in_([row.id for row in rows]))
    counted = {each[0]: each[1:] for each in session.execute(of_these.group_by(Job.array_id))}
    return {row.id: _array_state(row, *counted.get(row.id, (0, 0))) for row in rows}


def _array_state(row: JobArray, succeeded: int, live: int) -> str:
    if live or (row.cancelled_at is None and row.made < row.size):
        return str(JobState.RUNNING)
    if succeeded == row.size:
        return str(JobState.SUCCEEDED)
    return str(JobState.FAILED if row.cancelled_at is None or row.error else JobState.CANCELLED)


def block(session: Session, job: Job, after: Mapping[str, Sequence[int]], now: float) -> None:
    """Have a job that has just been queued wait for others. One that is named twice counts by its strictest wish."""
    wanted: dict[int, str] = {}
    for kind in (After.STARTED, After.ANY, After.OK):
        wanted |= dict.fromkeys(after.get(kind, ()), str(kind))
    arrays: dict[int, str] = {}
    for name in ("after_any_arrays", "after_ok_arrays"):
        arrays |= dict.fromkeys(after.get(name, ()), str(OF_ARRAYS[name]))
    if not wanted and not arrays:
        return
    session.add_all(Dependency(job_id=job.id, on_job_id=each, kind=kind) for each, kind in wanted.items())
    session.add_all(
        ArrayDependency(job_id=job.id, on_array_id=each, kind=kind) for each, kind in arrays.items()
    )
    shown = [f"{noun} {_shown(ids)}" for noun, ids in (("job", wanted), ("array", arrays)) if ids]
    fire(session, JOB, job, JobEvent.BLOCK, now, reason=f"waits for {' and '.join(shown)}")


def _shown(ids: Iterable[int]) -> str:
    first = sorted(ids)
    return ", ".join(str(each) for each in first[:8]) + ("…" if len(first) > 8 else "")


def of_array(session: Session, waits_for: Mapping[str, Sequence[int]] | None) -> tuple[Needed, ...]:
    """What an array waits for, and how it stands."""
    found: list[Needed] = []
    for name, ids in (waits_for or {}).items():
        if name in OF_ARRAYS:
            states = _array_states(session, ids)
            found += [Needed(each, str(OF_ARRAYS[name]), states[each], True, "array") for each in states]
        else:
            query = select(Job.id, Job.state, Job.started_at).where(Job.id.in_(ids))
            rows = session.execute(query).all()
            found += [Needed(each, name, state, started is not None) for each, state, started in rows]
    return tuple(found)


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
    unmade = (JobArray.made < JobArray.size) & JobArray.cancelled_at.is_(None)
    live = exists().where(other.array_id == JobArray.id, other.state.not_in(_FINAL))
    its_array = and_(ArrayDependency.job_id == Job.id, JobArray.id == ArrayDependency.on_array_id)
    open_arrays = exists().where(its_array, or_(unmade, live))
    broken = exists().where(of_mine, Dependency.kind == After.OK, ended, other.state != JobState.SUCCEEDED)
    return (
        select(Job.id, Job.generation)
        .where(Job.state == JobState.BLOCKED, or_(~open_needs & ~open_arrays, broken))
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
    arrays = session.execute(
        select(ArrayDependency.job_id, ArrayDependency.on_array_id, ArrayDependency.kind)
        .where(ArrayDependency.job_id.in_(job_ids))
        .order_by(ArrayDependency.on_array_id)
    ).all()
    states = _array_states(session, [on_array_id for _, on_array_id, _ in arrays]) if arrays else {}
    for job_id, on_array_id, kind in arrays:
        found[job_id].append(Needed(on_array_id, kind, states[on_array_id], True, "array"))
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
