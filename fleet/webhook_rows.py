"""The tables of webhooks: where events are sent to, and each event on its way there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table, one_of, partial_index
from fleet.webhook_plan import DELIVERY, Shape


class Webhook(Table):
    """Somebody's address for events. The address and the signing secrets are in `secrets`, encrypted; `host` is what
    is shown. `cursor`: the event up to which deliveries were made. `deaths`: deliveries given up in a row."""

    __tablename__ = "webhooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str]
    host: Mapped[str]
    shape: Mapped[str]
    kinds: Mapped[list[Any]]
    generation: Mapped[int] = mapped_column(default=1)
    cursor: Mapped[int]
    deaths: Mapped[int] = mapped_column(default=0)
    disabled_at: Mapped[float | None]
    disabled_reason: Mapped[str] = mapped_column(default="")
    removed_at: Mapped[float | None]
    created_by: Mapped[str]
    created_at: Mapped[float]
    __table_args__ = (
        one_of("shape", Shape),
        partial_index("uq_webhooks_live_name", "tenant", "name", where="removed_at IS NULL", unique=True),
    )


class Delivery(Table):
    """One event on its way to one webhook; delivering it anew is another row, with the next `turn` and the same
    message id. `next_at`: when it is tried; a try pushes it ahead before it begins, so that one whose sender died is
    tried again."""

    __tablename__ = "deliveries"
    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id"))
    event_id: Mapped[int]
    turn: Mapped[int] = mapped_column(default=1)
    kind: Mapped[str]
    message_id: Mapped[str]
    body: Mapped[str]
    state: Mapped[str]
    state_at: Mapped[float]
    generation: Mapped[int] = mapped_column(default=1)
    tries: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[float | None]
    status: Mapped[int | None]  # of the last answer
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[float]
    __table_args__ = (
        one_of("state", DELIVERY.states),
        UniqueConstraint("webhook_id", "event_id", "turn"),
        partial_index("ix_deliveries_due", "next_at", where="state = 'pending'"),
        Index("ix_deliveries_page", "webhook_id", "id"),
        {"sqlite_autoincrement": True},
    )
