"""Webhooks: where events are sent to, and what became of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Response
from pydantic import Field

from api.auth import WebhookAdmin
from api.body import StrictRoute
from api.deps import IdempotencyKey, Parts, PartsDep, Reading, Writing
from api.pages import PageDep, RowId, next_cursor
from api.routing import Router
from api.schemas import Request, problems
from fleet import guard, secrets_kept, webhooks
from fleet.agents.protocol import Name
from fleet.db import now
from fleet.resources import Page
from fleet.webhook_plan import DeliveryState, Shape
from fleet.webhook_resources import Delivery, MintedWebhook, Webhook

router = Router(
    prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
Kind = Annotated[str, Field(min_length=1, max_length=100, examples=["cron.failed", "cron.*"])]


class WebhookRequest(Request):
    """Where to, and what."""

    name: Name
    url: str = Field(
        min_length=1,
        max_length=guard.LONGEST_URL,
        description="https, on port 443 or 8443 of a host on the public internet; shown to nobody again",
        examples=["https://hooks.example/T0/B0/x"],
    )
    kinds: list[Kind] = Field(
        min_length=1, max_length=50, description="of events: names, or patterns with * and ?"
    )
    shape: Shape = Field(
        default=Shape.STANDARD,
        description="standard: Standard Webhooks, signed; or a text for slack or discord",
    )


@router.post("", status_code=201, summary="Add a webhook", responses=problems(409, 413, 415))
def add_webhook(
    principal: WebhookAdmin,
    parts: PartsDep,
    request: WebhookRequest,
    response: Response,
    key: IdempotencyKey = None,
) -> MintedWebhook:
    """Events from now on are sent there, those that the tenant may see. The signing secret is in this answer and
    nowhere else."""
    target = guard.check(request.url)  # a look-up: before any transaction
    with parts.write() as session:
        row, secret = webhooks.add(
            session,
            name=request.name,
            target=target,
            kinds=request.kinds,
            shape=request.shape,
            principal=principal,
            keys=_keys(parts),
            now=now(session),
            idempotency_key=key,
        )
    parts.controllers.changed()
    response.headers["Cache-Control"] = "no-store"
    return MintedWebhook(**Webhook.model_validate(row).model_dump(), secret=secret)


@router.get("", summary="List webhooks, newest first")
def list_webhooks(
    principal: WebhookAdmin,
    session: Reading,
    page: PageDep,
    name: Annotated[Name | None, Query(description="only the one of this name")] = None,
) -> Page[Webhook]:
    """Without their addresses, which are secrets."""
    rows = webhooks.page(session, principal.tenant, name, page.after, page.limit)
    return Page(items=[Webhook.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.get("/{webhook_id}", summary="Get a webhook", responses=problems(404))
def get_webhook(principal: WebhookAdmin, session: Reading, webhook_id: RowId) -> Webhook:
    """Without its address."""
    return Webhook.model_validate(webhooks.get(session, webhook_id, principal.tenant))


@router.delete("/{webhook_id}", status_code=204, summary="Remove a webhook", responses=problems(404, 409))
def remove_webhook(principal: WebhookAdmin, session: Writing, webhook_id: RowId) -> Response:
    """Nothing more is sent there; its address and secret are forgotten."""
    webhooks.remove(session, webhook_id, principal, now(session))
    return Response(status_code=204)


@router.post("/{webhook_id}/enable", summary="Enable a webhook", responses=problems(404, 409))
def enable_webhook(principal: WebhookAdmin, session: Writing, webhook_id: RowId) -> Webhook:
    """After it was disabled (it answered 410, or twenty deliveries in a row were given up): from now on."""
    return Webhook.model_validate(webhooks.enable(session, webhook_id, principal, now(session)))


@router.post("/{webhook_id}/rotate", summary="Give a webhook a new secret", responses=problems(404, 409))
def rotate_webhook(
    principal: WebhookAdmin, session: Writing, parts: PartsDep, webhook_id: RowId, response: Response
) -> MintedWebhook:
    """It is in this answer and nowhere else. For a day what is sent is signed with the old one too."""
    row, secret = webhooks.rotate(session, webhook_id, principal, _keys(parts), now(session))
    response.headers["Cache-Control"] = "no-store"
    return MintedWebhook(**Webhook.model_validate(row).model_dump(), secret=secret)


@router.post("/{webhook_id}/test", status_code=202, summary="Try a webhook out", responses=problems(404, 409))
def try_webhook(principal: WebhookAdmin, session: Writing, webhook_id: RowId) -> Delivery:
    """Sends a `webhook.test` there, whatever kinds it wants."""
    return Delivery.model_validate(webhooks.try_out(session, webhook_id, principal, now(session)))


@router.get(
    "/{webhook_id}/deliveries", summary="List a webhook's deliveries, newest first", responses=problems(404)
)
def list_deliveries(
    principal: WebhookAdmin,
    session: Reading,
    webhook_id: RowId,
    page: PageDep,
    state: Annotated[DeliveryState | None, Query(description="only in this state; dead: given up")] = None,
) -> Page[Delivery]:
    """What was sent, is to be sent, and was given up."""
    webhooks.get(session, webhook_id, principal.tenant)
    rows = webhooks.deliveries(session, webhook_id, state, page.after, page.limit)
    return Page(items=[Delivery.model_validate(row) for row in rows], next=next_cursor(rows, page))


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Deliver an event anew",
    responses=problems(404, 409),
)
def redeliver(principal: WebhookAdmin, session: Writing, webhook_id: RowId, delivery_id: RowId) -> Delivery:
    """What was delivered or given up, once more, with the same message id; what waits for its next try, now."""
    row = webhooks.deliver_anew(session, webhook_id, delivery_id, principal, now(session))
    return Delivery.model_validate(row)


def _keys(parts: Parts) -> Sequence[str]:
    return secrets_kept.keys(parts.settings.fleet.secret_keys_file, os.environ)
