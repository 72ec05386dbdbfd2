"""Logins: somebody asks for one with a key of theirs, somebody else decides, and it ends by its time or by a word.

A grant is written down for each of its nodes (`GrantNode`): since which desired generation it is wanted there, or wanted
gone, and what the node has said to that. `fleet.access_nodes` hears the nodes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet import events, idempotency, nodes, permissions
from fleet.agents.root_logins import ACCOUNT_PREFIX, FIRST_UID, LAST_UID
from fleet.errors import AlreadyExists, InvalidSpec, NotFound, NotPermitted
from fleet.firing import fire
from fleet.lifecycle import GRANT, GrantEvent, GrantState, NodeState
from fleet.models import Grant, GrantNode, LoginAccount, Node, NodeAccess, SshKey, Standing
from fleet.permissions import Permission
from fleet.principals import Principal

SHORTEST_S, LONGEST_S = 10.0, 90 * 86_400.0
USUAL_S = 7 * 86_400.0
DECIDE_WITHIN_S = 14 * 86_400.0
LONGEST_REASON = 400
MOST_OPEN = 50  # of one person
_SLUG = 24


@dataclass(frozen=True)
class Wish:
    """What somebody asks for: one of `pool` and `node_id`, for so many seconds; `key_id` may be left out by who has one
    key."""

    duration_s: float
    reason: str
    pool: str | None = None
    node_id: int | None = None
    key_id: int | None = None


def person(principal: Principal) -> str:
    """Whose keys and logins these are. NotPermitted for what is no person."""
    if principal.kind != "user":
        raise NotPermitted(f"{principal} is no person: logins are people's; ask with a tfu_ token")
    return principal.name


def decides(principal: Principal) -> bool:
    """Whether somebody decides about everybody's logins."""
    return Permission.GRANT in permissions.of(principal)


# ------------------------------------------------------------------------------------------- asking


def request(
    session: Session, wish: Wish, principal: Principal, now: float, idempotency_key: str | None = None
) -> Grant:
    """Ask for a login. InvalidSpec names the field; AlreadyExists when the same waits for a decision already."""
    permissions.require(principal, Permission.ACCESS)
    who = person(principal)
    body = vars(wish)
    earlier = idempotency.earlier(session, principal, "grant", idempotency_key, body)
    if earlier is not None:
        return session.get_one(Grant, earlier)
    _check(session, wish)
    key = _key(session, principal.tenant, who, wish.key_id)
    _refuse_more(session, principal.tenant, who, key.id, wish)
    row = Grant(
        tenant=principal.tenant,
        person=who,
        key_id=key.id,
        account_id=account(session, principal.tenant, who, now).id,
        node_id=wish.node_id,
        pool=wish.pool,
        duration_s=wish.duration_s,
        reason=wish.reason.strip(),
        state=GRANT.initial,
        state_at=now,
        deadline_at=now + DECIDE_WITHIN_S,
        requested_at=now,
        requested_by=str(principal),
    )
    session.add(row)
    session.flush()
    data = {"person": who, "target": target(row), "key": key.fingerprint, "reason": row.reason}
    events.append(session, "grant.requested", f"grant:{row.id}", data, now)
    events.audit(session, principal, "grant.request", f"grant:{row.id}", data, now)
    idempotency.remember(session, principal, "grant", idempotency_key, body, row.id, now)
    return row


def _check(session: Session, wish: Wish) -> None:
    if (wish.pool is None) == (wish.node_id is None):
        raise InvalidSpec("pool", "give a pool or a node, one of them")
    if not SHORTEST_S <= wish.duration_s <= LONGEST_S:
        raise InvalidSpec(
            "duration_s", f"give {SHORTEST_S:.0f} s to {LONGEST_S / 86_400:.0f} days ({LONGEST_S:.0f} s)"
        )
    if not wish.reason.strip():
        raise InvalidSpec("reason", "say what for: whoever decides reads it")
    if wish.node_id is not None:
        nodes.check_wanted(session, None, wish.node_id)
    elif not _nodes_of(session, wish.pool, None):
        query = select(Standing.pool).join(Node, Node.id == Standing.node_id)
        live = query.where(Node.state != NodeState.RETIRED, Standing.pool != "").distinct()
        found = session.scalars(live.order_by(Standing.pool)).all()
        there = (
            f"there is {', '.join(found[:10])}" if found else "no node is in one: ask for a node by --node"
        )
        raise InvalidSpec("pool", f"no node is in the pool {wish.pool!r}; {there}")


