"""Content-addressed bytes: what attempts read and what they made."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Response

from api.auth import Holder, Uploader
from api.body import StrictRoute
from api.deps import PartsDep, RawBody
from api.routing import Router
from api.schemas import binary, problems
from fleet import blobs, holders
from fleet.db import now
from fleet.errors import NotFound
from fleet.resources import StoredBlob

router = Router(
    prefix="/v1/blobs", tags=["blobs"], route_class=StrictRoute, responses=problems(401, 403, 422, 503)
)
Address = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="hex SHA3-256 of the bytes", alias="hash")
]
# The bytes are somebody's: a browser must neither guess what they are nor run them.
HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}


class Octets(Response):
    """Bytes of no declared meaning."""

    media_type = "application/octet-stream"


@router.put(
    "/{hash}",
    summary="Store bytes at their address",
    responses=problems(413),
    openapi_extra={"requestBody": binary("application/octet-stream")},
)
def put_blob(principal: Uploader, address: Address, content: RawBody, parts: PartsDep) -> StoredBlob:
    """Bytes with another address are refused. Storing the same bytes again changes nothing."""
    parts.blobs.keep(content, expected=address)  # before any transaction: a disk is slow
    with parts.read() as session:
        fresh = bool(holders.held(session, holders.of(principal), [address]))
        fresh = fresh and not blobs.is_stale(session, address, now(session))
    if not fresh:
        with parts.write() as session:
            parts.blobs.record(session, address, content, now(session))
            holders.hold(session, holders.of(principal), [address], now(session))
    return StoredBlob(hash=address, size=len(content))


@router.get(
    "/{hash}",
    summary="Fetch the bytes of an address",
    response_class=Octets,
    responses=problems(404),
)
def get_blob(principal: Holder, address: Address, parts: PartsDep) -> Octets:
    """One that the tenant has uploaded, or a job of it made, or that is of a tuned kernel which it is served; for a
    node, one that it has uploaded, or that a live attempt of it needs. Any other is not found."""
    with parts.read() as session:
        holders.check(session, principal, address)
    return Octets(parts.blobs.get(address), headers=HEADERS)


@router.head(
    "/{hash}",
    summary="Ask whether an address is known",
    response_class=Octets,
    responses=problems(404),
)
def head_blob(principal: Holder, address: Address, parts: PartsDep) -> Octets:
    """Known to who may fetch it. The size is in Content-Length. Who asks may be about to refer to it: it is kept for a while from now on."""
    with parts.read() as session:
        holders.check(session, principal, address)
        length = str(blobs.size(session, address))
        stale = blobs.is_stale(session, address, now(session))
    if stale:
        with parts.write() as session:
            if not blobs.touch(session, [address], now(session)):
                raise NotFound("blob", address)  # it has just gone: send it
    return Octets(headers={**HEADERS, "Content-Length": length})
