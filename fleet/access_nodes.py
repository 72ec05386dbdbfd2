"""Logins from the nodes' side: what each should let in, what it says of itself, and how people reach it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import access, events, nodes, trust
from fleet.agents.access_spec import AccessGrant, AccessReport, AccessSpec
from fleet.agents.root_logins import LONGEST_KRL
from fleet.lifecycle import GrantState, NodeState
from fleet.models import (
    Grant,
    GrantNode,
    LoginAccount,
    Node,
    NodeAccess,
    SshAuthority,
    SshCertificate,
    SshKey,
    Standing,
)
from fleet.principals import Principal
from fleet.revocations import revocation_list
from fleet.standing_rows import Trust

KNOWN_HOSTS = ".config/tinyfleet/known_hosts"  # below the home of whoever logs in
_REVOKED_KEPT_S = 365 * 86_400.0


def desired(session: Session, node_id: int, now: float) -> AccessSpec | None:
    """Whom this node should let in; None for one that has said nothing about logins."""
    said = session.get(NodeAccess, node_id)
    if said is None:
        return None
    query = (
        select(Grant.id, Grant.until, LoginAccount.account, LoginAccount.uid, SshKey.line)
        .join(GrantNode, GrantNode.grant_id == Grant.id)
        .join(LoginAccount, LoginAccount.id == Grant.account_id)
        .join(SshKey, SshKey.id == Grant.key_id)
        .where(GrantNode.node_id == node_id, GrantNode.end_asked_at.is_(None))
        .where(Grant.state == GrantState.ACTIVE)
        .order_by(Grant.id)
    )
    grants = [
        AccessGrant(grant_id=grant_id, account=account, uid=uid, key=line, until=until)
        for grant_id, until, account, uid, line in session.execute(query)
    ]
    ca = authority(session)
    return AccessSpec(
        grants=grants,
        user_ca=ca,
        host_certificate=said.host_certificate,
        revoked=_revoked(session, ca, now),
    )


def authority(session: Session) -> str | None:
    """Whose certificates count, TYPE BASE64; None without an authority."""
    return session.scalars(select(SshAuthority.line).order_by(SshAuthority.id.desc()).limit(1)).first()


def _revoked(session: Session, ca: str | None, now: float) -> str | None:
    """The revocation list in base64: keys that were removed, certificates of grants that have ended."""
    live = select(SshKey.fingerprint).where(SshKey.removed_at.is_(None))
    removed = select(SshKey.line).where(
        SshKey.removed_at > now - _REVOKED_KEPT_S, SshKey.fingerprint.not_in(live)
    )
    keys = session.scalars(removed.order_by(SshKey.removed_at.desc()).limit(1000)).all()
    ended = select(SshCertificate.id).join(Grant, Grant.id == SshCertificate.grant_id)
    ended = ended.where(Grant.state != GrantState.ACTIVE, SshCertificate.until > now - 86_400.0)
    serials = session.scalars(ended.order_by(SshCertificate.id.desc()).limit(4000)).all()
    if not keys and not serials:
        return None
    found = base64.b64encode(revocation_list(ca, serials, keys)).decode()
    assert len(found) <= LONGEST_KRL, len(found)
    return found


# ----------------------------------------------------------------------------------------- hearing


def record(session: Session, node: Node, report: AccessReport | None, now: float) -> bool:
    """What a node says of its logins; True when somebody who waits may want to know."""
    if report is None:
        return False
    changed = _describe(session, node, report, now)
    changed |= _join(session, node, now)
    query = select(GrantNode).where(GrantNode.node_id == node.id, GrantNode.gone_at.is_(None))
    for where in session.scalars(query.order_by(GrantNode.grant_id)).all():
        changed |= _heard(session, node, where, report, now)
    return changed


def _describe(session: Session, node: Node, report: AccessReport, now: float) -> bool:
    row = session.get(NodeAccess, node.id)
    fresh = row is None
    if row is None:
        row = NodeAccess(node_id=node.id, host_keys=[], problem="")
    if not fresh and row.host_keys != report.host_keys:
        data = {"before": list(row.host_keys), "now": report.host_keys}
        events.append(session, "node.host_keys_changed", f"node:{node.id}", data, now)
        row.host_certificate, row.certificate_until = None, None
    if report.problem and report.problem != row.problem:
        events.append(session, "node.logins_failed", f"node:{node.id}", {"problem": report.problem}, now)
    changed = fresh or row.problem != report.problem or row.host_keys != report.host_keys
    row.reported_at, row.address, row.port = now, report.address, report.port
    row.host_keys, row.certified, row.problem = list(report.host_keys), report.certified, report.problem
    row.grants = list(report.grants)
    session.add(row)
    session.flush()
    if fresh:
        nodes.redirect(session, node.id)  # from now on it is told whom to let in
    return changed


def _join(session: Session, node: Node, now: float) -> bool:
    """Grants on this node's pool that were approved before it came."""
    pool = session.scalar(select(Standing.pool).where(Standing.node_id == node.id)) or ""
    here = select(GrantNode.grant_id).where(GrantNode.node_id == node.id)
    missing = select(Grant).where(Grant.state == GrantState.ACTIVE, Grant.pool == pool, Grant.id.not_in(here))
    rows = session.scalars(missing.order_by(Grant.id)).all() if pool else []
    for grant in rows:
        access.place(session, grant, node.id, now)
    return bool(rows)


