"""Leases: exclusive or shared holds on devices, the attempts under them, and what agents say of those.

A lease's id is its fence. A report with another fence, or about an attempt that has ended otherwise, is recorded
as an event and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import cordons, events, gpus, holders, jobs, kernels, nodes, run_times, settling, usage
from fleet.agents.protocol import AnySpec, AttemptReport, JobKind, KernelSpec, Outcome
from fleet.errors import NotFound, StaleWrite
from fleet.firing import amend, fire
from fleet.lifecycle import ATTEMPT, DESIRED, AttemptEvent, AttemptState, JobEvent, JobState, NodeState
from fleet.models import Attempt, Device, Event, Job, Lease, LeaseGpu, Node
from fleet.occupancy import Seat
from fleet.placement import Placement
from fleet.settling import Ending, findings

__all__ = ["Ending", "end", "fences", "get", "gpu_names", "grant", "held", "held_gpus", "miss", "report"]
_SPEC: TypeAdapter[jobs.Spec] = TypeAdapter(AnySpec)


# ---------------------------------------------------------------------------------------------- grant


def grant(session: Session, placement: Placement, now: float) -> None:
    """Lease the proposed devices to the job: an attempt for each rank, which its node should start. StaleWrite when
    overtaken; then none of it is written.

    A job whose spec cannot be read (another version wrote it) fails, or it would be proposed for ever.
    """
    job = jobs.get(session, placement.job_id)
    _check_current(session, job, placement)
    try:
        specs = [_spec(session, job, session.get_one(Device, seat.device_id)) for seat in placement.seats]
    except ValidationError as error:
        unread = findings(Ending(Outcome.INVALID, f"its spec cannot be read: {error}"))
        jobs.fire(session, job, JobEvent.FAIL, now, finished_at=now, **unread)
        return
    if job.expected_at is not None:
        run_times.learn(session, run_times.FORECAST, now - job.expected_at)
    jobs.fire(session, job, JobEvent.LEASE, now, reason="", planned=None, expected_at=None)
    number = (session.scalar(select(func.max(Attempt.number)).where(Attempt.job_id == job.id)) or 0) + 1
    for rank, (seat, spec) in enumerate(zip(placement.seats, specs, strict=True)):
        attempt = _insert_attempt(session, job, (number, rank), seat, spec, now)
        _hold(session, attempt, seat, now)


def _check_current(session: Session, job: Job, placement: Placement) -> None:
    """StaleWrite when the job or a node is no longer as it was when the placement was proposed."""
    if job.generation != placement.generation:
        raise StaleWrite("job", job.id, "it changed after it was looked at")
    for seat in placement.seats:
        node = nodes.get(session, seat.node_id)
        barred = node.cordoned or cordons.of(session, node.id)
        if node.state != NodeState.READY or (barred and job.kind != JobKind.BURNIN):
            raise StaleWrite("node", node.id, "it stopped taking work")
        gpus.check_leasable(session, seat.gpu_ids, job)


def _hold(session: Session, attempt: Attempt, seat: Seat, now: float) -> None:
    lease = Lease(
        attempt_id=attempt.id,
        node_id=seat.node_id,
        device_id=seat.device_id,
        exclusive=seat.exclusive,
        slots=seat.slots,
        granted_at=now,
    )
    session.add(lease)
    session.flush()
    session.add_all(LeaseGpu(lease_id=lease.id, device_id=gpu_id) for gpu_id in seat.gpu_ids)
    session.flush()
    data = {"job": attempt.job_id, "node": attempt.node_id, "number": attempt.number}
    data |= {"rank": attempt.rank} if attempt.rank else {}
    data |= {"gpus": len(seat.gpu_ids)} if seat.gpu_ids else {}
    events.append(session, "attempt.leased", f"attempt:{attempt.id}", data, now)


def _insert_attempt(
    session: Session, job: Job, which: tuple[int, int], seat: Seat, spec: dict[str, Any], now: float
) -> Attempt:
    """`which`: the number of the try, and the rank."""
    attempt = Attempt(
        job_id=job.id,
        number=which[0],
        rank=which[1],
        node_id=seat.node_id,
        device_id=seat.device_id,
        state=ATTEMPT.initial,
        state_at=now,
        since_generation=nodes.redirect(session, seat.node_id),
        spec=spec,
        blobs=_inputs(spec),
        created_at=now,
    )
    session.add(attempt)
    session.flush()
    return attempt


def _spec(session: Session, job: Job, device: Device) -> dict[str, Any]:
    spec = _SPEC.validate_python(job.spec)
    if not isinstance(spec, KernelSpec):
        return job.spec
    return kernels.resolve(session, spec, device.target_id, job.tenant).model_dump(mode="json", by_alias=True)


def _inputs(spec: Mapping[str, Any]) -> list[str]:
    """The blobs that the attempt reads: a kernel that is given by its hash, a command's files."""
    address = spec.get("kernel", {}).get("hash")
    files = [file["blob"] for file in spec.get("files", [])]
    return list(dict.fromkeys([address, *files] if address else files))


