"""Labels of nodes: what an operator put on them for jobs to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events, nodes, permissions
from fleet.models import NodeLabels
from fleet.principals import Principal


def of(session: Session, node_ids: Iterable[int]) -> Mapping[int, dict[str, str]]:
    """The labels of those of these nodes that have any."""
    query = select(NodeLabels).where(NodeLabels.node_id.in_(set(node_ids)))
    return {row.node_id: row.labels for row in session.scalars(query)}


def put(session: Session, node_id: int, principal: Principal, now: float, labels: Mapping[str, str]) -> None:
    """Have these and no others. What runs on the node goes on, whatever it had asked for."""
    permissions.require(principal, permissions.Permission.OPERATE)
    nodes.get(session, node_id)
    row = session.get(NodeLabels, node_id)
    before = row.labels if row is not None else {}
    if row is None:
        session.add(NodeLabels(node_id=node_id, labels=dict(labels)))
    else:
        row.labels = dict(labels)
    session.flush()
    data = {"labels": dict(labels), "before": before}
    events.append(session, "node.labelled", f"node:{node_id}", data, now)
    events.audit(session, principal, "node.label", f"node:{node_id}", data, now)