def _key(session: Session, tenant: str, who: str, key_id: int | None) -> SshKey:
    own = (SshKey.tenant == tenant) & (SshKey.person == who) & SshKey.removed_at.is_(None)
    found = session.scalars(select(SshKey).where(own).order_by(SshKey.id)).all()
    if not found:
        raise InvalidSpec(
            "key", "you have no key here: add one first, tinyfleet keys add ~/.ssh/id_ed25519.pub"
        )
    if key_id is None and len(found) > 1:
        raise InvalidSpec("key", f"you have {len(found)} keys: say which, by id: {_ids(found)}")
    chosen = [key for key in found if key_id in (None, key.id)]
    if not chosen:
        raise InvalidSpec("key", f"key {key_id} is not one of yours: {_ids(found)}")
    return chosen[0]


def _ids(keys: Iterable[SshKey]) -> str:
    return ", ".join(f"{key.id} ({key.label or key.fingerprint})" for key in keys)


def _refuse_more(session: Session, tenant: str, who: str, key_id: int, wish: Wish) -> None:
    waiting = [row for row in open_grants(session, tenant, who) if row.state == GrantState.REQUESTED]
    for row in waiting:
        if (row.key_id, row.node_id, row.pool) == (key_id, wish.node_id, wish.pool):
            raise AlreadyExists("grant", row.id, "it waits for a decision; tinyfleet access list shows it")
    if len(waiting) >= MOST_OPEN:
        raise InvalidSpec(
            "pool", f"{len(waiting)} requests of yours wait for a decision: withdraw some first"
        )


def account_of(session: Session, row: Grant) -> str:
    """The name of the account that a login is of."""
    return session.get_one(LoginAccount, row.account_id).account


def account(session: Session, tenant: str, who: str, now: float) -> LoginAccount:
    """The person's unix account, made up at the first request: the same for ever, and nobody else's."""
    known = select(LoginAccount).where(LoginAccount.tenant == tenant, LoginAccount.person == who)
    found = session.scalars(known).first()
    if found is not None:
        return found
    uid = (session.scalar(select(func.max(LoginAccount.uid))) or FIRST_UID - 1) + 1
    if uid > LAST_UID:
        raise InvalidSpec("person", f"all {LAST_UID - FIRST_UID + 1} accounts are given away")
    row = LoginAccount(tenant=tenant, person=who, account=_free_name(session, who), uid=uid, created_at=now)
    session.add(row)
    session.flush()
    return row


def _free_name(session: Session, who: str) -> str:
    """A name that Linux takes: the person's own as far as it can be, with a number when it is taken."""
    slug = re.sub(r"[^a-z0-9]+", "-", who.lower()).strip("-")[:_SLUG].strip("-") or "person"
    like = LoginAccount.account.startswith(f"{ACCOUNT_PREFIX}{slug}", autoescape=True)
    taken = set(session.scalars(select(LoginAccount.account).where(like)))
    names = (f"{ACCOUNT_PREFIX}{slug}{f'-{n}' if n > 1 else ''}" for n in range(1, 9999))
    return next(name for name in names if name not in taken)


# ---------------------------------------------------------------------------------------- deciding


