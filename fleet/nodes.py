"""Nodes: enrolment, inventory, and an operator's wishes about them (cordon, drain, retire)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleet import cabinets, cordons, dialects, events, identities, permissions, tenants, trust
from fleet.agents.protocol import (
    DeviceReport,
    EnrollRequest,
    EnrollResponse,
    Inventory,
    canonical_hash,
)
from fleet.agents.signature import enrolment_text
from fleet.cordoning import CordonKind
from fleet.errors import AlreadyExists, InvalidSpec, NotFound
from fleet.firing import amend
from fleet.firing import fire as fire_row
from fleet.lifecycle import NODE, NodeEvent, NodeState
from fleet.lifecycle_boxes import BoxState
from fleet.models import Box, Device, Node
from fleet.principals import Principal
from fleet.settings import Timings

_SHOWN = 10  # how many of what there is a refusal lists


class Contact(StrEnum):
    """How long ago a node last synced; only a lost node's leases are given away."""

    ONLINE = "online"
    LATE = "late"  # three polls missed
    UNREACHABLE = "unreachable"
    LOST = "lost"  # silent for longer than its leases and the grace


_WORSENING = tuple(Contact)


def contact(node: Node, now: float, timings: Timings | None = None, up_since: float = 0.0) -> Contact:
    """The contact axis of a node, from when it was last seen (or enrolled).

    Before `up_since`, when the control plane started, nobody could be heard: that silence does not count. What was
    known of a silent node then still holds.
    """
    seen = node.last_seen if node.last_seen is not None else node.enrolled_at
    after = _after(now - max(seen, up_since), timings or Timings())
    return after if seen >= up_since else max(after, Contact(node.contact), key=_WORSENING.index)


def _after(silence: float, timings: Timings) -> Contact:
    if silence > timings.lost_s:
        return Contact.LOST
    if silence > timings.unreachable_s:
        return Contact.UNREACHABLE
    return Contact.LATE if silence > timings.late_s else Contact.ONLINE


def fire(session: Session, node: Node, event: NodeEvent, now: float, **changes: Any) -> None:
    """Advance a node's lifecycle; StaleWrite when somebody wrote it since it was read."""
    fire_row(session, NODE, node, event, now, **changes)


# ------------------------------------------------------------------------------------------- enrolment


def enroll(session: Session, join_secret: str, request: EnrollRequest, now: float) -> EnrollResponse:
    """Trade a join token for a node's identity, which is the key that it sends the public half of.

    NotPermitted when the token is spent, AlreadyExists for the name, InvalidSpec when it does not hold the key. The
    caller rolls back on these, so that the join token is not spent by them.
    """
    _check_inventory(request.inventory)
    text = enrolment_text(join_secret, request.name, request.public_key)
    if not identities.right(request.public_key, request.proof, text):
        raise InvalidSpec("proof", "is not the key's signature of this join token and name")
    again = _again(session, join_secret, request)
    if again is not None:
        return again
    join = tenants.spend_join(session, join_secret, now)
    if session.scalars(_live_named(request.name)).first() is not None:
        raise AlreadyExists("node", request.name, "choose another name, or retire the old node first")
    node = _insert(session, request, now)
    identities.establish(session, node, request.public_key, join, now)
    observe(session, node, request.inventory, now)
    trust.note_walls(session, node.id, [], lacking(node), now)
    if join.site is not None and join.rack is not None:
        cabinets.stand(session, node.id, join.site, join.rack, None, now)
    _await_acceptance(session, node, now)
    data = {"name": node.name, "hostname": node.hostname, "join_token": join.id, "pool": join.pool or ""}
    events.append(session, "node.enrolled", f"node:{node.id}", data, now)
    principal = Principal("node", node.id, node.name, join.tenant, "node")
    events.audit(session, principal, "node.enroll", f"node:{node.id}", data, now)
    return EnrollResponse(node_id=node.id, name=node.name, pool=join.pool or "")


def _await_acceptance(session: Session, node: Node, now: float) -> None:
    """A box of the stock takes no work before it was held against its model."""
    mine = (Box.node == node.name) & (Box.state != BoxState.SCRAPPED)
    model = session.scalar(select(Box.model).where(mine))
    if model is not None:
        cordons.put(session, node.id, CordonKind.ACCEPTANCE, f"it is to be held against model {model}", now)


def _again(session: Session, join_secret: str, request: EnrollRequest) -> EnrollResponse | None:
    """The answer that a node has had already, when the very same one asks for it again."""
    join = tenants.join_token(session, join_secret)
    node = None if join is None else identities.joined(session, request.public_key, join)
    if join is None or node is None or node.name != request.name:
        return None
    return EnrollResponse(node_id=node.id, name=node.name, pool=join.pool or "")


