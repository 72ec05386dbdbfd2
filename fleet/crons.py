"""Crons: jobs that start by the clock. Adding, reading, pausing, removing, and running one now.

What becomes of due times is decided in fleet/cron_plan.py and written by fleet/cron_ticks.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet import events, firetimes, idempotency, jobs, permissions
from fleet.agents.protocol import PublicSpec
from fleet.baselines import Better, Watch
from fleet.cron_plan import CatchUp, Overlap
from fleet.cron_results import MAX_SERIES, NAME
from fleet.errors import AlreadyExists, InvalidSpec, InvalidTransition, NotFound, Rejected, StaleWrite
from fleet.firing import amend
from fleet.lifecycle import advance
from fleet.lifecycle_crons import CRON_RUN, RunEvent, RunState
from fleet.models import Cron, CronPoint, CronRun, Job
from fleet.principals import Principal
from fleet.wishes import Requirements

MOST = 1000  # crons of one tenant
LIVE = (RunState.WAITING, RunState.RUNNING)
_SPEC: TypeAdapter[Any] = TypeAdapter(PublicSpec)


# ---------------------------------------------------------------------------------------------- adding


def add(
    session: Session,
    *,
    name: str,
    schedule: str,
    timezone: str,
    job: Mapping[str, Any],
    principal: Principal,
    now: float,
    overlap: Overlap = Overlap.SKIP,
    catch_up: CatchUp = CatchUp.LAST,
    most_caught_up: int = 10,
    watch: Sequence[Watch] = (),
    paused: bool = False,
    idempotency_key: str | None = None,
) -> Cron:
    """A new cron. `job`: what each run submits, as fields of `jobs.submit`, the spec as JSON.

    InvalidSpec for what cannot be (also when a run could not be submitted now), AlreadyExists for a name in use.
    """
    permissions.require(principal, permissions.Permission.WORK)
    asked: dict[str, Any] = {
        "name": name,
        "schedule": schedule,
        "timezone": timezone,
        "job": dict(job),
        "overlap": str(overlap),
        "catch_up": str(catch_up),
        "most_caught_up": most_caught_up,
        "watch": [watched(each) for each in watch],
    }
    earlier = idempotency.earlier(session, principal, "cron", idempotency_key, asked)
    if earlier is not None:
        return get(session, earlier, principal.tenant)
    firetimes.check(schedule, timezone)
    _check_watch(watch)
    _check_room(session, name, principal.tenant)
    _try_job(session, job, principal, now)
    row = Cron(
        tenant=principal.tenant,
        decided_at=now,
        next_at=None if paused else firetimes.next_after(schedule, timezone, now),
        paused_at=now if paused else None,
        paused_by=str(principal) if paused else None,
        created_by=str(principal),
        created_at=now,
        **asked,
    )
    _insert(session, row)
    idempotency.remember(session, principal, "cron", idempotency_key, asked, row.id, now)
    about = {"name": name, "schedule": schedule, "timezone": timezone}
    events.append(session, "cron.added", f"cron:{row.id}", about, now)
    events.audit(session, principal, "cron.add", f"cron:{row.id}", about, now)
    return row


def watched(watch: Watch) -> dict[str, Any]:
    """A watched series as it is kept."""
    return {
        "name": watch.name,
        "better": str(watch.better),
        "tolerance": watch.tolerance,
        "window": watch.window,
        "least": watch.least,
    }


def watches(cron: Cron) -> Mapping[str, Watch]:
    """The series that a cron compares, by name."""
    found = (Watch(**{**each, "better": Better(each["better"])}) for each in cron.watch)
    return {each.name: each for each in found}


def _check_watch(watch: Sequence[Watch]) -> None:
    if len(watch) > MAX_SERIES or len({each.name for each in watch}) != len(watch):
        raise InvalidSpec("watch", f"name each series once, and at most {MAX_SERIES} of them")
    for place, each in enumerate(watch):
        if not NAME.fullmatch(each.name):
            raise InvalidSpec(f"watch[{place}].name", "use letters, digits, dots and dashes, at most 63")
        if each.least > each.window:
            raise InvalidSpec(f"watch[{place}].least", f"at most the window of {each.window} runs")


def _check_room(session: Session, name: str, tenant: str) -> None:
    live = (Cron.tenant == tenant) & Cron.removed_at.is_(None)
    if session.scalars(select(Cron.id).where(live, Cron.name == name)).first() is not None:
        raise AlreadyExists("cron", name, "choose another name, or remove that one first")
    if (session.scalar(select(func.count()).select_from(Cron).where(live)) or 0) >= MOST:
        raise InvalidSpec("name", f"the tenant has {MOST} crons already: remove one first")


def _insert(session: Session, row: Cron) -> None:
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:  # another request was faster
        raise AlreadyExists("cron", row.name, "choose another name, or remove that one first") from error


def _try_job(session: Session, job: Mapping[str, Any], principal: Principal, now: float) -> None:
    """Submit the job and take it back: what a run would be refused for is refused now."""
    trial = session.begin_nested()
    try:
        submit_job(session, job, principal, now)
    except InvalidSpec as error:
        raise InvalidSpec(f"job.{error.field}", error.problem) from error
    finally:
        trial.rollback()
        session.expire_all()


def submit_job(
    session: Session, job: Mapping[str, Any], principal: Principal, now: float, key: str | None = None
) -> Job:
    """What a run submits, in somebody's name."""
    asked = {name: value for name, value in job.items() if name != "spec"}
    if "requirements" in asked:
        asked["requirements"] = Requirements.model_validate(asked["requirements"])
    spec = _SPEC.validate_python(job["spec"])
    return jobs.submit(session, spec, principal=principal, now=now, idempotency_key=key, **asked)


