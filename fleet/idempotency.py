"""Idempotency keys: the same POST sent twice makes one row."""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet.agents.protocol import canonical_hash
from fleet.errors import IdempotencyConflict, InvalidSpec, StaleWrite
from fleet.models import IdempotencyKey
from fleet.principals import Principal

LONGEST_KEY = 200


def earlier(session: Session, principal: Principal, noun: str, key: str | None, body: Any) -> int | None:
    """The row that `key` made before, if any; IdempotencyConflict when it was of another body."""
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidSpec("idempotency key", f"must have 1 to {LONGEST_KEY} characters")
    known = session.get(IdempotencyKey, (_owner(principal), noun, key))
    if known is None:
        return None
    if known.body_hash != canonical_hash(body):
        raise IdempotencyConflict(key)
    return known.row_id


def remember(
    session: Session, principal: Principal, noun: str, key: str | None, body: Any, row_id: int, now: float
) -> None:
    """Record which row `key` made; the primary key refuses a second one (StaleWrite, when two are under way)."""
    if key is None:
        return
    row = IdempotencyKey(
        principal=_owner(principal),
        noun=noun,
        key=key,
        body_hash=canonical_hash(body),
        row_id=row_id,
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        raise StaleWrite("idempotency key", key, "the same request is under way: send it again") from error


def _owner(principal: Principal) -> str:
    return f"{principal.kind}:{principal.id}"