# --------------------------------------------------------------------------------------------- reading


def get(session: Session, attempt_id: int) -> Attempt:
    """The attempt, or NotFound."""
    attempt = session.get(Attempt, attempt_id)
    if attempt is None:
        raise NotFound("attempt", attempt_id)
    return attempt


def fences(session: Session, attempt_ids: Iterable[int]) -> Mapping[int, int]:
    """The fence of each of these attempts: its lease's id."""
    query = select(Lease.attempt_id, Lease.id).where(Lease.attempt_id.in_(set(attempt_ids)))
    return dict(session.execute(query).all())


def held(session: Session, *node_ids: int) -> Sequence[Lease]:
    """The leases that hold these nodes' devices now."""
    query = select(Lease).where(Lease.node_id.in_(node_ids), Lease.released_at.is_(None))
    return session.scalars(query.order_by(Lease.id)).all()


def held_gpus(session: Session, leases: Sequence[Lease]) -> frozenset[int]:
    """The GPUs (ids of devices) that these leases hold."""
    query = select(LeaseGpu.device_id).where(LeaseGpu.released_at.is_(None))
    return frozenset(session.scalars(query.where(LeaseGpu.lease_id.in_([lease.id for lease in leases]))))


def gpu_names(session: Session, lease_ids: Iterable[int]) -> Mapping[int, list[str]]:
    """The names of the GPUs that each of these leases holds or held."""
    found: dict[int, list[str]] = {}
    query = select(LeaseGpu.lease_id, Device.name).join(Device, Device.id == LeaseGpu.device_id)
    for lease_id, name in session.execute(
        query.where(LeaseGpu.lease_id.in_(set(lease_ids))).order_by(Device.id)
    ):
        found.setdefault(lease_id, []).append(name)
    return found


# ------------------------------------------------------------------------------------- what agents say


def report(session: Session, node: Node, reports: Sequence[AttemptReport], now: float) -> bool:
    """Record what a node says of its attempts; True when it changed anything."""
    if not reports:
        return False
    ids = [said.attempt_id for said in reports]
    query = select(Attempt, Lease.id).join(Lease, Lease.attempt_id == Attempt.id)
    query = query.where(Attempt.id.in_(ids), Attempt.node_id == node.id)
    known = {(attempt.id, fence): attempt for attempt, fence in session.execute(query)}
    found = [(said, known.get((said.attempt_id, said.fence))) for said in reports]
    changed = [_report(session, node, said, attempt, now) for said, attempt in found]
    return any(changed)


def _report(session: Session, node: Node, said: AttemptReport, attempt: Attempt | None, now: float) -> bool:
    if attempt is None:
        return _refuse(session, node, said, "the fence is not this attempt's", now)
    if attempt.state == AttemptState.ENDED:
        if attempt.outcome == said.outcome:
            return False  # our answer got lost: it is said again
        return _refuse(session, node, said, f"the attempt has ended as {attempt.outcome}", now)
    if said.outcome is not None:
        ending = Ending(said.outcome, said.error, said.elapsed_s, said.result, said.artifacts, said.energy)
        end(session, attempt, ending, now)
        return True
    if said.state == "starting":
        _note_starting(session, attempt, said, now)
        return False
    return _note_running(session, attempt, said, now)


def _note_starting(session: Session, attempt: Attempt, said: AttemptReport, now: float) -> None:
    """Data sets that are staged take as long as they take: while they grow, the attempt counts as just leased."""
    if (
        attempt.state == AttemptState.LEASED
        and said.progress is not None
        and said.progress != attempt.progress
    ):
        amend(session, "attempt", attempt, {"progress": said.progress, "state_at": now})


