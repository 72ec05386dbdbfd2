"""What happened: pages of events, and a stream of them as they happen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated

from fastapi import Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.auth import Reader, Secret
from api.body import StrictRoute
from api.deps import Parts, PartsDep, WaitQuery
from api.pages import LARGEST_ID, PageDep, PageQuery
from api.routing import Router
from api.schemas import problems
from api.waits import EVENTS
from fleet import events, models
from fleet.db import Session, now
from fleet.errors import NotPermitted
from fleet.resources import Event, Page
from fleet.tenants import authenticate

router = Router(
    prefix="/v1/events", tags=["events"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
KEEP_ALIVE_S = 15.0
KEEP_ALIVE = ": still here\n\n"
AT_ONCE = 200
PAGES = 25  # that are looked through for one request


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


@router.get("", summary="List events, oldest first, or wait for the next ones")
async def list_events(
    principal: Reader,
    parts: PartsDep,
    page: PageDep,
    subject: Annotated[
        str | None,
        Query(max_length=200, description="only what happened to this, as job:12", examples=["job:12"]),
    ] = None,
    wait: WaitQuery = 0.0,
) -> Page[Event]:
    """Those after the cursor (0: from the first one on); without a cursor the newest ones. The last event's id is a
    cursor even when `next` is null: there will be more. A page may be empty and have a `next`: what was looked through was
    not for you. With `wait`, answers as soon as there is one, else after so
    many seconds with none."""
    look = partial(_look, parts, principal.tenant, page, subject)
    return await parts.waits.look_until(EVENTS, wait, look, _has_some)


def _look(parts: Parts, tenant: str, page: PageQuery, subject: str | None) -> Page[Event]:
    """The page. What the tenant may not see is passed over, many rows at a time and so many at the most: then the page is
    empty, and has a `next` all the same."""
    with parts.read() as session:
        if page.after is None:
            return Page(items=_shown(session, events.latest(session, page.limit, subject), tenant))
        cursor, at_once = page.after, max(AT_ONCE, page.limit)
        for _ in range(PAGES):
            rows = events.page(session, cursor, at_once, subject)
            shown = _shown(session, rows, tenant)
            full = len(rows) == at_once
            if len(shown) >= page.limit:
                items = shown[: page.limit]
                return Page(items=items, next=items[-1].id)
            if shown or not full:
                return Page(items=shown, next=rows[-1].id if full else None)
            cursor = rows[-1].id
        return Page(items=[], next=cursor)


def _has_some(page: Page[Event]) -> bool:
    return bool(page.items) or page.next is not None


@router.get(
    "/stream",
    summary="Stream events as they happen",
    response_class=EventStream,
    responses={200: {"description": "server-sent events; the data of each is an Event as JSON"}},
)
async def stream_events(
    principal: Reader,
    secret: Secret,
    parts: PartsDep,
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST_ID, description="begin after this event; else from now on")
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=LARGEST_ID, description="like `after`, sent by a browser that connects again"),
    ] = None,
) -> EventStream:
    """Never ends by itself; a comment every 15 s keeps the connection open. It ends when the token does."""
    cursor = last_event_id if last_event_id is not None else after
    if cursor is None:
        cursor = await run_in_threadpool(_newest, parts)
    # A proxy that collects an answer before it passes it on would show nothing.
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(_stream(parts, secret, cursor), headers=headers)


async def _stream(parts: Parts, secret: str, cursor: int) -> AsyncIterator[str]:
    """Server-sent events from the cursor on, in pieces; holds nothing while nothing happens."""
    yield ": connected\n\n"
    with parts.waits.listen(EVENTS) as bell:
        while not parts.waits.closed:
            fresh = await run_in_threadpool(_fresh, parts, secret, cursor)
            if fresh is None:
                return
            reached, shown = fresh
            if shown:
                yield "".join(map(_sent, shown))
            if reached > cursor:
                cursor = reached
            elif not await bell.wait(KEEP_ALIVE_S):
                yield KEEP_ALIVE


def _fresh(parts: Parts, secret: str, cursor: int) -> tuple[int, Sequence[Event]] | None:
    """The last event after the cursor, and those that the holder may see; None when the token has been revoked or has expired since."""
    with parts.read() as session:
        try:
            holder = authenticate(session, secret, now(session))
        except NotPermitted:
            return None
        rows = events.page(session, cursor, AT_ONCE)
        return rows[-1].id if rows else cursor, _shown(session, rows, holder.tenant)


def _shown(session: Session, rows: Sequence[models.Event], tenant: str) -> list[Event]:
    return [Event.model_validate(row) for row in events.visible(session, rows, tenant)]


def _newest(parts: Parts) -> int:
    with parts.read() as session:
        return events.newest(session)


def _sent(event: Event) -> str:
    """One event on the wire. JSON has no line breaks, and a kind is one of ours."""
    return f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
