"""What happened (events) and who asked for it (audit): append-only rows, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet.models import Audit, Cron, Event, Job, Search, Token
from fleet.principals import Principal

Owned = Job | Search | Token | Cron
_OWNED: Mapping[str, type[Owned]] = {"job": Job, "search": Search, "token": Token, "cron": Cron}


def append(session: Session, kind: str, subject: str, data: Mapping[str, Any], now: float) -> Event:
    """Record that `kind` (such as job.queued) happened to `subject`: a noun, a colon and an id, such as job:7."""
    event = Event(at=now, kind=kind, subject=subject, data=dict(data))
    session.add(event)
    return event


def page(session: Session, after_id: int = 0, limit: int = 100) -> Sequence[Event]:
    """Events after the cursor `after_id`, oldest first."""
    return session.scalars(select(Event).where(Event.id > after_id).order_by(Event.id).limit(limit)).all()


def visible(session: Session, rows: Sequence[Event], tenant: str) -> Sequence[Event]:
    """Those events that a tenant may see: about machines, and about its own jobs, searches and tokens."""
    mine = {noun: _owned(session, noun, table, rows, tenant) for noun, table in _OWNED.items()}
    return [row for row in rows if _noun(row) not in mine or row.subject in mine[_noun(row)]]


def _noun(row: Event) -> str:
    return row.subject.partition(":")[0]


def _owned(session: Session, noun: str, table: type[Owned], rows: Sequence[Event], tenant: str) -> set[str]:
    ids = {int(row.subject.partition(":")[2]) for row in rows if _noun(row) == noun}
    if not ids:
        return set()
    found = session.scalars(select(table.id).where(table.id.in_(ids), table.tenant == tenant))
    return {f"{noun}:{row_id}" for row_id in found}


def newest(session: Session) -> int:
    """The id of the last event; 0 before the first."""
    return session.scalar(select(func.max(Event.id))) or 0


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
