"""Webhooks: where a tenant's events are sent to. Adding, reading, disabling, rotating, and delivering anew.

What is sent when is decided in fleet/webhook_plan.py and done by fleet/webhook_sending.py. A webhook's address is a
credential itself (whoever knows one of Slack's may write there): it is kept as secrets are and never shown again.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet import events, idempotency, permissions, secrets_kept
from fleet.errors import AlreadyExists, InvalidSpec, InvalidTransition, NotFound
from fleet.firing import amend
from fleet.guard import Target
from fleet.models import Delivery, Event, Webhook
from fleet.principals import Principal
from fleet.resources import rfc3339
from fleet.webhook_plan import DELIVERY, DeliveryState, Shape, Told, body, new_secret

MOST = 50  # webhooks of one tenant
OLD_SECRET_S = 86_400.0  # so long after a rotation what is sent is signed with the old secret too
_KIND = re.compile(r"[a-z0-9_*?]+(\.[a-z0-9_*?]+)?")


@dataclass(frozen=True)
class Address:
    """Where a webhook leads, and what its bodies are signed with: the newest secret first."""

    url: str
    secrets: tuple[str, ...]
    old_until: float = 0.0

    def signing(self, now: float) -> tuple[str, ...]:
        """The secrets that count now."""
        return self.secrets if now < self.old_until else self.secrets[:1]


def add(
    session: Session,
    *,
    name: str,
    target: Target,
    kinds: Sequence[str],
    shape: Shape,
    principal: Principal,
    keys: Sequence[str],
    now: float,
    idempotency_key: str | None = None,
) -> tuple[Webhook, str]:
    """A new webhook for events from now on, and its signing secret, which is shown this once. `target`: its address,
    checked by fleet.guard. InvalidSpec, AlreadyExists."""
    permissions.require(principal, permissions.Permission.WEBHOOKS)
    asked = {"name": name, "url": target.url, "kinds": list(kinds), "shape": str(shape)}
    earlier = idempotency.earlier(session, principal, "webhook", idempotency_key, asked)
    if earlier is not None:
        raise AlreadyExists("webhook", earlier, "its secret was shown once: rotate it for another")
    _check(session, name, kinds, principal.tenant)
    row = Webhook(
        tenant=principal.tenant,
        name=name,
        host=target.host,
        shape=str(shape),
        kinds=list(kinds),
        cursor=events.newest(session),
        created_by=str(principal),
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError as error:  # another request was faster
        raise AlreadyExists("webhook", name, "choose another name, or remove that one first") from error
    idempotency.remember(session, principal, "webhook", idempotency_key, asked, row.id, now)
    secret = new_secret(secrets.token_bytes(32))
    _keep(session, row, Address(target.url, (secret,)), keys, now)
    about = {"name": name, "host": target.host, "kinds": list(kinds), "shape": str(shape)}
    events.append(session, "webhook.added", f"webhook:{row.id}", about, now)
    events.audit(session, principal, "webhook.add", f"webhook:{row.id}", about, now)
    return row, secret


def _check(session: Session, name: str, kinds: Sequence[str], tenant: str) -> None:
    for place, kind in enumerate(kinds):
        if len(kind) > 100 or not _KIND.fullmatch(kind):
            raise InvalidSpec(
                f"kinds[{place}]", "give a kind of events, as cron.failed, or a pattern, as cron.*"
            )
    live = (Webhook.tenant == tenant) & Webhook.removed_at.is_(None)
    if session.scalars(select(Webhook.id).where(live, Webhook.name == name)).first() is not None:
        raise AlreadyExists("webhook", name, "choose another name, or remove that one first")
    if (session.scalar(select(func.count()).select_from(Webhook).where(live)) or 0) >= MOST:
        raise InvalidSpec("name", f"the tenant has {MOST} webhooks already: remove one first")


def _keep(session: Session, row: Webhook, address: Address, keys: Sequence[str], now: float) -> None:
    kept = json.dumps({"url": address.url, "secrets": address.secrets, "old_until": address.old_until})
    secrets_kept.store(session, row.tenant, _secret_name(row), kept, keys, row.created_by, now)


def _secret_name(row: Webhook) -> str:
    """No user's secret has a slash in its name."""
    return f"webhook/{row.id}"