def _heard(session: Session, node: Node, where: GrantNode, report: AccessReport, now: float) -> bool:
    in_force = where.grant_id in report.grants
    if in_force and where.applied_at is None:
        where.applied_at = now
        data = {"node": node.name, "after_s": round(now - where.asked_at, 3)}
        events.append(session, "grant.applied", f"grant:{where.grant_id}", data, now)
        trust.lower(session, node.id, Trust.SHARED, "people log in", now)
        return True
    if in_force or where.end_asked_at is None or report.generation < where.since_generation:
        return False
    where.gone_at = now
    session.flush()
    data = {"node": node.name, "after_s": round(now - where.end_asked_at, 3)}
    events.append(session, "grant.gone", f"grant:{where.grant_id}", data, now)
    access.settle(session, session.get_one(Grant, where.grant_id), now)
    return True


# ---------------------------------------------------------------------------------------- reaching


@dataclass(frozen=True)
class Host:
    """How a person reaches a node by ssh, and what proves that it is that node. `user` is None without a login there."""

    node_id: int
    node: str
    address: str
    port: int
    user: str | None
    host_keys: Sequence[str]
    authority: str | None
    known_hosts: Sequence[str]
    problem: str


def alias(name: str) -> str:
    """What a node is called in known_hosts, whatever its address: HostKeyAlias."""
    return f"tinyfleet-{name}"


def command(name: str, said: NodeAccess, account: str) -> str:
    """The ssh command that logs in, once `tinyfleet access known-hosts` has written its file: nothing is asked."""
    options = (
        f"-o UserKnownHostsFile=~/{KNOWN_HOSTS} -o StrictHostKeyChecking=yes -o HostKeyAlias={alias(name)}"
    )
    port = "" if said.port == 22 else f" -p {said.port}"
    return f"ssh {options}{port} {account}@{said.address}"


def hosts(
    session: Session, principal: Principal, after: int | None, limit: int, node_id: int | None = None
) -> Sequence[Host]:
    """The nodes that people can log into, in order of id; with their host keys as the nodes, signing, reported them."""
    query = select(Node, NodeAccess).join(NodeAccess, NodeAccess.node_id == Node.id)
    query = query.where(Node.state != NodeState.RETIRED, Node.id > (after or 0))
    if node_id is not None:
        query = query.where(Node.id == node_id)
    ca = authority(session)
    users = _users(session, principal)
    return [
        Host(
            node.id,
            node.name,
            said.address,
            said.port,
            users.get(node.id),
            said.host_keys,
            ca,
            _known_hosts(node.name, said, ca),
            said.problem,
        )
        for node, said in session.execute(query.order_by(Node.id).limit(limit))
    ]


def _known_hosts(name: str, said: NodeAccess, ca: str | None) -> list[str]:
    lines = [f"{alias(name)} {key}" for key in said.host_keys]
    return [f"@cert-authority {alias(name)} {ca}", *lines] if ca and said.certified else lines


def _users(session: Session, principal: Principal) -> dict[int, str]:
    """The asker's account on each node that has said that it lets them in."""
    query = (
        select(GrantNode.node_id, LoginAccount.account)
        .join(Grant, Grant.id == GrantNode.grant_id)
        .join(LoginAccount, LoginAccount.id == Grant.account_id)
        .where(Grant.tenant == principal.tenant, Grant.person == principal.name)
        .where(Grant.state == GrantState.ACTIVE, GrantNode.applied_at.is_not(None))
        .where(GrantNode.end_asked_at.is_(None))
    )
    return dict(session.execute(query).all()) if principal.kind == "user" else {}