def _check_inventory(inventory: Inventory) -> None:
    for device in inventory.devices:
        _check_target(device)
    dialects.check(inventory.protocol)


def _check_target(device: DeviceReport) -> None:
    """Results are filed under the target's id: a node cannot file its own under another's."""
    if device.target_id is None:
        return
    found = canonical_hash(device.target)
    if found != device.target_id:
        raise InvalidSpec(
            f"inventory.devices.{device.name}.target_id",
            f"{device.target_id} is not its target's hash, {found}",
        )


def _live_named(name: str) -> Any:
    return select(Node).where(Node.name == name, Node.state != NodeState.RETIRED)


def _insert(session: Session, request: EnrollRequest, now: float) -> Node:
    found = request.inventory
    node = Node(
        name=request.name,
        state=NODE.initial,
        state_at=now,
        enrolled_at=now,
        hostname=found.hostname,
        agent_version=found.agent_version,
        os=found.os,
        cores=found.cores,
        memory_bytes=found.memory_bytes,
    )
    session.add(node)
    session.flush()
    return node


# ------------------------------------------------------------------------------------------- inventory


def observe(session: Session, node: Node, inventory: Inventory, now: float) -> None:
    """Record what a node has; a device that is no longer reported stays as a row that is not present."""
    _check_inventory(inventory)
    for name in ("hostname", "agent_version", "os", "cores", "memory_bytes", "protocol", "updatable"):
        setattr(node, name, getattr(inventory, name))
    node.walls = [wall.model_dump() for wall in inventory.walls]
    node.features = list(inventory.features)
    known = {device.name: device for device in devices(session, node.id)}
    for report in inventory.devices:
        _observe_device(session, node, known.pop(report.name, None), report, now)
    for missing in known.values():
        if missing.present:
            missing.present = False
            data = {"device": missing.name}
            events.append(session, "node.device_missing", f"node:{node.id}", data, now)
    session.flush()


def lacking(node: Node) -> list[str]:
    """The walls that a node does not have whole, for want of something or by its operator's word."""
    return [wall["name"] for wall in node.walls or [] if wall["state"] != "up"]


def _observe_device(
    session: Session, node: Node, device: Device | None, report: DeviceReport, now: float
) -> None:
    if device is None:
        device = Device(node_id=node.id, name=report.name)
        session.add(device)
    seen = {**report.model_dump(), "present": True}
    changed = sorted(name for name, value in seen.items() if getattr(device, name) != value)
    for name in changed:
        setattr(device, name, seen[name])
    if changed and node.state != NodeState.ENROLLED:  # what enrolment reports is no change
        data = {"device": report.name, "changed": changed}
        events.append(session, "node.device_changed", f"node:{node.id}", data, now)


# -------------------------------------------------------------------------------------------- reading


def get(session: Session, node_id: int) -> Node:
    """The node, or NotFound."""
    node = session.get(Node, node_id)
    if node is None:
        raise NotFound("node", node_id)
    return node


def page(
    session: Session, after: int | None = None, limit: int = 50, state: str | None = None
) -> Sequence[Node]:
    """Nodes with ids above `after`, in order of id; retired ones only when asked for by `state`."""
    wanted = Node.state == state if state is not None else Node.state != NodeState.RETIRED
    query = select(Node).where(wanted, Node.id > (after or 0)).order_by(Node.id).limit(limit)
    return session.scalars(query).all()


def devices(session: Session, node_id: int) -> Sequence[Device]:
    """The devices of one node, in order of name."""
    return devices_of(session, [node_id])[node_id]


def devices_of(session: Session, node_ids: Iterable[int]) -> Mapping[int, Sequence[Device]]:
    """The devices of each of these nodes, in order of name."""
    found: dict[int, list[Device]] = {node_id: [] for node_id in node_ids}
    for device in session.scalars(select(Device).where(Device.node_id.in_(found)).order_by(Device.name)):
        found[device.node_id].append(device)
    return found


def names(session: Session, node_ids: Iterable[int]) -> Mapping[int, str]:
    """The names of nodes by id, retired ones included."""
    query = select(Node.id, Node.name).where(Node.id.in_(set(node_ids)))
    return dict(session.execute(query).all())


def device_names(session: Session, device_ids: Iterable[int]) -> Mapping[int, str]:
    """The names of devices by id; each is unique on its node only."""
    query = select(Device.id, Device.name).where(Device.id.in_(set(device_ids)))
    return dict(session.execute(query).all())