def address_of(session: Session, row: Webhook, keys: Sequence[str]) -> Address:
    """Where the webhook leads. NotFound, InvalidSpec when no key opens it."""
    kept = json.loads(secrets_kept.value_of(session, row.tenant, _secret_name(row), keys))
    return Address(kept["url"], tuple(kept["secrets"]), kept["old_until"])


# --------------------------------------------------------------------------------------------- reading


def get(session: Session, webhook_id: int, tenant: str) -> Webhook:
    """The tenant's webhook, or NotFound."""
    row = session.get(Webhook, webhook_id)
    if row is None or row.tenant != tenant or row.removed_at is not None:
        raise NotFound("webhook", webhook_id)
    return row


def page(
    session: Session, tenant: str, name: str | None = None, after: int | None = None, limit: int = 50
) -> Sequence[Webhook]:
    """A tenant's webhooks, newest first, with ids below the cursor `after`; or the one of a name."""
    query = select(Webhook).where(Webhook.tenant == tenant, Webhook.removed_at.is_(None))
    if name is not None:
        query = query.where(Webhook.name == name)
    if after is not None:
        query = query.where(Webhook.id < after)
    return session.scalars(query.order_by(Webhook.id.desc()).limit(limit)).all()


def deliveries(
    session: Session,
    webhook_id: int,
    state: DeliveryState | None = None,
    after: int | None = None,
    limit: int = 50,
) -> Sequence[Delivery]:
    """A webhook's deliveries, newest first, with ids below the cursor `after`."""
    query = select(Delivery).where(Delivery.webhook_id == webhook_id)
    if state is not None:
        query = query.where(Delivery.state == state)
    if after is not None:
        query = query.where(Delivery.id < after)
    return session.scalars(query.order_by(Delivery.id.desc()).limit(limit)).all()


# -------------------------------------------------------------------------------------------- changing


def remove(session: Session, webhook_id: int, principal: Principal, now: float) -> None:
    """Send nothing more there, and forget its address and secret."""
    row = _changing(session, webhook_id, principal)
    amend(session, "webhook", row, {"removed_at": now})
    secrets_kept.forget(session, row.tenant, _secret_name(row))
    events.append(session, "webhook.removed", f"webhook:{row.id}", {"name": row.name}, now)
    events.audit(session, principal, "webhook.remove", f"webhook:{row.id}", {"name": row.name}, now)


def enable(session: Session, webhook_id: int, principal: Principal, now: float) -> Webhook:
    """Send there again, from the events of now on; what is dead stays so until it is delivered anew."""
    row = _changing(session, webhook_id, principal)
    if row.disabled_at is not None:
        changes = {"disabled_at": None, "disabled_reason": "", "deaths": 0, "cursor": events.newest(session)}
        amend(session, "webhook", row, changes)
        events.append(session, "webhook.enabled", f"webhook:{row.id}", {"name": row.name}, now)
        events.audit(session, principal, "webhook.enable", f"webhook:{row.id}", {}, now)
    return row


def disable(session: Session, row: Webhook, reason: str, now: float) -> None:
    """Send nothing there until somebody enables it."""
    here = update(Webhook).where(Webhook.id == row.id, Webhook.disabled_at.is_(None))
    changed = here.values(disabled_at=now, disabled_reason=reason, generation=Webhook.generation + 1)
    if cast("CursorResult[Any]", session.execute(changed)).rowcount:
        about = {"name": row.name, "reason": reason}
        events.append(session, "webhook.disabled", f"webhook:{row.id}", about, now)


