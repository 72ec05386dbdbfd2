"""One pass over the crons that have something to do: look → decide → write, each cron in a transaction of its own.

A cron's row is written first, guarded by the generation that was looked at: of two control planes that decide the same
cron at once one is dropped, and the database has one run at most for a cron and a due time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from fleet import cron_results, crons, db, events, firetimes
from fleet.baselines import Verdict, judge
from fleet.blobs import Blobs
from fleet.cron_plan import (
    Beginning,
    CatchUp,
    CronView,
    Decision,
    How,
    Overlap,
    RunView,
    decide,
    is_stalled,
)
from fleet.cron_results import Numbers
from fleet.errors import FleetError, InvalidTransition, StaleWrite
from fleet.firing import amend
from fleet.lifecycle import JobState
from fleet.lifecycle_crons import RunEvent
from fleet.models import Blob, Cron, CronPoint, CronRun, Job

log = logging.getLogger(__name__)
AT_ONCE = 200  # crons in one pass; the others have their turn in the next
LEAST_REMEMBERED = 20  # due times that get a row when the control plane was away for long
ON_TIME_S = 60.0  # so late a run is still on time: crons go by the minute


@dataclass(frozen=True)
class Seen:
    """A cron that was looked at, and what the runs that have just succeeded declare."""

    cron: Cron
    view: CronView
    jobs: Mapping[int, Job]  # by run
    numbers: Mapping[int, Numbers] = field(default_factory=dict)  # by run


def tick(sessions: sessionmaker[Session], blobs: Blobs, now: float | None = None) -> int:
    """Do what is due; returns how many crons were written. `now`: the database's clock unless given."""
    with db.reading(sessions) as reader:
        at = db.now(reader) if now is None else now
        busy = _look(reader, at)
    found = [_with_numbers(each, blobs) for each in busy]
    return sum(_write(sessions, each, at) for each in found)


# -------------------------------------------------------------------------------------------- looking


def _look(session: Session, now: float) -> list[Seen]:
    live = select(CronRun.cron_id).where(CronRun.state.in_(crons.LIVE))
    wanted = or_(Cron.next_at <= now, Cron.id.in_(live), Cron.behind_since.is_not(None))
    query = select(Cron).where(Cron.removed_at.is_(None), wanted)
    rows = session.scalars(query.order_by(Cron.decided_at, Cron.id).limit(AT_ONCE)).all()
    return [_seen(session, row, now) for row in rows]


def _seen(session: Session, cron: Cron, now: float) -> Seen:
    live = crons.live_runs(session, cron.id)
    jobs = {run.id: job for run in live if run.job_id and (job := session.get(Job, run.job_id))}
    view = CronView(
        overlap=Overlap(cron.overlap),
        catch_up=CatchUp(cron.catch_up),
        most_caught_up=cron.most_caught_up,
        due=_due(cron, now),
        live=tuple(_run_view(run, jobs.get(run.id)) for run in live),
        on_time_s=ON_TIME_S,
    )
    sizes = {}
    for run_id, job in jobs.items():
        address = job.artifacts.get(cron_results.ARTIFACT)
        blob = session.get(Blob, address) if address else None
        sizes[run_id] = Numbers() if blob is None else _size_of(blob)
    return Seen(cron, view, jobs, sizes)


def _size_of(blob: Blob) -> Numbers:
    """A file that is too large is not even read."""
    if blob.size > cron_results.MAX_BYTES:
        return cron_results.of_document(bytes(cron_results.MAX_BYTES + 1))
    return Numbers()


def _due(cron: Cron, now: float) -> tuple[float, ...]:
    if cron.next_at is None or cron.next_at > now:
        return ()
    most = max(LEAST_REMEMBERED, cron.most_caught_up) + 1
    return firetimes.due(cron.schedule, cron.timezone, cron.decided_at, now, most)


def _run_view(run: CronRun, job: Job | None) -> RunView:
    state = None if job is None else job.state
    return RunView(run.id, run.scheduled_at, run.state, state, job is not None and job.started_at is not None)


