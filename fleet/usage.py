"""Who held what, and for how long: counted when a lease ends, by tenant, node and day; and decayed for fair share."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from fleet.models import Attempt, Device, Job, Lease, UsageDay, Use
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
    session.flush()


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
        zero = {"gpu_leased_s": 0.0, "gpu_busy_s": 0.0, "slot_s": 0.0, "attempts": 0}
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
