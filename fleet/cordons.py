"""Cordons that nobody asked for: what each node has, and what an operator's uncordon does to them.

When there is one is decided in fleet/cordoning.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleet import events
from fleet.cordoning import CordonKind
from fleet.models import NodeCordon


def of(session: Session, node_id: int) -> Sequence[NodeCordon]:
    """A node's."""
    return of_all(session, [node_id]).get(node_id, ())


def of_all(session: Session, node_ids: Iterable[int] | None = None) -> Mapping[int, Sequence[NodeCordon]]:
    """By node, those of these nodes, or all."""
    query = select(NodeCordon).order_by(NodeCordon.node_id, NodeCordon.kind)
    if node_ids is not None:
        query = query.where(NodeCordon.node_id.in_(set(node_ids)))
    found: dict[int, list[NodeCordon]] = defaultdict(list)
    for row in session.scalars(query):
        found[row.node_id].append(row)
    return found


def reasons(session: Session) -> Mapping[int, str]:
    """By node, why it takes nothing new."""
    return {
        node_id: "; ".join(f"{row.kind}: {row.reason}" for row in rows)
        for node_id, rows in of_all(session).items()
    }


def put(session: Session, node_id: int, kind: CordonKind, reason: str, now: float) -> None:
    """Cordon a node; a cordon of the kind that is there gets the newer reason."""
    row = session.get(NodeCordon, (node_id, str(kind)))
    if row is not None:
        row.reason = reason
        session.flush()
        return
    session.add(NodeCordon(node_id=node_id, kind=str(kind), reason=reason, since=now))
    session.flush()
    data = {"by": str(kind), "reason": reason}
    events.append(session, "node.cordoned", f"node:{node_id}", data, now)


def lift(session: Session, node_id: int, kind: CordonKind, now: float) -> None:
    """End a cordon."""
    row = session.get(NodeCordon, (node_id, str(kind)))
    if row is None:
        return
    session.delete(row)
    session.flush()
    events.append(session, "node.uncordoned", f"node:{node_id}", {"by": str(kind)}, now)


def lift_all(session: Session, node_id: int) -> list[str]:
    """An operator's word ends them all; one whose reason is still there comes again. Returns their kinds."""
    kinds = [row.kind for row in of(session, node_id)]
    session.execute(delete(NodeCordon).where(NodeCordon.node_id == node_id))
    return kinds
