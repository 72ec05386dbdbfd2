"""Who held what, and for how long: counted when a lease ends, by tenant, node and day; and decayed for fair share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import faults, gpus, holdings
from fleet.models import Attempt, Device, FindingRow, GpuLadder, Job, Lease, Node, UsageDay, Use
from fleet.order import added, decayed

DAY_S = 86_400.0


def count(session: Session, attempt: Attempt, lease: Lease, gpus: int, now: float) -> None:
    """Count a lease that has just ended."""
    job = session.get_one(Job, attempt.job_id)
    slots = session.get_one(Device, lease.device_id).slots if lease.exclusive else lease.slots
    _decay(session, job.tenant, gpus, slots, now - lease.granted_at, now)
    busy_from = attempt.started_at if attempt.started_at is not None else now
    for day, begin, end in days(lease.granted_at, now):
        row = _row(session, job.tenant, lease.node_id, day)
        row.gpu_leased_s += gpus * (end - begin)
        row.gpu_busy_s += gpus * max(0.0, end - max(begin, busy_from))
        row.slot_s += slots * (end - begin)
        row.attempts += day == int(now // DAY_S)
        share = _share(max(begin, busy_from), end, busy_from, now)
        row.joules += (attempt.joules or 0.0) * share
        row.throttled_s += (attempt.throttled_s or 0.0) * share
    session.flush()


def _share(begin: float, end: float, busy_from: float, now: float) -> float:
    """How much of the time in which an attempt ran lies in a part of it; all of it for one that took no time."""
    if now <= busy_from:
        return float(end >= now)
    return max(0.0, end - begin) / (now - busy_from)


def _decay(session: Session, tenant: str, gpus: int, slots: int, length_s: float, now: float) -> None:
    use = session.get(Use, tenant)
    if use is None:
        use = Use(tenant=tenant, gpu_s=0.0, slot_s=0.0, at=now)
        session.add(use)
    passed = now - use.at
    use.gpu_s = decayed(use.gpu_s, passed) + added(gpus, length_s)
    use.slot_s = decayed(use.slot_s, passed) + added(slots, length_s)
    use.at = now


def _row(session: Session, tenant: str, node_id: int, day: int) -> UsageDay:
    row = session.get(UsageDay, (tenant, node_id, day))
    if row is None:
        zero = {
            "gpu_leased_s": 0.0,
            "gpu_busy_s": 0.0,
            "slot_s": 0.0,
            "attempts": 0,
            "joules": 0.0,
            "throttled_s": 0.0,
        }
        row = UsageDay(tenant=tenant, node_id=node_id, day=day, **zero)
        session.add(row)
        session.flush()
    return row


def days(begin: float, end: float) -> Iterator[tuple[int, float, float]]:
    """The days (since the epoch, UTC) that a time reaches over, each with the part of it that lies in it."""
    day = int(begin // DAY_S)
    while True:
        last = min(end, (day + 1) * DAY_S)
        yield day, max(begin, day * DAY_S), last
        day += 1
        if day * DAY_S >= end:
            return


# ---------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Held:
    """What a tenant held of a node: seconds of GPUs (busy: while an attempt ran) and of CPU slots; what ended attempts drew."""

    tenant: str
    node_id: int
    gpu_leased_s: float
    gpu_busy_s: float
    slot_s: float
    attempts: int
    joules: float
    throttled_s: float


@dataclass(frozen=True)
class Capacity:
    """A node's GPU-seconds: what there was, and what of it was quarantined; the rest that nobody held was idle."""

    node_id: int
    name: str
    gpus: int
    gpu_s: float
    quarantined_s: float


def held(session: Session, since: float, until: float, tenant: str | None = None) -> Sequence[Held]:
    """What was held between two midnights (UTC), live leases included up to `until`; of one tenant, or of all."""
    first, last = int(since // DAY_S), int((until - 1e-6) // DAY_S)
    held_s = (UsageDay.gpu_leased_s, UsageDay.gpu_busy_s, UsageDay.slot_s)
    columns = (*held_s, UsageDay.attempts, UsageDay.joules, UsageDay.throttled_s)
    query = (
        select(UsageDay.tenant, UsageDay.node_id, *(func.sum(column) for column in columns))
        .where(UsageDay.day >= first, UsageDay.day <= last)
        .group_by(UsageDay.tenant, UsageDay.node_id)
    )
    found = {(row[0], row[1]): list(row[2:]) for row in session.execute(query)}
    for lease in holdings.held(session):
        begin, length = max(since, lease.granted_at), until - max(since, lease.granted_at)
        if length <= 0:
            continue
        total = found.setdefault((lease.tenant, lease.node_id), [0.0, 0.0, 0.0, 0, 0.0, 0.0])
        total[0] += len(lease.gpu_ids) * length
        total[1] += len(lease.gpu_ids) * max(0.0, until - max(begin, lease.began_at))
        total[2] += lease.slots * length
        total[3] += 1
    rows = (Held(name, node_id, *total) for (name, node_id), total in sorted(found.items()))
    return [row for row in rows if tenant is None or row.tenant == tenant]


def drawn(session: Session, job_ids: Sequence[int]) -> Mapping[int, tuple[float | None, float | None]]:
    """Joules and throttled seconds of jobs' attempts that ended; None where no attempt's are known."""
    columns = (func.sum(Attempt.joules), func.sum(Attempt.throttled_s))
    query = select(Attempt.job_id, *columns).where(Attempt.job_id.in_(job_ids)).group_by(Attempt.job_id)
    return {job_id: (joules, throttled_s) for job_id, joules, throttled_s in session.execute(query)}


def capacity(session: Session, since: float, until: float) -> Sequence[Capacity]:
    """The GPUs that each node has, for as long as it has been in the fleet. Quarantined is what has a verdict against
    it now, since that began."""
    have: dict[int, list[Device]] = {}
    for device in session.scalars(select(Device).where(Device.kind == "gpu", Device.present)):
        have.setdefault(device.node_id, []).append(device)
    wrong, ladders = faults.everywhere(session), gpus.ladders(session)
    found = []
    for node in session.scalars(select(Node).where(Node.id.in_(have)).order_by(Node.id)):
        begin = max(since, node.enrolled_at)
        barred = [
            min(at)
            for device in have[node.id]
            if (at := _out(wrong.get((node.id, device.name)), ladders.get(device.id)))
        ]
        sick = sum(max(0.0, until - max(begin, at)) for at in barred)
        total = len(have[node.id]) * max(0.0, until - begin)
        found.append(Capacity(node.id, node.name, len(have[node.id]), total, sick))
    return found


def _out(finding: FindingRow | None, ladder: GpuLadder | None) -> list[float]:
    """Since when a GPU takes no work, by what is found at it and by its ladder; nothing when it takes work."""
    since = [finding.since] if finding is not None and faults.barring(finding) else []
    if ladder is not None and gpus.standing(ladder)[1]:
        since.append(max([at for at in ladder.falls if at <= ladder.state_at], default=ladder.state_at))
    return since
