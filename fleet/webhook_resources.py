"""What the API answers about webhooks, shared by the routes and the SDK."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleet.resources import Resource, Timestamp


class Webhook(Resource):
    """Where a tenant's events are sent to; its address and secret are shown to nobody."""

    id: int
    name: str
    host: str = Field(description="of its address; the rest of it is a secret")
    shape: Literal["standard", "slack", "discord"]
    kinds: list[str] = Field(description="of events: names, or patterns as cron.*")
    disabled_at: Timestamp | None = None
    disabled_reason: str = ""
    created_by: str
    created_at: Timestamp


class MintedWebhook(Webhook):
    """A webhook with its signing secret, which is shown this once."""

    secret: str


class Delivery(Resource):
    """One event on its way to one webhook."""

    id: int
    webhook_id: int
    event_id: int
    kind: str
    message_id: str = Field(description="the header webhook-id: the same whenever this event is sent there")
    turn: int = Field(description="1; more when it was delivered anew")
    state: Literal["pending", "delivered", "dead"]
    state_at: Timestamp
    tries: int
    next_at: Timestamp | None = Field(default=None, description="when it is tried next")
    status: int | None = Field(default=None, description="of the last answer")
    error: str = ""
    created_at: Timestamp