def disown(session: Session, tenant: str, makers: set[str], now: float) -> int:
    """Disable every webhook of people who were removed; returns how many."""
    theirs = (Webhook.tenant == tenant) & Webhook.created_by.in_(makers) & Webhook.removed_at.is_(None)
    rows = session.scalars(select(Webhook).where(theirs, Webhook.disabled_at.is_(None))).all()
    for row in rows:
        disable(session, row, "its person was removed", now)
    return len(rows)


def rotate(
    session: Session, webhook_id: int, principal: Principal, keys: Sequence[str], now: float
) -> tuple[Webhook, str]:
    """A new signing secret, shown this once; for a day what is sent is signed with the old one too."""
    row = _changing(session, webhook_id, principal)
    known = address_of(session, row, keys)
    secret = new_secret(secrets.token_bytes(32))
    fresh = Address(known.url, (secret, known.secrets[0]), now + OLD_SECRET_S)
    _keep(session, row, fresh, keys, now)
    events.audit(session, principal, "webhook.rotate", f"webhook:{row.id}", {}, now)
    return row, secret


def try_out(session: Session, webhook_id: int, principal: Principal, now: float) -> Delivery:
    """Send a `webhook.test` there."""
    row = _changing(session, webhook_id, principal)
    _refuse_disabled(row, "test")
    event = events.append(session, "webhook.test", f"webhook:{row.id}", {"name": row.name}, now)
    session.flush()
    events.audit(session, principal, "webhook.test", f"webhook:{row.id}", {}, now)
    return insert_delivery(session, row, event, now)


def deliver_anew(
    session: Session, webhook_id: int, delivery_id: int, principal: Principal, now: float
) -> Delivery:
    """Send once more what was delivered or given up, with its message id, so that a receiver knows it again; what waits
    for its next try is tried now."""
    row = _changing(session, webhook_id, principal)
    _refuse_disabled(row, "deliver anew")
    old = session.get(Delivery, delivery_id)
    if old is None or old.webhook_id != row.id:
        raise NotFound("delivery", delivery_id)
    newest = select(Delivery).where(Delivery.webhook_id == row.id, Delivery.event_id == old.event_id)
    last = session.scalars(newest.order_by(Delivery.turn.desc()).limit(1)).one()
    amend(session, "webhook", row, {})  # two at once would have the same turn
    events.audit(session, principal, "webhook.redeliver", f"webhook:{row.id}", {"delivery": last.id}, now)
    if last.state == DeliveryState.PENDING:
        amend(session, "delivery", last, {"next_at": now})
        return last
    fresh = _delivery(row, old.event_id, old.kind, old.body, last.turn + 1, old.message_id, now)
    session.add(fresh)
    session.flush()
    return fresh


def _changing(session: Session, webhook_id: int, principal: Principal) -> Webhook:
    permissions.require(principal, permissions.Permission.WEBHOOKS)
    return get(session, webhook_id, principal.tenant)


def _refuse_disabled(row: Webhook, event: str) -> None:
    if row.disabled_at is not None:
        raise InvalidTransition("webhook", f"disabled ({row.disabled_reason})", event, ("enable",))


def insert_delivery(session: Session, row: Webhook, event: Event, now: float) -> Delivery:
    """An event's first way to a webhook."""
    told = Told(event.id, rfc3339(event.at), event.kind, event.subject, event.data)
    message_id = f"msg_{row.id}_{event.id}"
    fresh = _delivery(row, event.id, event.kind, body(Shape(row.shape), told), 1, message_id, now)
    session.add(fresh)
    session.flush()
    return fresh


def _delivery(
    row: Webhook, event_id: int, kind: str, text: str, turn: int, message_id: str, now: float
) -> Delivery:
    return Delivery(
        webhook_id=row.id,
        event_id=event_id,
        turn=turn,
        kind=kind,
        message_id=message_id,
        body=text,
        state=DELIVERY.initial,
        state_at=now,
        next_at=now,
        created_at=now,
    )