# --------------------------------------------------------------------------------------------- reading


def get(session: Session, cron_id: int, tenant: str) -> Cron:
    """The tenant's cron, or NotFound: somebody else's is none, and a removed one neither."""
    row = session.get(Cron, cron_id)
    if row is None or row.tenant != tenant or row.removed_at is not None:
        raise NotFound("cron", cron_id)
    return row


def page(
    session: Session, tenant: str, name: str | None = None, after: int | None = None, limit: int = 50
) -> Sequence[Cron]:
    """A tenant's crons, newest first, with ids below the cursor `after`; or the one of a name."""
    query = select(Cron).where(Cron.tenant == tenant, Cron.removed_at.is_(None))
    if name is not None:
        query = query.where(Cron.name == name)
    if after is not None:
        query = query.where(Cron.id < after)
    return session.scalars(query.order_by(Cron.id.desc()).limit(limit)).all()


def runs(session: Session, cron_id: int, after: int | None = None, limit: int = 50) -> Sequence[CronRun]:
    """A cron's runs, newest first, with ids below the cursor `after`."""
    query = select(CronRun).where(CronRun.cron_id == cron_id)
    if after is not None:
        query = query.where(CronRun.id < after)
    return session.scalars(query.order_by(CronRun.id.desc()).limit(limit)).all()


def last_runs(session: Session, cron_ids: Sequence[int]) -> Mapping[int, CronRun]:
    """The newest run of each cron that had one."""
    newest = select(func.max(CronRun.id)).where(CronRun.cron_id.in_(cron_ids)).group_by(CronRun.cron_id)
    return {row.cron_id: row for row in session.scalars(select(CronRun).where(CronRun.id.in_(newest)))}


def live_runs(session: Session, cron_id: int) -> Sequence[CronRun]:
    """Those that wait or run, in the order of their times."""
    query = select(CronRun).where(CronRun.cron_id == cron_id, CronRun.state.in_(LIVE))
    return session.scalars(query.order_by(CronRun.scheduled_at, CronRun.id)).all()


def series(session: Session, cron_id: int, limit: int = 100) -> Mapping[str, Sequence[CronPoint]]:
    """The last `limit` points of each series of a cron, oldest first, by name; the first MAX_SERIES names."""
    names = select(CronPoint.name).where(CronPoint.cron_id == cron_id).distinct().order_by(CronPoint.name)
    found = {}
    for name in session.scalars(names.limit(MAX_SERIES)).all():
        query = select(CronPoint).where(CronPoint.cron_id == cron_id, CronPoint.name == name)
        points = session.scalars(query.order_by(CronPoint.run_id.desc()).limit(limit)).all()
        found[name] = tuple(reversed(points))
    return found


def good_before(session: Session, cron: Cron, name: str, run_id: int, window: int) -> list[float]:
    """The newest good values of a series before a run, oldest first, since its baseline was accepted anew."""
    of_series = (CronPoint.cron_id == cron.id) & (CronPoint.name == name) & CronPoint.good
    after = int(cron.accepted.get(name, 0))
    query = select(CronPoint.value).where(of_series, CronPoint.run_id < run_id, CronPoint.run_id > after)
    return list(reversed(session.scalars(query.order_by(CronPoint.run_id.desc()).limit(window)).all()))


# -------------------------------------------------------------------------------------------- changing