def _note_running(session: Session, attempt: Attempt, said: AttemptReport, now: float) -> bool:
    if attempt.state == AttemptState.RUNNING:
        if said.progress != attempt.progress:
            amend(session, "attempt", attempt, {"progress": said.progress, "elapsed_s": said.elapsed_s})
        return False
    fire(session, ATTEMPT, attempt, AttemptEvent.START, now, started_at=now, progress=said.progress)
    job = jobs.get(session, attempt.job_id)
    if job.state == JobState.LEASED:
        jobs.fire(session, job, JobEvent.START, now, started_at=job.started_at or now)
    return True


def _refuse(session: Session, node: Node, said: AttemptReport, why: str, now: float) -> bool:
    data = {"node": node.id, "fence": said.fence, "state": said.state, "outcome": said.outcome, "why": why}
    subject = f"attempt:{said.attempt_id}"
    same = select(Event.data).where(Event.kind == "attempt.stale_report", Event.subject == subject)
    if data not in session.scalars(same).all():  # said again until it is settled, recorded once
        events.append(session, "attempt.stale_report", subject, data, now)
    return False


def miss(session: Session, node: Node, listed: set[int], generation: int, now: float) -> bool:
    """End the attempts that a node, having applied `generation`, no longer lists; True when there were any.

    One that it was told to stop is stopped; one that ran is lost. One that it has not begun may still come.
    """
    query = (
        select(Attempt, Job.state)
        .join(Job, Job.id == Attempt.job_id)
        .where(Attempt.node_id == node.id, Attempt.state != AttemptState.ENDED)
        .where(Attempt.since_generation <= generation)
    )
    missing = [pair for pair in session.execute(query).all() if pair[0].id not in listed]
    for attempt, job_state in missing:
        if job_state not in DESIRED:
            end(session, attempt, Ending(Outcome.CANCELLED), now)
        elif attempt.state == AttemptState.RUNNING:
            why = f"node {node.name} no longer has this attempt"
            end(session, attempt, Ending(Outcome.INFRA_FAILED, why), now)
    return any(attempt.state == AttemptState.ENDED for attempt, _ in missing)


# ------------------------------------------------------------------------------------------------- end


def end(session: Session, attempt: Attempt, ending: Ending, now: float) -> None:
    """End an attempt: release its lease, change the node's desired set, and settle or retry the job."""
    started_at = attempt.started_at
    if started_at is None and ending.elapsed_s > 0:  # it ended before its node had said that it runs
        started_at = max(attempt.created_at, now - ending.elapsed_s)
    fire(
        session,
        ATTEMPT,
        attempt,
        AttemptEvent.END,
        now,
        started_at=started_at,
        finished_at=now,
        outcome=str(ending.outcome),
        error=ending.error,
        elapsed_s=ending.elapsed_s,
        result=dict(ending.result) if ending.result is not None else None,
        artifacts=dict(ending.artifacts),
        **_energy(ending),
    )
    _release(session, attempt, now)
    nodes.redirect(session, attempt.node_id)
    job = jobs.get(session, attempt.job_id)
    if ending.outcome is Outcome.DEVICE_WEDGED and job.kind != JobKind.BURNIN:
        gpus.blame_held(session, attempt, ending.error, now)
    holders.hand_over(session, attempt.node_id, job.tenant, set(ending.artifacts.values()), now)
    settling.settle(session, job, attempt, ending, now)


def _energy(ending: Ending) -> dict[str, Any]:
    said = ending.energy
    if said is None:
        return {}
    return {"joules": said.joules, "energy_method": said.method, "throttled_s": said.throttled_s}


def _release(session: Session, attempt: Attempt, now: float) -> None:
    """Give back what the attempt held, and count it."""
    lease = session.scalars(select(Lease).where(Lease.attempt_id == attempt.id)).one()
    gpus = session.scalars(select(LeaseGpu).where(LeaseGpu.lease_id == lease.id)).all()
    lease.released_at = now
    for gpu in gpus:
        gpu.released_at = now
    session.flush()
    usage.count(session, attempt, lease, len(gpus), now)
