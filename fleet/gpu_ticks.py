"""One look at GPUs that were found at fault and at what cordons nodes by itself: load → decide → write."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import cordons, events, faults, gpus, jobs, nodes, permissions
from fleet.agents.protocol import BurninSpec
from fleet.cordoning import BARRED, FLAPS_S, CordonKind, Fault, Lift, NodeHealth, Put, changes
from fleet.db import now as database_now
from fleet.errors import InvalidTransition, StaleWrite
from fleet.finding_rows import FindingRow
from fleet.firing import amend
from fleet.gpu_steps import Blame, Burn, BurninView, Fail, GpuView, Pass, Reset, Step, steps
from fleet.lifecycle import NodeState
from fleet.lifecycle_gpus import GpuEvent, GpuState
from fleet.models import Device, Event, GpuLadder, Job, LeaseGpu, Node, NodeCordon

log = logging.getLogger(__name__)
OpenSession = Callable[[], AbstractContextManager[Session]]
RESETS_SINCE = 3  # the version of the protocol
BURNIN_S = 10.0
PRIORITY = 100
TIMEOUT_S = 300.0
QUEUE_TIMEOUT_S = 21_600.0
FLAPPING = ("node.unreachable", "node.booted")


def tick(read: OpenSession, write: OpenSession, now: float | None = None) -> int:
    """Do what is due; returns how many steps were written. A few small reads while all is well."""
    with read() as session:
        at = database_now(session) if now is None else now
        due = steps(views(session), at)
        cordoned = changes(health(session, at), at)
    done = 0
    for action in (*due, *cordoned):
        try:
            with write() as session:
                _apply(session, action, at)
            done += 1
        except (StaleWrite, InvalidTransition) as error:
            log.info("dropped a step: %s", error)
    return done


# ------------------------------------------------------------------------------------------------ load


def views(session: Session) -> Sequence[GpuView]:
    """The GPUs that were found at fault, or are now."""
    rows, wrong = gpus.ladders(session), faults.everywhere(session)
    barred = {key: row for key, row in wrong.items() if row.verdict in BARRED}
    at_fault = set(rows) | _ids_of(session, barred)
    query = select(Device, Node).join(Node, Node.id == Device.node_id).order_by(Device.id)
    live = Device.id.in_(at_fault) & (Node.state != NodeState.RETIRED)
    found = session.execute(query.where(live, Device.kind == "gpu")).all() if at_fault else []
    held = _held(session, at_fault)
    burnins = _burnins(session, [row.job_id for row in rows.values() if row.job_id is not None])
    return [
        _view(device, node, rows.get(device.id), barred.get((node.id, device.name)), held, burnins)
        for device, node in found
    ]


def _ids_of(session: Session, barred: Mapping[tuple[int, str], FindingRow]) -> set[int]:
    if not barred:
        return set()
    query = select(Device.id, Device.node_id, Device.name).where(Device.kind == "gpu")
    rows = session.execute(query.where(Device.node_id.in_({node_id for node_id, _ in barred})))
    return {device_id for device_id, node_id, name in rows if (node_id, name) in barred}


def _held(session: Session, ids: Iterable[int]) -> set[int]:
    query = select(LeaseGpu.device_id).where(LeaseGpu.released_at.is_(None), LeaseGpu.device_id.in_(set(ids)))
    return set(session.scalars(query))


def _burnins(session: Session, ids: Sequence[int]) -> Mapping[int, BurninView]:
    query = select(Job.id, Job.state, Job.error).where(Job.id.in_(ids))
    return {job_id: BurninView(state, error) for job_id, state, error in session.execute(query)}


def _view(
    device: Device,
    node: Node,
    row: GpuLadder | None,
    finding: FindingRow | None,
    held: set[int],
    burnins: Mapping[int, BurninView],
) -> GpuView:
    fault = "" if finding is None else f"{finding.reason}; {finding.action}"
    if row is None:
        return GpuView(device.id, node.id, device.name, str(GpuState.OK), 0.0, fault=fault)
    gone = BurninView("failed", "its row is gone")
    return GpuView(
        id=device.id,
        node_id=node.id,
        name=device.name,
        state=row.state,
        state_at=row.state_at,
        generation=row.generation,
        fault=fault,
        held=device.id in held,
        resets=node.protocol >= RESETS_SINCE,
        falls=tuple(row.falls),
        burnin=None if row.job_id is None else burnins.get(row.job_id, gone),
    )


def health(session: Session, now: float) -> Sequence[NodeHealth]:
    """The nodes that have a finding, a GPU that is not ok, or an automatic cordon."""
    found: dict[int, list[Fault]] = defaultdict(list)
    for (node_id, device), row in faults.everywhere(session).items():
        found[node_id].append(Fault(device, row.verdict, row.reason, row.action))
    rows, cordoned = gpus.ladders(session).values(), cordons.of_all(session)
    out: dict[int, list[int]] = defaultdict(list)
    for ladder in rows:
        if ladder.state != GpuState.OK:
            out[ladder.node_id].append(ladder.id)
    ids = {*found, *out, *cordoned}
    if not ids:
        return ()
    live = select(Node.id).where(Node.id.in_(ids), Node.state != NodeState.RETIRED)
    devices = nodes.devices_of(session, session.scalars(live).all())
    return [
        NodeHealth(
            node_id=node_id,
            faults=tuple(found[node_id]),
            gpus=sum(device.kind == "gpu" and device.present for device in mine),
            gpus_out=tuple(device.name for device in mine if device.id in out[node_id] and device.present),
            flaps=flaps(session, node_id, now) if _flapped(cordoned.get(node_id, ())) else (),
            cordons={row.kind: row.reason for row in cordoned.get(node_id, ())},
        )
        for node_id, mine in sorted(devices.items())
    ]


def _flapped(rows: Iterable[NodeCordon]) -> bool:
    return any(row.kind == CordonKind.FLAPPING for row in rows)


def flaps(session: Session, node_id: int, now: float) -> tuple[float, ...]:
    """When a node was unreachable or its agent began anew, of late."""
    query = select(Event.at, Event.kind, Event.data).where(Event.subject == f"node:{node_id}")
    rows = session.execute(query.where(Event.kind.in_(FLAPPING), Event.at > now - FLAPS_S))
    return tuple(at for at, kind, data in rows if kind != "node.booted" or data.get("before"))


def note_flap(session: Session, node_id: int, now: float) -> None:
    """A node was unreachable, or its agent began anew, just now: cordon it if it comes and goes too often."""
    session.flush()
    before = {row.kind: row.reason for row in cordons.of(session, node_id)}
    if CordonKind.FLAPPING in before:
        return
    seen = NodeHealth(node_id, flaps=flaps(session, node_id, now))
    for change in changes([seen], now):
        if isinstance(change, Put):
            cordons.put(session, node_id, change.kind, change.reason, now)


# ----------------------------------------------------------------------------------------------- write


def _apply(session: Session, action: Step | Put | Lift, now: float) -> None:
    match action:
        case Put():
            cordons.put(session, action.node_id, action.kind, action.reason, now)
        case Lift():
            cordons.lift(session, action.node_id, action.kind, now)
        case Blame():
            gpus.blame(session, session.get_one(Device, action.gpu.id), action.reason, now)
        case _:
            _climb(session, action, _current(session, action.gpu), now)


def _current(session: Session, gpu: GpuView) -> GpuLadder:
    row = session.get_one(GpuLadder, gpu.id)
    if row.generation != gpu.generation:
        raise StaleWrite("gpu", gpu.id, "it changed after it was looked at")
    return row


def _climb(session: Session, step: Reset | Burn | Pass | Fail, row: GpuLadder, now: float) -> None:
    match step:
        case Reset():
            if _held(session, [row.id]):
                raise StaleWrite("gpu", row.id, "it is held")
            gpus.advance(session, row, step.gpu.name, GpuEvent.RESET, now)
            nodes.redirect(session, row.node_id)
        case Burn():
            job = burn(session, row.node_id, step.gpu.name, now)
            amend(session, "gpu", row, {"job_id": job.id})
        case Pass():
            gpus.advance(session, row, step.gpu.name, GpuEvent.PASS, now, reason="", detail="", job_id=None)
        case Fail():
            gpus.advance(session, row, step.gpu.name, GpuEvent.FAIL, now, detail=step.detail[:2000])


def burn(session: Session, node_id: int, gpu: str | None, now: float, seconds: float = BURNIN_S) -> Job:
    """Queue a burn-in of a node's GPU, or of its CPU."""
    job = jobs.insert(
        session,
        BurninSpec(gpu=gpu, seconds=seconds),
        tenant=permissions.HOME,
        created_by="server:burn-in",
        now=now,
        timeout_s=TIMEOUT_S,
        name=f"burn-in-{gpu or 'cpu'}",
        priority=PRIORITY,
        node_id=node_id,
        max_retries=1,
        requires={} if gpu is None else {"gpus": 1, "burnin": gpu},
        queue_timeout_s=QUEUE_TIMEOUT_S,
    )
    data = {"job": job.id, "device": gpu or "cpu"}
    events.append(session, "node.burnin", f"node:{node_id}", data, now)
    return job