def approve(
    session: Session, grant_id: int, principal: Principal, now: float, duration_s: float | None = None
) -> Grant:
    """Let it be, from now on, for as long as was asked or less. NotFound, InvalidTransition, InvalidSpec."""
    permissions.require(principal, Permission.GRANT)
    row = get(session, grant_id, principal)
    if duration_s is not None and not SHORTEST_S <= duration_s <= row.duration_s:
        raise InvalidSpec(
            "duration_s", f"give {SHORTEST_S:.0f} s to the {row.duration_s:.0f} s that were asked for"
        )
    key = session.get_one(SshKey, row.key_id)
    if row.state == GrantState.REQUESTED and key.removed_at is not None:
        raise InvalidSpec("key", "the key was removed meanwhile: deny this, and let them ask again")
    until = now + (row.duration_s if duration_s is None else duration_s)
    decided = {"decided_at": now, "decided_by": str(principal), "until": until, "deadline_at": until}
    fire(session, GRANT, row, GrantEvent.APPROVE, now, **decided)
    for node_id in _nodes_of(session, row.pool, row.node_id):
        place(session, row, node_id, now)
    data = {"person": row.person, "target": target(row), "until": until}
    events.audit(session, principal, "grant.approve", f"grant:{row.id}", data, now)
    return row


def place(session: Session, grant: Grant, node_id: int, now: float) -> None:
    """The grant is wanted on this node from now on."""
    generation = nodes.redirect(session, node_id)
    session.add(GrantNode(grant_id=grant.id, node_id=node_id, since_generation=generation, asked_at=now))
    session.flush()


def deny(session: Session, grant_id: int, reason: str, principal: Principal, now: float) -> Grant:
    """Refuse what was asked. NotFound, InvalidTransition."""
    permissions.require(principal, Permission.GRANT)
    row = get(session, grant_id, principal)
    _deny(session, row, reason, principal, now)
    events.audit(session, principal, "grant.deny", f"grant:{row.id}", {"reason": row.end_reason}, now)
    return row


def _deny(session: Session, row: Grant, reason: str, by: Principal, now: float) -> None:
    said = {"decided_at": now, "decided_by": str(by), "end_reason": reason.strip(), "deadline_at": None}
    fire(session, GRANT, row, GrantEvent.DENY, now, **said)


def revoke(session: Session, grant_id: int, reason: str, principal: Principal, now: float) -> Grant:
    """End it now, one's own or, for who decides, anybody's; a request is taken back. Done twice, it changes nothing."""
    permissions.require(principal, Permission.ACCESS)
    row = get(session, grant_id, principal)
    if row.state in (GrantState.REVOKING, *GRANT.final):
        return row
    end(session, row, reason, principal, now)
    events.audit(session, principal, "grant.revoke", f"grant:{row.id}", {"reason": row.end_reason}, now)
    return row


def end(session: Session, row: Grant, reason: str, by: Principal, now: float) -> bool:
    """Take a request back, or call a login off on all of its nodes; False when it had ended. The audit is the
    caller's."""
    if row.state == GrantState.REQUESTED:
        _deny(session, row, reason, by, now)
        return True
    if row.state == GrantState.ACTIVE:
        fire(session, GRANT, row, GrantEvent.REVOKE, now, ended_by=str(by), end_reason=reason.strip())
        _call_off(session, row, now)
        settle(session, row, now)
        return True
    return False


def _call_off(session: Session, row: Grant, now: float) -> None:
    places = _open_places(session, row.id)
    listening = reached(session, [where.node_id for where in places])
    for where in places:
        where.end_asked_at = now
        if where.node_id not in listening:
            where.gone_at = now  # a node that never said anything about logins was never told of this one
            continue
        where.since_generation = nodes.redirect(session, where.node_id)
    session.flush()


def settle(session: Session, row: Grant, now: float) -> bool:
    """A grant that is being revoked is revoked once no node is left that has not said so; retired ones say nothing."""
    if row.state != GrantState.REVOKING:
        return False
    live = select(Node.id).where(Node.state != NodeState.RETIRED)
    if any(True for where in _open_places(session, row.id) if where.node_id in set(session.scalars(live))):
        return False
    fire(session, GRANT, row, GrantEvent.GONE, now, deadline_at=None)
    return True