def change(
    session: Session,
    cron_id: int,
    principal: Principal,
    now: float,
    *,
    job: Mapping[str, Any] | None = None,
    watch: Sequence[Watch] | None = None,
    **fields: Any,
) -> Cron:
    """Change some of `schedule`, `timezone`, `overlap`, `catch_up`, `most_caught_up`, `job` and `watch`; None leaves
    a field as it is. Another schedule holds from now on; runs that are under way go on as they were. InvalidSpec."""
    row = _changing(session, cron_id, principal)
    changes: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if watch is not None:
        _check_watch(watch)
        changes["watch"] = [watched(each) for each in watch]
    if job is not None:
        _try_job(session, job, principal, now)
        changes["job"] = dict(job)
    row = get(
        session, cron_id, principal.tenant
    )  # the trial of the job has put the rows of this session aside
    if {"schedule", "timezone"} & changes.keys():
        changes |= _new_clock(row, changes, now)
    if changes:
        amend(session, "cron", row, changes)
        about = {"name": row.name, "fields": sorted(changes.keys() & _CHANGEABLE)}
        events.append(session, "cron.changed", f"cron:{row.id}", about, now)
        events.audit(session, principal, "cron.change", f"cron:{row.id}", about, now)
    return row


_CHANGEABLE = frozenset({"schedule", "timezone", "overlap", "catch_up", "most_caught_up", "job", "watch"})


def _new_clock(row: Cron, changes: Mapping[str, Any], now: float) -> dict[str, Any]:
    schedule, timezone = changes.get("schedule", row.schedule), changes.get("timezone", row.timezone)
    firetimes.check(schedule, timezone)
    next_at = None if row.paused_at is not None else firetimes.next_after(schedule, timezone, now)
    return {"decided_at": now, "next_at": next_at, "behind_since": None, "expected_by": None}


def pause(session: Session, cron_id: int, principal: Principal, now: float) -> Cron:
    """Start nothing more by the clock until it is resumed; what runs goes on. Again: no change."""
    row = _changing(session, cron_id, principal)
    if row.paused_at is None:
        _pause(session, row, str(principal), now)
        events.audit(session, principal, "cron.pause", f"cron:{row.id}", {}, now)
    return row


def _pause(session: Session, row: Cron, by: str, now: float) -> None:
    changes = {"paused_at": now, "paused_by": by, "next_at": None, "behind_since": None, "expected_by": None}
    amend(session, "cron", row, changes)
    events.append(session, "cron.paused", f"cron:{row.id}", {"name": row.name, "by": by}, now)


def resume(session: Session, cron_id: int, principal: Principal, now: float) -> Cron:
    """Go by the clock again, from now on: times while it was paused are not missed. Again: no change."""
    row = _changing(session, cron_id, principal)
    if row.paused_at is not None:
        next_at = firetimes.next_after(row.schedule, row.timezone, now)
        changes = {"paused_at": None, "paused_by": None, "decided_at": now, "next_at": next_at}
        amend(session, "cron", row, changes)
        events.append(session, "cron.resumed", f"cron:{row.id}", {"name": row.name}, now)
        events.audit(session, principal, "cron.resume", f"cron:{row.id}", {}, now)
    return row


def remove(session: Session, cron_id: int, principal: Principal, now: float) -> None:
    """Take the cron out; runs that wait or run are cancelled."""
    row = _changing(session, cron_id, principal)
    amend(
        session, "cron", row, {"removed_at": now, "next_at": None, "behind_since": None, "expected_by": None}
    )
    for run in live_runs(session, row.id):
        stop(session, run, now)
        fire(session, row, run, RunEvent.CANCEL, now, reason="the cron was removed", finished_at=now)
    events.append(session, "cron.removed", f"cron:{row.id}", {"name": row.name}, now)
    events.audit(session, principal, "cron.remove", f"cron:{row.id}", {"name": row.name}, now)


def run_now(
    session: Session, cron_id: int, principal: Principal, now: float, key: str | None = None
) -> CronRun:
    """A run at somebody's wish: it waits for its turn when another is under way. A paused cron can be run too."""
    row = _changing(session, cron_id, principal)
    asked = {"cron": cron_id}
    earlier = idempotency.earlier(session, principal, "cron run", key, asked)
    if earlier is not None:
        return session.get_one(CronRun, earlier)
    amend(session, "cron", row, {})  # one decision on a cron at a time
    run = insert_run(session, row, _free_time(session, row.id, now), now, by=str(principal))
    if len(live_runs(session, row.id)) == 1:
        start(session, row, run, now)
    idempotency.remember(session, principal, "cron run", key, asked, run.id, now)
    events.audit(session, principal, "cron.run", f"cron:{row.id}", {"run": run.id}, now)
    return run


