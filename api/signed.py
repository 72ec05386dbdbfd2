"""Who signed a request: the one place where a node's signature is checked (`fleet.identities` has the rules).

The order matters: the signature covers the body's digest, so that it is checked before the body is read, and a nonce
is spent only after everything else was right: nobody unknown can fill the table.
"""

from __future__ import annotations

import hmac
import re
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader
from starlette.concurrency import run_in_threadpool

from api.deps import Parts
from api.errors import Unauthenticated
from fleet import identities
from fleet.agents.signature import SCHEME, SERVER_TIME, Malformed, Signature, body_digest, parse
from fleet.db import now
from fleet.errors import NotPermitted
from fleet.principals import Principal

# What is ordered by itself and needs no nonce: a sync by its (boot id, sequence), an exposition by when it was signed.
# Heartbeats write no rows.
NUMBERED = frozenset({"/v1/agents/sync", "/v1/agents/metrics"})
SAFE = frozenset({"GET", "HEAD"})
# Reads whose answers are too good to be given to whoever repeats them: each is asked for under a nonce of its own.
ONCE = re.compile(r"/v1/agents/attempts/[0-9]+/secrets")
_header = APIKeyHeader(
    name="Authorization",
    scheme_name="NodeSignature",
    auto_error=False,
    description=f"a node's signature: {SCHEME} key=…, time=…, nonce=…, digest=…, signature=…",
)


async def signature(header: Annotated[str | None, Security(_header)]) -> Signature | None:
    """The signature in the header; None when it is of another scheme. Raises Unauthenticated for a malformed one."""
    if header is None or header.split(" ")[0].lower() != SCHEME.lower():
        return None
    try:
        return parse(header)
    except Malformed as error:
        raise Unauthenticated(str(error)) from error


Signed = Annotated[Signature | None, Depends(signature)]


async def signing_node(request: Request, parts: Parts, signed: Signature) -> Principal:
    """The node that signed this request's head. Raises Unauthenticated (401)."""
    return await run_in_threadpool(_verified, parts, signed, request.method, _target(request))


async def check_whole(request: Request, parts: Parts, signed: Signature) -> None:
    """That the body is the one that was signed, and the first that is sent so. Raises Unauthenticated (401)."""
    if not hmac.compare_digest(body_digest(await request.body()), signed.digest):
        raise Unauthenticated("the body is not the one that was signed")
    path = str(request.scope["path"])  # and not by the URL, in which a Host header has its say
    if ONCE.fullmatch(path) or (request.method not in SAFE and path not in NUMBERED):
        await run_in_threadpool(_spend, parts, signed)


def _target(request: Request) -> str:
    """The path and the query as they were sent: what was signed."""
    path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (path + (b"?" + query if query else b"")).decode("latin-1")


def _verified(parts: Parts, signed: Signature, method: str, target: str) -> Principal:
    with parts.read() as session:
        moment = now(session)
        try:
            return identities.verify(session, signed, method, target, moment)
        except NotPermitted as error:
            raise _refused(error, moment) from error


def _spend(parts: Parts, signed: Signature) -> None:
    with parts.write() as session:
        moment = now(session)
        try:
            identities.spend(session, signed, moment)
        except NotPermitted as error:
            raise _refused(error, moment) from error


def _refused(error: NotPermitted, moment: float) -> Unauthenticated:
    """With the server's time, so that a node whose clock is wrong can sign by it."""
    refusal = Unauthenticated(error.reason)
    refusal.headers = {**(refusal.headers or {}), SERVER_TIME: str(int(moment * 1000))}
    return refusal
