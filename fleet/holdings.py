"""Load the nodes with what holds them, who runs there, and what each tenant holds and may hold: frozen values, no
decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from fleet import cordons, faults, gpus, labels, places, run_times, trust, updates
from fleet.lifecycle import JobState, NodeState
from fleet.models import (
    Attempt,
    Device,
    Job,
    Lease,
    LeaseGpu,
    Node,
    NodeWindow,
    Quota,
    Standing,
    UsageDay,
    Use,
)
from fleet.nodes import Contact, contact
from fleet.occupancy import Seat
from fleet.order import Account, added, decayed
from fleet.placement import Running
from fleet.requirements import DeviceView, NodeView, Window
from fleet.settings import Timings

STOPS_WITHIN_S = 10.0  # what is told to stop has stopped, usually; a plan may rest on that
DAY_S = 86_400.0
# Columns, not objects: of 300 nodes there are 2,700 devices, and a tick is twice a second.
_OF_DEVICES = (
    Device.id,
    Device.node_id,
    Device.name,
    Device.kind,
    Device.arch,
    Device.target_id,
    Device.slots,
    Device.problem,
    Device.present,
    Device.memory_bytes,
    Device.vendor,
    Device.driver,
)
_OF_BARE_NODES = (
    Node.id,
    Node.name,
    Node.state,
    Node.cordoned,
    Node.cores,
    Node.contact,
    Node.last_seen,
    Node.enrolled_at,
    Node.drain_by,
)
_LEAVING = (JobState.PREEMPTING, JobState.STOPPING, JobState.CANCELLING)


@dataclass(frozen=True)
class Held:
    """One lease that holds something now: of what job, since when, and until when at the latest."""

    lease_id: int
    node_id: int
    device_id: int
    exclusive: bool
    slots: int
    granted_at: float
    job_id: int
    generation: int
    tenant: str
    priority: int
    preemptible: bool
    state: str
    state_at: float
    timeout_s: float
    began_at: float
    kind: str
    name: str | None
    requirement: str
    gpu_ids: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """What jobs that likely run as long have in common."""
        return run_times.key(self.tenant, self.kind, self.name, self.requirement)

    @property
    def end(self) -> float:
        """By when it is over."""
        by_timeout = self.began_at + self.timeout_s
        leaving = self.state in {str(each) for each in _LEAVING}
        return min(by_timeout, self.state_at + STOPS_WITHIN_S) if leaving else by_timeout


def held(session: Session) -> tuple[Held, ...]:
    """Every lease that has not been released."""
    gpus: dict[int, list[int]] = defaultdict(list)
    taken = select(LeaseGpu.lease_id, LeaseGpu.device_id).where(LeaseGpu.released_at.is_(None))
    for lease_id, device_id in session.execute(taken.order_by(LeaseGpu.device_id)):
        gpus[lease_id].append(device_id)
    query = (
        select(
            Lease.id,
            Lease.node_id,
            Lease.device_id,
            Lease.exclusive,
            Lease.slots,
            Lease.granted_at,
            Job.id,
            Job.generation,
            Job.tenant,
            Job.priority,
            Job.preemptible,
            Job.state,
            Job.state_at,
            Job.timeout_s,
            func.coalesce(Attempt.started_at, Attempt.created_at),
            Job.kind,
            Job.name,
            Job.requirement,
        )
        .join(Attempt, Attempt.id == Lease.attempt_id)
        .join(Job, Job.id == Attempt.job_id)
        .where(Lease.released_at.is_(None))
        .order_by(Lease.id)
    )
    rows: list[Any] = list(session.execute(query))
    return tuple(replace(Held(*row), gpu_ids=tuple(gpus[row[0]])) for row in rows)


# ----------------------------------------------------------------------------------------------- nodes


def nodes(
    session: Session,
    now: float,
    timings: Timings | None = None,
    up_since: float = 0.0,
    leases: Sequence[Held] | None = None,
) -> tuple[NodeView, ...]:
    """Every node that is not retired, with its devices and what holds them."""
    rows = session.scalars(select(Node).where(Node.state != NodeState.RETIRED).order_by(Node.id)).all()
    shares, taken = _by_device(held(session) if leases is None else leases)
    devices: dict[int, list[DeviceView]] = defaultdict(list)
    wrong, ladders = faults.everywhere(session), gpus.ladders(session)
    for device in session.execute(select(*_OF_DEVICES).order_by(Device.name)):
        fault = faults.barring(wrong.get((device.node_id, device.name)))
        state, why = gpus.standing(ladders.get(device.id))
        seen = _device(device, shares.get(device.id, ()), taken.get(device.id), why or fault, state)
        devices[device.node_id].append(seen)
    ids = [row.id for row in rows]
    standings, where, labelled = (
        trust.standings(session, ids),
        places.of(session, ids),
        labels.of(session, ids),
    )
    windows, changing, barred = _windows(session, now), updates.updating(session), cordons.reasons(session)
    found = (
        _node(
            row,
            standings[row.id],
            devices[row.id],
            contact(row, now, timings, up_since),
            (where[row.id].rack, labelled.get(row.id, {})),
            windows.get(row.id, ()),
            row.id in changing,
        )
        for row in rows
    )
    return tuple(replace(view, barred=barred.get(view.id, "")) for view in found)


def unsettled_nodes(
    session: Session, now: float, timings: Timings | None = None, up_since: float = 0.0
) -> tuple[NodeView, ...]:
    """The nodes about which there may be something to decide although nothing is to be placed: those whose contact has
    changed, that drain, or that have a window. They come without devices."""
    windows = _windows(session, now)
    rows = session.execute(select(*_OF_BARE_NODES).where(Node.state != NodeState.RETIRED).order_by(Node.id))
    found = ((row, str(contact(cast("Node", row), now, timings or Timings(), up_since))) for row in rows)
    return tuple(
        NodeView(
            id=row.id,
            name=row.name,
            state=row.state,
            cordoned=row.cordoned,
            contact=where,
            cores=row.cores,
            devices=(),
            told_contact=row.contact,
            windows=tuple(windows.get(row.id, ())),
            drain_by=row.drain_by,
        )
        for row, where in found
        if where != row.contact or row.state == NodeState.DRAINING or row.id in windows
    )


def _by_device(leases: Sequence[Held]) -> tuple[Mapping[int, list[Held]], Mapping[int, float]]:
    shares: dict[int, list[Held]] = defaultdict(list)
    gpus: dict[int, float] = {}
    for lease in leases:
        shares[lease.device_id].append(lease)
        gpus |= dict.fromkeys(lease.gpu_ids, lease.end)
    return shares, gpus


def _node(
    row: Node,
    standing: Standing,
    devices: Sequence[DeviceView],
    where: Contact,
    place: tuple[str, Mapping[str, str]],
    windows: Sequence[Window],
    updating: bool,
) -> NodeView:
    return NodeView(
        id=row.id,
        name=row.name,
        state=row.state,
        cordoned=row.cordoned,
        contact=str(where),
        cores=row.cores,
        devices=tuple(devices),
        told_contact=row.contact,
        contested=standing.contested_at is not None,
        trust=standing.trust,
        labels=frozenset(f"{key}={value}" for key, value in place[1].items()),
        features=frozenset(row.features or ()),
        rack=place[0],
        windows=tuple(windows),
        drain_by=row.drain_by,
        updating=updating,
        protocol=row.protocol,
    )


def _device(
    row: Row[*tuple[Any, ...]], shares: Sequence[Held], gpu_until: float | None, wrong: str, health: str
) -> DeviceView:
    shared = [each for each in shares if not each.exclusive]
    return DeviceView(
        id=row.id,
        name=row.name,
        kind=row.kind,
        arch=row.arch,
        target_id=row.target_id,
        slots=row.slots,
        problem=row.problem or wrong,
        present=row.present,
        exclusive_held=gpu_until is not None or len(shared) < len(shares),
        shared_held=sum(each.slots for each in shared),
        free_at=max([each.end for each in shares], default=gpu_until or 0.0),
        ends=tuple((each.end, each.slots) for each in shared),
        memory_bytes=row.memory_bytes,
        vendor=row.vendor,
        driver=row.driver,
        health=health,
    )


def _windows(session: Session, now: float) -> Mapping[int, list[Window]]:
    """By node, those that are not over."""
    found: dict[int, list[Window]] = defaultdict(list)
    live = NodeWindow.cancelled_at.is_(None) & (NodeWindow.ends_at > now)
    for row in session.scalars(select(NodeWindow).where(live).order_by(NodeWindow.starts_at)):
        for node_id in row.node_ids:
            found[node_id].append(Window(row.starts_at, row.ends_at, row.tenant, row.reason))
    return found


def running(session: Session, leases: Sequence[Held], now: float) -> tuple[Running, ...]:
    """Who holds devices, job by job; none of those that are about to leave."""
    ran = run_times.known(session, (lease.key for lease in leases))
    by_job: dict[int, list[Held]] = defaultdict(list)
    for lease in leases:
        by_job[lease.job_id].append(lease)
    return tuple(
        Running(
            job_id=first.job_id,
            generation=first.generation,
            tenant=first.tenant,
            priority=first.priority,
            preemptible=first.preemptible,
            started_at=first.began_at,
            end=max(each.end for each in seats),
            likely_end=_likely_end(first, ran.get(first.key), now),
            seats=tuple(
                Seat(each.node_id, each.device_id, each.exclusive, each.gpu_ids, each.slots) for each in seats
            ),
        )
        for first, seats in ((each[0], each) for each in by_job.values())
        if first.state in (JobState.LEASED, JobState.RUNNING)
    )


def _likely_end(held: Held, ran: run_times.Known | None, now: float) -> float | None:
    """As the likes of it ran; what has run longer than that likely runs a tenth longer yet."""
    if ran is None:
        return None
    return min(held.end, max(held.began_at + ran.mean_s, now + 0.1 * (now - held.began_at)))


# --------------------------------------------------------------------------------------------- accounts


def accounts(session: Session, leases: Sequence[Held], now: float) -> Mapping[str, Account]:
    """What each tenant that has a quota, or holds or held anything, holds, held and may hold."""
    found: dict[str, Account] = {}
    for use in session.scalars(select(Use)):
        account = found.setdefault(use.tenant, Account(use.tenant))
        account.used_gpu_s = decayed(use.gpu_s, now - use.at)
        account.used_slot_s = decayed(use.slot_s, now - use.at)
    cpus = select(Device.id, Device.slots).where(Device.kind == "cpu")
    slots = dict(session.execute(cpus).all()) if leases else {}
    for lease in leases:
        account = found.setdefault(lease.tenant, Account(lease.tenant))
        share = slots.get(lease.device_id, 1) if lease.exclusive else lease.slots
        account.held_gpus += len(lease.gpu_ids)
        account.held_slots += share
        account.promised_gpu_s += len(lease.gpu_ids) * max(0.0, lease.end - now)
        account.used_gpu_s += added(len(lease.gpu_ids), now - lease.granted_at)
        account.used_slot_s += added(share, now - lease.granted_at)
    for quota in session.scalars(select(Quota)):
        account = found.setdefault(quota.tenant, Account(quota.tenant))
        account.weight, account.max_gpus = quota.weight, quota.max_gpus
        if quota.gpu_seconds is not None:
            account.gpu_s_left = quota.gpu_seconds - used_in_period(session, quota, leases, now)
    return found


def used_in_period(session: Session, quota: Quota, leases: Sequence[Held], now: float) -> float:
    """GPU-seconds that a tenant has held since its present period began: periods are counted from the epoch."""
    begin = now // quota.period_s * quota.period_s
    past = select(func.sum(UsageDay.gpu_leased_s)).where(
        UsageDay.tenant == quota.tenant, UsageDay.day >= int(begin // DAY_S)
    )
    live = (
        len(lease.gpu_ids) * (now - max(begin, lease.granted_at))
        for lease in leases
        if lease.tenant == quota.tenant
    )
    return float(session.scalar(past) or 0.0) + sum(live)
