"""What endpoints ask for by annotation: the server's parts, sessions, the idempotency key, the raw body.

The edge owns the transaction: a session's dependency commits before the response is sent, so that nobody is told
of a change that did not happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Query, Request

from api.controllers import Controllers
from api.rates import Buckets
from api.scrapers import Scrapers
from api.settings import Settings
from api.uses import TokenUses
from api.waits import Waits
from fleet.blobs import Blobs
from fleet.db import Session
from fleet.instruments import Instruments
from fleet.metrics import Tally
from fleet.telemetry import Telemetry

OpenSession = Callable[[], AbstractContextManager[Session]]
LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Parts:
    """What the server is made of. `read` opens a session that never waits for a writer; `write` one that commits
    at its end; both raise DatabaseUnavailable, and may be used from any thread. `up_since` is when the control plane
    started, by the database's clock; `rates` counts the requests of principals, `downloads` the files of releases. `close` ends the database's
    connections. `telemetry` is what nodes say of themselves, `instruments` and `tally` what this process counts."""

    settings: Settings
    read: OpenSession
    write: OpenSession
    blobs: Blobs
    waits: Waits
    uses: TokenUses
    scrapers: Scrapers
    rates: Buckets
    downloads: Buckets
    controllers: Controllers
    up_since: float
    close: Callable[[], None]
    telemetry: Telemetry
    instruments: Instruments
    tally: Tally


async def parts(request: Request) -> Parts:
    """The parts of the application that serves this request."""
    found = request.app.state.parts
    assert isinstance(found, Parts)
    return found


PartsDep = Annotated[Parts, Depends(parts)]


def reading_session(parts: PartsDep) -> Iterator[Session]:
    """A session over one consistent snapshot, closed before the response is sent."""
    with parts.read() as session:
        yield session


def writing_session(parts: PartsDep) -> Iterator[Session]:
    """A transaction, committed before the response is sent; then the controllers and all who wait are hinted. Who may
    scrape is looked up anew: it may be what was changed."""
    with parts.write() as session:
        yield session
    parts.scrapers.clear()
    parts.controllers.changed()


Reading = Annotated[Session, Depends(reading_session, scope="function")]
Writing = Annotated[Session, Depends(writing_session, scope="function")]


WaitQuery = Annotated[
    float,
    Query(ge=0, le=LONGEST_WAIT_S, description="seconds to wait for the end; 0 answers at once"),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="the same key with the same body gives the same row, however often it is sent",
    ),
]


async def raw_body(request: Request) -> bytes:
    """The request's body as it is. Ask for it after the principal: nobody unknown is read."""
    return await request.body()


RawBody = Annotated[bytes, Depends(raw_body)]