def _open_places(session: Session, grant_id: int) -> Sequence[GrantNode]:
    query = select(GrantNode).where(GrantNode.grant_id == grant_id, GrantNode.gone_at.is_(None))
    return session.scalars(query.order_by(GrantNode.node_id)).all()


def overdue(session: Session, now: float) -> Sequence[int]:
    """Grants whose state ends by itself now, and those that only wait for nodes which have been retired."""
    late = select(Grant.id).where(Grant.deadline_at <= now)
    waiting = select(GrantNode.grant_id).join(Node, Node.id == GrantNode.node_id)
    waiting = waiting.where(GrantNode.gone_at.is_(None), Node.state != NodeState.RETIRED)
    stuck = select(Grant.id).where(Grant.state == GrantState.REVOKING, Grant.id.not_in(waiting))
    return sorted({*session.scalars(late), *session.scalars(stuck)})


def conclude(session: Session, grant_id: int, now: float) -> None:
    """End what is overdue: its nodes have kept its time already, and are told to forget it."""
    row = session.get_one(Grant, grant_id)
    if settle(session, row, now) or row.deadline_at is None or row.deadline_at > now:
        return
    active = row.state == GrantState.ACTIVE
    fire(session, GRANT, row, GrantEvent.EXPIRE, now, deadline_at=None)
    if active:
        _call_off(session, row, now)


# ----------------------------------------------------------------------------------------- reading


def get(session: Session, grant_id: int, principal: Principal) -> Grant:
    """One's own, or any for who decides. NotFound."""
    row = session.get(Grant, grant_id)
    own = row is not None and (row.tenant, row.person) == (principal.tenant, principal.name)
    if row is None or not (own or decides(principal)):
        raise NotFound("grant", grant_id)
    return row


def page(
    session: Session, principal: Principal, after: int | None, limit: int, state: str | None = None
) -> Sequence[Grant]:
    """One's own grants, or everybody's for who decides, in order of id."""
    query = select(Grant).where(Grant.id > (after or 0)).order_by(Grant.id).limit(limit)
    if not decides(principal):
        query = query.where(Grant.tenant == principal.tenant, Grant.person == principal.name)
    return session.scalars(query if state is None else query.where(Grant.state == state)).all()


def open_grants(session: Session, tenant: str, who: str) -> Sequence[Grant]:
    """A person's grants that have not ended."""
    query = select(Grant).where(Grant.tenant == tenant, Grant.person == who, Grant.deadline_at.is_not(None))
    return session.scalars(query.order_by(Grant.id)).all()


def target(row: Grant) -> str:
    """In words, for events and audits."""
    return f"pool:{row.pool}" if row.pool is not None else f"node:{row.node_id}"


def places(session: Session, grant_ids: Iterable[int]) -> Mapping[int, Sequence[GrantNode]]:
    """How each of these grants stands on its nodes."""
    found: dict[int, list[GrantNode]] = {grant_id: [] for grant_id in grant_ids}
    query = select(GrantNode).where(GrantNode.grant_id.in_(found)).order_by(GrantNode.node_id)
    for row in session.scalars(query):
        found[row.grant_id].append(row)
    return found


def _nodes_of(session: Session, pool: str | None, node_id: int | None) -> Sequence[int]:
    """The nodes of a target that are not retired, whether or not they have said anything about logins."""
    query: Any = select(Node.id).where(Node.state != NodeState.RETIRED).order_by(Node.id)
    if node_id is not None:
        return session.scalars(query.where(Node.id == node_id)).all()
    return session.scalars(
        query.join(Standing, Standing.node_id == Node.id).where(Standing.pool == pool)
    ).all()


def reached(session: Session, node_ids: Iterable[int]) -> Mapping[int, NodeAccess]:
    """What these nodes said of how they are reached."""
    query = select(NodeAccess).where(NodeAccess.node_id.in_(set(node_ids)))
    return {row.node_id: row for row in session.scalars(query)}
