"""Where nodes stand: site and rack, said by an operator, and what a rack may draw.

They are the target labels of what Prometheus scrapes and the rows of the racks' map. A node never says them itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import cabinets, events, nodes
from fleet.lifecycle import NodeState
from fleet.models import Device, Node, Standing
from fleet.permissions import Permission, require
from fleet.place_rows import Place, Rack
from fleet.principals import Principal
from fleet.redaction import label


@dataclass(frozen=True)
class Standpoint:
    """Where one node stands; empty where nobody has said it."""

    site: str = ""
    rack: str = ""
    nameplate_watts: float | None = None


def put_node(
    session: Session,
    node_id: int,
    principal: Principal,
    site: str,
    rack: str,
    nameplate_watts: float | None,
    now: float,
) -> Standpoint:
    """Say where a node stands; its rack is made if it is new. NotFound for the node, NotPermitted."""
    require(principal, Permission.OPERATE)
    node = nodes.get(session, node_id)
    cabinets.stand(session, node.id, site, rack, nameplate_watts, now)
    said = {"site": site, "rack": rack, "nameplate_watts": nameplate_watts}
    events.audit(session, principal, "node.place", f"node:{node.id}", said, now)
    return Standpoint(site, rack, nameplate_watts)


def put_rack(
    session: Session, principal: Principal, site: str, rack: str, power_budget_watts: float | None, now: float
) -> Rack:
    """Say what a rack may draw; it is made if it is new. NotPermitted."""
    require(principal, Permission.OPERATE)
    cabinet = cabinets.rack(session, site, rack)
    cabinet.power_budget_watts = power_budget_watts
    session.flush()
    said = {"site": site, "rack": rack, "power_budget_watts": power_budget_watts}
    events.audit(session, principal, "rack.put", f"rack:{cabinet.id}", said, now)
    return cabinet


def of(session: Session, node_ids: Iterable[int]) -> Mapping[int, Standpoint]:
    """Where these nodes stand; all of them are there, as nowhere when nobody has said it."""
    wanted = set(node_ids)
    columns = (Place.node_id, Rack.site, Rack.name, Place.nameplate_watts)
    query = select(*columns).join(Rack, Rack.id == Place.rack_id).where(Place.node_id.in_(wanted))
    found = {node_id: Standpoint(site, rack, watts) for node_id, site, rack, watts in session.execute(query)}
    return {node_id: found.get(node_id, Standpoint()) for node_id in wanted}


def racks(session: Session, after: int | None = None, limit: int = 50) -> Sequence[tuple[Rack, int]]:
    """Racks with ids above `after`, each with how many nodes that are not retired stand in it."""
    live = select(Place.rack_id, func.count().label("held")).join(Node, Node.id == Place.node_id)
    counted = live.where(Node.state != NodeState.RETIRED).group_by(Place.rack_id).subquery()
    held = func.coalesce(counted.c.held, 0)
    query = select(Rack, held).outerjoin(counted, counted.c.rack_id == Rack.id).where(Rack.id > (after or 0))
    return [(rack, count) for rack, count in session.execute(query.order_by(Rack.id).limit(limit))]


@dataclass(frozen=True)
class Target:
    """A node as Prometheus is told of it; a label that is not known is left out."""

    node_id: int
    labels: Mapping[str, str]


def targets(session: Session) -> Sequence[Target]:
    """Every node that is not retired, in order of id."""
    live = select(Node.id, Node.name, Standing.pool).join(Standing, Standing.node_id == Node.id)
    rows = session.execute(live.where(Node.state != NodeState.RETIRED).order_by(Node.id)).all()
    where, models = of(session, [row[0] for row in rows]), _models(session)
    return [
        Target(node_id, _labels(name, pool, models.get(node_id, ""), where[node_id]))
        for node_id, name, pool in rows
    ]


def _labels(name: str, pool: str, model: str, place: Standpoint) -> Mapping[str, str]:
    labels = {"site": place.site, "rack": place.rack, "model": model, "pool": pool}
    return {"instance": name, "node": name, **{key: label(value) for key, value in labels.items() if value}}


def _models(session: Session) -> Mapping[int, str]:
    """The model of each node's GPUs; of several, the one that comes first by name."""
    gpus = (Device.kind == "gpu") & Device.present
    query = select(Device.node_id, func.min(Device.model)).where(gpus).group_by(Device.node_id)
    return dict(session.execute(query).all())