def _free_time(session: Session, cron_id: int, at: float) -> float:
    """`at`, or the next thousandth of a second that no run of the cron has."""
    later = (CronRun.cron_id == cron_id) & (CronRun.scheduled_at >= at)
    taken = set(session.scalars(select(CronRun.scheduled_at).where(later)))
    while at in taken:
        at = round(at + 0.001, 3)
    return at


def accept(session: Session, cron_id: int, name: str, principal: Principal, now: float) -> Cron:
    """Say that what a series shows now is right: its baseline begins anew with the next run. NotFound."""
    row = _changing(session, cron_id, principal)
    of_series = (CronPoint.cron_id == row.id) & (CronPoint.name == name)
    newest = session.scalar(select(func.max(CronPoint.run_id)).where(of_series))
    if newest is None and name not in watches(row):
        raise NotFound("series", name)
    if newest is not None:
        # the newest number is the first of the new baseline
        session.get_one(CronPoint, (row.id, name, newest)).good = True
        amend(session, "cron", row, {"accepted": {**row.accepted, name: newest - 1}})
    events.audit(session, principal, "cron.accept", f"cron:{row.id}", {"series": name}, now)
    return row


def disown(session: Session, tenant: str, makers: set[str], now: float) -> int:
    """Pause every cron of people who were removed, and cancel its runs; returns how many crons."""
    theirs = (Cron.tenant == tenant) & Cron.created_by.in_(makers) & Cron.removed_at.is_(None)
    rows = session.scalars(select(Cron).where(theirs)).all()
    for row in rows:
        if row.paused_at is None:
            _pause(session, row, "the removal of its person", now)
        for run in live_runs(session, row.id):
            stop(session, run, now)
    return len(rows)


def _changing(session: Session, cron_id: int, principal: Principal) -> Cron:
    permissions.require(principal, permissions.Permission.WORK)
    return get(session, cron_id, principal.tenant)


# ------------------------------------------------------------------------------------------------ runs


def insert_run(
    session: Session, cron: Cron, scheduled_at: float, now: float, by: str | None = None, reason: str = ""
) -> CronRun:
    """A run's row, waiting; the database refuses a second one for the same time."""
    run = CronRun(
        cron_id=cron.id,
        scheduled_at=scheduled_at,
        by=by,
        state=CRON_RUN.initial,
        state_at=now,
        reason=reason,
        created_at=now,
    )
    session.add(run)
    session.flush()
    return run


def start(session: Session, cron: Cron, run: CronRun, now: float) -> None:
    """Submit the run's job, in the name of the cron. A job that is refused is a run that failed."""
    by = Principal("cron", cron.id, cron.name, cron.tenant, "user")
    try:
        with session.begin_nested():
            named = {"name": cron.name, **{key: each for key, each in cron.job.items() if each is not None}}
            job = submit_job(session, named, by, now)
    except Rejected as error:
        if isinstance(error, StaleWrite):
            raise
        # it has not stopped in silence: that is said here, and not once more after a period
        amend(session, "cron", cron, {"behind_since": None, "expected_by": None})
        failed(session, cron, run, f"the job was refused: {error}", now)
        return
    fire(session, cron, run, RunEvent.START, now, job_id=job.id, started_at=now, reason="")


def failed(session: Session, cron: Cron, run: CronRun, error: str, now: float) -> None:
    """The run failed, and the cron with it."""
    amend(
        session,
        "cron",
        cron,
        {"failures": cron.failures + 1, "health": "failing", "health_reason": error[:500]},
    )
    more = {"in_a_row": cron.failures}
    fire(session, cron, run, RunEvent.FAIL, now, more, error=error[:2000], finished_at=now)


def stop(session: Session, run: CronRun, now: float) -> None:
    """Cancel the job of a run, if it has one that can still be."""
    job = session.get(Job, run.job_id) if run.job_id is not None else None
    if job is not None:
        try:
            with session.begin_nested():
                jobs.stop(session, job, now)
        except InvalidTransition:
            session.expire(job)  # it has ended, or is being cancelled


def fire(
    session: Session,
    cron: Cron,
    run: CronRun,
    event: RunEvent,
    now: float,
    about: Mapping[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Advance a run and write `changes`, with its event; StaleWrite when somebody wrote it since."""
    state = advance(CRON_RUN, run.state, event)
    amend(session, "cron run", run, {**changes, "state": str(state), "state_at": now})
    shown = {name: changes[name] for name in ("error", "reason", "job_id") if changes.get(name)}
    data = {"name": cron.name, "run": run.id, "scheduled_at": run.scheduled_at, **shown, **(about or {})}
    kind = "started" if state is RunState.RUNNING else str(state)
    events.append(session, f"cron.{kind}", f"cron:{cron.id}", data, now)
