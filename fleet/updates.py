"""Updates: which version the fleet is meant to run, and how far each node has come; an operator's wishes about both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import events, nodes, permissions, releases
from fleet.agents.protocol import Inventory, UpdateReport, UpdateSpec
from fleet.errors import InvalidSpec, InvalidTransition
from fleet.firing import amend
from fleet.firing import fire as fire_row
from fleet.lifecycle import AttemptState, NodeState
from fleet.lifecycle_updates import ROLLOUT, UPDATE, RolloutEvent, RolloutState, UpdateEvent, UpdateState
from fleet.models import Attempt, Node, NodeUpdate, Rollout, Standing
from fleet.principals import Principal
from fleet.settings import Timings
from fleet.updating import NodeView, RolloutView

SOAK_S = 600.0


def current(session: Session) -> Rollout | None:
    """The rollout of the version that is wanted; None when none is."""
    live = Rollout.state != RolloutState.SUPERSEDED
    return session.scalars(select(Rollout).where(live).order_by(Rollout.id.desc()).limit(1)).first()


def installed(session: Session, folder: Path) -> str | None:
    """The version that a new node gets; None when nobody has said. One that canaries try, or that an operator has to look
    at first, is not for nodes that have none to go back to: they get what most nodes run, where that is a release here."""
    row = current(session)
    if row is None or (row.state == RolloutState.REST and not row.paused):
        return None if row is None else row.version
    known = [each.version for each in releases.listed(folder)]
    live = (Node.state != NodeState.RETIRED) & Node.updatable & Node.agent_version.in_(known)
    found = session.execute(select(Node.agent_version, func.count()).where(live).group_by(Node.agent_version))
    counts: dict[str, int] = dict(found.all())
    return max(counts, key=lambda each: (counts[each], -known.index(each)), default=row.version)


# -------------------------------------------------------------------------------------------- wishes


def want(
    session: Session,
    folder: Path,
    version: str,
    principal: Principal,
    now: float,
    *,
    canary: Sequence[str] = (),
    canaries: int = 1,
    soak_s: float = SOAK_S,
    at_once: int = 1,
) -> Rollout:
    """Have every node run this version, canaries first. InvalidSpec for a version that was not added, and for a canary
    that is no node. Wanting the same version again tries the nodes again that went back."""
    permissions.require(principal, permissions.Permission.TRUST)
    known = [each.version for each in releases.listed(folder)]
    if version not in known:
        there = ", ".join(known) or "none"
        raise InvalidSpec(
            "version",
            f"there is no release {version}; there is {there} (make release, tinyfleet release add DIR)",
        )
    for name in canary:
        nodes.named(session, name)
    before = current(session)
    if before is not None:
        _supersede(session, before, now)
    row = Rollout(
        version=version,
        state=ROLLOUT.initial,
        state_at=now,
        canary=sorted(set(canary)),
        canaries=canaries,
        soak_s=soak_s,
        at_once=at_once,
        created_at=now,
        created_by=str(principal),
    )
    session.add(row)
    session.flush()
    data = {
        "version": version,
        "canary": row.canary,
        "canaries": canaries,
        "soak_s": soak_s,
        "at_once": at_once,
    }
    events.append(session, "rollout.canary", f"rollout:{row.id}", {"version": version}, now)
    events.audit(session, principal, "updates.set", f"rollout:{row.id}", data, now)
    return row


def _supersede(session: Session, row: Rollout, now: float) -> None:
    fire_row(session, ROLLOUT, row, RolloutEvent.SUPERSEDE, now)
    for part in parts(session, row.id).values():
        if part.state == UpdateState.OFFERED:
            fire_row(session, UPDATE, part, UpdateEvent.WITHDRAW, now)
            nodes.redirect(session, part.node_id)


def promote(session: Session, principal: Principal, now: float) -> Rollout:
    """Do not wait for the canaries any longer. InvalidTransition when there is nothing to promote."""
    permissions.require(principal, permissions.Permission.TRUST)
    row = _running(session, RolloutEvent.PROMOTE)
    fire_row(session, ROLLOUT, row, RolloutEvent.PROMOTE, now)
    events.audit(session, principal, "updates.promote", f"rollout:{row.id}", {}, now)
    return row


def pause(session: Session, principal: Principal, paused: bool, reason: str, now: float) -> Rollout:
    """Offer nobody anything, or go on. Going on, the failures that there are count no more."""
    permissions.require(principal, permissions.Permission.OPERATE)
    row = _running(session, RolloutEvent.SUPERSEDE)
    set_paused(session, row, paused, reason or f"by {principal.name}", now)
    events.audit(
        session, principal, "updates.pause", f"rollout:{row.id}", {"paused": paused, "reason": reason}, now
    )
    return row


def set_paused(session: Session, row: Rollout, paused: bool, reason: str, now: float) -> None:
    """Write the axis, with its event."""
    if row.paused == paused:
        return
    looked = now if not paused else row.looked_at
    amend(
        session, "rollout", row, {"paused": paused, "reason": reason if paused else "", "looked_at": looked}
    )
    what = "paused" if paused else "resumed"
    events.append(session, f"rollout.{what}", f"rollout:{row.id}", {"reason": reason}, now)


def _running(session: Session, event: RolloutEvent) -> Rollout:
    row = current(session)
    if row is None:
        raise InvalidTransition("rollout", "not there", event, ())
    return row


# ------------------------------------------------------------------------------------------- reading


def parts(session: Session, rollout_id: int) -> Mapping[int, NodeUpdate]:
    """Each node's part in a rollout, by the node's id."""
    rows = session.scalars(select(NodeUpdate).where(NodeUpdate.rollout_id == rollout_id))
    return {row.node_id: row for row in rows}


def updating(session: Session) -> frozenset[int]:
    """The nodes that are asked to change their version, and take nothing new until they have."""
    return frozenset(
        session.scalars(select(NodeUpdate.node_id).where(NodeUpdate.state == UpdateState.OFFERED))
    )


def rollout_view(row: Rollout) -> RolloutView:
    """As the planner sees it."""
    return RolloutView(
        id=row.id,
        version=row.version,
        state=row.state,
        canary=frozenset(row.canary),
        canaries=row.canaries,
        soak_s=row.soak_s,
        at_once=row.at_once,
        paused=row.paused,
        looked_at=row.looked_at,
    )


def node_views(
    session: Session, row: Rollout | None, now: float, timings: Timings, up_since: float
) -> tuple[NodeView, ...]:
    """Every node that is not retired, with its part in the rollout."""
    held = (
        select(Attempt.node_id, func.count())
        .where(Attempt.state != AttemptState.ENDED)
        .group_by(Attempt.node_id)
    )
    busy: dict[int, int] = dict(session.execute(held).all())
    mine = {} if row is None else parts(session, row.id)
    contested = select(Standing.node_id).where(Standing.contested_at.is_not(None))
    disputed = set(session.scalars(contested))
    query = select(Node).where(Node.state != NodeState.RETIRED).order_by(Node.id)
    return tuple(
        _view(node, mine.get(node.id), busy.get(node.id, 0), node.id in disputed, now, timings, up_since)
        for node in session.scalars(query)
    )


def _view(
    node: Node,
    part: NodeUpdate | None,
    attempts: int,
    contested: bool,
    now: float,
    timings: Timings,
    up_since: float,
) -> NodeView:
    return NodeView(
        id=node.id,
        name=node.name,
        version=node.agent_version,
        lifecycle=node.state,
        contact=str(nodes.contact(node, now, timings, up_since)),
        updatable=node.updatable,
        attempts=attempts,
        contested=contested,
        state=None if part is None else part.state,
        ring="" if part is None else part.ring,
        since=0.0 if part is None else part.state_at,
        offered_at=0.0 if part is None else part.offered_at,
        error="" if part is None else part.error,
    )


# -------------------------------------------------------------------------------------- the exchange


def desired(session: Session, node_id: int) -> UpdateSpec | None:
    """What a node is asked to run; None when it may stay as it is."""
    query = (
        select(Rollout.version)
        .join(NodeUpdate, NodeUpdate.rollout_id == Rollout.id)
        .where(NodeUpdate.node_id == node_id, NodeUpdate.state == UpdateState.OFFERED)
    )
    version = session.scalars(query).first()
    return None if version is None else UpdateSpec(version=version)


def record(
    session: Session, node: Node, inventory: Inventory | None, report: UpdateReport | None, now: float
) -> bool:
    """Take in what a node says of its version; True when the controllers have something to look at."""
    row = current(session)
    part = None if row is None else parts(session, row.id).get(node.id)
    if row is None or part is None:
        return False
    if report is not None and report.version == row.version and report.state == "failed":
        return _fail(session, part, report.error, now)
    if inventory is not None and inventory.agent_version == row.version and part.state == UpdateState.OFFERED:
        fire_row(session, UPDATE, part, UpdateEvent.DONE, now, progress="")
        nodes.redirect(session, node.id)
        return True
    if report is not None and part.state == UpdateState.OFFERED and part.progress != report.state:
        part.progress = report.state
    return False


def _fail(session: Session, part: NodeUpdate, error: str, now: float) -> bool:
    """Its error is recorded once; a node repeats it until it has another version."""
    if part.state not in (UpdateState.OFFERED, UpdateState.UPDATED):
        return False
    fire_row(session, UPDATE, part, UpdateEvent.FAIL, now, error=error)
    nodes.redirect(session, part.node_id)
    return True
