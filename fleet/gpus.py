"""GPUs that were found at fault: where each stands on its ladder, what blames one, and what its node says of a reset.

What becomes of them is decided in fleet/gpu_steps.py and written by fleet/gpu_ticks.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from fleet import events, nodes, permissions
from fleet.agents.protocol import JobKind, ResetReport, ResetSpec
from fleet.errors import InvalidTransition, NotFound, StaleWrite
from fleet.finding_rows import FindingRow
from fleet.firing import fire
from fleet.gpu_steps import BY_HAND, recent
from fleet.lifecycle_gpus import GPU, GpuEvent, GpuState
from fleet.models import Attempt, Device, GpuLadder, Job, Lease, LeaseGpu, Node
from fleet.principals import Principal

_RESET_AT = (
    select(Device.name, GpuLadder.reset_at)
    .join(Device, Device.id == GpuLadder.id)
    .where(GpuLadder.node_id == bindparam("node"), GpuLadder.reset_at.is_not(None))
)


def ladders(session: Session, node_ids: Iterable[int] | None = None) -> Mapping[int, GpuLadder]:
    """The GPUs that were ever found at fault, by their devices' ids; of these nodes, or all."""
    query = select(GpuLadder)
    if node_ids is not None:
        query = query.where(GpuLadder.node_id.in_(set(node_ids)))
    return {row.id: row for row in session.scalars(query)}


def standing(row: GpuLadder | None) -> tuple[str, str]:
    """A GPU's state, and why it takes no new work; that is empty when it does."""
    if row is None or row.state == GpuState.OK:
        return str(GpuState.OK), ""
    return row.state, f"it is {row.state}: {row.reason}" + (f"; {row.detail}" if row.detail else "")


def check_leasable(session: Session, gpu_ids: Sequence[int], job: Job) -> None:
    """StaleWrite when one of these GPUs takes no work, or none but its own burn-in, since it was proposed."""
    if not gpu_ids:
        return
    query = select(GpuLadder).where(GpuLadder.id.in_(gpu_ids), GpuLadder.state != GpuState.OK)
    for row in session.scalars(query):
        if job.kind != JobKind.BURNIN or row.state != GpuState.RETEST or row.job_id != job.id:
            raise StaleWrite("gpu", row.id, f"it is {row.state}")


# ------------------------------------------------------------------------------------------------ blame


def blame(session: Session, device: Device, reason: str, now: float) -> bool:
    """A GPU is at fault: it takes no new work until it was reset and tested. False when it was so already."""
    row = _row(session, device, now)
    if row.state != GpuState.OK:
        return False
    _fall(session, row, device, GpuEvent.BLAME, reason, now)
    return True


def _row(session: Session, device: Device, now: float) -> GpuLadder:
    row = session.get(GpuLadder, device.id)
    if row is None:
        row = GpuLadder(id=device.id, node_id=device.node_id, state=GPU.initial, state_at=now)
        session.add(row)
        session.flush()
    return row


def _fall(session: Session, row: GpuLadder, device: Device, event: GpuEvent, reason: str, now: float) -> None:
    falls = [*recent(row.falls, now), now] if event is GpuEvent.BLAME else []
    advance(session, row, device.name, event, now, reason=reason[:2000], detail="", falls=falls, job_id=None)


def advance(
    session: Session, row: GpuLadder, name: str, event: GpuEvent, now: float, **changes: object
) -> None:
    """Take a GPU one step on, with the event that its node's readers look for."""
    fire(session, GPU, row, event, now, **changes)
    data = {"device": name, "reason": row.reason, "detail": row.detail}
    events.append(session, f"node.gpu_{row.state}", f"node:{row.node_id}", data, now)


def blame_held(session: Session, attempt: Attempt, error: str, now: float) -> None:
    """An attempt left its GPUs broken: those that the error names, or all that it held, are at fault."""
    query = (
        select(Device)
        .join(LeaseGpu, LeaseGpu.device_id == Device.id)
        .join(Lease, Lease.id == LeaseGpu.lease_id)
        .where(Lease.attempt_id == attempt.id)
        .order_by(Device.id)
    )
    held = session.scalars(query).all()
    named = set(re.findall(r"\bgpu\d+\b", error))
    for device in [device for device in held if device.name in named] or held:
        blame(session, device, f"attempt {attempt.id} left it broken: {error}", now)


# ------------------------------------------------------------------------------------------------ reset


def resets(session: Session, node_id: int) -> list[ResetSpec]:
    """The GPUs that a node shall reset."""
    query = select(GpuLadder.generation, Device.name).join(Device, Device.id == GpuLadder.id)
    wanted = (GpuLadder.node_id == node_id) & (GpuLadder.state == GpuState.RESETTING)
    rows = session.execute(query.where(wanted).order_by(Device.id))
    return [ResetSpec(gpu=name, generation=generation) for generation, name in rows]


def heard(session: Session, node: Node, said: Sequence[ResetReport], now: float) -> bool:
    """What a node says of its resets; an answer to an older asking counts for nothing. True when it changed anything."""
    changed = False
    for report in said:
        query = select(GpuLadder, Device).join(Device, Device.id == GpuLadder.id)
        found = session.execute(
            query.where(Device.node_id == node.id, Device.name == report.gpu)
        ).one_or_none()
        if found is None or found[0].state != GpuState.RESETTING or found[0].generation != report.generation:
            continue
        row, device = found
        if report.done:
            _forget(session, row.node_id, device.name)
            advance(session, row, device.name, GpuEvent.DONE, now, reset_at=now, detail="", job_id=None)
        else:
            detail = f"it could not be reset: {report.detail}; {BY_HAND}"
            advance(session, row, device.name, GpuEvent.FAIL, now, detail=detail)
        nodes.redirect(session, node.id)
        changed = True
    return changed


def _forget(session: Session, node_id: int, name: str) -> None:
    """What was found before the reset is answered by it; what still is so is found again by the next push."""
    row = session.get(FindingRow, (node_id, name))
    if row is not None:
        session.delete(row)
        session.flush()


def answered(session: Session, node_id: int) -> Mapping[str, float]:
    """When each GPU of a node was reset last: an error of before is answered."""
    rows = session.execute(_RESET_AT, {"node": node_id})
    return {name: at or 0.0 for name, at in rows}


# ----------------------------------------------------------------------------------------------- wishes


def retest(session: Session, node_id: int, name: str, principal: Principal, now: float) -> GpuLadder:
    """An operator has mended a GPU, or doubts it: it is reset and tested. NotFound, NotPermitted, InvalidTransition."""
    permissions.require(principal, permissions.Permission.OPERATE)
    nodes.get(session, node_id)
    query = select(Device).where(Device.node_id == node_id, Device.name == name, Device.kind == "gpu")
    device = session.scalars(query).one_or_none()
    if device is None or not device.present:
        raise NotFound("gpu", name)
    row = _row(session, device, now)
    if row.state not in (GpuState.OK, GpuState.QUARANTINED):
        raise InvalidTransition("gpu", row.state, GpuEvent.RETEST, ("wait: it is being tested",))
    reason = row.reason if row.state == GpuState.QUARANTINED else f"{principal} asked for a retest"
    _fall(session, row, device, GpuEvent.RETEST, reason, now)
    events.audit(session, principal, "gpu.retest", f"node:{node_id}", {"gpu": name}, now)
    return row
