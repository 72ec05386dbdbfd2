"""How far a node's word counts: sealed, shared or tainted; what lowers it, and who may raise it.

It falls by itself and is raised by an operator only. What lowers it: its identity in two places at once (tainted);
a result that another node found wrong, or a wall that it used to have and lacks (shared).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import events, permissions
from fleet.errors import InvalidSpec, NotFound
from fleet.models import Standing
from fleet.principals import Principal
from fleet.standing_rows import Trust

_FALLING = tuple(Trust)


def standing(session: Session, node_id: int) -> Standing:
    """A node's standing, or NotFound."""
    found = session.get(Standing, node_id)
    if found is None:
        raise NotFound("node", node_id)
    return found


def standings(session: Session, node_ids: Iterable[int]) -> Mapping[int, Standing]:
    """The standings of these nodes, by their ids."""
    query = select(Standing).where(Standing.node_id.in_(set(node_ids)))
    return {row.node_id: row for row in session.scalars(query)}


def lower(session: Session, node_id: int, to: Trust, reason: str, now: float) -> bool:
    """Trust a node no further than this; False when it was trusted no further already."""
    row = standing(session, node_id)
    if _FALLING.index(Trust(row.trust)) >= _FALLING.index(to):
        return False
    _write(session, row, to, reason, now)
    return True


def decide(
    session: Session, node_id: int, to: Trust, reason: str, principal: Principal, now: float
) -> Standing:
    """An operator's word, up or down. InvalidSpec without a reason, NotPermitted for anybody else."""
    permissions.require(principal, permissions.Permission.TRUST)
    if not reason.strip():
        raise InvalidSpec("reason", "say why: it stands beside the trust from then on")
    row = standing(session, node_id)
    before = row.trust
    _write(session, row, to, reason, now)
    data = {"trust": str(to), "before": before, "reason": reason}
    events.audit(session, principal, "node.trust", f"node:{node_id}", data, now)
    return row


def note_walls(
    session: Session, node_id: int, before: Sequence[str], missing: Sequence[str], now: float
) -> bool:
    """A node lacks these walls, by name; before, it lacked those. What is new lowers its trust: an operator who knew
    of a wall that is missing may have sealed it all the same."""
    fresh = sorted(set(missing) - set(before))
    return bool(fresh) and lower(
        session, node_id, Trust.SHARED, f"walls missing or with gaps: {', '.join(fresh)}", now
    )


def _write(session: Session, row: Standing, to: Trust, reason: str, now: float) -> None:
    data = {"trust": str(to), "before": row.trust, "reason": reason}
    row.trust, row.trust_at, row.trust_reason = to, now, reason
    session.flush()
    events.append(session, "node.trust", f"node:{row.node_id}", data, now)
