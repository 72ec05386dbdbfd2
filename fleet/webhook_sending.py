"""Send what happened to whoever asked for it: events → deliveries → HTTPS, in passes.

A try is claimed in one transaction, sent in none, and its answer written in another: a slow receiver keeps no writer
waiting. A claim pushes the delivery's time ahead, so that a sender that died is replaced; several control planes claim
by the row's generation. Every request goes through fleet.guard.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleet import db, events, guard, webhooks
from fleet.errors import FleetError, StaleWrite
from fleet.firing import amend
from fleet.lifecycle import advance
from fleet.models import Delivery, Event, Webhook
from fleet.webhook_plan import (
    DELIVERY,
    Answer,
    DeliveryEvent,
    DeliveryState,
    Next,
    Shape,
    after,
    headers,
    wants,
)

log = logging.getLogger(__name__)
Open = Callable[[], AbstractContextManager[Session]]
SENT_AT_ONCE = 32
OF_ONE_WEBHOOK = 4  # in one pass: a slow receiver does not hold up the others
SENDERS = 16
PASSES = 20  # in one tick, while each is full
CLAIMED_S = 120.0  # longer than a try may take
MOST_DEATHS = 20  # deliveries given up in a row, then the webhook is disabled


@dataclass(frozen=True)
class Bounds:
    """So many events are looked at in one transaction; so many deliveries of one webhook wait to be sent, then events
    wait where they are."""

    events: int = 200
    pending: int = 1000


@dataclass(frozen=True)
class Try:
    """One claimed try, with all that it needs outside of a transaction."""

    delivery_id: int
    generation: int
    tries: int
    message_id: str
    body: bytes
    shape: Shape
    address: webhooks.Address


class Sender:
    """Makes deliveries of events and sends them. `keys`: of the secrets at rest; `client`: makes a guarded client."""

    def __init__(
        self,
        read: Open,
        write: Open,
        keys: Callable[[], Sequence[str]],
        client: guard.MakeClient = guard.guarded_client,
        draw: Callable[[], float] = random.random,
        bounds: Bounds | None = None,
    ) -> None:
        self._read = read
        self._write = write
        self._keys = keys
        self._client = client
        self._draw = draw
        self._bounds = bounds or Bounds()

    def tick(self, now: float | None = None) -> int:
        """Passes until nothing is due, a bounded number of them; returns how many tries there were. `now`: the
        database's clock unless given."""
        tries = 0
        for _ in range(PASSES):
            done = self._pass(now)
            tries += done
            if done < SENT_AT_ONCE:
                break
        return tries

    def _pass(self, now: float | None) -> int:
        with self._read() as session:
            at = db.now(session) if now is None else now
            behind = self._behind(session)
        for webhook_id in behind:
            self._fan_out(webhook_id, at)
        with self._read() as session:
            due = _due(session, at)
        claimed = [each for row_id in due if (each := self._claim(row_id, at))]
        if claimed:
            with ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook") as pool:
                answers = pool.map(lambda each: self._send(each, at), claimed)
                for each, answer in zip(claimed, answers, strict=True):
                    self._note(each, answer, at)
        return len(claimed)

    # ---------------------------------------------------------------------------------- events → deliveries

    def _behind(self, session: Session) -> list[int]:
        newest = events.newest(session)
        live = Webhook.removed_at.is_(None) & Webhook.disabled_at.is_(None)
        return list(session.scalars(select(Webhook.id).where(live, Webhook.cursor != newest)))

    def _fan_out(self, webhook_id: int, now: float) -> None:
        """Deliveries for the events since the webhook's cursor, a page at a time."""
        more = True
        while more:
            try:
                with self._write() as session:
                    more = _fan_out_page(session, webhook_id, self._bounds, now)
            except StaleWrite as error:
                log.info("somebody else was faster: %s", error)
                return

    # ------------------------------------------------------------------------------------------- sending

    def _claim(self, delivery_id: int, now: float) -> Try | None:
        """Take a due delivery; None when somebody else did, or its webhook takes none any more."""
        try:
            with self._write() as session:
                return self._claimed(session, delivery_id, now)
        except StaleWrite:
            return None

    def _claimed(self, session: Session, delivery_id: int, now: float) -> Try | None:
        row = session.get_one(Delivery, delivery_id)
        if row.state != DeliveryState.PENDING or row.next_at is None or row.next_at > now:
            return None
        webhook = session.get_one(Webhook, row.webhook_id)
        if webhook.removed_at is not None or webhook.disabled_at is not None:
            _give_up(session, row, "its webhook was removed or disabled", now)
            return None
        try:
            address = webhooks.address_of(session, webhook, self._keys())
        except FleetError as error:
            _give_up(session, row, f"its address cannot be read: {error}", now)
            return None
        amend(session, "delivery", row, {"tries": row.tries + 1, "next_at": now + CLAIMED_S})
        return Try(
            row.id,
            row.generation,
            row.tries,
            row.message_id,
            row.body.encode(),
            Shape(webhook.shape),
            address,
        )

    def _send(self, each: Try, now: float) -> Answer:
        """One request. What goes wrong is an answer too."""
        signed = {}
        if each.shape is Shape.STANDARD:
            signed = headers(each.address.signing(now), each.message_id, int(now), each.body)
        sent = {"Content-Type": "application/json", "User-Agent": "tinyfleet-webhooks/1", **signed}
        reply = guard.post(each.address.url, each.body, sent, self._client)
        return Answer(reply.status, reply.said, _seconds(reply.retry_after, now))

    def _note(self, each: Try, answer: Answer, now: float) -> None:
        """Write what became of a try, unless somebody else took it over."""
        try:
            with self._write() as session:
                _noted(session, each, answer, after(each.tries, answer, self._draw()), now)
        except StaleWrite as error:
            log.info("somebody else has taken over a delivery: %s", error)


