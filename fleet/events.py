"""What happened (events) and who asked for it (audit): append-only rows, in the transaction of the change.

Readers keep a cursor, and none of them may miss an event. On SQLite there is one writer: ids are given in the order of
commits. On PostgreSQL a transaction that took an earlier id may commit later; there the order is that of transactions
(`xid`), and a reader sees only those that began before every one that is still under way: what it has not seen yet
comes after what it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, literal_column, select, tuple_
from sqlalchemy.orm import Session

from fleet import permissions
from fleet.models import Attempt, Audit, Cron, Event, Grant, Job, Search, SshKey, Token, Webhook
from fleet.principals import Principal

# Nouns that are nobody's own: machines, where they stand, and what everybody may use.
SHARED = frozenset({"node", "device", "gpu", "rack", "place", "site", "kernel", "quarantine"})


def append(session: Session, kind: str, subject: str, data: Mapping[str, Any], now: float) -> Event:
    """Record that `kind` (such as job.queued) happened to `subject`: a noun, a colon and an id, such as job:7."""
    event = Event(at=now, kind=kind, subject=subject, data=dict(data))
    session.add(event)
    return event


def page(
    session: Session, after_id: int = 0, limit: int = 100, subject: str | None = None
) -> Sequence[Event]:
    """Events after the cursor `after_id` (the id of the last one seen), oldest first; only about `subject`, if given."""
    query = select(Event).where(*_settled(session), *_after(session, after_id))
    if subject is not None:
        query = query.where(Event.subject == subject)
    return session.scalars(query.order_by(*_order(session)).limit(limit)).all()


def latest(session: Session, limit: int = 100, subject: str | None = None) -> Sequence[Event]:
    """The newest events, oldest first."""
    query = select(Event).where(*_settled(session))
    if subject is not None:
        query = query.where(Event.subject == subject)
    newest_first = [each.desc() for each in _order(session)]
    return tuple(reversed(session.scalars(query.order_by(*newest_first).limit(limit)).all()))


def newest(session: Session) -> int:
    """The id of the last event, as a cursor; 0 before the first."""
    found = latest(session, 1)
    return found[0].id if found else 0


def _ordered_by_transaction(session: Session) -> bool:
    return session.get_bind().dialect.name == "postgresql"


def _order(session: Session) -> list[ColumnElement[Any]]:
    by_id: ColumnElement[Any] = Event.__table__.c.id
    return [Event.__table__.c.xid, by_id] if _ordered_by_transaction(session) else [by_id]


def _settled(session: Session) -> list[ColumnElement[bool]]:
    """Written by a transaction before which none is still under way."""
    if not _ordered_by_transaction(session):
        return []
    return [Event.xid < literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint", BigInteger)]


def _after(session: Session, after_id: int) -> list[ColumnElement[bool]]:
    if not _ordered_by_transaction(session):
        return [Event.id > after_id]
    seen = session.scalar(select(Event.xid).where(Event.id == after_id))
    if seen is None:  # from the first one on, or of an event that retention has taken
        return [Event.id > after_id]
    return [tuple_(Event.xid, Event.id) > tuple_(seen, after_id)]


def visible(session: Session, rows: Sequence[Event], tenant: str) -> Sequence[Event]:
    """Those events that a tenant may see: about what everybody shares, and about what is its own.

    What is not known to be shared is shown to those who own the machines, and to no other tenant.
    """
    mine = {noun: _owned(session, noun, query, rows) for noun, query in _owners(tenant).items()}
    return [row for row in rows if _is_visible(row, mine, tenant)]


def _is_visible(row: Event, mine: Mapping[str, set[str]], tenant: str) -> bool:
    noun = _noun(row)
    if noun in mine:
        return row.subject in mine[noun]
    return noun in SHARED or tenant == permissions.HOME


def _owners(tenant: str) -> Mapping[str, Select[Any]]:
    """For each noun that is somebody's: the ids of the tenant's."""
    own = {
        noun: select(table.id).where(table.tenant == tenant)
        for noun, table in (
            ("job", Job),
            ("search", Search),
            ("token", Token),
            ("cron", Cron),
            ("webhook", Webhook),
            ("grant", Grant),
            ("key", SshKey),
        )
    }
    attempts = select(Attempt.id).join(Job, Job.id == Attempt.job_id).where(Job.tenant == tenant)
    return {**own, "attempt": attempts}


def _noun(row: Event) -> str:
    return row.subject.partition(":")[0]


def _owned(session: Session, noun: str, query: Select[Any], rows: Sequence[Event]) -> set[str]:
    """The subjects of this noun that the query has the ids of."""
    ids = {int(row.subject.partition(":")[2]) for row in rows if _noun(row) == noun}
    if not ids:
        return set()
    (column,) = query.selected_columns
    return {f"{noun}:{row_id}" for row_id in session.scalars(query.where(column.in_(ids)))}


def audit(
    session: Session, principal: Principal, action: str, subject: str, data: Mapping[str, Any], now: float
) -> None:
    """Record a request by a principal; agents' reports are events only, and so is what a cron does by the clock."""
    if principal.kind == "cron":
        return
    session.add(
        Audit(
            at=now,
            tenant=principal.tenant,
            principal=str(principal),
            action=action,
            subject=subject,
            data=dict(data),
        )
    )


def audit_page(session: Session, after_id: int = 0, limit: int = 100) -> Sequence[Audit]:
    """Audit rows after the cursor `after_id`, oldest first."""
    return session.scalars(select(Audit).where(Audit.id > after_id).order_by(Audit.id).limit(limit)).all()