def _with_numbers(seen: Seen, blobs: Blobs) -> Seen:
    """Files are read here: outside every transaction."""
    done = {run_id: job for run_id, job in seen.jobs.items() if job.state == JobState.SUCCEEDED}
    return Seen(
        seen.cron,
        seen.view,
        seen.jobs,
        {run_id: _numbers(job, blobs, seen.numbers[run_id]) for run_id, job in done.items()},
    )


def _numbers(job: Job, blobs: Blobs, known: Numbers) -> Numbers:
    address = job.artifacts.get(cron_results.ARTIFACT)
    if known.problem or address is None:
        return known if known.problem else cron_results.of_result(job.result)
    try:
        return cron_results.of_document(blobs.get(address))
    except FleetError as error:
        return Numbers(problem=f"{cron_results.ARTIFACT} cannot be read: {error}")


# -------------------------------------------------------------------------------------------- writing


def _write(sessions: sessionmaker[Session], seen: Seen, now: float) -> bool:
    """Write what is decided on one cron; False when there was nothing, or somebody was faster."""
    decision = decide(seen.view, now)
    if decision == Decision() and not _news(seen, now):
        return False
    try:
        with db.writing(sessions) as session:
            _apply(session, seen, decision, now)
    except (StaleWrite, InvalidTransition, IntegrityError) as error:
        log.info("dropped a decision on cron %s: %s", seen.cron.id, error)
        return False
    except Exception:  # one cron that cannot be must not stop the others
        log.exception("cron %s failed; the others go on", seen.cron.id)
        return False
    return True


def _news(seen: Seen, now: float) -> bool:
    """Something to write although no run changes: it began again, or has not for a period."""
    cron = seen.cron
    if cron.behind_since is None:
        return False
    stalls = is_stalled(cron.behind_since, cron.expected_by, now) and cron.health != "stalled"
    return stalls or _has_begun(seen.view.live, cron.behind_since)


def _has_begun(live: Sequence[RunView], since: float) -> bool:
    return any((run.begun or run.over) and run.scheduled_at >= since for run in live)


def _apply(session: Session, seen: Seen, decision: Decision, now: float) -> None:
    cron = session.get_one(Cron, seen.cron.id)
    if cron.generation != seen.cron.generation:
        raise StaleWrite("cron", cron.id, "it changed after it was looked at")
    amend(session, "cron", cron, _clock(seen, now))
    runs = {run.id: run for run in crons.live_runs(session, cron.id)}
    for run_id in decision.ended:
        _end(session, cron, runs[run_id], seen, now)
    for run_id in decision.superseded:
        reason = "a later run has replaced it"
        crons.fire(session, cron, runs[run_id], RunEvent.SKIP, now, reason=reason, finished_at=now)
    for run_id in decision.stopped:
        crons.stop(session, runs[run_id], now)
    for beginning in decision.beginnings:
        _begin(session, cron, beginning, now)
    if decision.promoted is not None:
        crons.start(session, cron, runs[decision.promoted], now)
    _alarm(session, cron, seen, now)


def _clock(seen: Seen, now: float) -> dict[str, object]:
    """Where the cron stands after this decision: decided up to its newest due time, behind since its first."""
    cron, due = seen.cron, seen.view.due
    changes: dict[str, object] = {}
    since = cron.behind_since
    if since is not None and _has_begun(seen.view.live, since):
        since = None
    if due:
        changes |= {
            "decided_at": due[-1],
            "next_at": firetimes.next_after(cron.schedule, cron.timezone, due[-1]),
        }
        since = due[0] if since is None else since
    if since != cron.behind_since:
        expected = None if since is None else firetimes.next_after(cron.schedule, cron.timezone, since)
        changes |= {"behind_since": since, "expected_by": expected}
    return changes


def _begin(session: Session, cron: Cron, beginning: Beginning, now: float) -> None:
    run = crons.insert_run(session, cron, beginning.scheduled_at, now, reason=beginning.reason)
    match beginning.how:
        case How.START:
            crons.start(session, cron, run, now)
        case How.SKIP:
            crons.fire(session, cron, run, RunEvent.SKIP, now, reason=beginning.reason, finished_at=now)
        case How.MISS:
            crons.fire(session, cron, run, RunEvent.MISS, now, reason=beginning.reason, finished_at=now)