def _fan_out_page(session: Session, webhook_id: int, bounds: Bounds, now: float) -> bool:
    webhook = session.get_one(Webhook, webhook_id)
    if (
        webhook.disabled_at is not None
        or webhook.removed_at is not None
        or _is_full(session, webhook_id, bounds.pending)
    ):
        return False
    rows = events.page(session, webhook.cursor, bounds.events)
    if not rows:
        return False
    amend(session, "webhook", webhook, {"cursor": rows[-1].id})
    for event in events.visible(session, rows, webhook.tenant):
        if _is_for(webhook, event):
            webhooks.insert_delivery(session, webhook, event, now)
    return len(rows) == bounds.events


def _is_full(session: Session, webhook_id: int, most: int) -> bool:
    """So much is on its way that the events wait where they are: a receiver that is slower than they come."""
    pending = (Delivery.webhook_id == webhook_id) & (Delivery.state == DeliveryState.PENDING)
    return len(session.scalars(select(Delivery.id).where(pending).limit(most)).all()) == most


def _is_for(webhook: Webhook, event: Event) -> bool:
    """What happens to a webhook itself is not told to it: its failures would make more of them."""
    return event.subject != f"webhook:{webhook.id}" and wants(webhook.kinds, event.kind)


def _due(session: Session, now: float) -> list[int]:
    """Deliveries to try now, the longest due first, a few of each webhook."""
    due = (Delivery.state == DeliveryState.PENDING) & (Delivery.next_at <= now)
    query = select(Delivery.id, Delivery.webhook_id).where(due).order_by(Delivery.next_at, Delivery.id)
    chosen, of_each = list[int](), Counter[int]()
    for delivery_id, webhook_id in session.execute(query.limit(SENT_AT_ONCE * 8)):
        if of_each[webhook_id] < OF_ONE_WEBHOOK and len(chosen) < SENT_AT_ONCE:
            of_each[webhook_id] += 1
            chosen.append(delivery_id)
    return chosen


def _noted(session: Session, each: Try, answer: Answer, then: Next, now: float) -> None:
    row = session.get_one(Delivery, each.delivery_id)
    if row.generation != each.generation:
        raise StaleWrite("delivery", row.id, "it was claimed again")
    said = {"status": answer.status, "error": answer.error[:500]}
    match then.state:
        case DeliveryState.DELIVERED:
            _end(session, row, DeliveryEvent.ACCEPT, now, **said)
            _count_deaths(session, row.webhook_id, None)
        case DeliveryState.PENDING:
            amend(session, "delivery", row, {**said, "next_at": now + (then.pause_s or 0.0)})
        case DeliveryState.DEAD:
            _end(session, row, DeliveryEvent.GIVE_UP, now, **said)
            _count_deaths(session, row.webhook_id, 1)
            _died(session, row, then.disable, now)


def _end(session: Session, row: Delivery, event: DeliveryEvent, now: float, **said: Any) -> None:
    state = advance(DELIVERY, row.state, event)
    amend(session, "delivery", row, {**said, "state": str(state), "state_at": now, "next_at": None})


def _give_up(session: Session, row: Delivery, why: str, now: float) -> None:
    _end(session, row, DeliveryEvent.GIVE_UP, now, error=why[:500])


def _count_deaths(session: Session, webhook_id: int, more: int | None) -> None:
    """One more, or none any longer: unguarded, so that no two answers wait for each other."""
    changed = update(Webhook).where(Webhook.id == webhook_id)
    if more is None:
        changed = changed.where(Webhook.deaths > 0)
    session.execute(changed.values(deaths=0 if more is None else Webhook.deaths + more))


def _died(session: Session, row: Delivery, gone: bool, now: float) -> None:
    """Tell of it, and disable a webhook that is gone or takes nothing any more."""
    webhook = session.get_one(Webhook, row.webhook_id, populate_existing=True)
    about = {
        "name": webhook.name,
        "delivery": row.id,
        "of": row.kind,
        "status": row.status,
        "error": row.error,
    }
    events.append(session, "webhook.dead_lettered", f"webhook:{webhook.id}", about, now)
    if gone:
        webhooks.disable(session, webhook, "it answered 410: gone", now)
    elif webhook.deaths >= MOST_DEATHS:
        webhooks.disable(session, webhook, f"{webhook.deaths} deliveries in a row were given up", now)


def _seconds(retry_after: str, now: float) -> float | None:
    """A Retry-After: seconds, or a date."""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).astimezone(UTC).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None