def named(session: Session, name: str) -> int:
    """The id of the node of that name that is not retired; InvalidSpec lists those that there are."""
    node: Node | None = session.scalars(_live_named(name)).first()
    if node is None:
        raise InvalidSpec("node", f"there is no node {name!r}; {_live_nodes(session)}")
    return node.id


def check_wanted(session: Session, arch: str | None, node_id: int | None) -> None:
    """InvalidSpec, listing what there is, when no node that is not retired could ever be what is wanted."""
    live = Node.state != NodeState.RETIRED
    if node_id is not None:
        live &= Node.id == node_id
        if session.scalars(select(Node.id).where(live)).first() is None:
            raise InvalidSpec("node", f"there is no node {node_id}; {_live_nodes(session)}")
    if arch is None:
        return
    cpus = (Device.kind == "cpu") & Device.present
    query = select(Device.arch).join(Node, Node.id == Device.node_id).where(live, cpus).distinct()
    found = session.scalars(query.order_by(Device.arch)).all()
    if not any(each.startswith(arch) for each in found):
        whose = "a node" if node_id is None else f"node {node_id}"
        raise InvalidSpec("arch", f"no architecture of {whose} begins with {arch!r}; {_there_is(found)}")


def _live_nodes(session: Session) -> str:
    query = select(Node.id, Node.name).where(Node.state != NodeState.RETIRED).order_by(Node.id)
    return _there_is([f"{name} (id {node_id})" for node_id, name in session.execute(query)])


def _there_is(found: Sequence[str]) -> str:
    """What there is, as a refusal lists it."""
    rest = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"there is {', '.join(found[:_SHOWN])}{rest}" if found else "there is none"


# -------------------------------------------------------------------------------------------- wishes


def cordon(session: Session, node_id: int, principal: Principal, now: float) -> Node:
    """Accept nothing new on this node; what runs goes on."""
    return _wish(session, node_id, principal, "node.cordon", now, cordoned=True)


def uncordon(session: Session, node_id: int, principal: Principal, now: float) -> Node:
    """Accept work again; this also takes back a drain, and ends the cordons that nobody asked for. One of those whose
    reason is still there comes again."""
    node = get(session, node_id)
    if node.state in (NodeState.DRAINING, NodeState.DRAINED):
        permissions.require(principal, permissions.Permission.OPERATE)
        fire(session, node, NodeEvent.UNCORDON, now)
    permissions.require(principal, permissions.Permission.OPERATE)
    for kind in cordons.lift_all(session, node_id):
        events.append(session, "node.uncordoned", f"node:{node_id}", {"by": kind}, now)
    return _wish(session, node_id, principal, "node.uncordon", now, cordoned=False)


def drain(
    session: Session, node_id: int, principal: Principal, now: float, deadline_s: float | None = None
) -> Node:
    """Cordon and let what runs finish, for `deadline_s` seconds at most: what runs then makes way and is queued again.

    The node is drained when nothing is left. A second drain only sets the deadline anew.
    """
    permissions.require(principal, permissions.Permission.OPERATE)
    node = get(session, node_id)
    drain_by = None if deadline_s is None else now + deadline_s
    if node.state == NodeState.DRAINING:
        amend(session, "node", node, {"drain_by": drain_by})
    else:
        fire(session, node, NodeEvent.DRAIN, now, drain_by=drain_by)
    return _wish(session, node_id, principal, "node.drain", now, cordoned=True)


def retire(session: Session, node_id: int, principal: Principal, now: float) -> Node:
    """Take a drained (or never seen) node out of the fleet: its keys end and its name is free."""
    permissions.require(principal, permissions.Permission.TRUST)
    node = get(session, node_id)
    fire(session, node, NodeEvent.RETIRE, now)
    identities.end(session, node_id, now)
    events.audit(session, principal, "node.retire", f"node:{node_id}", {}, now)
    return node


def _wish(
    session: Session, node_id: int, principal: Principal, action: str, now: float, cordoned: bool
) -> Node:
    permissions.require(principal, permissions.Permission.OPERATE)
    node = get(session, node_id)
    if node.cordoned != cordoned:
        amend(session, "node", node, {"cordoned": cordoned})
        events.append(session, f"node.{'cordoned' if cordoned else 'uncordoned'}", f"node:{node_id}", {}, now)
    events.audit(session, principal, action, f"node:{node_id}", {}, now)
    return node


def redirect(session: Session, node_id: int) -> int:
    """Give a node's desired set a new generation, because it changed; returns the generation."""
    session.execute(
        update(Node)
        .where(Node.id == node_id)
        .values(desired_generation=Node.desired_generation + 1)
        .execution_options(synchronize_session=False)
    )
    node = get(session, node_id)
    session.refresh(node, ["desired_generation"])
    return node.desired_generation