def _end(session: Session, cron: Cron, run: CronRun, seen: Seen, now: float) -> None:
    job = seen.jobs.get(run.id)
    if job is None:
        crons.failed(session, cron, run, f"its job {run.job_id} is gone", now)
    elif job.state == JobState.SUCCEEDED:
        _succeeded(session, cron, run, job, seen.numbers.get(run.id, Numbers()), now)
    elif job.state == JobState.CANCELLED:
        crons.fire(session, cron, run, RunEvent.CANCEL, now, finished_at=now, job_id=job.id)
    else:
        crons.failed(session, cron, run, f"job {job.id} {job.outcome or job.state}: {job.error}".strip(), now)


def _succeeded(session: Session, cron: Cron, run: CronRun, job: Job, numbers: Numbers, now: float) -> None:
    missing = [name for name in crons.watches(cron) if name not in numbers.values]
    problem = numbers.problem or (f"it declares no {', '.join(missing)}, which is watched" if missing else "")
    worse = _keep(session, cron, run, numbers, now)
    was = cron.health
    changes = {"failures": 0, "health": "ok", "health_reason": "", "last_success_at": now}
    amend(session, "cron", cron, changes)
    crons.fire(
        session,
        cron,
        run,
        RunEvent.SUCCEED,
        now,
        finished_at=now,
        job_id=job.id,
        error=problem[:2000],
        regressed=bool(worse),
    )
    about = {"name": cron.name, "run": run.id, "job_id": job.id}
    if was != "ok":
        events.append(session, "cron.recovered", f"cron:{cron.id}", about | {"was": was}, now)
    for point in worse:
        events.append(session, "cron.regressed", f"cron:{cron.id}", about | _told(point), now)


def _told(point: CronPoint) -> dict[str, object]:
    return {
        "series": point.name,
        "value": point.value,
        "baseline": point.baseline,
        "mad": point.mad,
        "limit": point.limit,
    }


def _keep(session: Session, cron: Cron, run: CronRun, numbers: Numbers, now: float) -> list[CronPoint]:
    """Keep a run's numbers, each with its verdict; returns those that regressed."""
    watched, worse = crons.watches(cron), []
    for name, value in numbers.values.items():
        watch = watched.get(name)
        point = CronPoint(cron_id=cron.id, name=name, run_id=run.id, at=now, value=value)
        if watch is None:
            point.verdict, point.good = str(Verdict.NEW), True
        else:
            before = crons.good_before(session, cron, name, run.id, watch.window)
            judged = judge(value, before, watch)
            point.verdict, point.good = str(judged.verdict), judged.verdict is not Verdict.REGRESSED
            point.baseline, point.mad, point.limit = judged.baseline, judged.mad, judged.limit
            worse += [point] if judged.verdict is Verdict.REGRESSED else []
        session.add(point)
    session.flush()
    return worse


def _alarm(session: Session, cron: Cron, seen: Seen, now: float) -> None:
    """Say once that nothing has begun for a whole period."""
    if not is_stalled(cron.behind_since, cron.expected_by, now) or cron.health == "stalled":
        return
    begun_now = any(run.begun for run in seen.view.live)
    why = "a run is under way for longer than a period" if begun_now else _why(session, cron)
    amend(session, "cron", cron, {"health": "stalled", "health_reason": why})
    data = {"name": cron.name, "since": cron.behind_since, "why": why}
    events.append(session, "cron.stalled", f"cron:{cron.id}", data, now)


def _why(session: Session, cron: Cron) -> str:
    """The job that waits, and what for."""
    for run in crons.live_runs(session, cron.id):
        job = session.get(Job, run.job_id) if run.job_id is not None else None
        if job is not None:
            return f"job {job.id} is {job.state}: {job.reason}".rstrip(": ")
    return "the control plane was not there, or every run was skipped"
