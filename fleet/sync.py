"""One exchange with an agent: record what it observed, answer what it should be running. Full state both ways."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, or_, select, update
from sqlalchemy.orm import Session, load_only

from fleet import (
    access_nodes,
    datasets,
    dialects,
    events,
    gpu_ticks,
    gpus,
    heartbeats,
    identities,
    leases,
    nodes,
    trust,
    updates,
)
from fleet.agents.protocol import ArrayIndex, AttemptSpec, Desired, Gang, Observed, Peer
from fleet.errors import NotPermitted, StaleWrite
from fleet.lifecycle import DESIRED, AttemptState, NodeEvent, NodeState
from fleet.models import Attempt, Device, Job, JobArray, Lease, Node
from fleet.settings import Timings

_BOOTS_KEPT = 32
_FIRST_PORT, _PORTS = 29_500, 2_000  # of rendezvous


def record(session: Session, node_id: int, observed: Observed, now: float) -> bool:
    """Record a node's report; True when the controllers have something to look at.

    StaleWrite when its (boot id, sequence) is not newer than the last one; NotPermitted for a retired node.
    """
    node = nodes.get(session, node_id)
    if node.state == NodeState.RETIRED:
        raise NotPermitted(f"node {node.name} is retired: enrol it again")
    rebooted = _accept(session, node, observed, now)
    if observed.inventory is not None:
        before = nodes.lacking(node)
        nodes.observe(session, node, observed.inventory, now)
        trust.note_walls(session, node_id, before, nodes.lacking(node), now)
    else:
        dialects.check(node.protocol)  # it was said when this control plane was an older one
    updated = updates.record(session, node, observed.inventory, observed.update, now)
    if node.state == NodeState.ENROLLED:
        nodes.fire(session, node, NodeEvent.REPORT, now)
    changed = leases.report(session, node, observed.attempts, now)
    listed = {said.attempt_id for said in observed.attempts}
    changed |= leases.miss(session, node, listed, observed.generation, now)
    _settle(session, node, observed)
    changed |= gpus.heard(session, node, observed.resets, now)
    changed |= access_nodes.record(session, node, observed.access, now)
    if observed.data is not None:
        datasets.note(session, node_id, observed.data, now)
    return rebooted or observed.inventory is not None or changed or updated


def _accept(session: Session, node: Node, observed: Observed, now: float) -> bool:
    """Count the report in by one conditional UPDATE, or StaleWrite; True when it is the first of a boot."""
    before = node.boot_id
    rebooted = observed.boot_id != before
    past = [*node.past_boots, before][-_BOOTS_KEPT:] if rebooted and before else node.past_boots
    if observed.boot_id in node.past_boots:
        raise StaleWrite("node", node.id, "a newer start of its agent has reported already")
    newer = or_(Node.boot_id.is_distinct_from(observed.boot_id), Node.sequence < observed.sequence)
    values = {
        "boot_id": observed.boot_id,
        "sequence": observed.sequence,
        "applied_generation": observed.generation,
        "last_seen": now,
        "past_boots": past,
    }
    result = session.execute(update(Node).where(Node.id == node.id, newer).values(values))
    if cast("CursorResult[Any]", result).rowcount != 1:
        raise StaleWrite("node", node.id, f"sequence {observed.sequence} is not newer than {node.sequence}")
    if rebooted:
        data = {"boot_id": observed.boot_id, "before": before}
        events.append(session, "node.booted", f"node:{node.id}", data, now)
        gpu_ticks.note_flap(session, node.id, now)
    return rebooted


def _settle(session: Session, node: Node, observed: Observed) -> None:
    """What exited is recorded or refused by now: tell the agent to forget it."""
    settled = sorted(said.attempt_id for said in observed.attempts if said.state == "exited")
    if settled == node.settled:
        return
    node.settled = settled
    if settled:
        nodes.redirect(session, node.id)


def generation(session: Session, node_id: int) -> int:
    """The generation of a node's desired set: what a parked poll compares with what its agent has applied."""
    return session.scalars(select(Node.desired_generation).where(Node.id == node_id)).one()


def desired(session: Session, node_id: int, now: float, timings: Timings | None = None) -> Desired:
    """Everything this node should be running; what is not listed is to be stopped. Only `rotate_key` depends on `now`."""
    timings = timings or Timings()
    resting = heartbeats.at_rest(session, node_id)
    if resting is not None:
        return resting.desired(now, timings)
    node = nodes.get(session, node_id)
    query = (
        select(Attempt, Job, Lease, Device.name)
        .join(Job, Job.id == Attempt.job_id)
        .join(Lease, Lease.attempt_id == Attempt.id)
        .join(Device, Device.id == Attempt.device_id)
        .where(Attempt.node_id == node_id, Attempt.state != AttemptState.ENDED)
        .where(Job.state.in_(DESIRED))
        .order_by(Attempt.id)
        .options(load_only(Job.timeout_s, Job.ranks, Job.array_id, Job.array_index))
    )
    rows = session.execute(query).all()
    taken = leases.gpu_names(session, [lease.id for _, _, lease, _ in rows])
    attempts = [
        AttemptSpec(
            attempt_id=attempt.id,
            job_id=attempt.job_id,
            fence=lease.id,
            spec=attempt.spec,
            device=device,
            exclusive=lease.exclusive,
            timeout_s=job.timeout_s,
            blobs=attempt.blobs,
            gpus=taken.get(lease.id, []),
            cpus=lease.slots,
            gang=_gang(session, attempt, job.ranks) if job.ranks > 1 else None,
            array=_array_index(session, job),
        )
        for attempt, job, lease, device in rows
    ]
    return Desired(
        generation=node.desired_generation,
        attempts=attempts,
        access=access_nodes.desired(session, node_id, now),
        settled=node.settled,
        lease_s=timings.lease_s,
        poll_s=timings.poll_s,
        rotate_key=identities.due(session, node_id, now),
        update=updates.desired(session, node_id),
        resets=gpus.resets(session, node_id),
    )


def _gang(session: Session, attempt: Attempt, ranks: int) -> Gang:
    """Who else is of the attempt's gang. They meet on a port of rank 0's node that another gang would hardly have."""
    query = (
        select(Attempt.rank, Node.name, Node.hostname)
        .join(Node, Node.id == Attempt.node_id)
        .where(Attempt.job_id == attempt.job_id, Attempt.number == attempt.number)
        .order_by(Attempt.rank)
    )
    peers = [Peer(rank=rank, node=name, address=host) for rank, name, host in session.execute(query)]
    port = _FIRST_PORT + attempt.job_id % _PORTS
    return Gang(rank=attempt.rank, ranks=ranks, rendezvous=f"{peers[0].address}:{port}", peers=peers)


def _array_index(session: Session, job: Job) -> ArrayIndex | None:
    if job.array_id is None or job.array_index is None:
        return None
    size = session.scalars(select(JobArray.size).where(JobArray.id == job.array_id)).one()
    return ArrayIndex(array_id=job.array_id, index=job.array_index, size=size)
