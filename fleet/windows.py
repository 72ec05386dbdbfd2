"""Windows: nodes that are reserved for a tenant, or in maintenance, from then until then.

Nothing of others is begun there that could still run when a window opens. When maintenance does, what runs there all the
same (it had begun before anybody asked for the window) makes way and is queued again; a reservation lets it end.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events, permissions
from fleet.errors import InvalidSpec, InvalidTransition, NotFound
from fleet.lifecycle import NodeState
from fleet.models import Node, NodeWindow, Tenant
from fleet.principals import Principal

LONGEST_S = 366 * 86_400.0
MOST_NODES = 1024


def add(
    session: Session,
    *,
    kind: str,
    tenant: str | None,
    node_ids: Sequence[int],
    starts_at: float,
    ends_at: float,
    reason: str,
    principal: Principal,
    now: float,
) -> NodeWindow:
    """Keep nodes. InvalidSpec names the field: nodes that there are not, times that cannot be, a tenant that is not."""
    permissions.require(principal, permissions.Permission.OPERATE)
    ids = sorted(set(node_ids))
    _check_times(starts_at, ends_at, now)
    _check_whose(session, kind, tenant)
    _check_nodes(session, ids)
    if kind == "reservation":
        _check_free(session, ids, tenant, starts_at, ends_at)
    row = NodeWindow(
        kind=kind,
        tenant=tenant,
        node_ids=ids,
        starts_at=starts_at,
        ends_at=ends_at,
        reason=reason,
        created_by=str(principal),
        created_at=now,
    )
    session.add(row)
    session.flush()
    data = {"kind": kind, "nodes": ids, "starts_at": starts_at, "ends_at": ends_at}
    for node_id in ids:  # everybody sees what happens to nodes; for whom they are kept is between two
        events.append(session, f"node.{kind}", f"node:{node_id}", {**data, "window": row.id}, now)
    events.audit(session, principal, "window.add", f"window:{row.id}", {**data, "tenant": tenant}, now)
    return row


def _check_times(starts_at: float, ends_at: float, now: float) -> None:
    if ends_at <= starts_at:
        raise InvalidSpec("ends_at", "must be later than starts_at")
    if ends_at <= now:
        raise InvalidSpec("ends_at", "is over already")
    if ends_at - starts_at > LONGEST_S:
        raise InvalidSpec("ends_at", f"a window is at most {LONGEST_S / 86_400:.0f} days long")


def _check_whose(session: Session, kind: str, tenant: str | None) -> None:
    if (kind == "reservation") != (tenant is not None):
        raise InvalidSpec("tenant", "a reservation is for a tenant, maintenance for none")
    if tenant is not None and session.get(Tenant, tenant) is None:
        raise InvalidSpec("tenant", f"there is no tenant {tenant}; see: tinyfleet tenants list")


def _check_nodes(session: Session, node_ids: Sequence[int]) -> None:
    live = (Node.id.in_(node_ids)) & (Node.state != NodeState.RETIRED)
    known = set(session.scalars(select(Node.id).where(live)))
    missing = [node_id for node_id in node_ids if node_id not in known]
    if not node_ids or missing:
        raise InvalidSpec("nodes", f"there is no node {missing[0]}" if missing else "name at least one")


def _check_free(
    session: Session, node_ids: Sequence[int], tenant: str | None, starts_at: float, ends_at: float
) -> None:
    there = NodeWindow.cancelled_at.is_(None) & (NodeWindow.ends_at > starts_at)
    others = there & (NodeWindow.starts_at < ends_at) & (NodeWindow.tenant != tenant)
    for row in session.scalars(select(NodeWindow).where(others)):
        if shared := set(row.node_ids) & set(node_ids):
            node = session.get_one(Node, min(shared))
            raise InvalidSpec("nodes", f"{node.name} is reserved for {row.tenant} then (window {row.id})")


def get(session: Session, window_id: int) -> NodeWindow:
    """The window, or NotFound."""
    row = session.get(NodeWindow, window_id)
    if row is None:
        raise NotFound("window", window_id)
    return row


def page(session: Session, after: int | None, limit: int, now: float) -> Sequence[NodeWindow]:
    """Windows that are not over, in order of id."""
    live = NodeWindow.cancelled_at.is_(None) & (NodeWindow.ends_at > now) & (NodeWindow.id > (after or 0))
    return session.scalars(select(NodeWindow).where(live).order_by(NodeWindow.id).limit(limit)).all()


def cancel(session: Session, window_id: int, principal: Principal, now: float) -> NodeWindow:
    """Keep the nodes no longer. InvalidTransition for one that is over."""
    permissions.require(principal, permissions.Permission.OPERATE)
    row = get(session, window_id)
    if row.ends_at <= now:
        raise InvalidTransition("window", "over", "cancel", ())
    if row.cancelled_at is None:
        row.cancelled_at = now
        session.flush()
        events.audit(session, principal, "window.cancel", f"window:{window_id}", {}, now)
    return row
