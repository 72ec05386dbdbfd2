"""People's SSH keys: judged when they come, and kept as they were parsed. A key that goes takes its logins along."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet import access, events, permissions
from fleet.agents.public_keys import KeyRefused, PublicKey, parse
from fleet.errors import AlreadyExists, InvalidSpec, NotFound
from fleet.models import Grant, SshKey
from fleet.permissions import Permission
from fleet.principals import Principal

MOST = 20  # of one person
LONGEST_LABEL = 100


def parsed(text: str, field: str = "public_key") -> PublicKey:
    """The key in a line. InvalidSpec naming the field, with what to do."""
    try:
        return parse(text)
    except KeyRefused as error:
        raise InvalidSpec(field, str(error)) from error


def add(
    session: Session, key: PublicKey, label: str, principal: Principal, now: float, source: str = ""
) -> SshKey:
    """Keep a key of one's own. AlreadyExists for one that is there, InvalidSpec for one too many."""
    permissions.require(principal, Permission.ACCESS)
    row = insert(session, key, label, principal, now, source)
    data = {"fingerprint": key.fingerprint, "source": source}
    events.audit(session, principal, "key.add", f"key:{row.id}", data, now)
    return row


def insert(
    session: Session, key: PublicKey, label: str, principal: Principal, now: float, source: str = ""
) -> SshKey:
    """As `add`; the audit is the caller's."""
    who = access.person(principal)
    known = session.scalars(
        select(SshKey).where(SshKey.fingerprint == key.fingerprint, SshKey.removed_at.is_(None))
    ).first()
    if known is not None:
        own = (known.tenant, known.person) == (principal.tenant, who)
        fix = (
            "it is yours already: see tinyfleet keys list"
            if own
            else "somebody else has it: use a key of your own, or ask an administrator to remove it there"
        )
        raise AlreadyExists("key", key.fingerprint, fix)
    if len(live(session, principal.tenant, who)) >= MOST:
        raise InvalidSpec("public_key", f"you have {MOST} keys: remove one first")
    row = SshKey(
        tenant=principal.tenant,
        person=who,
        token_id=principal.id,
        line=key.line,
        type=key.type,
        bits=key.bits,
        fingerprint=key.fingerprint,
        label=(label or key.comment)[:LONGEST_LABEL],
        source=source,
        created_at=now,
    )
    session.add(row)
    session.flush()
    data = {"person": who, "fingerprint": key.fingerprint, "source": source}
    events.append(session, "key.added", f"key:{row.id}", data, now)
    return row


def get(session: Session, key_id: int) -> SshKey:
    """A key that is or was there. Raises NoResultFound."""
    return session.get_one(SshKey, key_id)


def live(session: Session, tenant: str, who: str) -> Sequence[SshKey]:
    """A person's keys, in order of id."""
    own = (SshKey.tenant == tenant) & (SshKey.person == who) & SshKey.removed_at.is_(None)
    return session.scalars(select(SshKey).where(own).order_by(SshKey.id)).all()


def page(session: Session, principal: Principal, after: int | None, limit: int) -> Sequence[SshKey]:
    """One's own keys, or everybody's for who decides about logins, in order of id."""
    query = select(SshKey).where(SshKey.id > (after or 0), SshKey.removed_at.is_(None))
    if not access.decides(principal):
        query = query.where(SshKey.tenant == principal.tenant, SshKey.person == principal.name)
    return session.scalars(query.order_by(SshKey.id).limit(limit)).all()


def remove(session: Session, key_id: int, principal: Principal, now: float) -> SshKey:
    """Take a key out, one's own or, for who decides about logins, anybody's; its logins end. NotFound."""
    permissions.require(principal, Permission.ACCESS)
    row = session.get(SshKey, key_id)
    own = row is not None and (row.tenant, row.person) == (principal.tenant, principal.name)
    if row is None or row.removed_at is not None or not (own or access.decides(principal)):
        raise NotFound("key", key_id)
    ended = end(session, row, "its key was removed", principal, now)
    data = {"fingerprint": row.fingerprint, "grants": ended}
    events.audit(session, principal, "key.remove", f"key:{row.id}", data, now)
    return row


def end(session: Session, row: SshKey, reason: str, by: Principal, now: float) -> int:
    """Remove a key and end all of its grants; how many those were. The audit is the caller's."""
    row.removed_at = now
    session.flush()
    events.append(session, "key.removed", f"key:{row.id}", {"fingerprint": row.fingerprint}, now)
    query = select(Grant).where(Grant.key_id == row.id, Grant.deadline_at.is_not(None)).order_by(Grant.id)
    grants = session.scalars(query).all()
    return sum(access.end(session, grant, reason, by, now) for grant in grants)
